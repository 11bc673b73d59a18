"""Whether an agent may be started now: slots for running agents, and the waits after starts that failed.

Slots for running agents (`max_agents`): waiting sessions get them in the order in which they began to wait. When all
are taken, the agents that have been idle longest are asked to leave, one for each session that waits.

All of it is in memory: a new host begins with free slots and without waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

from host.backoff import Backoff
from host.supervision.agent import RunningAgent
from host.supervision.decide import choose_victim
from shared_schema.clock import Clock
from shared_schema.dataclass import dataclass

_NO_ANSWER = Backoff(1.0, 30.0)
_MOST_KNOWN = 1_000


class AgentSlots:
    """Who runs and who waits. `agents` is the supervisor's own, by session id.

    Runs of schedules are background: they take at most half of the slots, and wait behind every conversation, so that
    a thousand of them that are due at once hold up no person.
    """

    def __init__(self, agents: Mapping[str, RunningAgent], max_agents: int) -> None:
        self._agents = agents
        self._max_agents = max_agents
        self._max_background = max(1, max_agents // 2)
        self._starting: list[str] = []
        self._queue: dict[str, None] = {}
        self._behind: dict[str, None] = {}  # the same of what runs in the background
        self._background: set[str] = set()

    @property
    def waiting(self) -> list[str]:
        """The sessions that wait for a slot, in the order in which they get one."""
        return [*self._queue, *self._behind]

    @property
    def next_in_line(self) -> list[str]:
        """The sessions that wait and may start their agents now."""
        first = list(islice(self._queue, max(0, self._free)))
        room = min(self._free - len(self._queue), self._background_free)
        return [*first, *islice(self._behind, max(0, room))]

    def has_one_for(self, session_id: str, *, is_background: bool = False) -> bool:
        """Whether a session may start its agent now: there is a slot, and no other session waits longer for it."""
        if not is_background:
            return self._free > _ahead(session_id, self._queue)
        self._background.add(session_id)
        if len(self._background) > _MOST_KNOWN + len(self._behind):  # most of them are over
            self._background &= {*self._agents, *self._starting, *self._behind, session_id}
        ahead = _ahead(session_id, self._behind)
        return self._free > len(self._queue) + ahead and self._background_free > ahead

    def wait_behind(self, session_id: str) -> bool:
        """Let what runs in the background wait, where many do already. False: it is to be looked at now."""
        if len(self._behind) < 2 * self._max_background:
            return False
        self._background.add(session_id)
        self._behind[session_id] = None
        return True

    def leave_queue(self, session_id: str) -> None:
        """The session does not wait any more."""
        self._queue.pop(session_id, None)
        self._behind.pop(session_id, None)

    @contextmanager
    def being_taken(self, session_id: str) -> Iterator[None]:
        """A slot is taken while an agent is being started."""
        self._starting.append(session_id)
        try:
            yield
        finally:
            self._starting.remove(session_id)

    def join_queue(self, session_id: str, now: float) -> list[str]:
        """The session waits from now on; the sessions whose idle agents are asked to leave for those that wait."""
        (self._behind if session_id in self._background else self._queue)[session_id] = None
        leaving = sum(1 for agent in self._agents.values() if agent.evicted)
        wanted = len(self._queue) + min(len(self._behind), max(0, self._background_free))
        asked = []
        for _ in range(wanted - leaving):
            victim = choose_victim(
                (name, agent.has_processes, now - agent.last_activity)
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
        return self._max_agents - len(self._agents) - len(self._starting)

    @property
    def _background_free(self) -> int:
        """How many more agents may run in the background."""
        if not self._background:
            return self._max_background
        return self._max_background - sum(
            1 for session_id in (*self._agents, *self._starting) if session_id in self._background
        )


def _ahead(session_id: str, queue: Mapping[str, None]) -> int:
    """How many sessions of a queue come before one that is in it, or would join it."""
    return list(queue).index(session_id) if session_id in queue else len(queue)


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
        if seconds > 0:
            self._by_session[session_id] = _Backoff(not_before=self._clock.monotonic() + seconds)

    def no_answer(self, session_id: str) -> float:
        """The engine did not answer: seconds until it may be asked again, longer each time."""
        now = self._clock.monotonic()
        backoff = self._by_session.setdefault(session_id, _Backoff())
        if backoff.unavailable_since is None:
            backoff.unavailable_since = now
        backoff.attempts += 1
        seconds = _NO_ANSWER.after(backoff.attempts)
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
