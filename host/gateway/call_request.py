"""What a model service gets of a call: the agent's request, with the key in place of what the agent sent there.

Invariant: the agent chooses neither host nor scheme, of its headers only those on a list pass, and the body is looked
at while it passes: what the call can use is reserved before its last piece is sent.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias
from urllib.parse import unquote

from multidict import CIMultiDict

from host.gateway.call_span import CallSpan
from host.gateway.connection import Connection
from host.gateway.expected import LARGEST_OUTPUT, ExpectedOutput
from host.gateway.head import Call, Head, passed_on
from host.gateway.output_limits import largest_output
from host.gateway.pace import Slices
from host.gateway.proxies import Proxy
from host.gateway.refusal import Reason, Refused
from host.gateway.requested_models import RequestedModels
from host.gateway.upstreams import Upstream
from host.gateway.usage import CallUsage, tokens_of
from shared_schema.dataclass import dataclass

_KEPT = 64 * 1024
"""Bytes of a body that are kept, to send them again when the connection breaks before the answer begins."""
_PIECE_SECONDS = 0.00005
"""What sending a piece of a request takes besides what is done with it here."""
_MAY_ASK = re.compile(
    r"accept|accept-language|content-language|content-type|user-agent|idempotency-key|(?:x-)?request-id|x-client-request-id"
    r"|traceparent|tracestate|http-referer|x-title|x-app"
    r"|anthropic-(?:version|beta|dangerous-direct-browser-access)|openai-beta|x-goog-api-client|x-goog-request-params"
    r"|x-stainless-[a-z-]{1,40}|x-claude-[a-z-]{1,40}",
    re.IGNORECASE,
)
"""Headers of an agent that a service gets, and no others. What another one would do with the host's key only the
service knows: it may be a credential, another account to bill, or another request."""


class ClientGone(Exception):
    """The client closed its connection before the answer."""


Reserve: TypeAlias = Callable[[CallUsage, bool], Awaitable[None]]
"""Told what a call can use, and whether its body could be read; returns when it may go on, or raises `Refused`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that was let through; `counts` when it uses tokens. `proxy` is what the upstream is reached through.

    `answer_tokens` is how long an answer may be of a model that is not known, where the request does not say it.
    `reserve` is asked before the last piece of the request is sent, without which no service answers it. `span` is
    there when calls are traced.
    """

    call: Call
    head: Head
    upstream: Upstream
    counts: bool
    proxy: Proxy | None = None
    session_id: str = ""
    reserve: Reserve | None = None
    answer_tokens: int = LARGEST_OUTPUT
    span: CallSpan | None = None


def login_of(proxy: Proxy | None) -> dict[str, str]:
    """What the proxy alone gets: with CONNECT, or with the request where that is not encrypted."""
    return {} if proxy is None or proxy.authorization is None else {"Proxy-Authorization": proxy.authorization}


def headers_of(asked: Asked) -> CIMultiDict[str]:
    """The agent's headers for the upstream: the key is the host's, and the answer comes as it is, to be read."""
    allowed = passed_on(asked.head.headers)
    headers = CIMultiDict(each for each in allowed.items() if _MAY_ASK.fullmatch(each[0]) is not None)
    if asked.span is not None:  # the host's own trace; what the agent says of one is not believed
        headers.popall("tracestate", None)
        headers["traceparent"] = asked.span.traceparent
    headers["Accept-Encoding"] = "identity"
    if asked.head.length:
        headers["Content-Length"] = str(asked.head.length)
    headers.update(asked.upstream.authentication())
    if asked.upstream.url.startswith("http:"):
        headers.update(login_of(asked.proxy))
    return headers


def query_of(asked: Asked) -> str:
    """The query without keys, which Google takes there, too."""
    parts = asked.call.query.removeprefix("?").split("&")
    kept = "&".join(part for part in parts if unquote(part.partition("=")[0]).lower() not in ("key", "access_token"))
    return f"?{kept}" if kept else ""


class RequestBody:
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
