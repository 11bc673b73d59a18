"""One model call: the agent's request with the key in place of what the agent sent there, and the answer streamed.

Invariant: the key goes to the upstream's own URL and nowhere else: no redirect is followed, the agent chooses neither
host nor scheme, and nothing here puts a header, a URL or the text of a library's error into a log line or an answer.
What a service says of a refusal is logged, without anything that is a key or looks like one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import sslproto
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from host.gateway.call_answer import is_coded, pass_error, pass_on
from host.gateway.call_request import Asked, ClientGone, RequestBody, headers_of, login_of, query_of
from host.gateway.connection import FULL, Connection
from host.gateway.grant import Patience
from host.gateway.keys import KeyRing
from host.gateway.pace import SessionPace, Slices
from host.gateway.refusal import Reason, Refused
from host.gateway.usage import CallUsage, UsageReader

log = logging.getLogger(__name__)

TRIES = 3
_ANSWER_WAITS = 16 * 1024
"""Bytes of an answer that wait to be passed on, or twice as many, before no more is read; aiohttp bounds their
chunks by a sixteenth of it."""
_FIRST_READ = 4 * 1024
_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


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
        self.pace: SessionPace | None = None
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
    ring: KeyRing,
) -> None:
    """Ask the upstream and stream its answer; `used` is told once what that used, also when it is broken off.

    Where the service has several keys and refuses one, the call is made again with the next; a call that is too large
    to be kept is sent back with the word to make it again.

    Raises `Refused` before the answer has begun, and `ClientGone`. An answer that the upstream breaks off stops short
    of its proper end, by which every client knows.
    """
    counts, complete = asked.counts, False
    body, reader = RequestBody(asked, connection), UsageReader("")
    at_most = False
    task = asyncio.current_task()
    assert task is not None
    connection.on_end = task.cancel  # who sends no more does not wait for the answer: an upstream is not kept at work
    try:
        if connection.ended:
            raise ClientGone
        asked, response = await _with_a_key(asked, body, session, patience, ring)
        if asked.span is not None:
            asked.span.status = response.status
        try:
            if response.status < 200:  # no request here asks for another protocol
                raise _nonsense(asked)
            if response.status >= 400:
                counts = False
                await pass_error(asked, response, connection, patience)
            elif is_coded(response):  # it could not be read: neither what it used nor whether it repeats the key
                at_most = True
                raise _nonsense(asked)
            else:
                reader = UsageReader(response.headers.get(hdrs.CONTENT_TYPE, ""))
                if response.connection is not None and isinstance(response.connection.protocol, _Answers):
                    response.connection.protocol.pace = connection.pace
                complete = await pass_on(asked, response, connection, patience, reader)
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


async def _with_a_key(
    asked: Asked, body: RequestBody, session: aiohttp.ClientSession, patience: Patience, ring: KeyRing
) -> tuple[Asked, aiohttp.ClientResponse]:
    """The answer of the service, and the call with the key that it was asked with."""
    upstream = asked.upstream
    for _ in range(max(1, len(upstream.keys))):
        if upstream.keys:
            key = ring.choose(upstream.name, upstream.keys, time.monotonic())
            asked = replace(asked, upstream=replace(upstream, key=key))
        response = await _first_byte(asked, body, session, patience)
        again = response.headers.get(hdrs.RETRY_AFTER)
        is_about_key = ring.answered(upstream.name, asked.upstream.key, response.status, again, time.monotonic())
        if not is_about_key or not ring.has_another(upstream.name, upstream.keys, time.monotonic()):
            break
        extra = {"session_id": asked.session_id, "upstream": upstream.name, "status": response.status}
        log.warning("a model service refused one of several keys", extra=extra)
        if not body.can_be_repeated:
            response.close()
            sentence = f"The model service '{upstream.name}' refused one of its keys; the next one is taken: ask again."
            raise Refused(Reason.NEXT_KEY, sentence, retry_after=1)
        response.close()
    return asked, response


async def _first_byte(
    asked: Asked, body: RequestBody, session: aiohttp.ClientSession, patience: Patience
) -> aiohttp.ClientResponse:
    url = URL(f"{asked.upstream.url}{asked.call.path}{query_of(asked)}", encoded=True)
    pause = patience.between_tries
    for attempt in range(1, TRIES + 1):
        try:
            return await session.request(
                asked.head.method,
                url,
                headers=headers_of(asked),
                data=body.chunks(),
                allow_redirects=False,
                proxy=None if asked.proxy is None else asked.proxy.url,
                proxy_headers=login_of(asked.proxy),
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


def _nonsense(asked: Asked) -> Refused:
    return Refused(Reason.UNREACHABLE, f"The model service '{asked.upstream.name}' answers nonsense.")
