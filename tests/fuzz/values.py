"""What an attacker puts where a value belongs: in a column, in JSON, in a name."""

from __future__ import annotations

import json
import operator
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

TIME = "2026-02-28T12:00:00.000Z"
_CHARACTERS = st.characters(exclude_categories=["Cs"])

PLAIN_TEXT = st.text(_CHARACTERS, max_size=40)
ANY_TEXT = st.one_of(
    PLAIN_TEXT,
    st.text(max_size=40),  # with lone surrogates
    st.sampled_from(("", " ", "\0", "\ud800", "\udcff", ".", "..", "../..", "/", "a\nb", "-", "x" * 5000, "\u202e")),
)
REPEATED = st.builds(
    operator.mul,
    st.one_of(
        st.sampled_from(
            (
                "\u0301\u0316",
                "\u0f73",
                "a\u0301",
                "中",
                "中 ",
                "a ",
                "a.",
                "[",
                "{}",
                "(",
                '"',
                "<a ",
                "\\",
                "/",
                "\x9b",
                "\u202e",
                "ß",
                "ﬃ",
                "\u1100\u1161",
                "9",
                "-",
                "\n",
                " ",
                "#",
                "*",
                "`",
                "a*b",
                "AND ",
                "\ud800",
            )
        ),
        st.text(min_size=1, max_size=3),
    ),
    st.sampled_from((100, 3_000, 30_000)),
)
"""A few characters very often: where time is quadratic, or worse, such text shows it."""
NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from((0, 1, -1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**400)),
    st.floats(),
)
JSON_VALUES: SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, ANY_TEXT),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=8,
)
BROKEN_JSON = (
    "",
    "{",
    "[1, 2]",
    "null",
    '{"text": "x"',
    '{"text": "\\ud800"}',
    '{"text": "x", "n": ' + "9" * 5000 + "}",
    "[" * 3_000,
    "[" * 100_000,
    '{"a":' * 50_000,
    '{"text": NaN, "files": Infinity}',
)


@dataclass(frozen=True, slots=True)
class RawText:
    """Bytes stored as TEXT, whether they are UTF-8 or not."""

    data: bytes


SQL_VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from((0, 1, 2, -1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63))),
    st.floats(),
    st.sampled_from((TIME, "9999-99-99T99:99:99.999Z", "yesterday", "pending", "running", "{}", "[]", "x" * 700)),
    PLAIN_TEXT,
    st.binary(max_size=40),
    st.builds(RawText, st.binary(max_size=20)),
    st.builds(RawText, st.sampled_from((b"\xff\xfe", b"\xed\xa0\x80", b"a\0b", b"x" * 1_000_001))),
)


def nearly_right(odd: SearchStrategy[Any] = SQL_VALUES, /, **likely: Any) -> SearchStrategy[dict[str, Any]]:
    """A row that is right, but for a field or two, or three, or none; `likely` are the right values of each field."""
    right = {
        name: values if isinstance(values, SearchStrategy) else st.sampled_from(values)
        for name, values in likely.items()
    }
    wrong = st.dictionaries(st.sampled_from(sorted(likely)), odd, max_size=3)
    return st.builds(operator.or_, st.fixed_dictionaries(right), wrong)


def content(**likely: SearchStrategy[Any]) -> SearchStrategy[str]:
    """JSON of a content column: with fields that are likely right, with any fields, or broken."""
    objects = st.fixed_dictionaries({}, optional={name: values | JSON_VALUES for name, values in likely.items()})
    return st.one_of(
        objects.map(json.dumps), objects.map(_as_it_is), JSON_VALUES.map(json.dumps), st.sampled_from(BROKEN_JSON)
    )


def fill(path: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Put rows into the tables of a database file: those that its tables can hold."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("BEGIN")
        for table, rows in tables.items():
            for row in rows:
                insert(connection, table, row)
        if connection.in_transaction:  # a key without a successor ends it
            connection.execute("COMMIT")


def insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    """Put a row in, if its table can hold it."""
    raw = [_raw(value) for value in row.values()]
    marks = ", ".join("CAST(? AS TEXT)" if isinstance(value, RawText) else "?" for value in raw)
    values = [value.data if isinstance(value, RawText) else value for value in raw]
    with suppress(sqlite3.IntegrityError, sqlite3.OperationalError):  # a key that is no integer, or has no successor
        connection.execute(f"INSERT OR IGNORE INTO {table} ({', '.join(row)}) VALUES ({marks})", values)


def _raw(value: Any) -> Any:
    """Text with a lone surrogate as an agent would store it: Python's own SQLite refuses it, a file holds it."""
    if isinstance(value, str) and not value.isascii():
        return RawText(value.encode("utf-8", "surrogatepass"))
    return value


def _as_it_is(value: Any) -> str:
    """JSON with every character that UTF-8 has standing for itself."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
