"""An MCP server behind HTTP, for a client that knows only its URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from typing import Any, Literal
from urllib.parse import urlsplit

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.sse import SseServerTransport
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from tests.support.wait import until


@asynccontextmanager
async def serving(served: Server[Any], kind: Literal["http", "sse"] = "http") -> AsyncIterator[str]:
    """Serve it as streamable HTTP, or the older SSE, until the block ends; gives the URL."""
    if kind == "sse":
        app = _sse_app(served)
    else:
        app = served.streamable_http_app(streamable_http_path="/mcp", json_response=True, stateless_http=True)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    )
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]  # the test's own handlers stay
    running = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started, "it listens")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        await running


def _sse_app(served: Server[Any]) -> Starlette:
    transport = SseServerTransport("/messages/")

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        async with transport.connect_sse(scope, receive, send) as (read, write):
            await served.run(read, write, served.create_initialization_options())

    class Endpoint:
        """An ASGI application, and not a function of a request."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await answer(scope, receive, send)

    return Starlette(
        routes=[Route("/mcp", Endpoint(), methods=["GET"]), Mount("/messages/", app=transport.handle_post_message)]
    )


@asynccontextmanager
async def passing(refusal: str = "") -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that passes on what it is asked for over HTTP, or refuses it as the gateway does; its URL, and the first
    lines of the requests.
    """
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(_closed, writer)
            line = await reader.readline()
            if not line:
                return
            asked.append(line.decode().strip())
            if refusal:
                await reader.readuntil(b"\r\n\r\n")
                head = f"HTTP/1.1 403 Forbidden\r\nX-Dumbwaiter-Refused: not_listed\r\nContent-Length: {len(refusal)}"
                writer.write(f"{head}\r\nConnection: close\r\n\r\n{refusal}".encode())
                return
            method, url, version = line.decode().split()
            target = urlsplit(url)
            there, onward = await asyncio.open_connection(target.hostname, target.port)
            stack.push_async_callback(_closed, onward)
            path = url.partition(target.netloc)[2]
            onward.write(f"{method} {path} {version}\r\nConnection: close\r\n".encode())  # each request comes here
            sending = asyncio.create_task(_carry(reader, onward))
            await _carry(there, writer)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        await server.wait_closed()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
