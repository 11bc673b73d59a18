"""Whether an agent group takes an event (FAILURES 44)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.routing.engage import MAX_PATTERN, MAX_TEXT, engages, valid_pattern
from shared_schema.errors import InvalidValue

BROKEN = ["(", "[a", "a{2,1}", "*", r"(?=look)", r"(?<!behind)", r"(a)\1", r"\q", "(?P<n", "((a{1,100}){1,100}){1,100}"]


@pytest.mark.parametrize(
    ("engage", "pattern", "is_mention", "is_group", "expected"),
    [
        ("all", None, False, True, True),
        ("all", None, False, False, True),
        ("mention", None, False, True, False),
        ("mention", None, True, True, True),
        ("mention", None, False, False, True),
        ("pattern", "deploy", False, True, True),
        ("pattern", "deploy", False, False, True),
        ("pattern", "DEPLOY", True, True, False),
        ("pattern", "(?i)DEPLOY", False, True, True),
        ("pattern", "^now", False, True, False),
        ("pattern", "(?m)^now", False, True, True),
        ("pattern", None, True, False, False),
        ("unheard-of", None, True, False, False),
        ("", "deploy", True, False, False),
    ],
)
def test_the_rule_decides(engage: str, pattern: str | None, is_mention: bool, is_group: bool, expected: bool) -> None:
    text = "please deploy\nnow"
    assert engages(engage, pattern, text=text, is_mention=is_mention, is_group=is_group) is expected


@pytest.mark.parametrize("pattern", BROKEN)
def test_a_broken_pattern_is_refused_when_it_is_set(pattern: str) -> None:
    with pytest.raises(InvalidValue, match="cannot be used") as caught:
        valid_pattern(pattern)
    assert caught.value.hint == "patterns are RE2, without look-around and back-references"


@pytest.mark.parametrize("pattern", BROKEN)
def test_a_broken_pattern_that_got_in_nevertheless_engages_nothing(pattern: str) -> None:
    assert not engages("pattern", pattern, text=pattern, is_mention=True, is_group=False)


@pytest.mark.parametrize("pattern", ["deploy", r"\bfoo\b", "(?i)hey|yo", "żółw|龜", "[0-9]{3,5}", "x" * MAX_PATTERN])
def test_a_pattern_that_can_be_used_is_kept_as_it_is(pattern: str) -> None:
    assert valid_pattern(pattern) == pattern


def test_a_pattern_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidValue, match="has 1001 characters, and 1000 are allowed"):
        valid_pattern("x" * (MAX_PATTERN + 1))


@pytest.mark.parametrize(
    "pattern", [r"(a+)+$", r"(a|aa)+$", r"(.*a){20}$", r"(x+x+)+y", r"^(([a-z])+.)+[A-Z]([a-z])+$"]
)
def test_a_pattern_that_explodes_elsewhere_takes_no_longer_than_a_second(pattern: str) -> None:
    text = "a" * MAX_TEXT + "!"
    assert valid_pattern(pattern)
    began = time.monotonic()
    assert not engages("pattern", pattern.replace("$", "Q$"), text=text, is_mention=False, is_group=True)
    assert time.monotonic() - began < 1


def test_only_the_beginning_of_a_long_text_is_searched() -> None:
    def found(text: str) -> bool:
        return engages("pattern", "needle", text=text, is_mention=False, is_group=True)

    assert found("x" * (MAX_TEXT - 6) + "needle")
    assert not found("x" * (MAX_TEXT - 5) + "needle")


@settings(deadline=None)
@given(st.text(max_size=30), st.text(max_size=50))
def test_any_pattern_is_refused_or_can_be_searched_for(pattern: str, text: str) -> None:
    try:
        valid_pattern(pattern)
    except InvalidValue:
        assert not engages("pattern", pattern, text=text, is_mention=True, is_group=False)
    else:
        assert engages("pattern", pattern, text=text, is_mention=False, is_group=True) in (True, False)


def test_a_pattern_with_half_characters_is_refused_like_any_other_broken_one() -> None:
    with pytest.raises(InvalidValue):
        valid_pattern("\ud83d")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a?){1000}b", "a" * 32_000),
        ("|".join(["(a?){150}"] * 60) + "b", "a" * 32_000),
        (r"(\pL?){300}!", "é" * 32_000),
    ],
    ids=["steps", "branches", "classes"],
)
def test_a_pattern_of_enormous_size_takes_no_second_either(pattern: str, text: str) -> None:
    began = time.process_time()
    engages("pattern", pattern, text=text, is_mention=False, is_group=True)
    assert time.process_time() - began < 1


def test_a_pattern_of_usual_size_is_searched_as_far_as_is_promised() -> None:
    text = " " * (MAX_TEXT - 5) + "hello"
    assert engages("pattern", r"(?i)\b(hello|hi), |HELLO", text=text, is_mention=False, is_group=True)


def test_a_text_with_half_characters_is_matched_all_the_same() -> None:
    assert engages("pattern", "hello$", text="\ud800 hello", is_mention=False, is_group=True)
