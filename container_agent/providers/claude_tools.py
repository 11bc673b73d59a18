"""Which of the SDK's own tools runs now, as its hooks say, and what people have written meanwhile.

Our own tools, which the SDK calls through MCP, say so themselves: they know their limits better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from container_agent.providers.model_seams import Incoming
from container_agent.providers.protocol import TurnOutput
from container_agent.tools.guard import Guard
from container_agent.tools.running import Running
from container_agent.tools.server import NAME
from shared_schema.errors import DumbwaiterError
from shared_schema.rows import MessageIn

OWN = ("Bash", "Edit", "NotebookEdit", "Read", "Task", "WebFetch", "WebSearch", "Write")
"""The SDK's tools that an agent has. Those that outlive a turn, or ask a person at a terminal, are left out."""

BASH_SECONDS = 120.0
MOST_BASH_SECONDS = 600.0
_SECONDS = 120.0
_SUBAGENT = ("Agent", "Task")  # it is asked for by the one name, and reported by the other
_OURS = f"mcp__{NAME}__"

_PERMIT_SECONDS = 900.0
"""How long the SDK waits for the permission callback: longer than a person is waited for."""

Hook = Callable[[dict[str, Any], str | None, Any], Any]


class Watch:
    """The hooks of one turn. `said` gives the text of a message that came in, and records it."""

    def __init__(self, out: TurnOutput, turn_seconds: float, said: Callable[[MessageIn], str]) -> None:
        self.guard: Guard | None = None
        self._out = out
        self._turn_seconds = turn_seconds
        self._said = said
        self._running = Running(out.set_tool)

    def hooks(self, matcher: Callable[..., Any]) -> dict[str, Sequence[Any]]:
        """For the SDK's options; `matcher` is its `HookMatcher`."""
        after = [matcher(hooks=[self._after])]
        before = matcher(hooks=[self._before], timeout=_PERMIT_SECONDS)
        return {"PreToolUse": [before], "PostToolUse": after, "PostToolUseFailure": after}

    async def _before(self, call: Mapping[str, Any], call_id: str | None, context: object) -> dict[str, Any]:
        name = str(call["tool_name"])
        if not name.startswith(_OURS):  # ours ask by themselves
            arguments = call["tool_input"]
            if self.guard is not None and self.guard.waits(name, arguments):
                self._running.begin(call_id or name, f"waiting for a yes to {name}", self.guard.seconds)
                try:
                    await self.guard.permit(name, arguments)
                except DumbwaiterError as refusal:  # also where the host cannot be asked: then it is not made
                    self._running.end(call_id or name)
                    return _denied(str(refusal))
            self._running.begin(call_id or name, name, limit(name, call["tool_input"], self._turn_seconds))
        return {}

    async def _after(self, call: Mapping[str, Any], call_id: str | None, context: object) -> dict[str, Any]:
        self._running.end(call_id or str(call["tool_name"]))
        if "agent_id" in call or not isinstance(self._out, Incoming):  # what people say is not for a subagent
            return {}
        news = [self._said(message) for message in await self._out.take()]
        if not news:
            return {}
        text = "\n\n".join(["While you were working, a message came in. Heed it from now on:", *news])
        return {"hookSpecificOutput": {"hookEventName": call["hook_event_name"], "additionalContext": text}}


def _denied(why: str) -> dict[str, Any]:
    """The answer of the SDK's permission callback for a call that is not to be made."""
    said = {"hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": why}
    return {"hookSpecificOutput": said}


def limit(name: str, arguments: Mapping[str, Any], turn_seconds: float) -> float:
    """How long a call may take, in seconds: what Bash was told, and for a subagent as long as the turn."""
    if name in _SUBAGENT:
        return turn_seconds
    if name != "Bash":
        return _SECONDS
    said = arguments.get("timeout")
    asked = said / 1000 if isinstance(said, int | float) and not isinstance(said, bool) else BASH_SECONDS
    return min(max(asked, 0.0), MOST_BASH_SECONDS)
