"""Hypothesis over one target: few inputs that are always the same, or very many."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, seed, settings

from tests.fuzz.target import Drive, Target, judge

QUICK, FULL, BARE = "fuzz-quick", "fuzz-full", "fuzz-bare"
HANG_SECONDS = 150.0  # longer than twice what `judge` allows, which says more
FULL_INPUTS = 100_000
_PART = 10_000

_ALL: dict[str, Any] = {
    "database": None,  # what was found is told and kept by hand, in `known`
    "deadline": None,  # `judge` measures
    "suppress_health_check": list(HealthCheck),
}
settings.register_profile(QUICK, max_examples=25, derandomize=True, **_ALL)
settings.register_profile(FULL, max_examples=_PART, derandomize=False, **_ALL)
settings.register_profile(BARE, phases=[Phase.explicit, Phase.generate], **_ALL)


class Hung(BaseException):
    """An input does not come back."""


def quick(target: Target, drive: Drive) -> int:
    """The same few inputs every time, whichever modules are loaded (tests/conftest.py); how many."""
    return _run(target, drive, QUICK, None)


def full(target: Target, drive: Drive, number: int, inputs: int = FULL_INPUTS) -> int:
    """At least that many inputs, chosen by the seed `number`, in parts: hypothesis remembers all of a part."""
    done = 0
    while done < inputs:
        done += _run(target, drive, FULL, number + done)
    return done


def from_bytes(target: Target, judged: Callable[[Any], None]) -> Callable[[bytes], bytes | None]:
    """What makes an input of a fuzzer's bytes and has it judged; None from it says that they were too few for one."""

    @settings(settings.get_profile(BARE))
    @given(target.inputs)
    def test(value: Any) -> None:
        judged(value)

    made: Callable[[bytes], bytes | None] = test.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    return made


def _run(target: Target, drive: Drive, profile: str, number: int | None) -> int:
    done = 0

    def test(value: Any) -> None:
        nonlocal done
        done += 1
        with _no_hang():
            judge(target, drive, value)

    test = given(target.inputs)(test)
    for known in target.known:
        test = example(known)(test)
    test = settings(settings.get_profile(profile))(test)
    if number is not None:
        test = seed(number)(test)
    test()
    return done


@contextmanager
def _no_hang() -> Iterator[None]:
    def hung(number: int, frame: FrameType | None) -> None:
        raise Hung(f"not back after {HANG_SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
