"""The tools that the host answers: `list_sessions`, `search_messages`, `read_history`.

A request is a row of kind `system` in `outbound.db`, its answer a row of kind `system` in `inbound.db` that names it.
They only read, so a request without an answer (the host was restarted over it) is simply written once more.
"""

from __future__ import annotations

import json
from typing import Any

from container_agent.providers.protocol import Reply
from container_agent.tools.schema import form, number, text
from container_agent.tools.tool import Arguments, Tool, ToolRefused
from container_agent.tools.tool_context import ToolContext
from shared_schema.rows import MessageOutKind

ATTEMPT_SECONDS = 8.0
_ATTEMPTS = 3
SECONDS = _ATTEMPTS * ATTEMPT_SECONDS + 2
_MAX_CHARACTERS = 40_000  # more than the host says at once (`MAX_ANSWER`): cut in the middle it would be no JSON
_TIME = "A time, as 2026-02-28 or 2026-02-28T12:00 (UTC), or how long ago: 90m, 12h, 7d, 2w."


def tools(tool_context: ToolContext, *, attempt_seconds: float = ATTEMPT_SECONDS) -> list[Tool]:
    """The tools of one turn; each attempt waits that long for the host."""
    session = text("Id or title of a session, as `list_sessions` shows it.", 200)

    def tool(name: str, description: str, parameters: dict[str, Any]) -> Tool:
        async def run(arguments: Arguments) -> str:
            return await ask(tool_context, name, arguments, attempt_seconds)

        return Tool(name, description, parameters, run, seconds=SECONDS, max_characters=_MAX_CHARACTERS)

    return [
        tool(
            "list_sessions",
            "List your conversations, the most recently active first.",
            form(None, {"limit": number("How many.", 1, 100, 20)}),
        ),
        tool(
            "search_messages",
            "Search what was said and done in all your conversations, the newest first. Words side by side must all be "
            'there; "a phrase", OR, NOT and begin* work too.',
            form(
                {"query": text("What to look for.", 1_000)},
                {
                    "since": text(_TIME, 50, default="7d"),
                    "until": text(_TIME, 50),
                    "session": session,
                    "sender": text("Name or id of who said it.", 200),
                    "limit": number("How many.", 1, 200, 50),
                },
            ),
        ),
        tool(
            "read_history",
            "Read what was said in one of your conversations, oldest first: its last messages.",
            form(None, {"session": session, "limit": number("How many messages.", 1, 200, 50)}),
        ),
    ]


async def ask(tool_context: ToolContext, name: str, arguments: Arguments, attempt_seconds: float) -> str:
    """Ask the host; its result as text. Raises `ToolRefused`."""
    result = await ask_host(tool_context, name, arguments, attempt_seconds)
    return json.dumps(result, ensure_ascii=False, separators=(",", ":")) if result else "Nothing was found."


async def ask_host(
    tool_context: ToolContext, name: str, arguments: Arguments, attempt_seconds: float = ATTEMPT_SECONDS
) -> object:
    """What the host answers to a request. Raises `ToolRefused` when it refuses, and when no answer comes."""
    request = Reply(
        "",
        in_reply_to=tool_context.answered.id,
        kind=MessageOutKind.SYSTEM,
        details={"request": name, "arguments": dict(arguments)},
    )
    for _ in range(_ATTEMPTS):
        after = tool_context.turn_inbox.last()
        message_id = await tool_context.out.send(request)
        found = await tool_context.turn_inbox.answer(message_id, after=after, seconds=attempt_seconds)
        if found is not None:
            break
    else:
        raise ToolRefused("the host did not answer", hint="try again later")
    if "error" in found:
        raise ToolRefused(str(found["error"]))
    return found.get("result")
