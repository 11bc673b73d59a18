"""Times, durations and zones as people write them, and when something is due next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.schedules import when
from host.schedules.recurrence import Kind, Recurrence, first, following, last_until
from shared_schema.errors import InvalidValue

BERLIN = "Europe/Berlin"
NOW = datetime(2026, 11, 29, 23, 30, tzinfo=UTC)  # half past midnight in Berlin


def cron(expression: str, zone: str = BERLIN) -> Recurrence:
    return Recurrence(Kind.CRON, expression, zone)


def times(recurrence: Recurrence, begin: datetime, count: int) -> list[str]:
    """The next due times on the clock of the zone."""
    found, at = [], begin
    for _ in range(count):
        after = following(recurrence, at)
        assert after is not None
        assert after > at
        found.append(f"{after.astimezone(ZoneInfo(recurrence.zone)):%m-%d %H:%M%z}")
        at = after
    return found


@pytest.mark.parametrize(
    ("said", "kind", "spec"),
    [
        ("every 30m", Kind.INTERVAL, "1800"),
        ("every 1h30m", Kind.INTERVAL, "5400"),
        ("Every 2 hours", Kind.INTERVAL, "7200"),
        ("every hour", Kind.INTERVAL, "3600"),
        ("every weekday at 08:00", Kind.CRON, "0 8 * * 1-5"),
        ("every monday at 9:05", Kind.CRON, "5 9 * * 1"),
        ("every day at 23:59", Kind.CRON, "59 23 * * *"),
        ("0 8 * * mon-fri", Kind.CRON, "0 8 * * MON-FRI"),
        ("@daily", Kind.CRON, "0 0 * * *"),
        ("2026-12-01 08:00", Kind.ONCE, "2026-12-01T07:00:00.000Z"),
        ("at 2026-12-01T08:00Z", Kind.ONCE, "2026-12-01T08:00:00.000Z"),
        ("08:00", Kind.ONCE, "2026-11-30T07:00:00.000Z"),
        ("00:15", Kind.ONCE, "2026-11-30T23:15:00.000Z"),
        ("tomorrow at 8:00", Kind.ONCE, "2026-12-01T07:00:00.000Z"),
        ("in 20m", Kind.ONCE, "2026-11-29T23:50:00.000Z"),
    ],
)
def test_a_time_is_understood_as_people_say_it(said: str, kind: Kind, spec: str) -> None:
    assert when.recurrence(said, BERLIN, NOW) == Recurrence(kind, spec, BERLIN)


@pytest.mark.parametrize(
    ("said", "wrong", "example"),
    [
        ("", "not said when", "every 30m"),
        ("soon", "does not say when", "in 20m"),
        ("every 30", "not a duration", "30m"),
        ("every 0m", "1 second to 366 days", "30m"),
        ("every 400d", "1 second to 366 days", "30m"),
        ("every monday", "at which time", "every monday at 08:00"),
        ("every day at noon", "at which time", "08:00"),
        ("at 24:00", "no time of the day", "08:00"),
        ("2026-13-01 08:00", "no month 13", "2026-12-01 08:00"),
        ("2026-02-30 08:00", "that month has 28 days", "2026-03-01 08:00"),
        ("2027-02-29 08:00", "that month has 28 days", "2027-03-01 08:00"),
        ("2026-11-01 08:00", "is over", "2026-12-01"),
        ("2027-03-28 02:30", "the clocks are set forward", "2027-03-28 03:00"),
        ("1 2 3 4", "has 4 fields", "0 8 * * 1-5"),
        ("0 8 * * * *", "has 6 fields", "0 8 * * 1-5"),
        ("61 8 * * *", "cannot be the minute", "0 to 59"),
        ("0 8 * * 1#2/3", "cannot be the weekday", "0 8 * * 1-5"),
        ("0 8 30 2 *", "February has 29 days at most", "'0 8 29 2 *', due 2028-02-29 08:00"),
        ("0 0 31 4,6 *", "April and June have 30 days at most", "'0 0 30 4,6 *', due 2027-04-30 00:00"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_wrong_and_an_example(said: str, wrong: str, example: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        when.recurrence(said, BERLIN, NOW)

    sentence = f"{refused.value.what} {refused.value.hint}"
    assert wrong in sentence
    assert example in sentence


@given(st.text(max_size=300))
def test_whatever_is_written_is_a_time_or_refused(text: str) -> None:
    try:
        found = when.recurrence(text, "UTC", NOW)
    except InvalidValue:
        return
    due = first(found, NOW)
    assert due is not None
    assert due > NOW


def test_a_zone_that_is_none_is_refused() -> None:
    for name in ("Mars/Base", "", "../etc/passwd", "Europe/Berlin ", "x" * 100):
        with pytest.raises(InvalidValue, match="not a time zone"):
            when.zone(name)


def test_a_time_that_the_clocks_skip_is_due_right_after_the_gap_and_once() -> None:
    assert times(cron("30 2 * * *"), datetime(2027, 3, 26, 12, tzinfo=UTC), 3) == [
        "03-27 02:30+0100", "03-28 03:00+0200", "03-29 02:30+0200",
    ]  # fmt: skip


def test_a_time_that_the_clocks_repeat_is_due_once() -> None:
    assert times(cron("30 2 * * *"), datetime(2027, 10, 29, 12, tzinfo=UTC), 3) == [
        "10-30 02:30+0200", "10-31 02:30+0200", "11-01 02:30+0100",
    ]  # fmt: skip


def test_what_is_due_every_half_hour_goes_on_through_both_changes() -> None:
    every = cron("*/30 * * * *")
    assert times(every, datetime(2027, 10, 30, 23, 40, tzinfo=UTC), 5) == [
        "10-31 02:00+0200", "10-31 02:30+0200", "10-31 02:00+0100", "10-31 02:30+0100", "10-31 03:00+0100",
    ]  # fmt: skip
    assert times(every, datetime(2027, 3, 28, 0, 20, tzinfo=UTC), 2) == ["03-28 01:30+0100", "03-28 03:00+0200"]


def test_an_interval_is_elapsed_time_whatever_the_clocks_do() -> None:
    begin = datetime(2027, 3, 27, 20, tzinfo=UTC)

    assert following(Recurrence(Kind.INTERVAL, "43200", BERLIN), begin) == begin + timedelta(hours=12)


def test_a_leap_day_comes_every_four_years() -> None:
    assert [each[:5] for each in times(cron("0 8 29 2 *"), NOW, 2)] == ["02-29", "02-29"]
    assert following(cron("0 8 29 2 *"), NOW) == datetime(2028, 2, 29, 7, tzinfo=UTC)


@pytest.mark.parametrize("expression", ["*/7 * * * *", "30 2 * * *", "0 8 * * 1-5", "0 8 1 * *", "0 8 29 2 *"])
@pytest.mark.parametrize("days", [0, 1, 3, 40, 400])
def test_the_last_due_time_before_a_moment_is_found_at_once(expression: str, days: int) -> None:
    recurrence = cron(expression)
    begin = following(recurrence, datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert begin is not None
    now = begin + timedelta(days=days, minutes=5)

    last = last_until(recurrence, begin, now)

    assert begin <= last <= now
    after = following(recurrence, last)
    assert after is not None
    assert after > now
    walked, at = begin, begin
    while expression != "*/7 * * * *" and at is not None and at <= now:
        walked, at = at, following(recurrence, at)
    assert expression == "*/7 * * * *" or walked == last


def test_quiet_hours_may_lie_on_two_days() -> None:
    begin, end = when.hours("22:00-07:00")

    assert when.is_within(begin, end, BERLIN, NOW)
    assert not when.is_within(begin, end, BERLIN, NOW + timedelta(hours=12))
    assert when.next_at(end, BERLIN, NOW) == datetime(2026, 11, 30, 6, tzinfo=UTC)
    for text in ("22:00", "22-7", "07:00-07:00", "25:00-07:00"):
        with pytest.raises(InvalidValue):
            when.hours(text)
