"""A fake of three model services: Anthropic Messages, OpenAI Chat Completions and Gemini, plain and streamed.

    POST /v1/messages  /v1/messages/count_tokens  /v1/chat/completions;  GET /v1/models
    POST /v1beta/models/NAME:generateContent  /v1beta/models/NAME:streamGenerateContent

It answers what a test told it to (`ModelServer.next`), or what the words of the last message say (model_answer.py),
counts the tokens it says were used, keeps every request, and refuses what the vendors refuse. In a test:

    async with model_server() as server:
        # ANTHROPIC_BASE_URL=server.url  OPENAI_BASE_URL=server.url + "/v1"  GOOGLE_GEMINI_BASE_URL=server.url

By itself: `python -m tests.platforms.model_server --port 8400 [--key KEY]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from tests.platforms import anthropic_wire
from tests.platforms.model_answer import Answer, Cache, Ending, Fault, Used, answer_to, tokens
from tests.platforms.model_wires import Anthropic, Google, OpenAI, Wire

_BODY_BYTES = 64 * 1024**2
_GARBLE = b"event: content_block_delta\ndata: {this is no JSON\n\n"
_BROKEN = frozenset({Ending.FAILING, Ending.DROPPED, Ending.CLOSED, Ending.GARBLED, Ending.STALLED})
_ENDLESS_SECONDS = 0.01
_GEMINI = "/v1beta/models/{model:[^:/]+}:{method:generateContent|streamGenerateContent}"


@dataclass(slots=True)
class Request:
    """One request as it came, and what the server made of it."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    answer: Answer = field(default_factory=Answer)
    used: Used = field(default_factory=Used)
    """What the service would bill: of an answer that was broken off, as much as it had said."""
    sent_pieces: int = 0
    is_whole: bool = False
    """Whether the answer came to its end."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server has nothing to do with it any more: answered, or the client is gone."""

    @property
    def key(self) -> str | None:
        """The key that came along."""
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.headers.get("x-api-key") or self.headers.get("x-goog-api-key") or bearer or None

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation, as the vendor writes it."""
        found: list[dict[str, Any]] = self.body["contents"] if "contents" in self.body else self.body["messages"]
        return found

    @property
    def wants_stream(self) -> bool:
        """Whether the answer is to come in pieces."""
        return bool(self.body.get("stream")) or self.path.endswith(":streamGenerateContent")


class ModelServer:
    """One fake service. `requests` are those that ask for an answer, in order."""

    def __init__(self, key: str | None = None) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.refuses: Callable[[dict[str, Any]], str | None] = lambda body: None
        """The words in which a request is refused, by its body; None where it is not."""
        self._key = key
        self._told: deque[Answer] = deque()
        self._cache = Cache()

    def next(self, *answers: Answer) -> None:
        """What to answer to the next requests, before any words count."""
        self._told.extend(answers)

    def forget(self) -> None:
        """Forget what `next` was told and no request has asked for."""
        self._told.clear()

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
        application.router.add_post(_GEMINI, self._generate)
        return application

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, Anthropic)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, OpenAI)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, Google)

    async def _count(self, request: web.Request) -> web.Response:
        blocks, _ = anthropic_wire.prompt(await request.json())
        return web.json_response({"input_tokens": sum(map(tokens, blocks))})

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": "fake", "object": "model", "created": 0, "owned_by": "nobody"}
        return web.json_response({"object": "list", "data": [model], "has_more": False})

    async def _answer(self, request: web.Request, kind: type[Wire]) -> web.StreamResponse:
        kept = Request(request.path, request.headers.copy(), await request.json())
        self.requests.append(kept)
        kept.answer = self._told.popleft() if self._told else answer_to(kind.asked(kept.body))
        if self._key is not None and kept.key != self._key:
            kept.answer = Answer(fault=Fault.BAD_KEY)
        elif (breach := self.refuses(kept.body) or kind.breach(kept.body)) is not None:
            kept.answer = Answer(fault=Fault.REJECTED, words=breach)
        cache = self._cache if kept.answer.fault is None else Cache()
        wire = kind(kept.path, kept.body, kept.answer, cache, len(self.requests))
        try:
            if kept.answer.fault is not None:
                status, body = wire.fault()
                seconds = kept.answer.retry_after
                headers = (
                    {}
                    if seconds is None or kind is Google
                    else {"retry-after-ms": f"{seconds * 1000:g}", "retry-after": f"{seconds:.0f}"}
                )
                if kept.answer.fault is Fault.GATEWAY:
                    headers["X-Dumbwaiter-Refused"] = "budget"
                return web.json_response(body, status=status, headers=headers)
            if kept.wants_stream:
                return await _streamed(request, kept, wire)
            kept.used, kept.is_whole = wire.used, True
            return web.json_response(wire.whole())
        finally:
            kept.ended.set()


async def _streamed(request: web.Request, kept: Request, wire: Wire) -> web.StreamResponse:
    """The answer as server-sent events, ended as it says."""
    answer, said = kept.answer, ""
    kept.used = replace(wire.used, output=wire.used.reasoning)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionResetError):  # the client is gone
        for line in answer.raw:
            await response.write(f"data: {line}\n\n".encode())
        if answer.raw:
            return response
        for event in wire.before():
            await response.write(event)
        for piece, delay in _pieces(answer):
            await asyncio.sleep(delay)
            await response.write(wire.piece(piece))
            said += piece
            kept.sent_pieces += 1
            kept.used = replace(kept.used, output=wire.used.reasoning + tokens(said))
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
                kept.used, kept.is_whole = wire.used, True
                for event in wire.end():
                    await response.write(event)
    return response


def _pieces(answer: Answer) -> Iterator[tuple[str, float]]:
    """The pieces of a text that are sent, and the seconds before each."""
    pieces = answer.split()
    if answer.ending in _BROKEN:
        pieces = pieces[: len(pieces) // 2]
    yield from ((piece, answer.delay) for piece in pieces)
    while answer.ending is Ending.ENDLESS:
        yield answer.text, _ENDLESS_SECONDS


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
    parser = argparse.ArgumentParser(description="A fake of the Anthropic, OpenAI and Gemini services.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.port, options.key))


if __name__ == "__main__":
    main()
