"""The seam between the agent and what produces its replies.

A provider gets one `TurnRequest`, may send and report through a `TurnOutput` while it works, and returns a
`TurnResult`. It needs to know nothing of databases. It may be cancelled at any `await`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from container_agent.context import Context
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import SessionLayout
from shared_schema.rows import Destination, MessageIn, MessageOutKind


class FailureReason(StrEnum):
    """`turns.failure_reason`."""

    PROVIDER_ERROR = "provider_error"
    TIMEOUT = "timeout"  # the turn took longer than `turn_seconds`
    BAD_INPUT = "bad_input"  # trying again cannot help
    AGENT_DIED = "agent died"  # found by the next process


class ProviderError(DumbwaiterError):
    """The provider cannot answer. The turn fails with `reason`; the sentence is shown to the person who asked."""

    def __init__(self, reason: FailureReason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes out with a reply: a plain file name, and its bytes or the path of a file to copy."""

    name: str
    source: bytes | Path


@dataclass(frozen=True, slots=True)
class Reply:
    """A message from the agent.

    `in_reply_to` is the id of the inbound message it answers (default: the last triggering one of the turn) and gives
    the address it goes to, unless `destination` names another one.
    """

    text: str
    in_reply_to: str | None = None
    destination: str | None = None
    files: tuple[Attachment, ...] = ()
    kind: MessageOutKind = MessageOutKind.CHAT


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of the transcript as the model saw it. `tool_calls` and `usage` are JSON text."""

    role: str
    content: str | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    tool_calls: str | None = None
    reasoning: str | None = None
    usage: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a whole turn used: tokens and US dollars; None where it is not known."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """One turn to run. `messages` are in order, context rows among them; `resume` is empty for a fresh start."""

    messages: tuple[MessageIn, ...]
    context: Context
    destinations: tuple[Destination, ...]
    workspace: Path
    session: SessionLayout
    resume: str = ""
    is_first: bool = False  # no turn of this session was completed before

    @property
    def triggering(self) -> tuple[MessageIn, ...]:
        """The messages that want an answer; the others are only context."""
        return tuple(message for message in self.messages if message.trigger)


@dataclass(frozen=True, slots=True)
class TurnResult:
    """The end of a turn that went well. An empty `provider_session_id` leaves the recorded one as it is."""

    replies: Sequence[Reply] = ()
    steps: Sequence[Step] = ()
    usage: Usage = field(default_factory=Usage)
    provider_session_id: str | None = None


class TurnOutput(Protocol):
    """What a provider may do in mid-turn. Each call is committed when it returns, and stays if the turn fails later."""

    async def send(self, reply: Reply) -> str:
        """Send now; returns the message id. Raises `ProviderError` (bad input) for a file name that cannot be used."""

    def append_steps(self, steps: Sequence[Step]) -> None:
        """Add to the transcript."""

    def set_tool(self, name: str | None, seconds: float | None = None) -> None:
        """Say which tool runs now and how long it may take at most, so that it is not taken for a hang; None: none."""


class Provider(Protocol):
    """Produces the replies of a turn. One object serves all turns of a process, one after the other."""

    name: str

    async def run(self, request: TurnRequest, out: TurnOutput) -> TurnResult:
        """Run one turn. Raises `ProviderError`; any other exception fails the turn as well, without its text."""
