"""What the tools of one turn work with."""

from __future__ import annotations

from contextlib import AsyncExitStack
from time import monotonic

from container_agent.providers.protocol import TurnOutput, TurnRequest
from container_agent.tools.confine import Bounds
from container_agent.tools.tool import ToolRefused
from container_agent.tools.turn_inbox import TurnInbox
from shared_schema.dataclass import dataclass
from shared_schema.rows import MessageIn

_RESERVE_SECONDS, _RESERVE_SHARE = 60.0, 0.1  # of the turn, the smaller of the two


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The turn, what it may send through, what comes in for it, when it must end, and what is to be done then."""

    request: TurnRequest
    out: TurnOutput
    turn_inbox: TurnInbox
    deadline: float  # the turn's, by the monotonic clock
    at_end: AsyncExitStack

    def granted(self, seconds: int) -> int:
        """What a tool may take of the seconds it asks for, so that the turn is left some to answer in.

        Raises `ToolRefused` when that is less than one.
        """
        reserve = min(_RESERVE_SECONDS, self.request.context.turn_seconds * _RESERVE_SHARE)
        left = self.deadline - monotonic() - reserve
        if left < 1:
            raise ToolRefused("this turn has no time left for that", hint="answer with what you have")
        return int(min(seconds, left))

    @property
    def bounds(self) -> Bounds:
        """The folders that tools may touch."""
        return Bounds(self.request.workspace, self.request.session.folder)

    @property
    def answered(self) -> MessageIn:
        """The message that the turn answers: the last one that triggers."""
        return (self.request.triggering or self.request.messages)[-1]
