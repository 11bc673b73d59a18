"""The tools with which an agent asks for more: a host it may reach, a server of tools, another agent.

The host does it at once, refuses it, or asks a person; then the answer comes as a message of its own.
"""

from __future__ import annotations

from typing import Any

from container_agent.tools.requests import ask_host
from container_agent.tools.schema import form, text
from container_agent.tools.tool import Arguments, Tool
from container_agent.tools.tool_context import ToolContext

_SECONDS = 30.0
_REASON = text("Why, in a sentence: a person reads it and decides.", 500)


def tools(tool_context: ToolContext) -> list[Tool]:
    """The tools of one turn."""

    def tool(name: str, description: str, parameters: dict[str, Any]) -> Tool:
        async def run(arguments: Arguments) -> str:
            found = await ask_host(tool_context, name, dict(arguments))
            first = found[0] if isinstance(found, list) and found else {}
            return str(first.get("said") or "The host said nothing.")

        return Tool(name, description, parameters, run, seconds=_SECONDS)

    return [
        tool(
            "request_host",
            "Ask to reach a host on the network. A person may have to approve it; you are told when that is decided.",
            form({"host": text("The host, such as files.example.org or example.org:8443.", 300), "reason": _REASON}),
        ),
        tool(
            "add_mcp_server",
            "Ask for the tools of an MCP server. A person may have to approve it; you are told when that is decided.",
            form(
                {
                    "name": text("What to call it: a-z, 0-9, hyphens.", 64),
                    "configuration": text(
                        'Its configuration as JSON: {"command": "…", "args": ["…"]} or {"url": "…"}.', 1_500
                    ),
                    "reason": _REASON,
                }
            ),
        ),
        tool(
            "create_agent",
            "Ask for an agent of your own, with its own instructions and memory. Once a person has approved it, you "
            "write to it as to a destination of its name; its answers come to you as messages.",
            form(
                {
                    "name": text("What to call it: a-z, 0-9, hyphens.", 63),
                    "instructions": text("What it is for and how it works: its AGENT.md.", 1_500),
                    "reason": text("Why, in a sentence: a person reads it and decides.", 300),
                },
                {"model": text("Its model; yours without it.", 300)},
            ),
        ),
    ]
