"""Who may serve a data folder, as a table."""

from __future__ import annotations

import pytest

from host.lease_rules import Holder, HolderStanding, Silence, Timing, is_free, is_superseded, is_sure, renewed_since

TIMING = Timing(renew=2.0, limit=10.0, wait=15.0)
HERE, THERE = Holder("one", 1, "here"), Holder("two", 2, "there")
OVER = Holder("two", 2, "there", beat=7, is_over=True)


@pytest.mark.parametrize(("age", "sure"), [(0.0, True), (10.0, True), (10.001, False), (1e6, False)])
def test_a_holder_is_sure_for_as_long_as_the_limit(age: float, sure: bool) -> None:
    assert is_sure(100.0 + age, 100.0, TIMING) is sure


@pytest.mark.parametrize(
    ("began", "ended", "since"),
    [(100.0, 100.1, 100.0), (107.9, 108.0, 107.9), (107.9, 108.1, None), (112.0, 112.1, None)],
)
def test_a_renewal_counts_from_its_beginning_where_it_ends_before_the_lease_does(
    began: float, ended: float, since: float | None
) -> None:
    assert renewed_since(began, ended, 98.0, TIMING) == since


def test_a_higher_number_supersedes() -> None:
    assert not is_superseded(3, [])
    assert not is_superseded(3, [1, 3])
    assert is_superseded(3, [1, 4])


@pytest.mark.parametrize(
    ("number", "last", "is_locked", "free"),
    [
        (0, None, False, True),
        (1, None, True, False),  # one that is just being made
        (1, OVER, False, True),
        (1, HERE, True, True),
        (1, HERE, False, False),  # locks that end at a machine say nothing where there are none
        (1, THERE, True, False),
    ],
)
def test_what_can_be_taken_without_waiting(number: int, last: Holder | None, is_locked: bool, free: bool) -> None:
    assert is_free(number, last, "here", is_locked=is_locked) is free


@pytest.mark.parametrize(
    ("now", "number", "holder", "standing"),
    [
        (114.9, 1, THERE, HolderStanding.UNSURE),
        (115.0, 1, THERE, HolderStanding.FREE),
        (114.9, 1, Holder("two", 2, "there", beat=1), HolderStanding.HELD),
        (120.0, 1, Holder("two", 2, "there", beat=1), HolderStanding.HELD),
        (101.0, 1, OVER, HolderStanding.FREE),
        (101.0, 2, HERE, HolderStanding.HELD),
        (101.0, 2, None, HolderStanding.HELD),
    ],
)
def test_silence_is_what_frees_it(now: float, number: int, holder: Holder | None, standing: HolderStanding) -> None:
    assert Silence(1, THERE, 100.0, TIMING).standing(now, number, holder) is standing
