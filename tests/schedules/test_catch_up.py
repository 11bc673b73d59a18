"""What becomes of due times that have passed, by each rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from host.schedules.catch_up import MOST_COUNTED, Missed, Plan, plan, was_set_back
from host.schedules.recurrence import Kind, Recurrence

HOURLY = Recurrence(Kind.INTERVAL, "3600", "UTC")
DAILY = Recurrence(Kind.CRON, "0 8 * * *", "UTC")
ONCE = Recurrence(Kind.ONCE, "2026-03-01T08:00:00.000Z", "UTC")
EIGHT = datetime(2026, 3, 1, 8, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize("rule", Missed)
@pytest.mark.parametrize("late", [0, 1, 59])
def test_what_is_on_time_runs_by_every_rule(rule: Missed, late: int) -> None:
    assert plan(DAILY, EIGHT, EIGHT + timedelta(seconds=late), rule) == Plan(EIGHT, EIGHT + DAY)
    assert plan(ONCE, EIGHT, EIGHT + timedelta(seconds=late), rule) == Plan(EIGHT, None)


@pytest.mark.parametrize("recurrence", [DAILY, HOURLY])
def test_one_missed_time(recurrence: Recurrence) -> None:
    step = DAY if recurrence is DAILY else HOUR
    now = EIGHT + timedelta(minutes=30)

    assert plan(recurrence, EIGHT, now, Missed.SKIP) == Plan(None, EIGHT + step, 1, EIGHT)
    assert plan(recurrence, EIGHT, now, Missed.ONCE) == Plan(EIGHT, EIGHT + step)
    assert plan(recurrence, EIGHT, now, Missed.ALL) == Plan(EIGHT, EIGHT + step)


@pytest.mark.parametrize(("recurrence", "step"), [(DAILY, DAY), (HOURLY, HOUR)])
def test_three_missed_times(recurrence: Recurrence, step: timedelta) -> None:
    now = EIGHT + 2 * step + timedelta(minutes=30)

    assert plan(recurrence, EIGHT, now, Missed.SKIP) == Plan(None, EIGHT + 3 * step, 3, EIGHT)
    assert plan(recurrence, EIGHT, now, Missed.ONCE) == Plan(EIGHT + 2 * step, EIGHT + 3 * step, 2, EIGHT)
    assert plan(recurrence, EIGHT, now, Missed.ALL) == Plan(EIGHT, EIGHT + step)


def test_skip_runs_what_is_on_time_and_counts_what_is_not() -> None:
    now = EIGHT + 2 * DAY + timedelta(seconds=10)

    assert plan(DAILY, EIGHT, now, Missed.SKIP) == Plan(EIGHT + 2 * DAY, EIGHT + 3 * DAY, 2, EIGHT)


def test_all_makes_up_for_the_newest_thousand_and_says_that_more_are_lost() -> None:
    seconds = Recurrence(Kind.INTERVAL, "1", "UTC")
    now = EIGHT + timedelta(seconds=MOST_COUNTED + 499)

    found = plan(seconds, EIGHT, now, Missed.ALL)

    assert found.run == EIGHT + timedelta(seconds=500)
    assert (found.missed, found.missed_from) == (500, EIGHT)

    minutes = Recurrence(Kind.CRON, "* * * * *", "UTC")
    found = plan(minutes, EIGHT, EIGHT + timedelta(minutes=MOST_COUNTED + 9), Missed.ALL)
    assert (found.run, found.missed) == (EIGHT + timedelta(minutes=10), 10)


def test_all_of_ten_years_by_the_minute_is_bounded() -> None:
    minutes = Recurrence(Kind.CRON, "* * * * *", "UTC")
    now = EIGHT + timedelta(days=3650)

    found = plan(minutes, EIGHT, now, Missed.ALL)

    assert found.run is not None
    assert now - found.run <= timedelta(minutes=MOST_COUNTED)
    assert found.missed_in_words == "1,000 or more due times"


def test_a_clock_that_is_corrected_by_seconds_is_not_set_back() -> None:
    assert not was_set_back(EIGHT, EIGHT - timedelta(seconds=5))
    assert was_set_back(EIGHT, EIGHT - timedelta(seconds=6))
    assert not was_set_back(EIGHT, EIGHT + DAY)
