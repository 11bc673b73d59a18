"""Every decision about agents. Pure: facts in, decision out. Its specification is the tables in its test.

Ages are seconds on the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from shared_schema.dataclass import dataclass

RETRY_FACTOR = 4.0
NODE_SECONDS = 5.0
"""How often a session looks for a node that does not answer."""
TURN_GRACE = 10.0
"""An agent fails its own turn at the limit; only one that does not is stopped, so many seconds later."""


@dataclass(frozen=True, slots=True)
class SupervisionLimits:
    """The times after which something is done; seconds. From the settings."""

    start_seconds: float
    silent_seconds: float
    turn_seconds: float
    idle_seconds: float
    background_seconds: float
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
    evicted: bool  # its slot is wanted for another session
    has_processes: bool = False  # it says that something runs in its background


@dataclass(frozen=True, slots=True)
class Facts:
    """One session. `waiting` counts messages that ask for an answer and have no outcome."""

    active: bool
    waiting: int
    agent: AgentFacts | None
    retry_in: float = 0.0  # an agent may not be started for so long
    unavailable_for: float | None = None  # since the engine answered last; None: it does
    has_slot: bool = True  # fewer agents run than are allowed
    node_is_away: bool = False  # the last run was placed on a node that does not answer: it may live


class StopReason(StrEnum):
    """Why an agent is stopped; the value completes the sentence "the agent was stopped because …"."""

    SESSION_OVER = "its session is over"
    IDLE = "it had nothing to do"
    EVICTED = "another session needed its slot"
    HOST_STOPS = "the host stops"
    ASKED = "a person asked for it"
    CHANGED = "a person changed what it runs in"
    IGNORES_CANCEL = "it did not end its turn when a person asked for that"
    NEVER_STARTED = "it showed no sign of life after its start"
    SILENT = "its heartbeat stopped"
    TURN_TOO_LONG = "it did not answer in time"
    UNREADABLE = "what it writes cannot be read"
    HOLDS_LOCK = "it kept the session's files locked"
    OUT_IS_FULL = "it wrote more than its folder may hold"
    FAULT = "the host could not supervise its session"

    @property
    def is_urgent(self) -> bool:
        """Whether a person waits for the end: what the agent wrote last is read afterwards."""
        return self is StopReason.IGNORES_CANCEL

    @property
    def grace(self) -> float | None:
        """Seconds the agent gets to end by itself; None: what the settings say."""
        return {StopReason.IGNORES_CANCEL: 0.0}.get(self, 1.0 if self in _HANGING else None)

    @property
    def is_wanted(self) -> bool:
        """Whether the agent is to be gone: what was in its background does not bring it back."""
        return self in _WANTED

    @property
    def not_the_agents_fault(self) -> bool:
        """Whether the agent is not to blame."""
        return self in _NOT_THE_AGENTS_FAULT


_NOT_THE_AGENTS_FAULT = frozenset(
    {
        StopReason.SESSION_OVER,
        StopReason.IDLE,
        StopReason.EVICTED,
        StopReason.HOST_STOPS,
        StopReason.ASKED,
        StopReason.CHANGED,
        StopReason.IGNORES_CANCEL,
        StopReason.FAULT,
    }
)

_WANTED = frozenset(
    {
        StopReason.SESSION_OVER,
        StopReason.IDLE,
        StopReason.EVICTED,
        StopReason.ASKED,
        StopReason.CHANGED,
        StopReason.IGNORES_CANCEL,
    }
)

_HANGING = frozenset({StopReason.SILENT, StopReason.UNREADABLE, StopReason.HOLDS_LOCK, StopReason.FAULT})
"""An agent that is stopped for one of these is not expected to end in good order."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start an agent now."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Wait for a slot; the longest waiting session comes first."""


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
    """Decide again after so many seconds at the latest."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do until something happens."""


Decision = Start | Queue | Stop | GiveUp | Wait | Rest


def decide(facts: Facts, limits: SupervisionLimits) -> Decision:
    """What to do about a session now."""
    if facts.node_is_away:  # no heartbeat counts: only the node, or the admin, can say that the agent is gone
        return Wait(NODE_SECONDS)
    if facts.agent is not None:
        return _about_agent(facts, facts.agent, limits)
    if not facts.active or not facts.waiting:
        return Rest()
    if facts.unavailable_for is not None and facts.unavailable_for >= limits.engine_seconds:
        return GiveUp("the agent cannot be started, because the container engine does not respond")
    if facts.retry_in > 0:
        return Wait(facts.retry_in)
    return Start() if facts.has_slot else Queue()


def _about_agent(facts: Facts, agent: AgentFacts, limits: SupervisionLimits) -> Decision:
    if not facts.active:
        return Stop(StopReason.SESSION_OVER)
    if agent.out_is_full:
        return Stop(StopReason.OUT_IS_FULL)
    for reason, age, limit in _patience(agent, limits):
        if age is not None and age >= limit:
            return Stop(reason)
    idle = not facts.waiting and agent.busy_for is None
    rest = max(limits.idle_seconds, limits.background_seconds) if agent.has_processes else limits.idle_seconds
    if idle and (agent.evicted or agent.idle_for >= rest):
        return Stop(StopReason.EVICTED if agent.evicted else StopReason.IDLE)
    left = [limit - age for _, age, limit in _patience(agent, limits) if age is not None]
    if idle:
        left.append(rest - agent.idle_for)
    return Wait(min(left))


def _patience(agent: AgentFacts, limits: SupervisionLimits) -> list[tuple[StopReason, float | None, float]]:
    """What may last how long."""
    never_seen = agent.silent_for is None
    return [
        (StopReason.NEVER_STARTED, agent.age if never_seen else None, limits.start_seconds),
        (StopReason.SILENT, agent.silent_for, limits.silent_seconds),
        (StopReason.TURN_TOO_LONG, agent.busy_for, limits.turn_seconds + TURN_GRACE),
        (StopReason.UNREADABLE, agent.unreadable_for, limits.silent_seconds),
        (StopReason.HOLDS_LOCK, agent.blocked_for, limits.silent_seconds),
    ]


@dataclass(frozen=True, slots=True)
class HeldMessage:
    """An open message at the death of the agent. `processing`: the dead one had taken it into a turn."""

    message_id: str
    trigger: bool
    tries: int
    processing: bool


@dataclass(frozen=True, slots=True)
class FailureCount:
    """What a death costs: messages to count a try on, messages to fail, and when an agent may be started again."""

    count: tuple[str, ...]
    fail: tuple[str, ...]
    start_failures: int
    retry_in: float


def count_failure(
    held: Sequence[HeldMessage], *, not_the_agents_fault: bool, start_failures: int, limits: SupervisionLimits
) -> FailureCount:
    """Settle the death of an agent.

    A turn that died counts on every message in it, and a message fails when it has been retried `max_retries` times. An
    agent that dies before it touches anything counts as a failed start; as many in a row fail all that waits. An agent
    that was stopped for no fault of its own and gave its turn back costs nothing.
    """
    processing = [message for message in held if message.processing]
    if processing:
        fail = [m for m in processing if m.tries >= limits.max_retries]
        tries = max(message.tries for message in processing)
        return FailureCount(
            count=tuple(m.message_id for m in processing),
            fail=tuple(m.message_id for m in fail),
            start_failures=0,
            retry_in=0.0 if len(fail) == len(processing) else retry_wait(tries + 1, limits),
        )
    if not_the_agents_fault or not any(message.trigger for message in held):
        return FailureCount((), (), 0, 0.0)
    failures = start_failures + 1
    if failures > limits.max_retries:
        return FailureCount((), tuple(m.message_id for m in held), 0, 0.0)
    return FailureCount((), (), failures, retry_wait(failures, limits))


def retry_wait(number: int, limits: SupervisionLimits) -> float:
    """Seconds before the retry with that number (1 is the first)."""
    return limits.retry_seconds * RETRY_FACTOR ** (number - 1)


def choose_victim(idle: Iterable[tuple[str, bool, float]]) -> str | None:
    """The session whose agent leaves, of (session id, whether it has processes, idle seconds); None when none is idle.

    It is the one that has been idle longest; one that has something in its background only where all have.
    """
    return max(idle, key=lambda item: (not item[1], item[2]), default=(None, False, 0.0))[0]
