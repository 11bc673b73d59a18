"""What may stand in a title, and the lineage of a name (FAILURES 38)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.central.title import (
    MAX,
    base_of,
    clean,
    cut,
    first_words,
    following,
    is_cut,
    newest,
    number_of,
    numbered,
    of_model,
    span,
)
from shared_schema.errors import InvalidValue


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("  The   plan \n for\tMay ", "The plan for May"),
        ("a\u200bb\ufeffd\u2060e", "abde"),  # zero width
        (
            "\U0001f469\u200d\U0001f4bb at work",
            "\U0001f469\u200d\U0001f4bb at work",
        ),  # a joiner is a part of what it joins
        ("\u202egnp.exe\u202c \u2066x\u2069\u200f", "gnp.exe x"),  # direction
        ("bell\x07 esc\x1b[31m nul\x00 c1\x9b", "bell esc[31m nul c1"),
        ("line\u2028and\u2029paragraph\x85next", "line and paragraph next"),
        ("half \ud800 character", "half character"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u3164x\u2800", "x"),
        ("日本語のタイトル", "日本語のタイトル"),
        ("x" * 200, "x" * MAX),
    ],
)
def test_a_title_has_only_what_can_be_seen_on_one_line(text: str, title: str) -> None:
    assert clean(text) == title


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u200b\u200d", "\u202e", "\u3164", "\x00", "\ud800"])
def test_a_title_of_which_nothing_can_be_seen_is_none(text: str) -> None:
    with pytest.raises(InvalidValue, match="at least one character that can be seen"):
        clean(text)
    assert first_words(text) is None


def test_a_title_is_cut_between_whole_characters() -> None:
    assert cut("ab\u0323\u0302c", 3) == "a"
    assert cut("ab\u0323\u0302c", 4) == "ab\u0323\u0302"
    assert cut("\U0001f44b\U0001f3fd!", 1) == ""  # a waving hand and its colour
    assert clean("x" * 99 + "q\u0323\u0307") == "x" * 99
    assert cut("one two", 4) == "one"
    assert clean("0" + "\U0001f3fb" * 100) == "0" + "\U0001f3fb" * 99


@given(st.text(max_size=300))
def test_a_title_that_was_made_stays_as_it_is(text: str) -> None:
    try:
        title = clean(text)
    except InvalidValue:
        return
    assert 0 < len(title) <= MAX
    assert clean(title) == title


def test_first_words_are_whole_words() -> None:
    assert first_words("What is the weather?") == "What is the weather?"
    long = first_words("Please tell me everything there is to know about the history of the dumbwaiter")
    assert long == "Please tell me everything there is to know about the…"
    assert first_words("x" * 80) == "x" * 59 + "…"
    assert first_words("x" * 59 + " " + "y" * 20) == "x" * 59 + "…"


@pytest.mark.parametrize(
    ("title", "base", "number"),
    [
        ("name", "name", 1),
        ("name #2", "name", 2),
        ("name #10", "name", 10),
        ("name #1", "name #1", 1),
        ("name #02", "name #02", 1),
        ("name#2", "name#2", 1),
        ("#2", "#2", 1),
        ("name #2 #3", "name #2", 3),
        ("name #٣", "name #٣", 1),
        ("name #9999999999", "name #9999999999", 1),
    ],
)
def test_a_title_has_a_base_and_a_number(title: str, base: str, number: int) -> None:
    assert (base_of(title), number_of(title)) == (base, number)


def test_the_next_of_a_lineage_is_behind_the_newest() -> None:
    assert following("name", []) == "name"
    assert following("name", ["name"]) == "name #2"
    assert following("name", ["name", "name #2", "name #9", "name #3"]) == "name #10"
    assert following("name #2", ["name", "name #2"]) == "name #3"
    assert following("name", ["name #4"]) == "name #5"
    assert following("name", ["named", "name #2 more", "other #7"]) == "name"


def test_a_number_that_gets_longer_stays_within_the_limit() -> None:
    ninth = numbered("x" * MAX, 9)
    assert ninth == "x" * 97 + " #9"
    tenth = following(ninth, ["x" * MAX, ninth])
    assert tenth == "x" * 96 + " #10"
    assert len(tenth) == MAX


def test_a_long_name_keeps_its_lineage_when_it_gives_way_to_the_number() -> None:
    base = "x" * MAX
    taken = [base]
    for _ in range(11):
        taken.append(following(base, taken))
    assert [number_of(title) for title in taken] == list(range(1, 13))
    assert all(len(title) <= MAX for title in taken)
    assert newest(base, taken) == taken[-1]


@given(st.text(min_size=1, max_size=120), st.integers(2, 10**9 - 1))
def test_all_numbers_of_a_lineage_stand_between_its_ends(text: str, number: int) -> None:
    try:
        base = clean(text)
    except InvalidValue:
        return
    title = numbered(base, number)
    first, last = span(base)
    assert first < title < last
    assert len(title) <= MAX
    assert newest(base, [title]) == title


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ("Title: A trip to the sea", "A trip to the sea"),
        ("**Title:** A trip", "A trip"),
        ("# Titel: Reise ans Meer", "Reise ans Meer"),
        ("\n\n  Titre : « La mer »\nand more", "La mer"),
        ("标题：「海边旅行」", "海边旅行"),  # noqa: RUF001
        ("タイトル: 『海』", "海"),
        ('Title: "A trip', "A trip"),
        ("“A trip", "A trip"),
        ("A trip”", "A trip"),
        ("„Reise ans Meer“.", "Reise ans Meer"),
        ('"A" and "B"', '"A" and "B"'),
        ('Say "hello"', 'Say "hello"'),
        ("The dogs'", "The dogs'"),
        ("Rock 'n' roll", "Rock 'n' roll"),
        ("Titles: how to find one", "Titles: how to find one"),
        ('"**Title: The plan**"', "The plan"),
        ("```\nThe plan\n```", "The plan"),
    ],
)
def test_what_models_put_around_a_title_is_no_part_of_it(said: str, title: str) -> None:
    assert of_model(said) == title


@pytest.mark.parametrize("said", ["", "Title:", '""', "**", "Title: \u200b"])
def test_a_model_that_names_nothing_gives_no_title(said: str) -> None:
    with pytest.raises(InvalidValue):
        of_model(said)


def test_a_title_that_is_too_long_is_known_to_be_cut() -> None:
    assert not is_cut("x" * MAX)
    assert not is_cut("   x   ")
    assert is_cut("x" * (MAX + 1))
    assert is_cut("x" + " " * 5_000 + "y")
