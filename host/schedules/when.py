"""Times, durations and zones as people and agents write them. Pure; the only module that reads them.

Each refusal says what was wrong and gives an example.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from host.schedules.recurrence import LONGEST_INTERVAL, Kind, Recurrence, cron_of
from shared_schema.clock import from_text, to_text
from shared_schema.errors import InvalidValue
from shared_schema.text import is_all_shown

EXAMPLES = "'every 30m', 'every weekday at 08:00', '0 8 * * 1-5', '2026-12-01 08:00', 'in 20m'"
_LONGEST = 200
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_WORDS = {
    "second": "s", "seconds": "s", "sec": "s", "minute": "m", "minutes": "m", "min": "m", "mins": "m", "hour": "h",
    "hours": "h", "day": "d", "days": "d", "week": "w", "weeks": "w",
}  # fmt: skip
_PART = re.compile(r"([0-9]{1,9})\s*([a-z]+)\s*")
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_STAMP = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})[ t]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?(z|utc)?")
_DAYS = {
    "day": "*", "weekday": "1-5", "weekend": "0,6", "sunday": "0", "monday": "1", "tuesday": "2", "wednesday": "3",
    "thursday": "4", "friday": "5", "saturday": "6",
}  # fmt: skip
_EVERY_DAY = re.compile(rf"every ({'|'.join(_DAYS)})s?(?: at)? (.+)")
_LAST_YEAR = 2200


def zone(name: str) -> str:
    """The name of a time zone. Raises `InvalidValue`."""
    try:
        if not name or len(name) > 64 or name != name.strip():
            raise ValueError(name)
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidValue(f"'{name[:64]}' is not a time zone", hint="write it as Europe/Berlin, or UTC") from error


def duration(text: str) -> int:
    """Seconds of a duration such as `90s`, `30m`, `1h30m`, `2 days`. Raises `InvalidValue`."""
    said, seconds, place = text.strip().lower(), 0, 0
    while (found := _PART.match(said, place)) is not None:
        unit = _WORDS.get(found[2], found[2])
        if unit not in _UNITS:
            break
        seconds += int(found[1]) * _UNITS[unit]
        place = found.end()
    if not said or place != len(said):
        raise InvalidValue(
            f"'{text[:40]}' is not a duration", hint="write it as a number and a unit: 90s, 30m, 2h, 1h30m, 1d or 1w"
        )
    if not 1 <= seconds <= LONGEST_INTERVAL:
        raise InvalidValue(f"'{text[:40]}' is not a duration of 1 second to 366 days", hint="for instance 30m")
    return seconds


def recurrence(text: str, zone_name: str, now: datetime) -> Recurrence:
    """When something is due, from what was written. Raises `InvalidValue` with what was wrong and an example."""
    said = " ".join(text.lower().split())
    if not said or len(text) > _LONGEST or not is_all_shown(text.strip()):
        raise InvalidValue("it is not said when", hint=f"for instance {EXAMPLES}")
    where = ZoneInfo(zone(zone_name))
    if said.startswith("every "):
        return _every(said, zone_name, now)
    if said.startswith("in "):
        return Recurrence(Kind.ONCE, to_text(now + timedelta(seconds=duration(said[3:]))), zone_name)
    moment = said.removeprefix("at ")
    if said.startswith(("at ", "tomorrow", "today")) or _STAMP.fullmatch(moment) or _CLOCK.fullmatch(moment):
        return Recurrence(Kind.ONCE, to_text(_moment(moment, where, now)), zone_name)
    if re.match(r"[0-9]{4}-", said):
        raise InvalidValue(f"'{text[:60]}' is not a time", hint="write it as 2026-12-01 08:00")
    if said.startswith("@") or len(said.split()) >= 4:
        return Recurrence(Kind.CRON, cron_of(text, zone_name, now), zone_name)
    raise InvalidValue(f"'{text[:60]}' does not say when", hint=f"for instance {EXAMPLES}")


def moment(text: str, zone_name: str, now: datetime) -> datetime:
    """A moment to come, such as `2026-12-01 08:00` (on the zone's clock), `tomorrow 08:00` or `in 2d`.

    Raises `InvalidValue`.
    """
    said = " ".join(text.lower().split())
    if said.startswith("in "):
        return now + timedelta(seconds=duration(said[3:]))
    return _moment(said.removeprefix("at "), ZoneInfo(zone(zone_name)), now)


def hours(text: str) -> tuple[str, str]:
    """The begin and the end of `22:00-07:00`, each as `HH:MM`. Raises `InvalidValue`."""
    begin, _, end = text.replace(" ", "").partition("-")
    if not (_CLOCK.fullmatch(begin) and _CLOCK.fullmatch(end)):
        raise InvalidValue(f"'{text[:40]}' does not say from when to when", hint="write it as 22:00-07:00")
    found = f"{_clock(begin, text):%H:%M}", f"{_clock(end, text):%H:%M}"
    if found[0] == found[1]:
        raise InvalidValue(f"'{text[:40]}' begins when it ends", hint="write it as 22:00-07:00")
    return found


def is_within(begin: str, end: str, zone_name: str, now: datetime) -> bool:
    """Whether `now` is between two times of the day, on the zone's clock. They may lie on two days."""
    at = f"{now.astimezone(ZoneInfo(zone_name)):%H:%M}"
    return begin <= at < end if begin < end else at >= begin or at < end


def next_at(clock: str, zone_name: str, now: datetime) -> datetime:
    """When it is that time of the day next, on the zone's clock."""
    where = ZoneInfo(zone_name)
    local = now.astimezone(where)
    for days in (0, 1, 2):
        found = _existing(local.date() + timedelta(days=days), _clock(clock, clock), where)
        if found > now:
            return found
    raise AssertionError("one of three days is to come")


def _every(said: str, zone_name: str, now: datetime) -> Recurrence:
    found = _EVERY_DAY.fullmatch(said)
    if found is not None and _CLOCK.fullmatch(found[2].strip()):
        at = _clock(found[2].strip(), said)
        return Recurrence(Kind.CRON, cron_of(f"{at.minute} {at.hour} * * {_DAYS[found[1]]}", zone_name, now), zone_name)
    if found is not None or said.removeprefix("every ").rstrip("s") in set(_DAYS) - {"day"}:
        raise InvalidValue(
            f"'{said[:60]}' does not say at which time of the day", hint="write it as 'every monday at 08:00'"
        )
    rest = said.removeprefix("every ")
    if rest in _WORDS:
        rest = f"1{rest}"
    return Recurrence(Kind.INTERVAL, str(duration(rest)), zone_name)


def _moment(said: str, where: ZoneInfo, now: datetime) -> datetime:
    local = now.astimezone(where)
    if (found := _STAMP.fullmatch(said)) is not None:
        year, month, day = (int(part) for part in found.groups()[:3])
        at = _clock(f"{found[4]}:{found[5]}", said).replace(second=_second(found[6], said))
        day_of = _date(year, month, day, at)
        moment = _existing_or_refuse(day_of, at, ZoneInfo("UTC") if found[7] else where)
    else:
        word, _, rest = said.partition(" ")
        days = {"today": 0, "tomorrow": 1}.get(word)
        at = _clock((rest if days is not None else said).removeprefix("at ").strip(), said)
        moment = _existing_or_refuse(local.date() + timedelta(days=days or 0), at, where)
        if days is None and moment <= now:
            moment = _existing_or_refuse(local.date() + timedelta(days=1), at, where)
    if moment <= now:
        raise InvalidValue(
            f"{moment.astimezone(where):%Y-%m-%d %H:%M} is over: it is {local:%Y-%m-%d %H:%M} in {where.key}",
            hint=f"for instance '{local + timedelta(days=1):%Y-%m-%d %H:%M}' or 'in 20m'",
        )
    return moment


def _date(year: int, month: int, day: int, at: time) -> date:
    if not 1970 <= year <= _LAST_YEAR:
        raise InvalidValue(f"the year {year} is not within 1970 to {_LAST_YEAR}", hint="write it as 2026-12-01 08:00")
    if not 1 <= month <= 12:
        raise InvalidValue(f"there is no month {month}", hint="write it as 2026-12-01 08:00")
    most = monthrange(year, month)[1]
    if not 1 <= day <= most:
        possible = date(year, month, most) + timedelta(days=1) if day else date(year, month, 1)
        raise InvalidValue(
            f"there is no {year}-{month:02}-{day:02}: that month has {most} days. "
            f"The next possible time is {possible} {at:%H:%M}"
        )
    return date(year, month, day)


def _clock(text: str, whole: str) -> time:
    found = _CLOCK.fullmatch(text)
    if found is None or int(found[1]) > 23 or int(found[2]) > 59:
        raise InvalidValue(f"'{whole[:60]}' has no time of the day", hint="write it as 08:00, from 00:00 to 23:59")
    return time(int(found[1]), int(found[2]))


def _second(text: str | None, whole: str) -> int:
    if text is not None and int(text) > 59:
        raise InvalidValue(f"'{whole[:60]}' has no time of the day", hint="write it as 08:00, from 00:00 to 23:59")
    return int(text or 0)


def _existing(day: date, at: time, where: ZoneInfo) -> datetime:
    """A time of a zone's clock, in UTC; one that the clocks skip is the first moment after the gap."""
    moment = datetime.combine(day, at, where).astimezone(UTC)
    local = moment.astimezone(where)
    if local.replace(tzinfo=None) == datetime.combine(day, at):
        return moment
    # In the gap: before it the offset is another one. Step on to where the clock goes on.
    wanted = datetime.combine(day, at)
    while (back := wanted.replace(tzinfo=where).astimezone(UTC).astimezone(where)).replace(tzinfo=None) != wanted:
        wanted += timedelta(minutes=1)
    return back.astimezone(UTC)


def _existing_or_refuse(day: date, at: time, where: ZoneInfo) -> datetime:
    moment = _existing(day, at, where)
    local = moment.astimezone(where)
    if local.replace(tzinfo=None) != datetime.combine(day, at):
        raise InvalidValue(
            f"there is no {day} {at:%H:%M} in {where.key}: the clocks are set forward over it. "
            f"The next possible time is {local:%Y-%m-%d %H:%M}"
        )
    return moment


def in_words(found: Recurrence) -> str:
    """A recurrence as people say it."""
    match found.kind:
        case Kind.INTERVAL:
            return f"every {span(found.seconds)}"
        case Kind.ONCE:
            return f"once, {at_in_words(found.spec, found.zone)}"
        case Kind.CRON:
            return _cron_in_words(found.spec)


def at_in_words(stored: str, zone_name: str) -> str:
    """A stored time on the clock of a zone, which is named: `Mon 2026-11-30 08:00 Europe/Berlin`."""
    local = from_text(stored).astimezone(ZoneInfo(zone_name))
    seconds = f":{local:%S}" if local.second else ""
    return f"{local:%a %Y-%m-%d %H:%M}{seconds} {zone_name}"


def span(seconds: float) -> str:
    """A duration in its largest whole units: `30 minutes`, `1 hour 30 minutes`."""
    rest, words = int(seconds), []
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        count, rest = divmod(rest, size)
        if count:
            words.append(f"{count} {unit}{'' if count == 1 else 's'}")
    return " ".join(words[:2]) or "0 seconds"


def _cron_in_words(expression: str) -> str:
    minute, hour, day, month, weekday = expression.split(" ")
    days = {spec: name for name, spec in _DAYS.items()}
    if minute.isdigit() and hour.isdigit() and day == month == "*" and weekday in days:
        name = days[weekday].capitalize() if weekday.isdigit() else days[weekday]
        return f"every {name} at {int(hour):02}:{int(minute):02}"
    return f"cron '{expression}'"
