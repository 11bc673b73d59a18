"""When sending is tried again: for hours, and at the platform's pace (FAILURES 17)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.delivery.retry import LONGEST_WAIT, RetryPolicy, wait_after

USUAL = RetryPolicy(first_seconds=1, hours=6)


def waits(policy: RetryPolicy, *, retry_after: float | None = None, at_most: int = 100_000) -> list[float]:
    """All waits of a platform that stays down."""
    found: list[float] = []
    while (wait := wait_after(len(found) + 1, policy, retry_after=retry_after)) is not None:
        found.append(wait)
        assert len(found) < at_most
    return found


def test_the_wait_doubles_up_to_a_minute() -> None:
    assert waits(USUAL)[:12] == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]


def test_sending_is_tried_for_the_whole_time_and_not_for_ever() -> None:
    total = sum(waits(USUAL))
    assert 6 * 3600 <= total <= 6 * 3600 + LONGEST_WAIT


@settings(deadline=None, max_examples=50)
@given(st.floats(0.01, 10_000), st.floats(0, 48))
def test_whatever_the_policy_the_planned_waits_reach_its_hours(first: float, hours: float) -> None:
    policy = RetryPolicy(first, hours)
    found = waits(policy)
    assert hours * 3600 <= sum(found) + 1e-6
    assert sum(found) <= hours * 3600 + max(LONGEST_WAIT, first)
    assert found == sorted(found)


def test_a_platform_that_is_down_for_five_seconds_gets_the_message() -> None:
    clock, attempt = 0.0, 1
    while clock < 5:  # every attempt before that fails
        wait = wait_after(attempt, USUAL)
        assert wait is not None, "given up"
        clock, attempt = clock + wait, attempt + 1
    assert wait_after(attempt, USUAL) is not None, "and could fail some more"
    assert clock <= 10


@pytest.mark.parametrize(
    ("attempts", "retry_after", "expected"),
    [
        (1, 90, 90),
        (1, 0.5, 1),
        (1, None, 1),
        (1, 0, 1),
        (1, -5, 1),
        (5, 10, 16),
        (5, 17, 17),
        (1, 86_400, 21_600),
        (1, float("inf"), 21_600),
        (1, float("nan"), 1),
    ],
)
def test_what_the_platform_asks_for_is_honoured_when_it_is_longer(
    attempts: int, retry_after: float | None, expected: float
) -> None:
    assert wait_after(attempts, USUAL, retry_after=retry_after) == expected


def test_a_platform_that_asks_for_patience_does_not_use_up_the_attempts() -> None:
    assert len(waits(USUAL, retry_after=600)) == len(waits(USUAL))


def test_without_hours_there_is_one_attempt() -> None:
    assert waits(RetryPolicy(first_seconds=1, hours=0)) == []


def test_a_first_wait_longer_than_a_minute_is_kept() -> None:
    assert set(waits(RetryPolicy(first_seconds=900, hours=1))) == {900.0}
