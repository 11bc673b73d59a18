"""One model call: the agent's request with the key in place of whatever the agent sent there, and the answer streamed.

Invariant: the key goes to the upstream's own URL and nowhere else: no redirect is followed, the agent chooses neither
host nor scheme, and nothing here puts a header, a URL or the text of a library's error into a log line or an answer.
What a service says of a refusal is logged, without anything that is a key or looks like one.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from asyncio import sslproto
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias, cast
from urllib.parse import unquote

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from host.gateway.connection import FULL, Connection
from host.gateway.expected import LARGEST_OUTPUT, ExpectedOutput
from host.gateway.grant import Patience
from host.gateway.head import Call, Head, passed_on
from host.gateway.output_limits import largest_output
from host.gateway.pace import Pace, Slices
from host.gateway.proxies import Proxy
from host.gateway.redaction import WithoutKey, without_key, without_keys
from host.gateway.refusal import Reason, Refused
from host.gateway.requested_models import RequestedModels
from host.gateway.upstreams import Upstream
from host.gateway.usage import CallUsage, UsageReader, tokens_of

log = logging.getLogger(__name__)

TRIES = 3
_KEPT = 64 * 1024
"""Bytes of a body that are kept, to send them again when the connection breaks before the answer begins."""
_LARGEST_ERROR = 64 * 1024
_ANSWER_WAITS = 16 * 1024
"""Bytes of an answer that wait to be passed on, or twice as many, before no more is read; aiohttp bounds their
chunks by a sixteenth of it."""
_FIRST_READ = 4 * 1024
_PIECE_SECONDS = 0.00005
"""What sending a piece of a request takes besides what is done with it here."""
_MOST_SAID = 2000
_MAY_ASK = re.compile(
    r"accept|accept-language|content-language|content-type|user-agent|idempotency-key|(?:x-)?request-id|x-client-request-id"
    r"|traceparent|tracestate|http-referer|x-title|x-app"
    r"|anthropic-(?:version|beta|dangerous-direct-browser-access)|openai-beta|x-goog-api-client|x-goog-request-params"
    r"|x-stainless-[a-z-]{1,40}|x-claude-[a-z-]{1,40}",
    re.IGNORECASE,
)
"""Headers of an agent that a service gets, and no others. What another one would do with the host's key only the
service knows: it may be a credential, another account to bill, or another request."""
_MAY_ANSWER = re.compile(
    r"content-type|content-language|cache-control|date|retry-after(?:-ms)?|x-should-retry|(?:x-)?request-id|warning"
    r"|(?:anthropic-|x-)?ratelimit-[a-z-]{1,60}|anthropic-(?:version|beta)|openai-(?:version|model|processing-ms)"
    r"|server-timing",
    re.IGNORECASE,
)
"""Headers of a service that an agent gets: no cookies, no names of the host's accounts, no other places to go to."""
_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_WITHOUT_BODY = (204, 304)


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


Reserve: TypeAlias = Callable[[CallUsage, bool], Awaitable[None]]
"""Told what a call can use, and whether its body could be read; returns when it may go on, or raises `Refused`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that was let through; `counts` when it uses tokens. `proxy` is what the upstream is reached through.

    `answer_tokens` is how long an answer may be of a model that is not known, where the request does not say it.
    `reserve` is asked before the last piece of the request is sent, without which no service answers it.
    """

    call: Call
    head: Head
    upstream: Upstream
    counts: bool
    proxy: Proxy | None = None
    session_id: str = ""
    reserve: Reserve | None = None
    answer_tokens: int = LARGEST_OUTPUT


def client(patience: Patience) -> aiohttp.ClientSession:
    """What calls upstreams, and keeps connections to them. Takes no cookies, and no proxy but one it is told of."""
    sslproto.SSLProtocol.max_size = FULL  # of a buffer that each connection has for good
    connector = aiohttp.TCPConnector(limit=0)
    cast(Any, connector)._factory = partial(
        _Answers, loop=asyncio.get_running_loop()
    )  # aiohttp has no other place to name it
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=patience.connect, sock_read=patience.silent),
        auto_decompress=False,
        read_bufsize=_ANSWER_WAITS,
        skip_auto_headers=_AUTOMATIC,
    )


class _Answers(ResponseHandler):
    """What hears upstreams: in pieces that take about as long as they may, and at the pace of who asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.pace: Pace | None = None
        self._slices = Slices()
        self._slices.size = _FIRST_READ
        self._waits = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._read_at_most()

    def data_received(self, data: bytes) -> None:
        began = time.perf_counter()
        super().data_received(data)
        took = time.perf_counter() - began
        self._slices.took(took)
        self._read_at_most()
        if self.pace is not None:
            self.pace.charge(took)
            if not self.pace.may_go_on and not self._waits and self.transport is not None:
                self._waits = True
                self.transport.pause_reading()
                self.pace.when_it_may(self._go_on)

    def _go_on(self) -> None:
        self._waits = False
        if self.transport is not None and not self._reading_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def resume_reading(self, *args: Any, **options: Any) -> Any:
        result = super().resume_reading(*args, **options)
        if self._waits and self.transport is not None:
            self.transport.pause_reading()
        return result

    def _read_at_most(self) -> None:
        if hasattr(self.transport, "max_size"):  # of a plain connection; an encrypted one has it from its class
            cast(Any, self.transport).max_size = self._slices.size


async def carry_out(
    asked: Asked,
    connection: Connection,
    session: aiohttp.ClientSession,
    patience: Patience,
    used: Callable[[CallUsage], None],
) -> None:
    """Ask the upstream and stream its answer; `used` is told once what that used, also when it is broken off.

    Raises `Refused` before the answer has begun, and `ClientGone`. An answer that the upstream breaks off stops short
    of its proper end, by which every client knows.
    """
    counts, complete = asked.counts, False
    body, reader = _Body(asked, connection), UsageReader("")
    at_most = False
    task = asyncio.current_task()
    assert task is not None
    connection.on_end = task.cancel  # who sends no more does not wait for the answer: an upstream is not kept at work
    try:
        if connection.ended:
            raise ClientGone
        response = await _first_byte(asked, body, session, patience)
        try:
            if response.status < 200:  # nobody asked for another protocol
                raise _nonsense(asked)
            if response.status >= 400:
                counts = False
                await _pass_error(asked, response, connection, patience)
            elif _is_coded(response):  # it could not be read: neither what it used nor whether it repeats the key
                at_most = True
                raise _nonsense(asked)
            else:
                reader = UsageReader(response.headers.get(hdrs.CONTENT_TYPE, ""))
                if response.connection is not None and isinstance(response.connection.protocol, _Answers):
                    response.connection.protocol.pace = connection.pace
                complete = await _pass_on(asked, response, connection, patience, reader)
        finally:
            response.close()  # gives a connection back whose answer was read to its end
    except Refused as refused:
        # What was asked in full may have been done, although no answer came of it.
        may_have_cost = refused.reason in (Reason.SILENT, Reason.UNREACHABLE) and body.was_sent
        counts = counts and may_have_cost
        raise
    except ConnectionResetError as error:
        raise ClientGone from error
    finally:
        if counts:
            usage = reader.finish(complete=complete, request_bytes=body.taken, requested_models=body.requested_models)
            used(replace(body.expected, estimated=True) if at_most else usage)


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


def _is_coded(response: aiohttp.ClientResponse) -> bool:
    """Whether an answer is compressed although that was not asked for."""
    return response.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() not in ("identity", "")


def _nonsense(asked: Asked) -> Refused:
    return Refused(Reason.UNREACHABLE, f"The model service '{asked.upstream.name}' answers nonsense.")


async def _pass_on(
    asked: Asked, response: aiohttp.ClientResponse, connection: Connection, patience: Patience, reader: UsageReader
) -> bool:
    """Stream an answer as it comes; whether it came to its end."""
    length = response.headers.get(hdrs.CONTENT_LENGTH)
    no_body = asked.head.method == "HEAD" or response.status in _WITHOUT_BODY
    in_chunks = not no_body and length is None and not asked.head.is_http_1_0
    framing = (
        {"Content-Length": length} if length is not None else {"Transfer-Encoding": "chunked"} if in_chunks else {}
    )
    connection.write(_response_head(asked, response, framing))
    passing = None if asked.upstream.key is None else WithoutKey(asked.upstream.key.get_secret_value())
    try:
        async for arrived in response.content.iter_any():
            chunk = arrived if passing is None else passing.feed(arrived)
            if not chunk:
                continue
            connection.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if in_chunks else chunk)
            await _read_along(reader, chunk, connection.pace)
            await connection.drain(patience.silent)
    except (aiohttp.ClientError, TimeoutError):
        return False
    if passing is not None and (rest := passing.finish()):
        reader.feed(rest)
        connection.write(b"%x\r\n%b\r\n" % (len(rest), rest) if in_chunks else rest)
    if in_chunks:
        connection.write(b"0\r\n\r\n")
    return True


async def _read_along(reader: UsageReader, chunk: bytes, pace: Pace) -> None:
    """Look for what was used, in pieces: how long that takes is up to what the service sends."""
    slices, at = Slices(), 0
    while at < len(chunk):
        began = time.perf_counter()
        reader.feed(chunk[at : at + slices.size])
        at += slices.size
        slices.took(time.perf_counter() - began)
        if at < len(chunk):
            await asyncio.sleep(0)  # a step of its own
            await pace.turn()


async def _pass_error(
    asked: Asked, response: aiohttp.ClientResponse, connection: Connection, patience: Patience
) -> None:
    """Pass an error on, without the key should it repeat it."""
    body = b""
    try:
        async with asyncio.timeout(patience.connect):
            while len(body) < _LARGEST_ERROR and (chunk := await response.content.readany()):
                body += chunk
    except (aiohttp.ClientError, TimeoutError):
        pass  # what there is of it says more than nothing
    if _is_coded(response):  # whether it repeats the key cannot be seen; no SDK misses what it says
        body = b"The service sent an error in a coding that was not asked for.\n"
    body = _without_key(body.decode("utf-8", "surrogateescape"), asked.upstream).encode("utf-8", "surrogateescape")
    connection.write(_response_head(asked, response, {"Content-Length": str(len(body))}))
    connection.write(b"" if asked.head.method == "HEAD" else body)
    start = body[: 2 * _MOST_SAID].decode("utf-8", "replace")  # not more: the patterns are slow on what is made for it
    said = " ".join(without_keys(start).split())[:_MOST_SAID]
    extra = {"session_id": asked.session_id, "upstream": asked.upstream.name, "status": response.status, "said": said}
    log.warning("a model service refused a call", extra=extra)
    await connection.drain(patience.silent)


def _response_head(asked: Asked, response: aiohttp.ClientResponse, framing: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {response.reason or ''}"]
    lines += [
        f"{name}: {value}"
        for name, value in passed_on(response.headers).items()
        if _MAY_ANSWER.fullmatch(name) is not None
    ]
    lines += [f"{name}: {value}" for name, value in framing.items()]
    text = _without_key("\r\n".join([*lines, "Connection: close", "", ""]), asked.upstream)
    return text.encode("utf-8", "surrogateescape")


def _without_key(text: str, upstream: Upstream) -> str:
    return without_key(text, None if upstream.key is None else upstream.key.get_secret_value())


def _headers(asked: Asked) -> CIMultiDict[str]:
    """The agent's headers for the upstream: the key is the host's, and the answer comes as it is, to be read."""
    allowed = passed_on(asked.head.headers)
    headers = CIMultiDict(each for each in allowed.items() if _MAY_ASK.fullmatch(each[0]) is not None)
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
    """The body of a request as it comes from the agent. `taken` bytes of it have come; what counts is read along.

    `was_sent`: all of it was handed on.
    """

    def __init__(self, asked: Asked, connection: Connection) -> None:
        self._head = head = asked.head
        self._wire = connection
        self._reserve = asked.reserve if asked.counts else None
        self._models = RequestedModels(asked.call.path) if asked.counts else None
        self._output = ExpectedOutput(asked.call.path)
        self._answer_tokens = asked.answer_tokens
        self.was_sent = False
        self._kept = b""
        self._left = head.length or 0
        self._slices = Slices()
        self._is_invited = "100-continue" not in head.headers.get("Expect", "").lower()
        self.taken = 0
        self.broken: Exception | None = None

    @property
    def can_be_repeated(self) -> bool:
        """Whether all that was taken of it is still here."""
        return self.broken is None and self.taken == len(self._kept)

    @property
    def requested_models(self) -> frozenset[str]:
        """The models that it may mean."""
        return frozenset() if self._models is None else self._models.names

    @property
    def expected(self) -> CallUsage:
        """What the call can use at most."""
        largest = largest_output(self.requested_models, self._answer_tokens)
        return CallUsage(
            input_tokens=tokens_of(self.taken),
            output_tokens=self._output.tokens(largest),
            requested_models=self.requested_models,
        )

    def chunks(self) -> AsyncIterator[bytes] | None:
        """The body from its beginning; None when there is none."""
        return self._all() if self._head.length != 0 else None

    async def _all(self) -> AsyncIterator[bytes]:
        if self._kept:
            yield self._kept
        try:
            while not self._is_over:
                data = await self._next()
                if self._is_over:
                    await self._permit_end()
                if data:
                    yield data
            self.was_sent = True
        except (ClientGone, Refused) as error:
            self.broken = error  # aiohttp makes something else of it
            raise

    async def _permit_end(self) -> None:
        """Once: a call that is tried again has its part already."""
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            await reserve(self.expected, self._output.is_readable)

    @property
    def _is_over(self) -> bool:
        chunks = self._head.chunks
        return self._left == 0 if chunks is None else chunks.is_over

    async def _next(self) -> bytes:
        if not self._is_invited:
            self._is_invited = True
            self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        data = await self._wire.read(self._slices.size)
        await self._wire.pace.turn()
        if not data:
            raise ClientGone
        began = time.perf_counter()
        try:
            data = self._looked_at(data)
        finally:
            took = time.perf_counter() - began
            self._slices.took(took)
            self._wire.pace.charge(took + _PIECE_SECONDS)
        if self.taken <= _KEPT:
            self._kept += data
        elif self._kept:
            self._kept = b""  # not whole any more, and so of no use
        return data

    def _looked_at(self, data: bytes) -> bytes:
        if self._head.chunks is not None:
            data = self._head.chunks.take(data)
        else:
            data = data[: self._left]
            self._left -= len(data)
        self.taken += len(data)
        if self._models is not None:
            self._models.feed(data)
            self._output.feed(data)
            if self._models.are_too_many:
                raise Refused(Reason.MALFORMED, "The request names more models than any call could mean.")
        return data
