"""What the tools of one turn work with."""

from __future__ import annotations

from dataclasses import dataclass

from container_agent.providers.protocol import TurnOutput, TurnRequest
from container_agent.tools.confine import Bounds
from container_agent.tools.mail import Mail
from shared_schema.rows import MessageIn


@dataclass(frozen=True, slots=True)
class Desk:
    """The turn, what it may send through, and what comes in for it."""

    request: TurnRequest
    out: TurnOutput
    mail: Mail

    @property
    def bounds(self) -> Bounds:
        """The folders that tools may touch."""
        return Bounds(self.request.workspace, self.request.session.folder)

    @property
    def answered(self) -> MessageIn:
        """The message that the turn answers: the last one that triggers."""
        return (self.request.triggering or self.request.messages)[-1]
