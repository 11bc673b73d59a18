"""When a schedule is due next. Pure; the only module that imports `cronsim`.

Invariants:
- a cron expression is read on the clock of its zone: a time that a change to summer time skips is due at the first
  moment after the gap, and one that the change back repeats is due once (as Debian's cron does it);
- an interval is elapsed time, counted from the due time before it, so that late runs do not shift it;
- every result is later than the moment it is asked for.
"""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from shared_schema.clock import from_text, to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue

LONGEST_INTERVAL = 366 * 86_400
CRON_FORM = "a cron expression has five fields (minute, hour, day of the month, month, weekday), such as '0 8 * * 1-5'"
_FIELDS = ("minute", "hour", "day of the month", "month", "weekday")
_BOUNDS = ("0 to 59", "0 to 23", "1 to 31", "1 to 12", "0 to 7, or SUN to SAT")
_LONGEST_MONTH = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SHORTEST = (
    ("@yearly", "0 0 1 1 *"), ("@annually", "0 0 1 1 *"), ("@monthly", "0 0 1 * *"), ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"), ("@midnight", "0 0 * * *"), ("@hourly", "0 * * * *"),
)  # fmt: skip


class Kind(StrEnum):
    """How a schedule recurs."""

    ONCE = "once"
    INTERVAL = "interval"
    CRON = "cron"


@dataclass(frozen=True, slots=True)
class Recurrence:
    """When something is due: `spec` is a stored time (once), seconds (interval) or a cron expression, by `kind`.

    `zone` is the name of the time zone on whose clock a cron expression is read, and in which times are shown.
    """

    kind: Kind
    spec: str
    zone: str

    @property
    def seconds(self) -> int:
        """The length of an interval."""
        return int(self.spec)


def first(recurrence: Recurrence, now: datetime) -> datetime | None:
    """The first due time of a schedule that is made at `now`; None when there is none any more."""
    if recurrence.kind == Kind.INTERVAL:
        return now + timedelta(seconds=recurrence.seconds)
    return following(recurrence, now)


def following(recurrence: Recurrence, due: datetime) -> datetime | None:
    """The next due time after `due`, which is one itself or (once, cron) any moment; None: there is none."""
    try:
        match recurrence.kind:
            case Kind.ONCE:
                moment = from_text(recurrence.spec)
                return moment if moment > due else None
            case Kind.INTERVAL:
                return due + timedelta(seconds=recurrence.seconds)
            case Kind.CRON:
                return _cron(recurrence, due)
    except OverflowError:  # beyond the year 9999
        return None


def last_until(recurrence: Recurrence, due: datetime, now: datetime) -> datetime:
    """The last due time that is not after `now`; `due` is one, and is not after it either."""
    if recurrence.kind == Kind.INTERVAL:
        passed = int((now - due).total_seconds() // recurrence.seconds)
        return due + timedelta(seconds=passed * recurrence.seconds)
    if recurrence.kind == Kind.CRON:
        # Forward through the last day only: going backwards over a change of the clocks is not the same times.
        start = max(due, now - timedelta(days=1))
        found = due if start == due else _last_before(recurrence, due, start)
        while (after := _cron(recurrence, found)) is not None and after <= now:
            found = after
        return found
    return due


def _last_before(recurrence: Recurrence, due: datetime, start: datetime) -> datetime:
    """A due time at or before `start`, near it, found by looking back further and further."""
    back = timedelta(days=1)
    while (begin := start - back) > due:
        found = _cron(recurrence, begin)
        if found is not None and found <= start:
            return found
        back *= 4
    return due


def _cron(recurrence: Recurrence, after: datetime) -> datetime | None:
    local = after.astimezone(ZoneInfo(recurrence.zone))
    if local.utcoffset() == timedelta(0) and recurrence.zone == "UTC":
        local = after.astimezone(UTC)
    try:
        times = CronSim(recurrence.spec, local)
        found = next(times)
        # Of an hour that comes twice, cronsim names the first one, which may be over already.
        while found.astimezone(UTC) <= after:
            found = next(times)
    except StopIteration:
        return None
    return found.astimezone(UTC)


def cron_of(text: str, zone: str, now: datetime) -> str:
    """The cron expression that a text is, with its words resolved.

    Raises `InvalidValue` for one that is none or never comes due, with the next possible one named.
    """
    expression = " ".join(dict(_SHORTEST).get(text.strip().lower(), text).upper().split())
    fields = expression.split(" ")
    if len(fields) != len(_FIELDS):
        raise InvalidValue(f"'{text[:80]}' has {len(fields)} fields: {CRON_FORM}")
    for number, field in enumerate(fields):
        alone = ["*"] * len(_FIELDS)
        alone[number] = field
        try:
            CronSim(" ".join(alone), now)
        except (CronSimError, ValueError, AssertionError) as error:  # cronsim asserts of '1#2/3'
            raise InvalidValue(
                f"'{field[:40]}' cannot be the {_FIELDS[number]} of a cron expression: it takes {_BOUNDS[number]}, *, "
                f"lists (1,15), ranges (1-5) and steps (*/10)",
                hint="for instance '0 8 * * 1-5', at 08:00 from Monday to Friday",
            ) from error
    try:
        found = _cron(Recurrence(Kind.CRON, expression, zone), now)
    except (CronSimError, ValueError, AssertionError):
        found = None
    if found is None:
        raise InvalidValue(_never(expression, fields, zone, now))
    return expression


def _never(expression: str, fields: list[str], zone: str, now: datetime) -> str:
    """Why a cron expression never comes due, and the nearest one that does."""
    months = [month for month in range(1, 13) if _has_month(fields[3], month, now)]
    last = max((_LONGEST_MONTH[month] for month in months), default=31)
    corrected = " ".join([*fields[:2], str(last), *fields[3:]])
    possible = Recurrence(Kind.CRON, corrected, zone)
    names = " and ".join(calendar.month_name[month] for month in months) or "no month"
    try:
        found = _cron(possible, now)
    except CronSimError:
        found = None
    if found is None:
        return f"'{expression}' never comes due"
    local = found.astimezone(ZoneInfo(zone))
    return (
        f"'{expression}' never comes due: {names} {'has' if len(months) == 1 else 'have'} {last} days at most. "
        f"The next possible one is '{corrected}', due {local:%Y-%m-%d %H:%M}"
    )


def _has_month(field: str, month: int, now: datetime) -> bool:
    return bool(CronSim(f"0 0 * {field} *", now).months & {month})


def stored(moment: datetime | None) -> str | None:
    """A due time as it is stored."""
    return None if moment is None else to_text(moment)
