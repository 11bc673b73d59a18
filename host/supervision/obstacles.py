"""Why the agent of a session may not be started at the moment. In memory only: a new host begins without obstacles."""

from __future__ import annotations

from dataclasses import dataclass

from shared_schema.clock import Clock

_FIRST_WAIT = 1.0
_LONGEST_WAIT = 30.0


@dataclass(slots=True)
class _Obstacle:
    """Times are seconds on the monotonic clock."""

    not_before: float = 0.0
    unavailable_since: float | None = None
    attempts: int = 0


class Obstacles:
    """Waits before retries, and engines that do not answer, by session."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._obstacles: dict[str, _Obstacle] = {}

    def wait(self, session_id: str, seconds: float) -> None:
        """An agent may be started again after so many seconds."""
        self._obstacles[session_id] = _Obstacle(not_before=self._clock.monotonic() + seconds)

    def no_answer(self, session_id: str) -> float:
        """The engine did not answer: seconds until it may be asked again, longer each time."""
        now = self._clock.monotonic()
        obstacle = self._obstacles.setdefault(session_id, _Obstacle())
        if obstacle.unavailable_since is None:
            obstacle.unavailable_since = now
        seconds = float(min(_FIRST_WAIT * 2.0**obstacle.attempts, _LONGEST_WAIT))
        obstacle.attempts += 1
        obstacle.not_before = now + seconds
        return seconds

    def clear(self, session_id: str) -> None:
        """Nothing is in the way any more."""
        self._obstacles.pop(session_id, None)

    def retry_in(self, session_id: str) -> float:
        """Seconds until an agent may be started; 0: now."""
        obstacle = self._obstacles.get(session_id)
        return 0.0 if obstacle is None else max(0.0, obstacle.not_before - self._clock.monotonic())

    def unavailable_for(self, session_id: str) -> float | None:
        """Seconds since the engine first did not answer; None: it does."""
        obstacle = self._obstacles.get(session_id)
        if obstacle is None or obstacle.unavailable_since is None:
            return None
        return self._clock.monotonic() - obstacle.unavailable_since
