"""The second door: the same tools through MCP, in the agent's own process.

For a client in this process `mcp_server` is enough; for one in another, `serving` listens on 127.0.0.1, at a path that
cannot be guessed. The libraries are imported when they are used.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from container_agent.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

NAME = "dumbwaiter"
_STOP_SECONDS = 2.0


def mcp_server(toolbox: Toolbox) -> Server[Any]:
    """An MCP server with these tools. A call that was refused is a result that says so, never a protocol error."""
    import mcp_types as types
    from mcp.server.lowlevel import Server

    async def list_tools(context: object, parameters: object) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(name=tool.name, description=tool.description, input_schema=dict(tool.parameters))
                for tool in toolbox.definitions
            ]
        )

    async def call_tool(context: object, parameters: types.CallToolRequestParams) -> types.CallToolResult:
        result = await toolbox.answer(parameters.name, parameters.arguments or {})
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=result.text)], is_error=result.is_error
        )

    return Server(NAME, on_list_tools=list_tools, on_call_tool=call_tool)


@asynccontextmanager
async def serving(toolbox: Toolbox) -> AsyncIterator[str]:
    """Serve the tools as streamable HTTP until the block ends; gives the URL."""
    import uvicorn

    path = f"/{secrets.token_urlsafe(16)}"
    app = mcp_server(toolbox).streamable_http_app(streamable_http_path=path, json_response=True, stateless_http=True)
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="on"
        )
    )
    server.capture_signals = _no_signals  # type: ignore[method-assign]  # the agent's own handlers stay
    running = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if running.done():
                running.result()
                raise OSError("the tools cannot be served")
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}{path}"
    finally:
        server.should_exit = True
        await asyncio.wait({running}, timeout=_STOP_SECONDS)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _no_signals() -> Any:
    from contextlib import nullcontext

    return nullcontext()
