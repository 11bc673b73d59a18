"""Searching history: words first, then pieces of words, the newest first.

There is no ranking by relevance: that would need every hit of a common word to be looked at. Both tables are walked
from the newest entry backwards and left as soon as there are enough hits, or after `SECONDS`; then `complete` is false.
What is shown of a hit is made in the same second, and of each entry only what can be looked up and shown is read: a
text may have a million characters, and there may be 200 hits.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from host.history import query, store
from host.history.cjk import INDEXED_CHARACTERS
from host.history.query import Node
from host.history.snippet import Snippet, snippet
from shared_schema.dataclass import dataclass
from shared_schema.text import folded

SECONDS = 1.0
_PROGRESS_INSTRUCTIONS = 20_000

_FILTERS = """
  (:session IS NULL OR e.session_id = :session)
  AND (:role IS NULL OR e.role = :role)
  AND (:sender IS NULL OR e.sender_id = :sender OR e.sender_name = :sender COLLATE NOCASE)
  AND (:since IS NULL OR e.time >= :since) AND (:until IS NULL OR e.time < :until)
  AND (:channel_type IS NULL OR coalesce(e.channel_type, c.channel_type) = :channel_type)
  AND (:platform_id IS NULL OR coalesce(e.platform_id, c.platform_id) = :platform_id)
"""
# A step is where the messages of its turn are.
_ENTRIES = """
JOIN sessions s ON s.session_id = e.session_id
LEFT JOIN entries c ON :channel_type IS NOT NULL AND e.source = 'steps' AND c.session_id = e.session_id
    AND c.place IS NOT NULL AND c.source = 'messages_out' AND c.turn_id = e.turn_id
"""
_COLUMNS = f"""
e.position, e.session_id, e.source, e.seq, e.place, e.role, e.message_id, e.turn_id, e.sender_id, e.sender_name, e.time,
e.tool_name, substr(e.text, 1, {INDEXED_CHARACTERS}) AS text, substr(e.called, 1, {INDEXED_CHARACTERS}) AS called,
s.agent_group_id
"""
WORDS = f"""
SELECT {_COLUMNS} FROM words w CROSS JOIN entries e ON e.position = w.rowid {_ENTRIES}
WHERE w.words MATCH :expression AND {_FILTERS} ORDER BY w.rowid DESC
"""
PIECES = f"""
SELECT {_COLUMNS} FROM pieces p CROSS JOIN entries e ON e.position = p.rowid {_ENTRIES}
WHERE p.pieces MATCH :expression AND {_FILTERS} ORDER BY p.rowid DESC
"""
# In one session it takes no index.
ONE_SESSION = f"""
SELECT {_COLUMNS} FROM entries e {_ENTRIES}
WHERE e.session_id = :session AND (e.source <> 'steps' OR e.role = 'tool' OR e.tool_calls IS NOT NULL) AND {_FILTERS}
ORDER BY e.position DESC
"""


@dataclass(frozen=True, slots=True)
class Filters:
    """What hits must be; None: anything. `agent_groups` are ids; `since` (included) and `until` (not) stored times.

    `hidden` are the ids of sessions of which nothing is found; no more are messages `unanswered`, and what was done in
    `turns`: an agent that searches does not look for its own question.
    """

    agent_groups: frozenset[str] | None = None
    hidden: frozenset[str] = frozenset()
    session_id: str | None = None
    role: str | None = None
    sender: str | None = None
    channel_type: str | None = None
    platform_id: str | None = None
    since: str | None = None
    until: str | None = None
    unanswered: frozenset[str] = frozenset()
    turns: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry with its agent group, and the messages before and after it in its session."""

    entry: sqlite3.Row
    snippet: Snippet
    before: sqlite3.Row | None
    after: sqlite3.Row | None


@dataclass(frozen=True, slots=True)
class Results:
    """Hits, the newest first within those of words and those of pieces. `complete`: nothing was left out for time."""

    hits: list[Hit]
    complete: bool


def search(connection: sqlite3.Connection, text: str, filters: Filters, limit: int) -> Results:
    """The entries that fit what a person typed, at most `limit`."""
    wanted = query.parse(text)
    if wanted is None or (filters.agent_groups is not None and not filters.agent_groups):
        return Results([], True)
    hits: dict[int, Hit] = {}
    terms = query.terms(wanted)
    with _deadline(connection) as deadline:
        for row in _candidates(connection, wanted, filters, deadline):
            if deadline.is_over() or len(hits) == limit:
                break
            if row["position"] not in hits and _may_be_found(row, filters):
                hits[row["position"]] = Hit(row, snippet(_shown(row), terms), *store.neighbours(connection, row))
    return Results(list(hits.values()), not deadline.missed)


def _may_be_found(row: sqlite3.Row, filters: Filters) -> bool:
    is_allowed = filters.agent_groups is None or row["agent_group_id"] in filters.agent_groups
    is_own = row["message_id"] in filters.unanswered or row["turn_id"] in filters.turns
    return is_allowed and row["session_id"] not in filters.hidden and not is_own


def _candidates(
    connection: sqlite3.Connection, wanted: Node, filters: Filters, deadline: _Deadline
) -> Iterator[sqlite3.Row]:
    """What has the words, then what has the characters."""
    values = {
        "session": filters.session_id,
        "role": filters.role,
        "sender": filters.sender,
        "channel_type": filters.channel_type,
        "platform_id": filters.platform_id,
        "since": filters.since,
        "until": filters.until,
    }
    words = query.in_words(wanted)
    if words is not None:
        yield from connection.execute(WORDS, values | {"expression": words + _labels(filters)})
    pieces = query.in_pieces(wanted)
    if filters.session_id is not None:
        rows = connection.execute(ONE_SESSION, values)
    elif pieces is not None:
        rows = connection.execute(PIECES, values | {"expression": pieces})
    else:
        return
    for row in rows:
        if deadline.is_over():  # what does not fit is not yielded: the caller would never look at its clock
            return
        if query.fits(wanted, folded(f"{row['text'] or ''}\n{row['called'] or ''}", 2 * INDEXED_CHARACTERS + 1)):
            yield row


def _labels(filters: Filters) -> str:
    """The part of an expression that lets the index leave out other sessions and agent groups."""
    names = [filters.session_id] if filters.session_id is not None else sorted(filters.agent_groups or ())
    quoted = [f'"{_hexadecimal(name)}"' for name in names]
    return f" AND label : ({' OR '.join(quoted)})" if quoted else ""


def _hexadecimal(name: str) -> str:
    return "".join(character for character in name.partition("_")[2] if character.isalnum())


def _shown(row: sqlite3.Row) -> str:
    return "\n".join(part for part in (row["called"], row["text"]) if part)


@dataclass(slots=True)
class _Deadline:
    at: float
    missed: bool = False

    def is_over(self) -> bool:
        """Whether the time is up; it is noted."""
        self.missed = self.missed or time.monotonic() > self.at
        return self.missed


@contextmanager
def _deadline(connection: sqlite3.Connection) -> Iterator[_Deadline]:
    """Ends statements that take too long; that is no error here."""
    deadline = _Deadline(time.monotonic() + SECONDS)
    connection.set_progress_handler(lambda: time.monotonic() > deadline.at, _PROGRESS_INSTRUCTIONS)
    try:
        yield deadline
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
            raise
        deadline.missed = True
    finally:
        connection.set_progress_handler(None, 0)
