"""Every target, with both tools: quickly always, and a hundred thousand inputs each for `make chaos`."""

from __future__ import annotations

import importlib
import importlib.util
import resource
import secrets
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz import __main__ as guided
from tests.fuzz import draw
from tests.fuzz.target import (
    MEMORY,
    SECONDS,
    SECONDS_A_BYTE,
    Target,
    TooLarge,
    TooSlow,
    judge,
    size_of,
    tool_setup,
)
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_same_few_inputs_harm_nobody(target: Target) -> None:
    with tool_setup() as folder, target.opened(folder) as drive:
        assert draw.quick(target, drive) >= 20


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")  # that a finding is long to print
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_hundred_thousand_inputs_harm_nobody(target: Target) -> None:
    number = secrets.randbits(32)
    print(f"{target.name}: seed {number}")
    with tool_setup() as folder, target.opened(folder) as drive:
        assert draw.full(target, drive, number) >= draw.FULL_INPUTS


@pytest.mark.full
@pytest.mark.parametrize("name", TARGETS)
def test_the_guided_fuzzer_reaches_every_target(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: `pip install -e '.[chaos]'` where it has a wheel")
    outcome = guided.fuzz(name, 200, tmp_path)
    assert outcome.finding is None, outcome.finding
    assert outcome.inputs >= 200


def test_no_target_is_left_out() -> None:
    modules = [importlib.import_module(f"tests.fuzz.{path.stem}") for path in Path(__file__).parent.glob("[a-z]*.py")]
    defined = {
        target.name
        for module in modules
        for value in vars(module).values()
        if isinstance(value, tuple)
        for target in value
        if isinstance(target, Target)
    }
    assert defined == set(TARGETS)


def _target(*answers: type[Exception]) -> Target:
    return Target("example", lambda folder: nullcontext(_divide), st.integers(), answers)


def _divide(number: int) -> None:
    assert 1 / number != 2


@pytest.mark.parametrize(
    ("answers", "finding"), [((), True), ((ZeroDivisionError,), False)], ids=["surprise", "answer"]
)
def test_an_error_that_is_not_promised_is_a_finding(answers: tuple[type[Exception], ...], finding: bool) -> None:
    with pytest.raises(ZeroDivisionError) if finding else nullcontext():
        draw.quick(_target(*answers), _divide)


def test_an_input_that_takes_longer_than_one_of_its_size_may_is_a_finding() -> None:
    def work(_: object) -> None:
        began = time.process_time()
        while time.process_time() - began < SECONDS + 0.1:
            pass

    judge(_target(), work, "x" * int(0.5 / SECONDS_A_BYTE))
    with pytest.raises(TooSlow):
        judge(_target(), work, "x" * 100)


def test_an_input_that_takes_more_memory_than_one_of_its_size_may_is_a_finding() -> None:
    def fill(value: str) -> None:
        del value
        bytearray(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + MEMORY)

    with pytest.raises(TooLarge):
        judge(_target(), fill, "x" * 100)


def test_the_size_of_an_input_is_that_of_all_its_parts() -> None:
    assert size_of({"a": ["bc", b"def", ("é", 1)], "n": None}) == 1 + 2 + 3 + 2 + 1 + 1 + 8
