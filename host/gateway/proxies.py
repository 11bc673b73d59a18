"""The proxies of the host's environment: through which one a host is reached. Pure.

    HTTPS_PROXY  HTTP_PROXY  ALL_PROXY      also in small letters, which win: http://[user:password@]host[:port]
    NO_PROXY                                hosts, domains, addresses and networks that are reached directly, or *

Loopback is never reached through a proxy. Only proxies of the scheme http are spoken with; any other is named by
`problems`, so that its user learns that it does not count.

Invariant: a password in such a URL is in a header for that proxy, and in no text.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import field
from urllib.parse import unquote, urlsplit

from shared_schema.dataclass import dataclass

VARIABLES = ("https_proxy", "http_proxy", "all_proxy", "no_proxy")
_DEFAULT_PORT = 80


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. `login` is user and password, or None."""

    host: str
    port: int
    login: tuple[str, str] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Without its password."""
        return f"http://{self}"

    @property
    def authorization(self) -> str | None:
        """The value of the header `Proxy-Authorization`, which the proxy alone gets."""
        if self.login is None:
            return None
        return f"Basic {base64.b64encode(':'.join(self.login).encode()).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Proxies:
    """For `https` and for `http`, and what is reached directly. `problems` say which variables do not count."""

    https: Proxy | None = None
    http: Proxy | None = None
    direct: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def of(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy that a host is reached through; None: directly."""
        proxy = self.https if scheme == "https" else self.http
        return None if proxy is None or _is_direct(self.direct, host.lower().strip("[]"), port) else proxy

    @property
    def used(self) -> tuple[str, ...]:
        """The proxies, for people."""
        found = {"https": self.https, "http": self.http}
        return tuple(f"{scheme} through {proxy}" for scheme, proxy in found.items() if proxy is not None)


def configure(variables: Mapping[str, str]) -> Proxies:
    """The proxies that the environment names. Never raises."""
    problems: list[str] = []
    every = _proxy("all_proxy", variables, problems)
    return Proxies(
        https=_proxy("https_proxy", variables, problems) or every,
        http=_proxy("http_proxy", variables, problems) or every,
        direct=tuple(entry for entry in _value("no_proxy", variables).lower().replace(",", " ").split() if entry),
        problems=tuple(problems),
    )


def _value(name: str, variables: Mapping[str, str]) -> str:
    return variables.get(name) or variables.get(name.upper()) or ""


def _proxy(name: str, variables: Mapping[str, str], problems: list[str]) -> Proxy | None:
    text = _value(name, variables).strip()
    if not text:
        return None
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        host, port = url.hostname, url.port or _DEFAULT_PORT
    except ValueError:
        host, port, url = None, 0, urlsplit("")
    if url.scheme != "http" or not host or not text.isprintable() or " " in text:
        problems.append(f"{name.upper()} names no proxy that can be used here: write http://HOST:PORT")
        return None
    login = None if url.username is None else (unquote(url.username), unquote(url.password or ""))
    return Proxy(host, port, login)


def _is_direct(entries: Iterable[str], host: str, port: int) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback):
        return True
    return any(_covers(entry, host, port, address) for entry in entries)


def _covers(entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if entry == "*":
        return True
    bare = entry.strip("[]")
    if address is not None:
        try:
            return address in ipaddress.ip_network(bare, strict=False)
        except ValueError:
            pass
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdigit() and ":" not in name.strip("[]"):
        return int(digits) == port and _covers(name, host, port, address)
    suffix = bare.removeprefix("*").lstrip(".")
    return bool(suffix) and (host == suffix or host.endswith(f".{suffix}"))
