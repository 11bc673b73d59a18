"""The HTTP clients of the agent. The only module that makes one (tests/unit/test_one_way_out.py).

Invariant: what an agent reaches is what the host's gateway lets it reach, in a container as in a process. A client goes
by the proxy that the given environment names, which is the forwarder's port; neither `NO_PROXY` nor the environment of
the process is asked, and no name is resolved here. Model services alone may be on this machine: their URLs are the
forwarder's own, or a service that runs beside the agent (docs/providers.md, `@URL`).
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared_schema.errors import NotFound

if TYPE_CHECKING:
    import httpx2

_SCHEMES = ("http", "https")
_HERE = ("127.0.0.1", "localhost", "[::1]")
REFUSED_HEADER = "X-Dumbwaiter-Refused"
"""An answer with this header is the gateway's own: its text says why it lets nothing through."""

NO_WAY_OUT = "this agent has no way out: the host gives it no gateway"


def outward(
    environment: Mapping[str, str],
    *,
    headers: Mapping[str, str] | None = None,
    timeout: httpx2.Timeout | None = None,
    auth: httpx2.Auth | None = None,
) -> httpx2.AsyncClient:
    """A client for the web and for servers that were set up: everything goes through the gateway.

    Blocks for some milliseconds the first time. Raises `NotFound` when this agent has no way out.
    """
    import httpx2

    class Closed(httpx2.AsyncBaseTransport):
        """For a scheme that has no proxy: nothing goes out beside the gateway."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            raise NotFound(NO_WAY_OUT)

    mounts = _mounts(environment)
    if not mounts:
        raise NotFound(NO_WAY_OUT)
    return httpx2.AsyncClient(
        transport=Closed(), mounts=mounts, headers=headers, timeout=timeout, auth=auth, trust_env=False
    )


def to_models(environment: Mapping[str, str], *, timeout: httpx2.Timeout) -> httpx2.AsyncClient:
    """A client for model services: through the gateway, but for those on this machine."""
    import httpx2

    direct = {f"all://{host}": None for host in _HERE}
    return httpx2.AsyncClient(
        mounts={**_mounts(environment), **direct},
        timeout=timeout,
        follow_redirects=True,
        verify=_trusted(),
        trust_env=False,
    )


def _mounts(environment: Mapping[str, str]) -> dict[str, httpx2.AsyncBaseTransport | None]:
    """A transport for each scheme that has a proxy."""
    import httpx2

    found: dict[str, httpx2.AsyncBaseTransport | None] = {}
    for scheme in _SCHEMES:
        if proxy := environment.get(f"{scheme}_proxy") or environment.get(f"{scheme.upper()}_PROXY"):
            found[f"{scheme}://"] = httpx2.AsyncHTTPTransport(
                proxy=httpx2.Proxy(proxy), verify=_trusted(), trust_env=False
            )
    return found


def why_refused(error: BaseException, url: str) -> str | None:
    """What the gateway's refusal of a connection to an https URL means; None for any other error.

    The library keeps of such an answer its status alone.
    """
    import httpx2

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, httpx2.ProxyError) or not str(error).startswith("403"):
        return None
    host = urlsplit(url).hostname
    return f"the host does not let this agent reach {host}; `dumbwaiter agent-group set NAME --allow {host}` allows it"


def warm_up() -> None:
    """Do what takes a moment before the first client is made. Blocks."""
    _trusted()


@functools.cache
def _trusted() -> ssl.SSLContext:
    """The authorities of the system, which take a moment to load."""
    return ssl.create_default_context()
