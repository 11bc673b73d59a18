"""The seam between the agent and what produces its replies.

A provider gets one `TurnRequest`, may send and report through a `TurnOutput` while it works, and returns a
`TurnResult`. It needs to know nothing of databases. It may be cancelled at any `await`.

A provider that is also a `Summarizer` does the host's control tasks: a title, a summary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Protocol, runtime_checkable

from container_agent.context import SessionContext
from container_agent.heading import Names, heading
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import SessionLayout
from shared_schema.rows import ControlTask, Destination, FailureReason, MessageIn, MessageOutKind

_LIES_IN_THE_QUESTION = frozenset({FailureReason.CONTEXT_TOO_LONG, FailureReason.REFUSED, FailureReason.BAD_INPUT})


class ProviderError(DumbwaiterError):
    """The provider cannot answer. The turn fails with `reason`; the sentence is shown to the person who asked.

    `detail` is what a service said itself, for the operator of the host: redacted and bounded (`service_words.py`).
    `stop_reason` is why its last answer ended, in its own word. `elsewhere` says that another service may well answer:
    this one takes no more, does not take the key, or is not there.
    """

    def __init__(
        self,
        reason: FailureReason,
        sentence: str,
        *,
        detail: str = "",
        stop_reason: str | None = None,
        elsewhere: bool = False,
    ) -> None:
        super().__init__(sentence)
        self.elsewhere = elsewhere
        self.reason = reason
        self.detail = detail
        self.stop_reason = stop_reason

    @property
    def is_to_be_remembered(self) -> bool:
        """Whether what was asked may be told with later turns. If the failure lies in it, those would fail as well."""
        return self.reason not in _LIES_IN_THE_QUESTION


class TurnInterrupted(Exception):
    """Something on our side died, which is not the model's answer: the turn's messages are given back, and taken again.

    `what` happened is a sentence without its full stop. Where it happens again and again, the turn fails with `reason`.
    """

    def __init__(
        self, what: str = "the connection to the host was lost", reason: FailureReason = FailureReason.NETWORK
    ) -> None:
        super().__init__(what)
        self.what = what
        self.reason = reason


@dataclass(frozen=True, slots=True)
class OutgoingFile:
    """A file that goes out with a reply: a plain file name, and its bytes or the path of a file to copy."""

    name: str
    source: bytes | Path


@dataclass(frozen=True, slots=True)
class Reply:
    """A message from the agent.

    `in_reply_to` is the id of the inbound message it answers (default: the last triggering one of the turn) and gives
    the address it goes to, unless `destination` names another one. `details` are more of its content, which `text`
    stands for where they mean nothing.
    """

    text: str
    in_reply_to: str | None = None
    destination: str | None = None
    files: tuple[OutgoingFile, ...] = ()
    kind: MessageOutKind = MessageOutKind.CHAT
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of the transcript as the model saw it. `tool_calls` and `usage` are JSON text.

    `usage` is an object with the names of `Usage`, of this step alone.
    """

    role: str
    content: str | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    tool_calls: str | None = None
    reasoning: str | None = None
    usage: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used: tokens and US dollars; None where it is not known.

    `input_tokens` are without those read from or written to a cache; `output_tokens` are with those of reasoning.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_usd: float | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """One turn to run. `messages` are in order, context rows among them; `resume` is empty for a fresh start.

    `note` is to be told to the model with this turn: why its conversation begins anew. It is empty once told.
    """

    messages: tuple[MessageIn, ...]
    context: SessionContext
    destinations: tuple[Destination, ...]
    workspace: Path
    session: SessionLayout
    resume: str = ""
    is_first: bool = False  # no turn of this session was completed before
    note: str = ""
    recorded: Callable[[], Sequence[Step]] = tuple
    names: Names = field(default_factory=Names)

    @property
    def triggering(self) -> tuple[MessageIn, ...]:
        """The messages that want an answer; the others are only context."""
        return tuple(message for message in self.messages if message.trigger)

    def history(self) -> Sequence[Step]:
        """What was said before in this conversation, as far as it counts; read from the file at every call."""
        return self.recorded()

    def spoken(self, message: MessageIn) -> str:
        """The text of a message as the model should hear it, below the line that says when it was said, and by whom.

        Of a host that names no time zone: with the sender's name alone, where several people speak.
        """
        if not self.context.time_zone:
            return self.attributed(message)
        is_first = bool(self.messages) and message.id == self.messages[0].id
        line = heading(message, zone=self.context.time_zone, names=self.names, tells_last=is_first)
        lines = [line, *(f"[{each}]" for each in self.names.undelivered if is_first), message.text]
        return "\n".join(each for each in lines if each)

    def attributed(self, message: MessageIn) -> str:
        """The text of a message: where several people speak, with the sender's name."""
        name = " ".join((message.sender_name or message.sender_id or "").split())
        return f"{name}: {message.text}" if self.context.shared and name else message.text


@dataclass(frozen=True, slots=True)
class TurnResult:
    """The end of a turn that went well. An empty `provider_session_id` leaves the recorded one as it is.

    `usage` is of the turn; what it does not say is added up from the steps' own. With `cumulative` it is of the
    provider's session so far. `context_tokens` of the model's `context_window` are taken at the end of the turn.
    `resume_refused` says that the provider could not go on with `resume`, and began afresh. `stop_reason` is why the
    last answer of the service ended, in the service's own word; `detail` is what it refused on the way to it. `model`
    is the one that answered where that is not the first one of the context, and `fallback` says why, in a sentence.
    """

    replies: Sequence[Reply] = ()
    steps: Sequence[Step] = ()
    usage: Usage = field(default_factory=Usage)
    provider_session_id: str | None = None
    cumulative: bool = False
    context_tokens: int | None = None
    context_window: int | None = None
    resume_refused: bool = False
    stop_reason: str | None = None
    detail: str = ""
    model: str | None = None
    fallback: str = ""


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


@runtime_checkable
class Summarizer(Protocol):
    """A provider that can say in a few words what a conversation is about."""

    async def summarize(self, request: TurnRequest, purpose: ControlTask, out: TurnOutput) -> TurnResult:
        """Returns the text for `purpose` about `request.history()`, as the result's replies; no chat shows it.

        Steps and pointer of the result do not count, its usage does. Raises as `run`.
        """


@runtime_checkable
class Rememberer(Protocol):
    """A provider that can save to memory what is worth it, with its tools for files and no others."""

    async def remember(self, request: TurnRequest, out: TurnOutput) -> TurnResult:
        """Save what is worth it about `request.history()`; only the result's usage counts. Raises as `run`."""


@runtime_checkable
class Closing(Protocol):
    """A provider that keeps something open between turns."""

    async def aclose(self) -> None:
        """Close it: the process ends."""
