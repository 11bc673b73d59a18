"""The head of a request, from bytes to what it asks for. Pure.

The parser is aiohttp's (llhttp), which takes no bare line feeds, no folded or spaced header names, no second
`Content-Length` or `Host`, and not both framings of a body. One connection carries one request, so nothing can be
smuggled behind a body: what follows is never read as a request.
"""

from __future__ import annotations

import asyncio
import re
from typing import TypeAlias

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, MultiMapping

from host.gateway.policy import NetworkDestination, parse_destination
from host.gateway.proxies import Proxy
from host.gateway.refusal import Reason, Refused
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue

LONGEST_HEAD = 64 * 1024
_MOST_HEADERS = 200
_NEVER = 2**30  # the parser's own limit of a body, which is read as fast as it is fed
_ORIGIN = re.compile(r"/upstream/([a-z0-9_-]{1,32})(/[^?#]*)?(\?[^#]*)?")
_DOTS = re.compile(r"(?:/|%2f|\\|%5c)(?:\.|%2e){1,2}(?=/|%2f|\\|%5c|\Z)", re.IGNORECASE)
_ABSOLUTE = re.compile(r"http://([^/?#]*)(/[^?#]*)?(\?[^#]*)?", re.IGNORECASE)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_NOT_PASSED_ON = frozenset(
    {
        "connection",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True, slots=True)
class Call:
    """A model call: the rest of its path, with a slash before it or empty, and its query, with its question mark."""

    upstream: str
    path: str
    query: str


@dataclass(frozen=True, slots=True)
class Tunnel:
    """CONNECT."""

    destination: NetworkDestination


@dataclass(frozen=True, slots=True)
class Fetch:
    """A request for another host in plain HTTP: what to ask it for, and its name as the request wrote it."""

    destination: NetworkDestination
    target: str
    host: str


Wanted: TypeAlias = Call | Tunnel | Fetch


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head. `length` is that of its body; None when it comes in chunks, which `chunks` takes apart."""

    method: str
    target: str
    is_http_1_0: bool
    headers: CIMultiDict[str]
    length: int | None
    chunks: Chunks | None


class Chunks:
    """Takes a body in chunks apart."""

    def __init__(self, parser: HttpRequestParser, body: StreamReader) -> None:
        self._parser = parser
        self._body = body

    @property
    def is_over(self) -> bool:
        """Whether the last chunk was there."""
        return self._body.is_eof()

    def take(self, data: bytes) -> bytes:
        """What is in the next bytes of the body. Raises `Refused`."""
        try:
            self._parser.feed_data(data)
        except (HttpProcessingError, ValueError) as error:
            if not self._body.is_eof():  # else it is what came behind the body, which is ignored
                raise Refused(Reason.MALFORMED, "The body of the request is malformed.") from error
        if self._body.exception() is not None:
            raise Refused(Reason.MALFORMED, "The body of the request is malformed.")
        return self._body.read_nowait()


def parse(data: bytes) -> Head:
    """A head with the empty line at its end. Raises `Refused`. Needs a running event loop (the parser's wish)."""
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(
        BaseProtocol(loop),
        loop,
        _NEVER,
        max_line_size=LONGEST_HEAD,
        max_field_size=LONGEST_HEAD,
        max_headers=_MOST_HEADERS,
        auto_decompress=False,
    )
    try:
        ((message, body),) = parser.feed_data(data)[0]
        "".join(message.headers.values()).encode()
    except (HttpProcessingError, ValueError) as error:  # ValueError: no whole request, no URL, no UTF-8
        raise Refused(Reason.MALFORMED, "The request is not HTTP/1.1 as it should be.") from error
    encoding = message.headers.get("Transfer-Encoding")
    if encoding is not None and encoding.strip().lower() != "chunked":
        raise Refused(Reason.MALFORMED, "The request's body has an encoding other than chunked.")
    if tuple(message.version) not in ((1, 0), (1, 1)):
        raise Refused(Reason.MALFORMED, "The request is not HTTP/1.1.")
    return Head(
        message.method,
        message.path,
        tuple(message.version) == (1, 0),
        CIMultiDict(message.headers),
        None if encoding is not None else int(message.headers.get("Content-Length", "0")),
        None if encoding is None else Chunks(parser, body),
    )


def wanted(head: Head) -> Wanted:
    """What a request asks for. Raises `Refused`."""
    try:
        if head.method == "CONNECT":
            return Tunnel(parse_destination(head.target))
        if head.target.startswith("/"):
            return _call(head.target)
        match = _ABSOLUTE.fullmatch(head.target)
        if match is None:
            raise InvalidValue("Only http:// can be asked for by its URL; https:// goes through CONNECT.")
        host, path, query = match[1], match[2] or "/", match[3] or ""
        destination = parse_destination(host, 80)
        if destination.host in _LOOPBACK and path.startswith("/upstream/"):  # an SDK takes its own base URL to a proxy
            return _call(f"{path}{query}")
    except InvalidValue as error:
        raise Refused(Reason.MALFORMED, f"{error.what[0].upper()}{error.what[1:].removesuffix('.')}.") from error
    return Fetch(destination, f"{path}{query}", host)


def passed_on(headers: MultiMapping[str]) -> CIMultiDict[str]:
    """Headers without those that are about one connection alone (RFC 9110, 7.6.1)."""
    named = {name.strip().lower() for value in headers.getall("Connection", []) for name in value.split(",")}
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _NOT_PASSED_ON and name.lower() not in named
    )


def plain(head: Head, fetch: Fetch, proxy: Proxy | None = None) -> bytes:
    """The head of a request for another host, as that host gets it, or the proxy before it: one request, and then the
    connection ends.
    """
    headers = passed_on(head.headers)
    if head.chunks is not None:
        headers["Transfer-Encoding"] = "chunked"
    target = fetch.target if proxy is None else f"http://{fetch.host}{fetch.target}"
    lines = [f"{head.method} {target} HTTP/1.1", f"Host: {fetch.host}", "Connection: close"]
    if proxy is not None and proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def _call(target: str) -> Call:
    match = _ORIGIN.fullmatch(target)
    if match is None:
        raise InvalidValue("This is the gateway of an agent: a model call has the path /upstream/<name>/...")
    if _DOTS.search(match[2] or ""):
        raise InvalidValue("The path of a model call must not have dots for a folder.")
    return Call(match[1], match[2] or "", match[3] or "")
