"""What could not be sent, and until when it rests. Pure; times are monotonic, in seconds.

Invariant: an attempt that is made early changes nothing of the plan when it fails. What is woken as often as may be (a
connection that comes and goes, a platform that takes the messages of all other chats) is neither given up earlier nor
asked for later than without that.
"""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")


class Rests(Generic[K]):
    """Until when each rests whose last attempt has failed."""

    def __init__(self) -> None:
        self._until: dict[K, float] = {}
        self._fixed: set[K] = set()
        self._woken: frozenset[K] = frozenset()
        self._planned = 0.0  # of the attempt that has begun

    def wake(self) -> None:
        """The platform seems to be well again: each may be tried once before its time, but where that is fixed."""
        self._woken = frozenset(self._until.keys() - self._fixed)

    def begin(self, key: K) -> None:
        """An attempt at it begins."""
        self._woken -= {key}
        self._fixed.discard(key)
        self._planned = self._until.pop(key, 0.0)

    def rest_on(self, key: K, now: float) -> float:
        """After an attempt that has failed: where it was an early one, it rests until its time, as before.

        Returns the seconds until then; 0 where the attempt was not early, and how long it rests is to be said.
        """
        if self._planned <= now:
            return 0.0
        self._until[key] = self._planned
        return self._planned - now

    def rest(self, key: K, until: float, *, is_fixed: bool = False) -> None:
        """It is not tried again before that time, which is `fixed` where the platform has asked for it."""
        self._until[key] = until
        if is_fixed:
            self._fixed.add(key)

    def resting(self, now: float) -> frozenset[K]:
        """Which of them are not to be tried now."""
        self._until = {key: until for key, until in self._until.items() if until > now}
        self._fixed &= self._until.keys()
        return frozenset(self._until) - self._woken

    @property
    def is_any(self) -> bool:
        """Whether one of them waits for its time."""
        return bool(self._until.keys() - self._woken)

    def next_in(self, now: float) -> float | None:
        """After how long the first of them may be tried; None when none rests."""
        waits = (max(0.0, until - now) for key, until in self._until.items() if key not in self._woken)
        return min(waits, default=None)
