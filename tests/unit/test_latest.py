"""Only so much is remembered, and what is forgotten is the oldest."""

from __future__ import annotations

from host.latest import Latest


def test_with_one_too_many_the_oldest_is_forgotten() -> None:
    latest = Latest[str, int](2)
    for number, key in enumerate(["one", "two", "three"]):
        latest[key] = number
    assert latest == {"two": 1, "three": 2}
    assert latest.get("one") is None


def test_what_is_set_again_is_the_latest() -> None:
    latest = Latest[str, int](2)
    for number, key in enumerate(["one", "two", "one", "three"]):
        latest[key] = number
    assert latest == {"one": 2, "three": 3}
