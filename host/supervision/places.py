"""The places of running agents: as many as the settings allow, the longest waiting session first.

When all are taken, the agent that has been idle longest is asked to leave, one for each session that waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

from host.supervision.agent import RunningAgent
from host.supervision.decide import choose_victim


class Places:
    """Who runs and who waits. `agents` is the conductor's own, by session id."""

    def __init__(self, agents: Mapping[str, RunningAgent], max_agents: int) -> None:
        self._agents = agents
        self._max_agents = max_agents
        self._starting = 0
        self._queue: dict[str, None] = {}

    @property
    def waiting(self) -> list[str]:
        """The sessions that wait for a place, the longest waiting first."""
        return list(self._queue)

    @property
    def next_in_line(self) -> list[str]:
        """The sessions that wait and may start their agents now."""
        return list(islice(self._queue, max(0, self._free)))

    def has_one_for(self, session_id: str) -> bool:
        """Whether a session may start its agent now: there is a place, and nobody waits longer for it."""
        ahead = self.waiting.index(session_id) if session_id in self._queue else len(self._queue)
        return self._free > ahead

    def leave_queue(self, session_id: str) -> None:
        """The session does not wait any more."""
        self._queue.pop(session_id, None)

    @contextmanager
    def being_taken(self) -> Iterator[None]:
        """A place is taken while an agent is being started."""
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
