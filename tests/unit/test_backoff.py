"""Waits that grow: they double, they end, and no number of failures is too large."""

from __future__ import annotations

import pytest

from host.backoff import Backoff
from host.supervision.capacity import StartBackoff
from shared_schema.clock import ManualClock


@pytest.mark.parametrize(("failures", "seconds"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 30), (2_000, 30), (10**9, 30)])
def test_a_wait_doubles_up_to_the_longest(failures: int, seconds: float) -> None:
    assert Backoff(1, 30).after(failures) == seconds


def test_an_engine_that_is_away_for_a_week_is_asked_as_often_as_after_an_hour() -> None:
    backoff = StartBackoff(ManualClock())

    waits = [backoff.no_answer("ses_1") for _ in range(2_000)]

    assert waits[:3] == [1, 2, 4]
    assert waits[-1] == max(waits)
