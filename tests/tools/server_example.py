"""An MCP server for the tests: over stdio, or as an app for HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server


def server() -> Server[Any]:
    """Tools that add, fail, end the server, notify, and two that say what it is."""

    async def list_tools(context: object, parameters: object) -> types.ListToolsResult:
        numbers = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}
        names = ("add", "fail", "quit", "environment", "process", "notify")
        return types.ListToolsResult(tools=[types.Tool(name=name, input_schema=numbers) for name in names])

    async def call_tool(context: Any, parameters: types.CallToolRequestParams) -> types.CallToolResult:
        given = parameters.arguments or {}
        if parameters.name == "quit":
            os._exit(3)
        if parameters.name == "notify":
            for _ in range(2):
                await context.session.send_resource_updated("tea://kettle")
        if parameters.name == "environment":
            said = " ".join(sorted(os.environ))
        elif parameters.name == "process":
            said = str(os.getpid())
        else:
            said = "it is broken" if parameters.name == "fail" else str(given.get("a", 0) + given.get("b", 0))
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=said)], is_error=parameters.name == "fail"
        )

    return Server("example", on_list_tools=list_tools, on_call_tool=call_tool)


async def main() -> None:
    """Serve standard input."""
    if sys.argv[1:] == ["hang"]:
        await asyncio.Event().wait()
    async with stdio_server() as (read, write):
        example = server()
        await example.run(read, write, example.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main())
