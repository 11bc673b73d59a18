"""How much of the host's loop the requests of one session may take. No I/O.

Invariant: however much one session asks of the gateway, and in however small pieces, all requests together take no more
than `RATE_OF_MANY` of the loop's time (one session alone `RATE`), and each session that is at work an equal part of it.
Who has used its part waits; what it sends meanwhile waits with the system, and comes in larger pieces.

Time is what the loop was held up, by the clock: that is what delays the others, for any reason.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

RATE = 0.5
"""Of the loop's time, for one session that is at work alone."""
RATE_OF_MANY = 0.15
"""For all sessions together where several are at work."""
_BURST = 0.002
"""Seconds that all sessions together may take in one go after a rest."""
_SHORTEST_BURST = 0.0002
_AT_WORK_SECONDS = 0.1
"""A session is at work that was charged so lately."""
_COUNT_SECONDS = 0.02
_SHORTEST_WAIT = 0.005
"""Shorter ones would wake the loop for less work than waking it is."""
_WAKE_SECONDS = 0.00005
_LONGEST_WAIT = 2.0
"""Seconds that one piece of work costs at most: the clock also runs while the machine stands still (it swaps, or is
another's for a moment), and that is no session's doing."""

_T = TypeVar("_T")


class Paces:
    """What the sessions share: how many of them are at work."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._charged: dict[SessionPace, float] = {}
        self._counted = 0.0
        self._number = 1

    def new(self) -> SessionPace:
        """The pace of one more session."""
        return SessionPace(self)

    def rate(self, now: float) -> float:
        """The part of the loop's time that each session may take."""
        sessions = self.at_work(now)
        return RATE if sessions == 1 else RATE_OF_MANY / sessions

    def note(self, pace: SessionPace, now: float) -> None:
        """A session is at work."""
        self._charged[pace] = now

    def at_work(self, now: float) -> int:
        """How many sessions share the time, at least one."""
        if now - self._counted >= _COUNT_SECONDS:
            self._counted = now
            for pace in [pace for pace, at in self._charged.items() if now - at > _AT_WORK_SECONDS]:
                del self._charged[pace]
            self._number = max(1, len(self._charged))
        return self._number


class SessionPace:
    """What one session has left. `charge` it for what was done, and begin nothing while it may not go on."""

    def __init__(self, paces: Paces) -> None:
        self._paces = paces
        self._left = self._burst = _BURST
        self._at = paces.clock()
        self._step = 0.0001  # seconds that one piece of work takes, on the average
        self._waiting: deque[Callable[[], None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def may_go_on(self) -> bool:
        """Whether work may begin at once."""
        return not self._waiting and (self._left > 0 or self._refilled() > 0)

    def charge(self, seconds: float) -> None:
        """Count a piece of work that was done."""
        self._refilled()
        self._left = max(self._left - seconds, -_LONGEST_WAIT * self._paces.rate(self._at))
        self._step += (seconds - self._step) / 8
        self._paces.note(self, self._at)

    def when_it_may(self, go_on: Callable[[], None]) -> None:
        """Call this once the session may go on, in the order of asking."""
        self._waiting.append(go_on)
        self._arm()

    async def turn(self) -> None:
        """Wait until the session may go on."""
        if self.may_go_on:
            return
        free = asyncio.get_running_loop().create_future()
        self.when_it_may(lambda: None if free.done() else free.set_result(None))
        await free

    def _refilled(self) -> float:
        now = self._paces.clock()
        self._burst = max(_SHORTEST_BURST, _BURST / self._paces.at_work(now))
        self._left = min(self._burst, self._left + (now - self._at) * self._paces.rate(now))
        self._at = now
        return self._left

    def _arm(self) -> None:
        if self._timer is None:
            wait = max(_SHORTEST_WAIT, (self._burst / 2 - self._left) / self._paces.rate(self._at))
            self._timer = asyncio.get_running_loop().call_later(wait, self._release)

    def _release(self) -> None:
        """Let as many go on as there is time for; the others wait for the next time."""
        self._timer = None
        self._left -= _WAKE_SECONDS
        left = self._refilled()
        while self._waiting and left > 0:
            self._waiting.popleft()()
            left -= self._step
        if self._waiting:
            self._arm()


class Paced(Coroutine[Any, Any, _T]):
    """A coroutine whose every step waits for its session's turn, and is charged to it."""

    def __init__(self, work: Coroutine[Any, Any, _T], pace: SessionPace) -> None:
        self._work = work
        self._pace = pace
        self._turn: Generator[Any, None, None] | None = None

    def send(self, value: Any) -> Any:
        """One step, or to begin with the wait for it."""
        if self._turn is None and not self._pace.may_go_on:
            self._turn = self._pace.turn().__await__()
        if self._turn is not None:
            try:
                return self._turn.send(None)
            except StopIteration:
                self._turn = None
        began = self._pace._paces.clock()
        try:
            return self._work.send(value)
        finally:
            self._pace.charge(self._pace._paces.clock() - began)

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Any:
        """Cancel it, or tell it what it waited for in vain: that waits for nothing."""
        if self._turn is not None:
            self._turn.close()
            self._turn = None
        return self._work.throw(kind if isinstance(kind, BaseException) else kind(value))

    def close(self) -> None:
        """End it."""
        if self._turn is not None:
            self._turn.close()
        self._work.close()

    def __await__(self) -> Generator[Any, Any, _T]:
        raise TypeError("a paced coroutine is run as a task of its own")


class Slices:
    """How large a piece to take next so that it is done in about `SECONDS`: pieces that took long make smaller ones."""

    SECONDS = 0.0005
    SMALLEST, LARGEST = 512, 64 * 1024

    def __init__(self) -> None:
        self.size = 4096

    def took(self, seconds: float) -> None:
        """A piece of that size took so long."""
        if seconds > 2 * self.SECONDS:
            self.size = max(self.SMALLEST, self.size // 2)
        elif seconds < self.SECONDS / 2:
            self.size = min(self.LARGEST, self.size * 2)
