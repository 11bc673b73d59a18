"""Foreign text is brought into a form in time that is linear in it, wherever that happens."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.central import title
from host.history import entry, query
from host.history.snippet import snippet
from host.routing import commands
from host.sessions.filename import safe_name
from shared_schema.text import (
    MAX_MARKS,
    composed,
    decomposed,
    escaped_json,
    folded,
    one_line,
    printable,
    without_lone_surrogates,
)

MARKS = "a" + "\u0301\u0316" * 30_000
"""`unicodedata.normalize` takes 10 s for this."""
HIDDEN_MARKS = "a" + "\u0f73\u0f75" * 30_000
"""Characters that are no marks by their class, and come apart into marks."""
BROKEN_UP = "".join("\u0301\u0316" * 15 + "\u0f73" for _ in range(2_000))
PHRASE = '"' + "a " * 490 + 'b"'


def in_a_wink(run: Callable[[], object]) -> None:
    """Fails when it takes more of the processor than a hundredth of what the quadratic way takes."""
    began = time.thread_time()
    run()
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize(
    "text", [MARKS, HIDDEN_MARKS, BROKEN_UP, "中" + MARKS], ids=["marks", "hidden", "broken", "cjk"]
)
@pytest.mark.parametrize(
    "run",
    [
        lambda text: composed(text, 1_000_000),
        lambda text: decomposed(text, 1_000_000),
        title.clean,
        title.first_words,
        entry.looked_up,
        query.parse,
        lambda text: query.in_words(query.parse(f'"中{text}"') or query.Term("x")),
        lambda text: commands.parse(f"/title {text}"),
        lambda text: safe_name(text),
        lambda text: safe_name("x", {text}),
        lambda text: snippet(text, [query.Term(text[:1000])]),
        lambda text: folded(text, 1_000_000),
        lambda text: one_line(text, 100),
    ],
    ids=[
        "composed", "decomposed", "title", "first words", "history", "query", "words of a query", "command",
        "file name", "taken file name", "excerpt", "folded", "one line",
    ],
)  # fmt: skip
def test_a_letter_with_tens_of_thousands_of_marks_holds_up_nobody(run: Callable[[str], object], text: str) -> None:
    composed("\u0301", 1)  # the table of marks is made once
    in_a_wink(lambda: run(text))


def test_a_long_phrase_in_a_text_that_almost_has_it_is_shown_at_once() -> None:
    node = query.parse(PHRASE)
    assert node is not None
    text = "a " * 10_000
    in_a_wink(lambda: snippet(text, query.terms(node)))


def test_an_endless_command_is_cut_before_it_is_taken_apart() -> None:
    command = commands.parse("/title" + " " * 2_000_000 + "x" * 2_000_000)
    assert command is not None
    assert len(command.argument) < 4_000
    assert commands.parse("  /new  ") == commands.ChatCommand("new")
    assert commands.parse("/new" + "x" * 1_000_000) is None


def test_a_row_of_marks_is_cut_and_what_follows_stays() -> None:
    assert composed("q" + "\u0316" * 40 + "rest", 100) == "q" + "\u0316" * MAX_MARKS + "rest"
    assert composed("cafe\u0301", 100) == "café"
    assert composed("abc", 2) == "ab"
    made = composed("\u0f73\u0f75" * 40, 100)
    assert composed(made, 100) == made


@given(st.text(max_size=60))
def test_ordinary_text_has_the_form_that_unicode_says(text: str) -> None:
    if len(text) <= MAX_MARKS:
        assert composed(text, 60) == unicodedata.normalize("NFC", text)
        assert decomposed(text, 60) == unicodedata.normalize("NFD", text)


def test_what_is_printed_has_no_control_character_of_either_set() -> None:
    assert printable("a\x1b[31m\x9b31m\x85\u2028\u202eb\ud800") == "a?[31m?31m???b?"
    assert printable("plain é 中") == "plain é 中"
    assert one_line("  a\x9bb\n c ", 100) == "a b c"
    assert without_lone_surrogates("a\ud800é") == "a?é"


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20)))
def test_json_that_prints_safely_says_the_same(value: dict[str, str]) -> None:
    line = escaped_json(json.dumps(value, ensure_ascii=False))
    assert line.isprintable()
    assert json.loads(line) == value
