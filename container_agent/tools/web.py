"""The tool `web_fetch`: a page of the web as text, through the gateway.

Every request goes to the proxy that the agent was given, so the host decides what can be reached; without one there is
no way out. Addresses are never resolved here.
"""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from time import monotonic
from typing import IO
from urllib.parse import urlsplit

from container_agent.tools.page import text_of
from container_agent.tools.schema import form, text
from container_agent.tools.tool import Arguments, Tool, ToolRefused, shortened

_SECONDS = 30.0
_SOCKET_SECONDS = 10.0
_MAX_BYTES = 2 * 1024**2
_CHUNK = 64 * 1024
_MAX_CHARACTERS = 40_000
_TEXTUAL = re.compile(r"text/|application/(json|xml|javascript|x-www-form-urlencoded|[\w.+-]+\+(json|xml))")
_AGENT = "Dumbwaiter/1 (an agent's web_fetch)"


def tool(environment: Mapping[str, str]) -> Tool:
    """The tool; `environment` names the proxies."""
    proxies = {
        scheme: proxy
        for scheme in ("http", "https")
        if (proxy := environment.get(f"{scheme}_proxy") or environment.get(f"{scheme.upper()}_PROXY"))
    }

    async def run(arguments: Arguments) -> str:
        return await asyncio.to_thread(_fetch, arguments["url"], proxies)

    return Tool(
        "web_fetch",
        "Fetch a page of the web; HTML comes as plain text. Only hosts that were allowed for you can be reached.",
        form({"url": text("An http or https URL.", 4_000)}),
        run,
        seconds=_SECONDS + _SOCKET_SECONDS + 2,
        max_characters=_MAX_CHARACTERS,
    )


class _SameSchemes(urllib.request.HTTPRedirectHandler):
    """Follows to http and https alone: `file:` would be a way around the tools for files."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        _require_web(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, proxies: Mapping[str, str]) -> str:
    scheme = _require_web(url)
    if scheme not in proxies:
        raise ToolRefused("this agent has no way to the web")
    deadline = monotonic() + _SECONDS
    opener = urllib.request.OpenerDirector()
    for handler in (
        _AlwaysProxied(dict(proxies)),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _SameSchemes(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"User-Agent": _AGENT, "Accept": "text/html, text/*, */*;q=0.5"})
    try:
        with opener.open(request, timeout=_SOCKET_SECONDS) as response:
            kind = response.headers.get_content_type()
            charset = response.headers.get_content_charset() or "utf-8"
            data, is_whole = _read(response, deadline)
            where = response.geturl()
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(500).decode("utf-8", "replace")
        raise ToolRefused(f"the page answers {error.code} {error.reason}: {' '.join(said.split())[:300]}") from error
    except urllib.error.URLError as error:
        raise ToolRefused(f"{urlsplit(url).hostname} cannot be reached: {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise ToolRefused(f"{urlsplit(url).hostname} cannot be reached: {type(error).__name__}") from error
    if b"\0" in data[:1024] or not (_TEXTUAL.match(kind) or kind == "application/octet-stream"):
        raise ToolRefused(f"the page is not text but {kind}")
    try:
        found = data.decode(charset, "replace")
    except LookupError:
        found = data.decode("utf-8", "replace")
    if kind in ("text/html", "application/xhtml+xml"):
        found = text_of(found)
    note = "" if is_whole else f"\n[only the first {len(data):,} bytes]"
    return f"{where}\n\n{shortened(found, _MAX_CHARACTERS - len(where) - 100)}{note}"


class _AlwaysProxied(urllib.request.ProxyHandler):
    """Goes through the proxy whatever `NO_PROXY` says: the agent's own ports are no part of the web."""

    def proxy_open(self, req: urllib.request.Request, proxy: str, type: str) -> None:
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        req.set_proxy(parts.netloc.rpartition("@")[2], "http" if req.type == "http" else "https")


def _read(response: IO[bytes], deadline: float) -> tuple[bytes, bool]:
    data = bytearray()
    while len(data) <= _MAX_BYTES:
        if monotonic() > deadline:
            raise ToolRefused(f"the page took longer than {_SECONDS:g} seconds")
        chunk = response.read1(_CHUNK) if hasattr(response, "read1") else response.read(_CHUNK)
        if not chunk:
            return bytes(data), True
        data += chunk
    return bytes(data[:_MAX_BYTES]), False


def _require_web(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise ToolRefused("that is not an http or https URL")
    if not url.isascii():
        raise ToolRefused("the URL has characters that must be written as %-codes")
    return parts.scheme
