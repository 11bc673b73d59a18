"""A small server on loopback that stands for a model service, or for any other host."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Respond = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]

ANTHROPIC = {
    "type": "message",
    "model": "claude-test",
    "content": [{"type": "text", "text": "hello"}],
    "usage": {
        "input_tokens": 7,
        "output_tokens": 5,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 2,
    },
}
ANTHROPIC_EVENTS = (
    {"type": "message_start", "message": {"model": "claude-test", "usage": {"input_tokens": 7, "output_tokens": 1}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
)


def sse(*documents: Any) -> bytes:
    """Documents as server-sent events."""
    return b"".join(b"data: " + json.dumps(document).encode() + b"\n\n" for document in documents)


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


async def _hello(request: web.Request, body: bytes) -> web.StreamResponse:
    return web.json_response(ANTHROPIC)


@dataclass(slots=True)
class Service:
    """What arrived, and how it is answered."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    respond: Respond = _hello

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.method, request.raw_path if hasattr(request, "raw_path") else "", headers, body))
        return await self.respond(request, body)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    """A service until the block ends."""
    service = Service()
    runner = web.ServerRunner(web.Server(service.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    service.port = runner.addresses[0][1]
    try:
        yield service
    finally:
        await runner.cleanup()
