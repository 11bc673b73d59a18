"""Clocks that go wrong, and one that goes fast: so that a test need not wait for limits of many seconds."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared_schema.clock import SystemClock


class JumpingClock(SystemClock):
    """The machine's clocks, with a wall clock that somebody sets."""

    def __init__(self) -> None:
        self._off = timedelta()

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self._off += timedelta(seconds=seconds)

    def now(self) -> datetime:
        return super().now() + self._off


class FastClock(SystemClock):
    """Limits are over sooner: the monotonic clock goes `factor` times as fast. Timers of the event loop do not."""

    def __init__(self, factor: float = 20.0) -> None:
        self._factor = factor

    def monotonic(self) -> float:
        return super().monotonic() * self._factor
