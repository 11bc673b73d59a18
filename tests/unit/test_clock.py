"""Stored time is UTC, fixed in width, and the same whatever the zone of the machine (FAILURES 15)."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_schema.clock import WIDTH, ManualClock, SystemClock, from_text, to_text
from shared_schema.errors import InvalidValue

NEW_YORK = "EST5EDT,M3.2.0,M11.1.0"  # POSIX form: needs no zone database
ALL_YEARS = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001

# Both sides of the spring gap, and the hour that comes twice in autumn: 01:30 EDT, then 01:30 EST.
AROUND_DST = [
    (1772953199, "2026-03-08T06:59:59.000Z", -5),
    (1772953200, "2026-03-08T07:00:00.000Z", -4),
    (1793511000, "2026-11-01T05:30:00.000Z", -4),
    (1793514600, "2026-11-01T06:30:00.000Z", -5),
]
SCRIPT = """
import sys
from datetime import datetime
from shared_schema.clock import SystemClock, from_text, to_text
for stamp in sys.argv[1:]:
    local = datetime.fromtimestamp(int(stamp)).astimezone()
    text = to_text(local)
    print(text, int(local.utcoffset().total_seconds() // 3600), int(from_text(text).timestamp()))
print(to_text(SystemClock().now()))
"""


def run_in_zone(zone: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *(str(stamp) for stamp, _, _ in AROUND_DST)],
        env=os.environ | {"TZ": zone},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return result.stdout.splitlines()


def test_a_host_whose_zone_has_summer_time_stores_utc() -> None:
    before = datetime.now(UTC)
    *lines, now = run_in_zone(NEW_YORK)
    assert lines == [f"{text} {offset} {stamp}" for stamp, text, offset in AROUND_DST]
    assert before - timedelta(seconds=1) <= from_text(now) <= datetime.now(UTC)


def test_the_zone_makes_no_difference_to_what_is_stored() -> None:
    stored = [line.split()[0] for line in run_in_zone(NEW_YORK)[:-1]]
    assert stored == [line.split()[0] for line in run_in_zone("Asia/Kolkata")[:-1]]


def test_any_zone_of_the_given_time_is_converted() -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    assert to_text(datetime(2026, 3, 1, 1, 0, tzinfo=kathmandu)) == "2026-02-28T19:15:00.000Z"


@pytest.mark.parametrize("text", ["2028-02-29T23:59:59.999Z", "2024-02-29T00:00:00.000Z", "2000-02-29T12:00:00.001Z"])
def test_a_leap_day_survives_the_round_trip(text: str) -> None:
    assert to_text(from_text(text)) == text


@pytest.mark.parametrize(
    ("microsecond", "ending"), [(0, ".000Z"), (1, ".000Z"), (999, ".000Z"), (42_000, ".042Z"), (999_999, ".999Z")]
)
def test_milliseconds_are_cut_and_always_three(microsecond: int, ending: str) -> None:
    assert to_text(datetime(2026, 11, 20, 21, 39, 13, microsecond, tzinfo=UTC)).endswith(f":13{ending}")


@settings(deadline=None)
@given(ALL_YEARS)
def test_every_time_has_the_same_width_and_comes_back_cut_to_milliseconds(moment: datetime) -> None:
    text = to_text(moment)
    assert len(text) == WIDTH
    assert from_text(text) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@settings(deadline=None)
@given(ALL_YEARS, ALL_YEARS)
def test_the_order_of_texts_is_the_order_of_times(one: datetime, other: datetime) -> None:
    if one <= other:
        assert to_text(one) <= to_text(other)
    else:
        assert to_text(one) >= to_text(other)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidValue, match="without a zone"):
        to_text(datetime(2026, 11, 20))  # noqa: DTZ001


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-20",
        "2026-11-20T21:39:13Z",
        "2026-11-20T21:39:13.042+00:00",
        "2026-11-20T21:39:13.0420Z",
        "2026-11-20 21:39:13.042Z",
        "2026-02-29T12:00:00.000Z",
        "2026-13-01T12:00:00.000Z",
        "2026-11-20T24:00:00.000Z",
        "2026-11-20T21:39:61.042Z",
        "\uff12026-11-20T21:39:13.042Z",
        "2026-11-20T21:39:13.042Z\n",
        "x" * WIDTH,
        None,
        17,
        b"2026-11-20T21:39:13.042Z",
    ],
)
def test_any_other_form_is_refused(text: object) -> None:
    with pytest.raises(InvalidValue, match="is not a time of the form"):
        from_text(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "2026-1-20T21:39:13.0420Z",
        "2026-11-2T21:39:13.0420Z",
        "2026-11-20T1:39:13.0420Z",
        "2026-1-2T21:39:13.04200Z",
        "2026-11-20t21:39:13.042Z",
    ],
)
def test_a_time_of_the_right_width_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        from_text(text)


def test_a_manual_clock_that_jumps_lets_no_time_pass() -> None:
    clock = ManualClock(datetime(2026, 3, 8, 6, 59, tzinfo=UTC))
    clock.advance(1.5)
    assert (clock.now(), clock.monotonic()) == (datetime(2026, 3, 8, 6, 59, 1, 500_000, tzinfo=UTC), 1001.5)
    clock.jump(-3600)
    assert (clock.now(), clock.monotonic()) == (datetime(2026, 3, 8, 5, 59, 1, 500_000, tzinfo=UTC), 1001.5)


def test_the_system_clock_knows_its_zone_and_never_goes_back() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)
