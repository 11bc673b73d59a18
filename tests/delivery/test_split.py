"""Long text goes out in parts that are whole in themselves: paragraphs, code, links and characters stay together."""

from __future__ import annotations

import re
import time
from typing import get_args

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from host.delivery.split import Unit, size_of, split

UNITS: tuple[Unit, ...] = get_args(Unit)
FAMILY = "👩‍👩‍👧‍👦"


def test_what_fits_is_one_part() -> None:
    assert split("hello", 5) == ["hello"]
    assert split("x" * 9_000, None) == ["x" * 9_000]
    assert split("", 5) == [""]


def test_it_is_cut_between_paragraphs() -> None:
    text = f"{'a' * 30}\n\n{'b' * 30}\n\n{'c' * 30}"

    assert split(text, 70) == [f"{'a' * 30}\n\n{'b' * 30}", "c" * 30]


def test_without_paragraphs_between_lines_then_sentences_then_words() -> None:
    assert split("a" * 40 + "\n" + "b" * 40, 60) == ["a" * 40, "b" * 40]
    assert split("One is said. " + "then another is here. " * 2, 40)[0] == "One is said. then another is here."
    assert split("word " * 20, 44) == ["word " * 8 + "word", "word " * 8 + "word", "word word "]


def test_a_short_paragraph_is_no_reason_for_a_short_part() -> None:
    text = "Hi.\n\n" + "a sentence of words. " * 20

    assert len(split(text, 200)[0]) > 100


def test_a_block_of_code_that_fits_is_not_cut() -> None:
    code = "```python\n" + "line = 1\n" * 8 + "```"
    text = "Look at this:\n\n" + "words " * 12 + "\n\n" + code + "\n\nThat was it."

    parts = split(text, 120)

    assert any(code in part for part in parts)


def test_a_longer_block_is_closed_and_opened_again() -> None:
    text = "Before.\n\n```python\n" + "".join(f"line_{number} = {number}\n" for number in range(60)) + "```\n\nAfter."

    parts = split(text, 200)

    assert all(size_of(part, "characters") <= 200 for part in parts)
    for part in parts:
        assert part.count("```") % 2 == 0, part
    assert sum("```python\n" in part for part in parts) >= 5
    lines = re.findall(r"^line_\d+ = \d+$", "\n".join(parts), re.MULTILINE)
    assert lines == [f"line_{number} = {number}" for number in range(60)]
    assert parts[-1].endswith("After.")


def test_a_link_is_not_cut() -> None:
    link = "[the report of the year](https://example.org/a/long/path/to/it?with=query)"
    for before in range(60, 140):
        assert any(link in part for part in split("x " * (before // 2) + link + " and more" * 10, 150)), before
    url = "https://example.org/" + "p" * 60
    assert any(url in part for part in split("word " * 12 + url + " word" * 20, 100))


def test_a_link_longer_than_a_message_arrives_all_the_same() -> None:
    url = "https://example.org/" + "p" * 500

    assert "".join(split(url, 100)) == url


def test_what_people_see_as_one_character_is_not_cut() -> None:
    for unit in UNITS:
        for part in split(FAMILY * 40, 100, unit):
            assert part == FAMILY * (len(part) // len(FAMILY))
            assert size_of(part, unit) <= 100


@pytest.mark.parametrize("unit", UNITS)
def test_a_limit_holds_in_the_unit_of_the_platform(unit: Unit) -> None:
    text = "ünï ☃ 😀 words\n" * 200

    parts = split(text, 97, unit)

    assert all(size_of(part, unit) <= 97 for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


PIECES = st.sampled_from(
    ["\n", "\n\n", " ", "```\n", "```py\n", "~~~\n", "word", "a_b", "[a b](http://x.y/z)", "https://x.y/z", FAMILY, "é",
     "e\u0301", "`c d`", ".", "x" * 50, "    indented", "- item", "````\n", "\t"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=80).map("".join), st.integers(12, 120), st.sampled_from(UNITS))
def test_nothing_is_lost_and_every_part_fits(text: str, limit: int, unit: Unit) -> None:
    parts = split(text, limit, unit)

    assert all(size_of(part, unit) <= max(limit, 64) for part in parts)
    assert all(part.strip() for part in parts) or not text.strip()

    def words(text: str) -> str:
        return regex.sub(r"[`~py\s]", "", text)

    assert words("\n".join(parts)) == words(text)


MUCH = [
    "`", "~", "`" * 900 + "\n", "```" + "x" * 3_000 + "\n", "```\n", "~~~\n", "```\nx\n```\n", "` ", "`a",
    "[", "![", "[](", "[a](http://x.y)", "https://", "x", "a\n", "\n", "\r", "\n ", " ", ". ",
    "e" + "\u0301" * 5_000, "\U0001f468\u200d", "\U0001f1e6", "|1|2|\n", "* a\n",
]  # fmt: skip


@pytest.mark.parametrize("limit", [2_000, 4_096, 65_536])
@pytest.mark.parametrize("begin", ["", "a"])
def test_time_and_parts_grow_with_the_text(begin: str, limit: int) -> None:
    for piece in MUCH:
        text = (begin + piece * (100_000 // len(piece) + 1))[:100_000]
        began = time.process_time()

        parts = split(text, limit, "utf16")

        assert time.process_time() - began < 2.0, piece
        assert sum(map(len, parts)) <= 2 * len(text), piece
        assert len(parts) <= 6 * size_of(text, "utf16") // limit + 2, piece


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(PIECES, st.integers(1, 400)), max_size=20), st.integers(40, 500))
def test_no_text_becomes_many_more_parts_than_it_fills(text: list[tuple[str, int]], limit: int) -> None:
    whole = "".join(piece * times for piece, times in text)

    parts = split(whole, limit)

    assert sum(map(len, parts)) <= 4 * len(whole) + limit
    assert len(parts) <= 10 * len(whole) // limit + 2
