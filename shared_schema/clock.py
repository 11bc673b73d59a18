"""Time. Everything stored is UTC in one fixed-width form, made here: `2026-11-20T21:39:13.042Z`.

Stored times are for people and for due dates. Order is always `seq`; ages and limits are always measured on the
monotonic clock, which no administrator and no time server sets.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from shared_schema.errors import InvalidValue

WIDTH = len("2026-11-20T21:39:13.042Z")


class Clock(Protocol):
    """The two clocks of a process, handed down from where the objects are built."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""

    def monotonic(self) -> float:
        """Seconds since some moment; never jumps."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to; wall and monotonic time move apart when the wall clock `jump`s."""

    def __init__(self, start: datetime = datetime(2026, 2, 28, 12, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let that many seconds pass."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward (or back) without time having passed."""
        self._now += timedelta(seconds=seconds)


def to_text(moment: datetime) -> str:
    """The stored form of an aware datetime, cut to milliseconds. Raises `InvalidValue` for one without a zone."""
    if moment.tzinfo is None:
        raise InvalidValue("a time without a zone cannot be stored")
    return f"{moment.astimezone(UTC).isoformat(timespec='milliseconds')[: WIDTH - 1]}Z"


def from_text(text: str) -> datetime:
    """The aware datetime of a stored time. Raises `InvalidValue` for any other form."""
    if not isinstance(text, str) or len(text) != WIDTH or not text.endswith("Z") or not text.isascii():
        raise InvalidValue(f"'{text}' is not a time of the form 2026-11-20T21:39:13.042Z")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidValue(f"'{text}' is not a time of the form 2026-11-20T21:39:13.042Z") from error
    if to_text(moment) != text:  # ISO 8601 has more forms than this one
        raise InvalidValue(f"'{text}' is not a time of the form 2026-11-20T21:39:13.042Z")
    return moment


def since_boot() -> float:
    """Seconds on a clock that goes on while the machine sleeps, where there is one: `time.monotonic` stands still then.

    For what another machine may do meanwhile.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
