"""The tools with which an agent does something by itself at a time. The host keeps the schedules and answers."""

from __future__ import annotations

from typing import Any

from container_agent.tools.requests import ATTEMPT_SECONDS, SECONDS, ask
from container_agent.tools.schema import form, text
from container_agent.tools.tool import Arguments, Tool
from container_agent.tools.tool_context import ToolContext

_WHEN = (
    "When, such as 'every 30m', 'every weekday at 08:00', 'every monday at 9:00', a cron expression of five fields "
    "('0 8 * * 1-5'), '2026-12-01 08:00', 'tomorrow 08:00' or 'in 20m'; on the clock of the time zone."
)
_PROMPT = (
    "What you are told then. It is all you know in that run, unless `session` is chat: say everything that is needed."
)
_NAME = text("The name of the task, as `list_tasks` shows it.", 63)


def tools(tool_context: ToolContext, *, attempt_seconds: float = ATTEMPT_SECONDS) -> list[Tool]:
    """The tools of one turn; each attempt waits that long for the host."""

    def tool(name: str, description: str, parameters: dict[str, Any]) -> Tool:
        async def run(arguments: Arguments) -> str:
            return await ask(tool_context, name, arguments, attempt_seconds)

        return Tool(name, description, parameters, run, seconds=SECONDS)

    rules: dict[str, Any] = {
        "zone": text("The time zone, such as Europe/Berlin; else that of the chat.", 64),
        "to": text("Where you speak then: origin (this chat), home, nowhere, or a destination's name.", 100),
        "session": {
            "type": "string",
            "enum": ["own", "chat"],
            "description": "A fresh conversation for each run (own, the default), or this chat's.",
        },
        "missed": {
            "type": "string",
            "enum": ["skip", "once", "all"],
            "description": "What is made up for of times at which the host was down: once, unless you say otherwise.",
        },
        "max_runs": {"type": "integer", "description": "It is over after so many runs.", "minimum": 1},
        "ends": text("It is over then, such as '2026-12-24 18:00' or 'in 14d'.", 50),
    }
    name = text("What it is called: small letters, digits and '-'.", 63)
    return [
        tool(
            "schedule_task",
            "Do something by yourself at a time, once or again and again. A person may have to say yes first; the "
            "answer says so.",
            form({"when": text(_WHEN, 200), "prompt": text(_PROMPT, 3_000)}, {"name": name, **rules}),
        ),
        tool("list_tasks", "List what you do by yourself, what is due first before the others.", form(None, {})),
        tool(
            "update_task",
            "Change a task of yours.",
            form({"name": _NAME}, {"when": text(_WHEN, 200), "prompt": text(_PROMPT, 3_000), **rules}),
        ),
        tool("pause_task", "Let a task of yours rest.", form({"name": _NAME}, {})),
        tool("resume_task", "Let a task of yours that rests run again.", form({"name": _NAME}, {})),
        tool("cancel_task", "End a task of yours for good.", form({"name": _NAME}, {})),
    ]
