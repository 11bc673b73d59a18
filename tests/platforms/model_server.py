"""A fake of two model services: Anthropic Messages and OpenAI Chat Completions, plain and streamed.

    POST /v1/messages  /v1/messages/count_tokens  /v1/chat/completions;  GET /v1/models

It answers what a test told it to (`ModelServer.next`), or what the words of the last message say (model_answer.py),
counts the tokens it says were used, keeps every request, and refuses what the vendors refuse. In a test:

    async with model_server() as server:        # ANTHROPIC_BASE_URL=server.url  OPENAI_BASE_URL=server.url + "/v1"

By itself: `python -m tests.platforms.model_server --port 8400 [--key KEY]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.platforms import anthropic_wire, model_rules, openai_wire
from tests.platforms.model_answer import Answer, Asked, Cache, Ending, Fault, Used, answer_to, tokens

_BODY_BYTES = 64 * 1024**2
_GARBLE = b"event: content_block_delta\ndata: {this is no JSON\n\n"
_BROKEN = frozenset({Ending.FAILING, Ending.DROPPED, Ending.CLOSED, Ending.GARBLED, Ending.STALLED})
_ENDLESS_SECONDS = 0.01


@dataclass(slots=True)
class Request:
    """One request as it came, and what the server made of it."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    answer: Answer = field(default_factory=Answer)
    used: Used = field(default_factory=Used)
    sent_pieces: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server has nothing to do with it any more: answered, or the client is gone."""

    @property
    def key(self) -> str | None:
        """The key that came along."""
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.headers.get("x-api-key") or bearer or None


class _Anthropic:
    """Answers in the format of Anthropic Messages."""

    def __init__(self, request: Request, cache: Cache, number: int) -> None:
        self._body, self._answer, self._number = request.body, request.answer, number
        self.used = anthropic_wire.used(self._body, self._answer, cache)

    breach = staticmethod(model_rules.breach_of_anthropic)

    @staticmethod
    def asked(body: dict[str, Any]) -> Asked:
        return anthropic_wire.asked(body)

    def fault(self) -> tuple[int, dict[str, Any]]:
        return anthropic_wire.fault(self._body, self._answer)

    def whole(self) -> dict[str, Any]:
        return anthropic_wire.whole(self._body, self._answer, self.used, self._number)

    def before(self) -> Iterator[bytes]:
        events = [*anthropic_wire.start(self._body, self.used, self._number)]
        if self._answer.reasoning:
            events += anthropic_wire.reasoning(self._answer, self._number)
        if self._answer.text:
            events.append(anthropic_wire.text_start(self._answer))
        return map(anthropic_wire.encoded, events)

    def piece(self, text: str) -> bytes:
        return anthropic_wire.encoded(anthropic_wire.piece(self._answer, text))

    def failing(self) -> bytes:
        return anthropic_wire.encoded(anthropic_wire.failing())

    def end(self) -> Iterator[bytes]:
        return map(anthropic_wire.encoded, anthropic_wire.end(self._answer, self.used, self._number))


class _OpenAI:
    """Answers in the format of OpenAI Chat Completions."""

    def __init__(self, request: Request, cache: Cache, number: int) -> None:
        self._body, self._answer, self._number = request.body, request.answer, number
        self.used = openai_wire.used(self._body, self._answer, cache)

    breach = staticmethod(model_rules.breach_of_openai)

    @staticmethod
    def asked(body: dict[str, Any]) -> Asked:
        return openai_wire.asked(body)

    def fault(self) -> tuple[int, dict[str, Any]]:
        return openai_wire.fault(self._body, self._answer)

    def whole(self) -> dict[str, Any]:
        return openai_wire.whole(self._body, self._answer, self.used, self._number)

    def before(self) -> Iterator[bytes]:
        events = [*openai_wire.start(self._body, self.used, self._number)]
        if self._answer.reasoning:
            events += openai_wire.reasoning(self._body, self._answer, self._number)
        return map(openai_wire.encoded, events)

    def piece(self, text: str) -> bytes:
        return openai_wire.encoded(openai_wire.piece(self._body, self._answer, self._number, text))

    def failing(self) -> bytes:
        return openai_wire.encoded(openai_wire.failing())

    def end(self) -> Iterator[bytes]:
        yield from map(openai_wire.encoded, openai_wire.end(self._body, self._answer, self.used, self._number))
        yield b"data: [DONE]\n\n"


class ModelServer:
    """One fake service. `requests` are those that ask for an answer, in order."""

    def __init__(self, key: str | None = None) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self._key = key
        self._told: deque[Answer] = deque()
        self._cache = Cache()

    def next(self, *answers: Answer) -> None:
        """What to answer to the next requests, before any words count."""
        self._told.extend(answers)

    @property
    def used(self) -> Used:
        """What all answers together took."""
        each = [request.used for request in self.requests]
        return Used(*(sum(getattr(used, name) for used in each) for name in Used.__match_args__))

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(client_max_size=_BODY_BYTES)
        application.router.add_post("/v1/messages", self._messages)
        application.router.add_post("/v1/messages/count_tokens", self._count)
        application.router.add_post("/v1/chat/completions", self._completions)
        application.router.add_get("/v1/models", self._models)
        return application

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, _Anthropic)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, _OpenAI)

    async def _count(self, request: web.Request) -> web.Response:
        blocks, _ = anthropic_wire.prompt(await request.json())
        return web.json_response({"input_tokens": sum(map(tokens, blocks))})

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": "fake", "object": "model", "created": 0, "owned_by": "nobody"}
        return web.json_response({"object": "list", "data": [model], "has_more": False})

    async def _answer(self, request: web.Request, kind: type[_Anthropic | _OpenAI]) -> web.StreamResponse:
        kept = Request(request.path, request.headers.copy(), await request.json())
        self.requests.append(kept)
        kept.answer = self._told.popleft() if self._told else answer_to(kind.asked(kept.body))
        if self._key is not None and kept.key != self._key:
            kept.answer = Answer(fault=Fault.BAD_KEY)
        elif breach := kind.breach(kept.body):
            kept.answer = Answer(fault=Fault.REJECTED, words=breach)
        wire = kind(kept, self._cache if kept.answer.fault is None else Cache(), len(self.requests))
        try:
            if kept.answer.fault is not None:
                status, body = wire.fault()
                seconds = kept.answer.retry_after
                headers = (
                    {}
                    if seconds is None
                    else {"retry-after-ms": f"{seconds * 1000:g}", "retry-after": f"{seconds:.0f}"}
                )
                if kept.answer.fault is Fault.GATEWAY:
                    headers["X-Dumbwaiter-Refused"] = "budget"
                return web.json_response(body, status=status, headers=headers)
            kept.used = wire.used
            return await _streamed(request, kept, wire) if kept.body.get("stream") else web.json_response(wire.whole())
        finally:
            kept.ended.set()


async def _streamed(request: web.Request, kept: Request, wire: _Anthropic | _OpenAI) -> web.StreamResponse:
    """The answer as server-sent events, ended as it says."""
    answer = kept.answer
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionResetError):  # the client is gone
        for event in wire.before():
            await response.write(event)
        pieces = answer.split()
        if answer.ending in _BROKEN:
            pieces = pieces[: len(pieces) // 2]
        for piece in pieces:
            await asyncio.sleep(answer.delay)
            await response.write(wire.piece(piece))
            kept.sent_pieces += 1
        while answer.ending is Ending.ENDLESS:
            await asyncio.sleep(_ENDLESS_SECONDS)
            await response.write(wire.piece(answer.text))
            kept.sent_pieces += 1
        match answer.ending:
            case Ending.FAILING:
                await response.write(wire.failing())
            case Ending.GARBLED:
                await response.write(_GARBLE)
            case Ending.CLOSED:
                pass
            case Ending.STALLED:
                await asyncio.Event().wait()
            case Ending.DROPPED:
                assert request.transport is not None
                request.transport.abort()
            case _:
                for event in wire.end():
                    await response.write(event)
    return response


@asynccontextmanager
async def model_server(*, key: str | None = None, port: int = 0) -> AsyncIterator[ModelServer]:
    """A running server on 127.0.0.1; with a `key`, it refuses any other."""
    server = ModelServer(key)
    runner = web.AppRunner(server.application(), handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


async def _serve(port: int, key: str | None) -> None:
    async with model_server(key=key, port=port) as server:
        print(json.dumps({"url": server.url}), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted; the first line printed is a JSON object with the `url`."""
    parser = argparse.ArgumentParser(description="A fake of the Anthropic and OpenAI services.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.port, options.key))


if __name__ == "__main__":
    main()
