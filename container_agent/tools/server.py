"""The second door: the same tools as an MCP server, for an SDK in the agent's own process.

The library is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from container_agent.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

NAME = "dumbwaiter"


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
