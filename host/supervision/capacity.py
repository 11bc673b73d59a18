"""Whether an agent may be started now: slots for running agents, and the waits after starts that failed.

Slots for running agents (`max_agents`): waiting sessions get them in the order in which they began to wait. When all
are taken, the agents that have been idle longest are asked to leave, one for each session that waits.

All of it is in memory: a new host begins with free slots and without waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from host.supervision.agent import RunningAgent
from host.supervision.decide import choose_victim
from shared_schema.clock import Clock

_FIRST_WAIT = 1.0
_LONGEST_WAIT = 30.0


class AgentSlots:
    """Who runs and who waits. `agents` is the supervisor's own, by session id."""

    def __init__(self, agents: Mapping[str, RunningAgent], max_agents: int) -> None:
        self._agents = agents
        self._max_agents = max_agents
        self._starting = 0
        self._queue: dict[str, None] = {}

    @property
    def waiting(self) -> list[str]:
        """The sessions that wait for a slot, the longest waiting first."""
        return list(self._queue)

    @property
    def next_in_line(self) -> list[str]:
        """The sessions that wait and may start their agents now."""
        return list(islice(self._queue, max(0, self._free)))

    def has_one_for(self, session_id: str) -> bool:
        """Whether a session may start its agent now: there is a slot, and no other session waits longer for it."""
        ahead = self.waiting.index(session_id) if session_id in self._queue else len(self._queue)
        return self._free > ahead

    def leave_queue(self, session_id: str) -> None:
        """The session does not wait any more."""
        self._queue.pop(session_id, None)

    @contextmanager
    def being_taken(self) -> Iterator[None]:
        """A slot is taken while an agent is being started."""
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1

    def join_queue(self, session_id: str, now: float) -> list[str]:
        """The session waits from now on; the sessions whose idle agents are asked to leave for those that wait."""
        self._queue[session_id] = None
        leaving = sum(1 for agent in self._agents.values() if agent.evicted)
        asked = []
        for _ in range(len(self._queue) - leaving):
            victim = choose_victim(
                (name, now - agent.last_activity)
                for name, agent in self._agents.items()
                if agent.busy_since is None and not agent.evicted
            )
            if victim is None:
                break
            self._agents[victim].evicted = True
            asked.append(victim)
        return asked

    @property
    def _free(self) -> int:
        return self._max_agents - len(self._agents) - self._starting


@dataclass(slots=True)
class _Backoff:
    """Times are seconds on the monotonic clock."""

    not_before: float = 0.0
    unavailable_since: float | None = None
    attempts: int = 0


class StartBackoff:
    """Waits before retries, and engines that do not answer, by session."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_session: dict[str, _Backoff] = {}

    def wait(self, session_id: str, seconds: float) -> None:
        """An agent may be started again after so many seconds."""
        self._by_session[session_id] = _Backoff(not_before=self._clock.monotonic() + seconds)

    def no_answer(self, session_id: str) -> float:
        """The engine did not answer: seconds until it may be asked again, longer each time."""
        now = self._clock.monotonic()
        backoff = self._by_session.setdefault(session_id, _Backoff())
        if backoff.unavailable_since is None:
            backoff.unavailable_since = now
        seconds = float(min(_FIRST_WAIT * 2.0**backoff.attempts, _LONGEST_WAIT))
        backoff.attempts += 1
        backoff.not_before = now + seconds
        return seconds

    def clear(self, session_id: str) -> None:
        """Nothing is in the way any more."""
        self._by_session.pop(session_id, None)

    def retry_in(self, session_id: str) -> float:
        """Seconds until an agent may be started; 0: now."""
        backoff = self._by_session.get(session_id)
        return 0.0 if backoff is None else max(0.0, backoff.not_before - self._clock.monotonic())

    def unavailable_for(self, session_id: str) -> float | None:
        """Seconds since the engine first did not answer; None: it does."""
        backoff = self._by_session.get(session_id)
        if backoff is None or backoff.unavailable_since is None:
            return None
        return self._clock.monotonic() - backoff.unavailable_since
