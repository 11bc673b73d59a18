"""Which of the SDK's own tools runs now, as its hooks say, and what people have written meanwhile.

Our own tools, which the SDK calls through MCP, say so themselves: they know their limits better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from container_agent.providers.model_seams import Incoming
from container_agent.providers.protocol import TurnOutput
from container_agent.tools.server import NAME
from shared_schema.rows import MessageIn

OWN = ("Bash", "Edit", "NotebookEdit", "Read", "Task", "WebFetch", "WebSearch", "Write")
"""The SDK's tools that an agent has. Those that outlive a turn, or ask somebody at a terminal, are left out."""

BASH_SECONDS = 120.0
MOST_BASH_SECONDS = 600.0
_SECONDS = 120.0
_GRACE_SECONDS = 5.0  # a tool that is at its limit has to end first; only then it is taken for a hang
_SUBAGENT = ("Agent", "Task")  # it is asked for by the one name, and reported by the other
_OURS = f"mcp__{NAME}__"

Hook = Callable[[dict[str, Any], str | None, Any], Any]


class Watch:
    """The hooks of one turn. `said` gives the text of a message that came in, and records it."""

    def __init__(self, out: TurnOutput, turn_seconds: float, said: Callable[[MessageIn], str]) -> None:
        self._out = out
        self._turn_seconds = turn_seconds
        self._said = said
        self._running: dict[str, tuple[float, str]] = {}  # by id of the call: the deadline, and the tool's name

    def hooks(self, matcher: Callable[..., Any]) -> dict[str, Sequence[Any]]:
        """For the SDK's options; `matcher` is its `HookMatcher`."""
        after = [matcher(hooks=[self._after])]
        return {"PreToolUse": [matcher(hooks=[self._before])], "PostToolUse": after, "PostToolUseFailure": after}

    async def _before(self, call: Mapping[str, Any], call_id: str | None, context: object) -> dict[str, Any]:
        name = str(call["tool_name"])
        if not name.startswith(_OURS):
            seconds = limit(name, call["tool_input"], self._turn_seconds)
            self._running[call_id or name] = (monotonic() + seconds + _GRACE_SECONDS, name)
            self._say()
        return {}

    async def _after(self, call: Mapping[str, Any], call_id: str | None, context: object) -> dict[str, Any]:
        name = str(call["tool_name"])
        is_own = self._running.pop(call_id or name, None) is not None
        if is_own or self._running:
            self._say()
        if "agent_id" in call or not isinstance(self._out, Incoming):  # what people say is not for a subagent
            return {}
        news = [self._said(message) for message in await self._out.take()]
        if not news:
            return {}
        text = "\n\n".join(["While you were working, a message came in. Heed it from now on:", *news])
        return {"hookSpecificOutput": {"hookEventName": call["hook_event_name"], "additionalContext": text}}

    def _say(self) -> None:
        """Of several tools, the one that may take longest is named."""
        if not self._running:
            self._out.set_tool(None, None)
            return
        deadline, name = max(self._running.values())
        self._out.set_tool(name, max(0.0, deadline - monotonic()))


def limit(name: str, arguments: Mapping[str, Any], turn_seconds: float) -> float:
    """How long a call may take, in seconds: what Bash was told, and for a subagent as long as the turn."""
    if name in _SUBAGENT:
        return turn_seconds
    if name != "Bash":
        return _SECONDS
    said = arguments.get("timeout")
    asked = said / 1000 if isinstance(said, int | float) and not isinstance(said, bool) else BASH_SECONDS
    return min(max(asked, 0.0), MOST_BASH_SECONDS)
