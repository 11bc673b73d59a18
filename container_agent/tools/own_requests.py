"""The tools with which an agent asks for more: a host it may reach, tools, another agent, packages, a folder.

The host does it at once, refuses it, or asks a person; then the answer comes as a message of its own.
"""

from __future__ import annotations

from typing import Any

from container_agent.tools.requests import ask_host
from container_agent.tools.schema import form, text
from container_agent.tools.tool import Arguments, Tool, ToolRefused
from container_agent.tools.tool_context import ToolContext
from shared_schema.packages import LONGEST, MANAGERS, MOST_ASKED, problem

_SECONDS = 30.0
_REASON = text("Why, in a sentence: a person reads it and decides.", 500)


def tools(tool_context: ToolContext) -> list[Tool]:
    """The tools of one turn."""

    async def install(arguments: Arguments) -> str:
        wanted = {manager: arguments.get(manager) or [] for manager in MANAGERS}
        for manager, names in wanted.items():
            for package in names:
                if sentence := problem(manager, package):
                    raise ToolRefused(sentence)
        if not any(wanted.values()):
            raise ToolRefused("name the packages: `apt` or `pip`, or both")
        asked: dict[str, Any] = {manager: " ".join(names) for manager, names in wanted.items() if names}
        return await request("install_packages", {**asked, "reason": arguments["reason"]})

    async def request(name: str, arguments: dict[str, Any]) -> str:
        found = await ask_host(tool_context, name, arguments)
        first = found[0] if isinstance(found, list) and found else {}
        return str(first.get("said") or "The host said nothing.")

    def tool(name: str, description: str, parameters: dict[str, Any]) -> Tool:
        async def run(arguments: Arguments) -> str:
            return await request(name, dict(arguments))

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
        Tool(
            "install_packages",
            "Ask to have packages of Debian (apt) or Python (pip) installed for you for good, in the image of your "
            "container. A person may have to approve it. The image is built meanwhile; then your container is replaced "
            "after a turn, and you are told.",
            form(
                {"reason": _REASON},
                {
                    "apt": _names("Packages of Debian, such as ffmpeg."),
                    "pip": _names("Packages of Python, such as pandas or pandas>=2,<3."),
                },
            ),
            install,
            seconds=_SECONDS,
        ),
        tool(
            "request_mount",
            "Ask to have a folder of the host's machine as /mnt/NAME. A person may have to approve it, the operator "
            "must have allowed it; then your container is replaced after a turn, and you are told.",
            form(
                {
                    "path": text("The folder, as it is called on the host's machine.", 500),
                    "name": text("What it is called in /mnt: letters, digits, . _ -", 64),
                    "reason": _REASON,
                },
                {
                    "access": {
                        "type": "string",
                        "enum": ["read", "write"],
                        "description": "Whether you only read there (read, unless you say otherwise) or write, too.",
                    }
                },
            ),
        ),
    ]


def _names(description: str) -> dict[str, Any]:
    return {
        "type": "array",
        "description": description,
        "items": {"type": "string", "minLength": 1, "maxLength": LONGEST},
        "maxItems": MOST_ASKED,
    }
