"""What becomes of due times that have passed: the rule of a schedule for what was missed. Pure.

A time is missed when the host was down, asleep or paused over it, when its clock was set forward over it, or when the
run before it still went on. What is no later than `GRACE` is on time for every rule.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from enum import StrEnum

from host.schedules.recurrence import Kind, Recurrence, following, last_until
from shared_schema.dataclass import dataclass

GRACE = timedelta(seconds=60)
"""How late a run may begin and is still the one that was meant, where the rule is `skip`."""
MOST_COUNTED = 1_000
"""Missed times are counted up to here. The rule `all` makes up for so many, the newest; older ones are lost, and said
to be."""
_MOST_WALKED = 10_000
SET_BACK = timedelta(seconds=5)
"""By how much a clock is set back before schedules are planned anew: time servers correct less every hour."""


class Missed(StrEnum):
    """The rule for due times that were missed."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about a schedule that is due: the due time that is run (None: none), and the one that is next.

    `missed` due times are not run, from `missed_from` on.
    """

    run: datetime | None
    next_at: datetime | None
    missed: int = 0
    missed_from: datetime | None = None

    @property
    def missed_in_words(self) -> str:
        """How many were missed."""
        more = " or more" if self.missed >= MOST_COUNTED else ""
        return f"{self.missed:,}{more} due time{'' if self.missed == 1 else 's'}"


def plan(recurrence: Recurrence, due: datetime, now: datetime, rule: Missed) -> Plan:
    """What to do about the due time `due`, which is not after `now`."""
    after = following(recurrence, due)
    if after is None or after > now:  # it is the only one that has come
        if rule == Missed.SKIP and now - due > GRACE:
            return Plan(None, after, 1, due)
        return Plan(due, after)
    if rule == Missed.ALL:
        if _count(recurrence, due, now) < MOST_COUNTED:
            return Plan(due, after)
        return _newest(recurrence, due, now)
    last = last_until(recurrence, due, now)
    missed = _count(recurrence, due, last)
    if rule == Missed.ONCE or now - last <= GRACE:
        return Plan(last, following(recurrence, last), missed, due)
    return Plan(None, following(recurrence, last), missed + 1, due)


def was_set_back(planned_at: datetime, now: datetime) -> bool:
    """Whether the clock was set back since something was planned."""
    return planned_at - now > SET_BACK


def _newest(recurrence: Recurrence, due: datetime, now: datetime) -> Plan:
    """Of more missed times than are made up for, begin with the first that is."""
    if recurrence.kind == Kind.INTERVAL:
        lost = int((now - due).total_seconds() // recurrence.seconds) + 1 - MOST_COUNTED
        first = due + timedelta(seconds=lost * recurrence.seconds)
    else:
        times, at, lost = deque([due], MOST_COUNTED), due, 0
        while (after := following(recurrence, at)) is not None and after <= now and lost < _MOST_WALKED:
            lost += len(times) == MOST_COUNTED
            times.append(after)
            at = after
        first = times[0]
        if lost >= _MOST_WALKED:  # of years by the minute: what is left begins with a whole number of minutes ago
            first = following(recurrence, now - timedelta(minutes=MOST_COUNTED)) or first
    if lost <= 0:
        return Plan(due, following(recurrence, due))
    return Plan(first, following(recurrence, first), min(lost, MOST_COUNTED), due)


def _count(recurrence: Recurrence, due: datetime, until: datetime) -> int:
    """How many due times there are from `due` on and before `until`, `MOST_COUNTED` at most."""
    count, at = 0, due
    while at < until and count < MOST_COUNTED:
        count += 1
        after = following(recurrence, at)
        if after is None:
            break
        at = after
    return count
