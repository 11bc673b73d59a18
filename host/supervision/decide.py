"""Every decision about agents. Pure: facts in, decision out. Its specification is the tables in its test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from host.supervision.facts import (
    AgentFacts,
    Decision,
    Facts,
    GiveUp,
    Limits,
    Queue,
    Rest,
    Start,
    Stop,
    StopReason,
    Wait,
)

RETRY_FACTOR = 4.0
TURN_GRACE = 10.0
"""An agent fails its own turn at the limit; only one that does not is stopped, so many seconds later."""


def decide(facts: Facts, limits: Limits) -> Decision:
    """What to do about a session now."""
    if facts.agent is not None:
        return _about_agent(facts, facts.agent, limits)
    if not facts.active or not facts.waiting:
        return Rest()
    if facts.unavailable_for is not None and facts.unavailable_for >= limits.engine_seconds:
        return GiveUp("the agent cannot be started, because what runs agents does not answer")
    if facts.retry_in > 0:
        return Wait(facts.retry_in)
    return Start() if facts.has_place else Queue()


def _about_agent(facts: Facts, agent: AgentFacts, limits: Limits) -> Decision:
    if not facts.active:
        return Stop(StopReason.SESSION_OVER)
    if agent.out_is_full:
        return Stop(StopReason.OUT_IS_FULL)
    for reason, age, limit in _patience(agent, limits):
        if age is not None and age >= limit:
            return Stop(reason)
    idle = not facts.waiting and agent.busy_for is None
    if idle and (agent.evicted or agent.idle_for >= limits.idle_seconds):
        return Stop(StopReason.EVICTED if agent.evicted else StopReason.IDLE)
    left = [limit - age for _, age, limit in _patience(agent, limits) if age is not None]
    if idle:
        left.append(limits.idle_seconds - agent.idle_for)
    return Wait(min(left))


def _patience(agent: AgentFacts, limits: Limits) -> list[tuple[StopReason, float | None, float]]:
    """What may last how long."""
    never_seen = agent.silent_for is None
    return [
        (StopReason.NEVER_STARTED, agent.age if never_seen else None, limits.start_seconds),
        (StopReason.SILENT, agent.silent_for, limits.silent_seconds),
        (StopReason.TURN_TOO_LONG, agent.busy_for, limits.turn_seconds + TURN_GRACE),
        (StopReason.UNREADABLE, agent.unreadable_for, limits.silent_seconds),
        (StopReason.BLOCKS, agent.blocked_for, limits.silent_seconds),
    ]


@dataclass(frozen=True, slots=True)
class Held:
    """An open message at the death of the agent. `processing`: the dead one had taken it into a turn."""

    message_id: str
    trigger: bool
    tries: int
    processing: bool


@dataclass(frozen=True, slots=True)
class Account:
    """What a death costs: messages to count a try on, messages to fail, and when an agent may be started again."""

    count: tuple[str, ...]
    fail: tuple[str, ...]
    start_failures: int
    retry_in: float


def account(held: Sequence[Held], *, harmless: bool, start_failures: int, limits: Limits) -> Account:
    """Settle the death of an agent.

    A turn that died counts on every message in it, and a message fails when it has been retried `max_retries` times. An
    agent that dies before it touches anything counts as a failed start; as many in a row fail all that waits. An agent
    that was stopped for no fault of its own and gave its turn back costs nothing.
    """
    processing = [message for message in held if message.processing]
    if processing:
        fail = [m for m in processing if m.tries >= limits.max_retries]
        tries = max(message.tries for message in processing)
        return Account(
            count=tuple(m.message_id for m in processing),
            fail=tuple(m.message_id for m in fail),
            start_failures=0,
            retry_in=0.0 if len(fail) == len(processing) else retry_wait(tries + 1, limits),
        )
    if harmless or not any(message.trigger for message in held):
        return Account((), (), 0, 0.0)
    failures = start_failures + 1
    if failures > limits.max_retries:
        return Account((), tuple(m.message_id for m in held), 0, 0.0)
    return Account((), (), failures, retry_wait(failures, limits))


def retry_wait(number: int, limits: Limits) -> float:
    """Seconds before the retry with that number (1 is the first)."""
    return limits.retry_seconds * RETRY_FACTOR ** (number - 1)


def choose_victim(idle: Iterable[tuple[str, float]]) -> str | None:
    """The session whose agent has been idle longest, of (session id, idle seconds); None when none is idle."""
    return max(idle, key=lambda item: item[1], default=(None, 0.0))[0]
