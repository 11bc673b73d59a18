"""When a conversation begins anew by itself: a table, and what clocks can do to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.sessions.reset import Policy, Reset, reset_due, zone
from shared_schema.errors import InvalidValue

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)


def due(reset: str, last_active: datetime, now: datetime = NOW, *, is_busy: bool = False, **rest: object) -> str | None:
    rule = {"minutes": 60, "hour": 4, "zone": "UTC"} | rest
    found = reset_due(Policy(Reset(reset), **rule), last_active=last_active, now=now, is_busy=is_busy)  # type: ignore[arg-type]
    return None if found is None else found.value


@pytest.mark.parametrize(
    ("reset", "rested", "expected"),
    [
        ("none", timedelta(days=400), None),
        ("idle", timedelta(minutes=60), None),
        ("idle", timedelta(minutes=60, milliseconds=1), "idle"),
        ("daily", timedelta(hours=8), None),
        ("daily", timedelta(hours=8, milliseconds=1), "daily"),
        ("both", timedelta(minutes=61), "idle"),
        ("both", timedelta(hours=9), "idle"),
        ("both", timedelta(minutes=59), None),
    ],
)
def test_a_limit_is_passed_only_beyond_it_and_idle_is_asked_first(
    reset: str, rested: timedelta, expected: str | None
) -> None:
    assert due(reset, NOW - rested) == expected


@pytest.mark.parametrize("reset", list(Reset))
def test_nothing_is_reset_while_the_session_works(reset: str) -> None:
    """FAILURES 35."""
    assert due(reset, NOW - timedelta(days=100), is_busy=True) is None


def test_both_falls_back_to_the_hour_when_the_rest_was_short() -> None:
    now = datetime(2026, 6, 15, 4, 10, tzinfo=UTC)
    assert due("both", now - timedelta(minutes=20), now) == "daily"


def test_the_hour_is_that_of_the_chat() -> None:
    last, now = datetime(2026, 6, 15, 1, 59, tzinfo=UTC), datetime(2026, 6, 15, 2, 1, tzinfo=UTC)
    assert due("daily", last, now, zone="Europe/Berlin") == "daily"  # four o'clock in summer
    assert due("daily", last, now, zone="UTC") is None


@pytest.mark.parametrize(
    ("last", "now", "expected"),
    [
        ("2026-03-29T00:30", "2026-03-29T01:30", "daily"),  # 02:00 does not exist that day: it is 03:00
        ("2026-03-29T01:30", "2026-03-29T09:00", None),
        ("2026-10-25T23:59", "2026-10-26T00:30", None),
        ("2026-10-25T23:59", "2026-10-26T01:00", "daily"),
    ],
)
def test_days_of_twenty_three_and_twenty_five_hours_have_one_reset(last: str, now: str, expected: str | None) -> None:
    moments = (datetime.fromisoformat(f"{moment}+00:00") for moment in (last, now))
    assert due("daily", *moments, hour=2, zone="Europe/Berlin") == expected


def test_a_clock_that_was_set_back_resets_nothing() -> None:
    assert due("both", NOW + timedelta(days=2)) is None


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.timedeltas(timedelta(0), timedelta(days=3)),
    st.integers(0, 23),
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Kiritimati", "America/New_York"]),
)
def test_after_more_than_a_day_and_an_hour_a_daily_reset_is_always_due(
    last: datetime, rested: timedelta, hour: int, name: str
) -> None:
    found = due("daily", last, last + rested, hour=hour, zone=name)
    if rested > timedelta(hours=25):
        assert found == "daily"
    if rested == timedelta(0):
        assert found is None


@pytest.mark.parametrize("name", ["", "Nowhere/Town", "../../etc/passwd", "x" * 500, "UTC\0"])
def test_a_time_zone_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match="is not a time zone"):
        zone(name)
