"""Calls of tools that wait for a person's yes: the rules come from the host, and so does the answer.

A turn waits for some minutes and no longer: after that it ends, and the answer wakes the agent when it comes. It is a
guard against mistakes. What an agent can do in spite of it, its container bounds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from container_agent.tools.requests import ask_host
from container_agent.tools.tool import Arguments, ToolRefused
from container_agent.tools.tool_context import ToolContext
from shared_schema import asking

WAIT_SECONDS = 180
_MARGIN_SECONDS = 60.0
_MOST_SHOWN = 1_900


class Guard:
    """Asks the host before calls that the rules name. `wait_seconds`: how long a turn waits for a person."""

    def __init__(self, tool_context: ToolContext, rules: Sequence[str], wait_seconds: int = WAIT_SECONDS) -> None:
        self._tool_context = tool_context
        self._rules = rules
        self._wait_seconds = wait_seconds

    @property
    def seconds(self) -> float:
        """How long `permit` may take."""
        return self._wait_seconds + _MARGIN_SECONDS

    def waits(self, name: str, arguments: Arguments) -> bool:
        """Whether a call waits for a yes."""
        return asking.waits(self._rules, name, arguments)

    async def permit(self, name: str, arguments: Arguments) -> None:
        """Return when the call may be made. Raises `ToolRefused` when it may not, or not yet."""
        said = json.dumps(arguments, ensure_ascii=False, sort_keys=True, default=str)
        if len(said) > _MOST_SHOWN:
            raise ToolRefused(
                f"this call waits for a yes, and its arguments are longer than {_MOST_SHOWN:,} characters"
            )
        call = blake2b(f"{name.lower()} {said}".encode("utf-8", "replace"), digest_size=16).hexdigest()
        answer = await self._asked({"tool": name, "arguments": said, "call": call})
        if answer.get("state") == "asked":
            seconds = self._tool_context.granted(self._wait_seconds)
            found = await self._tool_context.turn_inbox.decision(str(answer.get("approval")), seconds=seconds)
            if found is None:
                raise ToolRefused(
                    f"this call needs a yes (approval {answer.get('code')}), which has not come yet: it is not made",
                    hint="say so and end your turn: you are woken when it is decided",
                )
            answer = found
        if answer.get("state") != "approved":
            raise ToolRefused(f"{answer.get('by') or 'a person'} said no to this call; it is not made")

    async def _asked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        found = await ask_host(self._tool_context, "may_call", arguments)
        first = found[0] if isinstance(found, list) and found else None
        if not isinstance(first, dict):
            raise ToolRefused("the host gave no answer to whether this call may be made; it is not made")
        return first


def guard_of(tool_context: ToolContext) -> Guard | None:
    """The guard of a turn; None where no call waits."""
    rules = tool_context.request.context.ask_before
    return Guard(tool_context, rules) if rules else None
