"""What people type is looked for as they mean it, and never breaks the search."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.history import query
from host.history.cjk import asked, spaced
from host.history.entry import looked_up
from host.history.record import HISTORY
from host.history.search import Filters, search
from shared_schema.database import in_memory
from shared_schema.migrate import migrate

INSERT = """
INSERT INTO entries (position, session_id, source, seq, place, role, text, spoken)
VALUES (?, 'ses_0', 'messages_in', ?, ?, 'user', ?, ?)
"""


def stored(connection: sqlite3.Connection, texts: Sequence[str]) -> None:
    """Texts in the tables of history."""
    connection.execute("INSERT INTO sessions VALUES ('ses_0', 'agr_0', NULL, 0, 0, 0, 0, 0, 0)")
    for number, text in enumerate(texts, 1):
        connection.execute(INSERT, (number, number, number, text, looked_up(text)))
    connection.execute("INSERT INTO words (words) VALUES ('rebuild')")
    connection.execute("INSERT INTO pieces (pieces) VALUES ('rebuild')")


def found(texts: Sequence[str], wanted: str) -> list[str]:
    """The texts that are found, the first one first."""
    with in_memory() as connection:
        migrate(connection, HISTORY)
        stored(connection, texts)
        return [hit.entry["text"] for hit in search(connection, wanted, Filters(), 100).hits][::-1]


TEXTS = [
    "see host/routing/router.py:42 and foo_bar-baz",
    "the quick brown fox",
    "the brown quick fox",
    "Straße in Zürich, naïve café",
    "他说中文字很难",
    "東京タワーへ行きました",
    "using Python中文 here",
    'she said "yes" and (no)',
    "100% of C++ and e-mail a.b@c.de",
    "한국어를 배웁니다",
]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ("quick", [1, 2]),
        ("QUICK fox", [1, 2]),
        ('"quick brown"', [1]),
        ("quick OR zürich", [1, 2, 3]),
        ("zurich cafe", [3]),
        ("fox NOT quick", []),
        ("the NOT zurich", [1, 2]),
        ("fox AND NOT zurich", [1, 2]),
        ("(zurich OR quick) fox", [1, 2]),
        ("qui*", [1, 2]),
        ('"quick bro"*', [1]),
        ("router.py", [0]),
        ("host/routing", [0]),
        ("foo_bar-baz", [0]),
        ("router.py:42", [0]),
        ("outing/rou", [0]),
        ("ick bro", [1, 2]),
        ('"ick bro"', [1]),
        ("中文", [4, 6]),
        ("中", [4, 6]),
        ("难", [4]),
        ("字很难", [4]),
        ("文难", []),
        ("タワー", [5]),
        ("京", [5]),
        ("python中", [6]),
        ("Python中文", [6]),
        ("국어", [9]),
        ("C++", [8]),
        ("a.b@c.de", [8]),
        ("e-mail", [8]),
        ("100%", [8]),
        ('"yes"', [7]),
        ("said AND", [7]),
        ("(yes", [7]),
        ("no)", [7]),
        ('"yes', [7]),
        ("nothing of this", []),
        ("...", []),
        ("AND", [0, 7, 8]),
        ('""', []),
        ("", []),
    ],
)
def test_a_query_finds_what_it_means(wanted: str, numbers: list[int]) -> None:
    """FAILURES 37."""
    assert found(TEXTS, wanted) == [TEXTS[number] for number in numbers]


PARTS = st.one_of(
    st.sampled_from(
        (
            "AND",
            "OR",
            "NOT",
            "NEAR",
            "(",
            ")",
            '"',
            "*",
            "^",
            "-",
            ":",
            "{",
            "}",
            "+",
            ".",
            ",",
            "'",
            "\\",
            "\0",
            "words",
        )
    ),
    st.text(max_size=8),
    st.sampled_from(("spoken:x", "label:0", "NEAR(a b)", "a^", "中", "中文", "a*", '"a"*', "label : 0", "\ud800", "ﷺ")),
)


@given(st.lists(PARTS, max_size=40).map(" ".join) | st.lists(PARTS, max_size=12).map("".join))
def test_no_query_ever_raises(wanted: str) -> None:
    """FAILURES 37."""
    node = query.parse(wanted)
    with in_memory() as connection:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5 (spoken, called, label)")
        connection.execute("CREATE VIRTUAL TABLE pieces USING fts5 (text, tokenize = 'trigram', detail = none)")
        for table, expression in expressions(node):
            connection.execute(f"SELECT rowid FROM {table} WHERE {table} MATCH ?", (expression,)).fetchall()
    assert node is None or isinstance(query.fits(node, "a text"), bool)


def expressions(node: query.Node | None) -> Iterator[tuple[str, str]]:
    """What is asked of each table."""
    for table, expression in (
        ("words", None if node is None else query.in_words(node)),
        ("pieces", None if node is None else query.in_pieces(node)),
    ):
        if expression is not None:
            yield table, expression


@given(st.text(st.sampled_from("中文字あア한 a1"), min_size=1, max_size=12), st.data())
def test_every_part_of_a_text_without_spaces_is_found(text: str, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(text) - 1))
    part = text[begin : data.draw(st.integers(begin + 1, len(text)))].strip()
    if len(part) < 3 and not all(ord(character) > 0x3000 for character in part):
        return  # a piece of a word that is too short for an index
    if part:
        assert text in found([text, "something else"], f'"{part}"')


def test_runs_are_taken_apart_into_pairs() -> None:
    assert spaced("x中文字y").split() == ["x", "中文", "文字", "字", "y"]
    assert (asked("中文字")[0].split(), asked("中文字")[1]) == (["中文", "文字"], False)
    assert (asked("a中")[0].split(), asked("a中")[1]) == (["a", "中"], True)
    assert asked("中文 a")[0].split() == ["中文", "文", "a"]
