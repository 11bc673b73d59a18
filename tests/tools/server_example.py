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
    """A server with a tool that adds, one that fails, one that ends the server, and two that say what it is."""

    async def list_tools(context: object, parameters: object) -> types.ListToolsResult:
        numbers = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}
        names = ("add", "fail", "quit", "environment", "process")
        return types.ListToolsResult(tools=[types.Tool(name=name, input_schema=numbers) for name in names])

    async def call_tool(context: object, parameters: types.CallToolRequestParams) -> types.CallToolResult:
        given = parameters.arguments or {}
        if parameters.name == "quit":
            os._exit(3)
        if parameters.name == "environment":
            said = " ".join(sorted(os.environ))
        elif parameters.name == "process":
            said = str(os.getpid())
        else:
            said = "it is broken" if parameters.name == "fail" else str(given["a"] + given["b"])
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
