"""An MCP server behind HTTP, for a client that knows only its URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server

from tests.support.wait import until


@asynccontextmanager
async def serving(served: Server[Any]) -> AsyncIterator[str]:
    """Serve it as streamable HTTP until the block ends; gives the URL."""
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
