"""The tools for background processes: `start_process`, `list_processes`, `read_process`, `stop_process`."""

from __future__ import annotations

from collections.abc import Mapping

from container_agent.tools.background import BackgroundProcesses
from container_agent.tools.environment import for_programs
from container_agent.tools.schema import form, text
from container_agent.tools.tool import MAX_CHARACTERS, Arguments, Tool
from container_agent.tools.tool_context import ToolContext
from shared_schema.background import LONGEST_NAME

_FIRST_SECONDS = 1.0
"""How long the start of a process waits for what it says first: a wrong command ends at once."""
_NAME = text("What the process is called.", LONGEST_NAME)


def tools(tool_context: ToolContext, environment: Mapping[str, str], processes: BackgroundProcesses) -> list[Tool]:
    """The tools of one turn. `environment` is the agent's own; programs get what they may have of it."""
    most = MAX_CHARACTERS - 1_000

    async def start(arguments: Arguments) -> str:
        name = await processes.start(
            arguments["command"],
            tool_context.request.workspace,
            for_programs(environment),
            name=arguments.get("name"),
            wakes=arguments["wake"],
        )
        await processes.wait_for(name, _FIRST_SECONDS)
        return processes.read(name, everything=False, most=most)

    async def show(arguments: Arguments) -> str:
        return "\n".join(processes.listed()) or "There are no background processes."

    async def read(arguments: Arguments) -> str:
        return processes.read(arguments["name"], everything=arguments["everything"], most=most)

    async def stop(arguments: Arguments) -> str:
        return await processes.stop(arguments["name"])

    return [
        Tool(
            "start_process",
            "Start a command in the workspace that goes on while you do other things, also after your turn: a server, "
            "a build, a download. When the command ends, all that it has started is ended, too. It is gone when your "
            "container is replaced; you are told so.",
            form(
                {"command": text("The command.", 100_000)},
                {
                    "name": text("What to call it: a-z, 0-9, hyphens; p1, p2, … without it.", LONGEST_NAME),
                    "wake": {
                        "type": "boolean",
                        "description": "Whether its end wakes you with a message. Yes, unless you say otherwise.",
                        "default": True,
                    },
                },
            ),
            start,
        ),
        Tool("list_processes", "List your background processes, and those that have ended.", form(None, {}), show),
        Tool(
            "read_process",
            "Read what a background process has printed since you last read it.",
            form(
                {"name": _NAME},
                {
                    "everything": {
                        "type": "boolean",
                        "description": "All of it that is kept (the last 256 KiB), not only what is new.",
                        "default": False,
                    }
                },
            ),
            read,
        ),
        Tool(
            "stop_process",
            "Stop a background process, with all that it has started.",
            form({"name": _NAME}, {}),
            stop,
        ),
    ]
