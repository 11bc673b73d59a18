"""The tool `delegate`: a task for a conversation of its own, at work at the same time."""

from __future__ import annotations

import secrets

from container_agent.tools.requests import ask_host
from container_agent.tools.schema import form, number, text
from container_agent.tools.tool import Arguments, Tool
from container_agent.tools.tool_context import ToolContext

_SECONDS = 30.0


def tool(tool_context: ToolContext) -> Tool:
    """The tool for one turn."""

    async def run(arguments: Arguments) -> str:
        asked = {"agent": None, **arguments, "key": secrets.token_hex(8)}
        found = await ask_host(tool_context, "delegate", asked)
        first = found[0] if isinstance(found, list) and found else {}
        return str(first.get("said") or "The host said nothing.")

    return Tool(
        "delegate",
        "Give a task to a fresh conversation of yours or of another agent, which works at it at the same time. It "
        "knows nothing of this conversation: say all it needs. Its result comes to you later, as one message; end your "
        "turn or go on meanwhile.",
        form(
            {"task": text("The whole task.", 4_000)},
            {
                "agent": text("A destination that is an agent; yourself without it.", 63),
                "minutes": number("After how many minutes it is stopped.", 1, 120, 15),
                "tokens": number("How many tokens it may use.", 1_000, 10_000_000, 500_000),
            },
        ),
        run,
        seconds=_SECONDS,
    )
