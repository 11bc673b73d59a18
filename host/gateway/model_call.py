"""One model call: the agent's request with the key in place of whatever the agent sent there, and the answer streamed.

Invariant: the key goes to the upstream's own URL and nowhere else: no redirect is followed, the agent chooses neither
host nor scheme, and nothing here puts a header, a URL or the text of a library's error into a log line or an answer.
What a service says of a refusal is logged, without anything that is a key or looks like one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import unquote

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from host.gateway.grant import Patience
from host.gateway.head import Call, Head, passed_on
from host.gateway.named import NamedModels
from host.gateway.proxies import Proxy
from host.gateway.redaction import without_key, without_keys
from host.gateway.refusal import Reason, Refused
from host.gateway.upstreams import Upstream
from host.gateway.usage import Usage, UsageReader
from host.gateway.wire import FULL, Wire

log = logging.getLogger(__name__)

TRIES = 3
_KEPT = 64 * 1024
"""Bytes of a body that are kept, to send them again when the connection breaks before the answer begins."""
_LARGEST_ERROR = 256 * 1024
_MOST_SAID = 2000
_CREDENTIALS = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie")
_OWN = ("accept-encoding", "expect", "content-length")
_OTHER_METHODS = ("x-http-method-override", "x-http-method", "x-method-override")
"""Headers that make another request of it than the one that was let through."""
_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_WITHOUT_BODY = (204, 304)


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that was let through; `counts` when it uses tokens. `proxy` is what the upstream is reached through."""

    call: Call
    head: Head
    upstream: Upstream
    counts: bool
    proxy: Proxy | None = None
    session_id: str = ""


def client(patience: Patience) -> aiohttp.ClientSession:
    """What calls upstreams, and keeps connections to them. Takes no cookies, and no proxy but one it is told of."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=patience.connect, sock_read=patience.silent),
        auto_decompress=False,
        read_bufsize=FULL,
        skip_auto_headers=_AUTOMATIC,
    )


async def carry_out(
    asked: Asked, wire: Wire, session: aiohttp.ClientSession, patience: Patience, used: Callable[[Usage], None]
) -> None:
    """Ask the upstream and stream its answer; `used` is told once what that used, also when it is broken off.

    Raises `Refused` before the answer has begun, and `ClientGone`. An answer that the upstream breaks off stops short
    of its proper end, by which every client knows.
    """
    counts, complete = asked.counts, False
    body, reader = _Body(asked.head, wire, NamedModels(asked.call.path) if counts else None), UsageReader("")
    task = asyncio.current_task()
    assert task is not None
    wire.on_end = task.cancel  # who sends no more does not wait for the answer: an upstream is not kept at work
    try:
        if wire.ended:
            raise ClientGone
        response = await _first_byte(asked, body, session, patience)
        try:
            if response.status < 200:  # nobody asked for another protocol
                raise _nonsense(asked)
            if response.status >= 400:
                counts = False
                await _pass_error(asked, response, wire, patience)
            else:
                reader = UsageReader(response.headers.get(hdrs.CONTENT_TYPE, ""))
                complete = await _pass_on(asked, response, wire, patience, reader)
        finally:
            response.close()  # gives a connection back whose answer was read to its end
    except Refused:
        counts = False
        raise
    except ConnectionResetError as error:
        raise ClientGone from error
    finally:
        if counts:
            used(reader.finish(complete=complete, request_bytes=body.taken, named=body.named))


async def _first_byte(
    asked: Asked, body: _Body, session: aiohttp.ClientSession, patience: Patience
) -> aiohttp.ClientResponse:
    url = URL(f"{asked.upstream.url}{asked.call.path}{_query(asked)}", encoded=True)
    pause = patience.between_tries
    for attempt in range(1, TRIES + 1):
        try:
            return await session.request(
                asked.head.method,
                url,
                headers=_headers(asked),
                data=body.chunks(),
                allow_redirects=False,
                proxy=None if asked.proxy is None else asked.proxy.url,
                proxy_headers=_login(asked.proxy),
            )
        except aiohttp.ClientHttpProxyError as error:
            raise Refused(
                Reason.UNREACHABLE,
                f"The model service '{asked.upstream.name}' cannot be reached: the proxy {asked.proxy} "
                f"refused the connection (status {error.status}).",
            ) from error
        except aiohttp.SocketTimeoutError as error:  # not to be tried again: the upstream may be at work on it
            raise Refused(
                Reason.SILENT, f"The model service '{asked.upstream.name}' did not answer in time."
            ) from error
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            if body.broken is not None:
                raise body.broken from error
            if attempt == TRIES or not body.can_be_repeated:
                through = "" if asked.proxy is None else f" through the proxy {asked.proxy}"
                raise Refused(
                    Reason.UNREACHABLE, f"The model service '{asked.upstream.name}' cannot be reached{through}."
                ) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise _nonsense(asked) from error
        await asyncio.sleep(pause)
        pause *= 4
    raise AssertionError("every way out of the loop is above")


def _login(proxy: Proxy | None) -> dict[str, str]:
    """What the proxy alone gets: with CONNECT, or with the request where that is not encrypted."""
    return {} if proxy is None or proxy.authorization is None else {"Proxy-Authorization": proxy.authorization}


def _nonsense(asked: Asked) -> Refused:
    return Refused(Reason.UNREACHABLE, f"The model service '{asked.upstream.name}' answers nonsense.")


async def _pass_on(
    asked: Asked, response: aiohttp.ClientResponse, wire: Wire, patience: Patience, reader: UsageReader
) -> bool:
    """Stream an answer as it comes; whether it came to its end."""
    length = response.headers.get(hdrs.CONTENT_LENGTH)
    no_body = asked.head.method == "HEAD" or response.status in _WITHOUT_BODY
    in_chunks = not no_body and length is None and not asked.head.is_http_1_0
    framing = (
        {"Content-Length": length} if length is not None else {"Transfer-Encoding": "chunked"} if in_chunks else {}
    )
    wire.write(_response_head(asked, response, framing))
    try:
        async for chunk in response.content.iter_any():
            wire.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if in_chunks else chunk)
            reader.feed(chunk)
            await wire.drain(patience.silent)
    except (aiohttp.ClientError, TimeoutError):
        return False
    if in_chunks:
        wire.write(b"0\r\n\r\n")
    return True


async def _pass_error(asked: Asked, response: aiohttp.ClientResponse, wire: Wire, patience: Patience) -> None:
    """Pass an error on, without the key should it repeat it."""
    body = b""
    try:
        async with asyncio.timeout(patience.connect):
            while len(body) < _LARGEST_ERROR and (chunk := await response.content.readany()):
                body += chunk
    except (aiohttp.ClientError, TimeoutError):
        pass  # what there is of it says more than nothing
    body = _without_key(body.decode("utf-8", "surrogateescape"), asked.upstream).encode("utf-8", "surrogateescape")
    wire.write(_response_head(asked, response, {"Content-Length": str(len(body))}))
    wire.write(b"" if asked.head.method == "HEAD" else body)
    said = " ".join(without_keys(body.decode("utf-8", "replace")).split())[:_MOST_SAID]
    extra = {"session_id": asked.session_id, "upstream": asked.upstream.name, "status": response.status, "said": said}
    log.warning("a model service refused a call", extra=extra)
    await wire.drain(patience.silent)


def _response_head(asked: Asked, response: aiohttp.ClientResponse, framing: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {response.reason or ''}"]
    lines += [
        f"{name}: {value}"
        for name, value in passed_on(response.headers).items()
        if name.lower() not in ("content-length", "set-cookie")
    ]
    lines += [f"{name}: {value}" for name, value in framing.items()]
    text = _without_key("\r\n".join([*lines, "Connection: close", "", ""]), asked.upstream)
    return text.encode("utf-8", "surrogateescape")


def _without_key(text: str, upstream: Upstream) -> str:
    return without_key(text, None if upstream.key is None else upstream.key.get_secret_value())


def _headers(asked: Asked) -> CIMultiDict[str]:
    """The agent's headers for the upstream: the key is the host's, and the answer comes as it is, to be read."""
    headers = passed_on(asked.head.headers)
    for name in (*_CREDENTIALS, *_OWN, *_OTHER_METHODS):
        headers.popall(name, None)
    headers["Accept-Encoding"] = "identity"
    if asked.head.length:
        headers["Content-Length"] = str(asked.head.length)
    headers.update(asked.upstream.authentication())
    if asked.upstream.url.startswith("http:"):
        headers.update(_login(asked.proxy))
    return headers


def _query(asked: Asked) -> str:
    """The query without keys, which Google takes there, too."""
    parts = asked.call.query.removeprefix("?").split("&")
    kept = "&".join(part for part in parts if unquote(part.partition("=")[0]).lower() not in ("key", "access_token"))
    return f"?{kept}" if kept else ""


class _Body:
    """The body of a request as it comes from the agent. `taken` bytes of it have come; `models` reads along."""

    def __init__(self, head: Head, wire: Wire, models: NamedModels | None) -> None:
        self._head = head
        self._wire = wire
        self._models = models
        self._kept = b""
        self._left = head.length or 0
        self._is_invited = "100-continue" not in head.headers.get("Expect", "").lower()
        self.taken = 0
        self.broken: Exception | None = None

    @property
    def can_be_repeated(self) -> bool:
        """Whether all that was taken of it is still here."""
        return self.broken is None and self.taken == len(self._kept)

    @property
    def named(self) -> frozenset[str]:
        """The models that it may mean."""
        return frozenset() if self._models is None else self._models.names

    def chunks(self) -> AsyncIterator[bytes] | None:
        """The body from its beginning; None when there is none."""
        return self._all() if self._head.length != 0 else None

    async def _all(self) -> AsyncIterator[bytes]:
        if self._kept:
            yield self._kept
        try:
            while not self._is_over:
                data = await self._next()
                if data:
                    yield data
        except (ClientGone, Refused) as error:
            self.broken = error  # aiohttp makes something else of it
            raise

    @property
    def _is_over(self) -> bool:
        chunks = self._head.chunks
        return self._left == 0 if chunks is None else chunks.is_over

    async def _next(self) -> bytes:
        if not self._is_invited:
            self._is_invited = True
            self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        data = await self._wire.read()
        if not data:
            raise ClientGone
        if self._head.chunks is not None:
            data = self._head.chunks.take(data)
        else:
            data = data[: self._left]
            self._left -= len(data)
        self.taken += len(data)
        if self._models is not None:
            self._models.feed(data)
            if self._models.are_too_many:
                raise Refused(Reason.MALFORMED, "The request names more models than any call could mean.")
        if self.taken <= _KEPT:
            self._kept += data
        return data
