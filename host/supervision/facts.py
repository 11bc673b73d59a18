"""What is known about one session when it is decided what to do. Ages are seconds on the monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Limits:
    """The times after which something is done; seconds. From the settings."""

    start_seconds: float
    silent_seconds: float
    turn_seconds: float
    idle_seconds: float
    engine_seconds: float
    fault_seconds: float
    retry_seconds: float
    max_retries: int


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """One agent that lives as far as its runtime knows."""

    age: float
    silent_for: float | None  # since its heartbeat was last seen to change; None: never since it was started
    idle_for: float  # since it last did anything: output, a turn, a message for it
    busy_for: float | None  # since it has had something to answer without an outcome; None: nothing waits
    unreadable_for: float | None  # since outbound.db could last be read; None: it can be read
    blocked_for: float | None  # since inbound.db could last be written; None: it can be
    out_is_full: bool  # out/ is larger than allowed
    evicted: bool  # its place is wanted for another session


@dataclass(frozen=True, slots=True)
class Facts:
    """One session. `waiting` counts messages that ask for an answer and have no outcome."""

    active: bool
    waiting: int
    agent: AgentFacts | None
    retry_in: float = 0.0  # an agent may not be started for so long
    unavailable_for: float | None = None  # since the engine answered last; None: it does
    has_place: bool = True  # fewer agents run than are allowed


class StopReason(StrEnum):
    """Why an agent is stopped; the value completes the sentence "the agent was stopped because …"."""

    SESSION_OVER = "its session is over"
    IDLE = "it had nothing to do"
    EVICTED = "another session needed its place"
    HOST_STOPS = "the host stops"
    ASKED = "somebody asked for it"
    CHANGED = "somebody changed what it runs in"
    DEAF = "it did not end its turn when somebody asked for that"
    NEVER_STARTED = "it showed no sign of life after its start"
    SILENT = "its heartbeat stopped"
    TURN_TOO_LONG = "it did not answer in time"
    UNREADABLE = "what it writes cannot be read"
    BLOCKS = "it kept the session's files locked"
    OUT_IS_FULL = "it wrote more than its folder may hold"
    FAULT = "the host could not look after its session"

    @property
    def is_urgent(self) -> bool:
        """Whether a person waits for the end: what the agent wrote last is read afterwards."""
        return self is StopReason.DEAF

    @property
    def grace(self) -> float | None:
        """Seconds the agent gets to end by itself; None: what the settings say."""
        return {StopReason.DEAF: 0.0}.get(self, 1.0 if self in _HANGING else None)

    @property
    def harmless(self) -> bool:
        """Whether the agent is not to blame."""
        return self in _HARMLESS


_HARMLESS = frozenset(
    {
        StopReason.SESSION_OVER,
        StopReason.IDLE,
        StopReason.EVICTED,
        StopReason.HOST_STOPS,
        StopReason.ASKED,
        StopReason.CHANGED,
        StopReason.DEAF,
        StopReason.FAULT,
    }
)

_HANGING = frozenset({StopReason.SILENT, StopReason.UNREADABLE, StopReason.BLOCKS, StopReason.FAULT})
"""An agent that is stopped for one of these is not expected to end in good order."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start an agent now."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Wait for a place; the longest waiting session comes first."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the agent."""

    reason: StopReason


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Fail what waits, visibly."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again after so many seconds at the latest."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do until something happens."""


Decision = Start | Queue | Stop | GiveUp | Wait | Rest
