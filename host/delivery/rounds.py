"""Whose turn it is in a chat. Pure; times are monotonic, in seconds.

The conversations (lanes) of a chat take turns, so that one that says much delays another by one message at most. One
whose message could not be sent rests by itself: it may be the message, and the others may get through.
"""

from __future__ import annotations

from host.delivery.rests import Rests


class Rounds:
    """Where the round of one chat stands. `last` is the lane that was served last."""

    def __init__(self) -> None:
        self.last = ""
        self._rests: Rests[str] = Rests()
        self._all_until = 0.0
        self._is_woken = False

    def begin(self, lane: str) -> None:
        """An attempt at something of this lane begins."""
        self.last, self._is_woken = lane, False
        self._rests.begin(lane)

    def rest_on(self, lane: str, now: float) -> float:
        """After an attempt that has failed: an early one leaves the lane to its time. As `Rests.rest_on`."""
        return 0.0 if self._is_woken else self._rests.rest_on(lane, now)

    def rest(self, lane: str, until: float) -> None:
        """Nothing of this lane is sent until then, unless the chat was woken since the attempt began."""
        if not self._is_woken:
            self._rests.rest(lane, until)

    def rest_all(self, until: float) -> None:
        """The platform wants to hear nothing of this chat until then."""
        self._all_until = max(self._all_until, until)

    def wake(self) -> None:
        """Everything that rests may be tried once before its time, but for what the platform has asked for."""
        self._rests.wake()
        self._is_woken = True  # what an attempt under way finds is older than this

    def resting(self, now: float) -> frozenset[str]:
        """The lanes that rest now."""
        return self._rests.resting(now)

    def all_rest_for(self, now: float) -> float:
        """How long the whole chat rests; 0 when it does not."""
        return max(0.0, self._all_until - now)

    @property
    def is_resting(self) -> bool:
        """Whether something of this chat could not be sent and waits for another attempt."""
        return self._rests.is_any

    def next_in(self, now: float) -> float | None:
        """After how long the first of the lanes has rested; None when none rests."""
        return self._rests.next_in(now)
