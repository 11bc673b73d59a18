"""The limits of a minute, second by second."""

from __future__ import annotations

from host.gateway.limits import CallLimits, Minute


def test_without_limits_nobody_waits() -> None:
    minute = Minute()
    for _ in range(1000):
        minute.add(5.0, requests=1, tokens=10**6)
    assert minute.wait(CallLimits(), 5.0) is None


def test_the_wait_is_until_enough_of_it_is_a_minute_ago() -> None:
    minute = Minute()
    minute.add(0.5, tokens=60)
    minute.add(30.2, tokens=60)

    assert minute.wait(CallLimits(tokens_per_minute=121), 31.0) is None
    assert minute.wait(CallLimits(tokens_per_minute=100), 31.0) == 30
    assert minute.wait(CallLimits(tokens_per_minute=50), 31.0) == 60
    assert minute.wait(CallLimits(tokens_per_minute=100), 61.0) is None
    assert minute.wait(CallLimits(tokens_per_minute=1), 91.0) is None


def test_the_longer_wait_counts_and_none_is_allowed_where_the_limit_is_none() -> None:
    minute = Minute()
    minute.add(10.0, requests=1, tokens=1)
    assert minute.wait(CallLimits(requests_per_minute=1), 20.0) == 51
    assert minute.wait(CallLimits(requests_per_minute=0), 1000.0) == 60


def test_what_is_kept_does_not_grow() -> None:
    minute = Minute()
    for tenth in range(100_000):
        minute.add(tenth / 10, requests=1)
        minute.wait(CallLimits(requests_per_minute=1), tenth / 10)
    assert len(minute._seconds) <= 61
