"""The rows of history.db: how far each session was read, and its entries."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from host.history.entry import COLUMNS, Entry
from host.history.reading import Cursors

STATE = "SELECT * FROM sessions WHERE session_id = ?"
SIGNATURES = "SELECT session_id, signature FROM sessions"
SET_STATE = """
INSERT INTO sessions (session_id, agent_group_id, signature, inbound_cursor, outbound_cursor, steps_cursor, place)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (session_id) DO UPDATE SET signature = excluded.signature, inbound_cursor = excluded.inbound_cursor,
    outbound_cursor = excluded.outbound_cursor, steps_cursor = excluded.steps_cursor, place = excluded.place
"""
INSERT = f"INSERT INTO entries ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
LAST_POSITION = "SELECT coalesce(max(position), 0) AS position FROM entries"
INDEX_WORDS = """
INSERT INTO words (rowid, spoken, called, label)
SELECT position, spoken, called, label FROM searchable WHERE position > ? ORDER BY position
"""
INDEX_PIECES = """
INSERT INTO pieces (rowid, text, called)
SELECT position, text, called FROM searchable WHERE position > ? ORDER BY position
"""
# An index that keeps no texts of its own has to be told what it forgets.
FORGET_WORDS = """
INSERT INTO words (words, rowid, spoken, called, label)
SELECT 'delete', position, spoken, called, label FROM searchable
WHERE position IN (SELECT position FROM entries WHERE session_id = ? AND source >= ?)
"""
FORGET_PIECES = """
INSERT INTO pieces (pieces, rowid, text, called)
SELECT 'delete', position, text, called FROM searchable
WHERE position IN (SELECT position FROM entries WHERE session_id = ? AND source >= ?)
"""
FORGET_ENTRIES = "DELETE FROM entries WHERE session_id = ? AND source >= ?"
FORGET_SESSION = "DELETE FROM sessions WHERE session_id = ?"

LAST_MESSAGES = """
SELECT * FROM entries WHERE session_id = ? AND place IS NOT NULL
ORDER BY place DESC, source DESC, seq DESC LIMIT ?
"""
# The steps of some turns (a JSON array), and all steps after the first of them; all steps when none of them has one.
STEPS = """
SELECT * FROM entries WHERE session_id = :session AND source = 'steps' AND seq >= coalesce((
    SELECT min(seq) FROM entries WHERE session_id = :session AND source = 'steps'
        AND turn_id IN (SELECT value FROM json_each(:turns))), 0)
ORDER BY seq LIMIT :limit
"""
ALL_OF_SESSION = "SELECT * FROM entries WHERE session_id = ? ORDER BY source, seq"
BEFORE = """
SELECT * FROM entries WHERE session_id = ? AND place IS NOT NULL AND (place, source, seq) < (?, ?, ?)
ORDER BY place DESC, source DESC, seq DESC LIMIT 1
"""
AFTER = """
SELECT * FROM entries WHERE session_id = ? AND place IS NOT NULL AND (place, source, seq) > (?, ?, ?)
ORDER BY place, source, seq LIMIT 1
"""
FIRST_OF_TURN = """
SELECT * FROM entries WHERE session_id = ? AND place IS NOT NULL AND source = 'messages_out' AND turn_id = ?
ORDER BY place, source, seq LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class State:
    """How far a session was read. `signature` is None when it has to be read again in any case."""

    agent_group_id: str
    signature: str | None
    cursors: Cursors


@dataclass(frozen=True, slots=True)
class Step:
    """What one pass over a session adds: its entries, and the states before and after it."""

    session_id: str
    before: State | None
    after: State
    entries: Sequence[Entry]
    steps_begin_anew: bool = False


def state(connection: sqlite3.Connection, session_id: str) -> State | None:
    """How far a session was read; None for one that is not known."""
    row = connection.execute(STATE, (session_id,)).fetchone()
    if row is None:
        return None
    cursors = Cursors(row["inbound_cursor"], row["outbound_cursor"], row["steps_cursor"], row["place"])
    return State(row["agent_group_id"], row["signature"], cursors)


def signatures(connection: sqlite3.Connection) -> dict[str, str | None]:
    """The signature of every session that is known."""
    return {row["session_id"]: row["signature"] for row in connection.execute(SIGNATURES)}


def add(connection: sqlite3.Connection, steps: Iterable[Step]) -> None:
    """Store what was read, with the cursors. A step that begins where the session is not any more is left out."""
    last = connection.execute(LAST_POSITION).fetchone()["position"]
    for step in steps:
        if state(connection, step.session_id) != step.before:
            continue  # somebody else was faster
        if step.steps_begin_anew:
            _forget(connection, step.session_id, "steps")
        set_state(connection, step.session_id, step.after)
        connection.executemany(INSERT, step.entries)
    connection.execute(INDEX_WORDS, (last,))
    connection.execute(INDEX_PIECES, (last,))


def set_state(connection: sqlite3.Connection, session_id: str, new: State) -> None:
    """Note how far a session was read."""
    at = new.cursors
    connection.execute(
        SET_STATE, (session_id, new.agent_group_id, new.signature, at.inbound, at.outbound, at.steps, at.place)
    )


def forget(connection: sqlite3.Connection, session_id: str) -> None:
    """Remove all that is known of a session."""
    _forget(connection, session_id, "")
    connection.execute(FORGET_SESSION, (session_id,))


def _forget(connection: sqlite3.Connection, session_id: str, source: str) -> None:
    for statement in (FORGET_WORDS, FORGET_PIECES, FORGET_ENTRIES):
        connection.execute(statement, (session_id, source))


def last_messages(connection: sqlite3.Connection, session_id: str, limit: int) -> list[sqlite3.Row]:
    """The last messages of a session, in their order."""
    return connection.execute(LAST_MESSAGES, (session_id, limit)).fetchall()[::-1]


def steps_of(connection: sqlite3.Connection, session_id: str, turns: Sequence[str], limit: int) -> list[sqlite3.Row]:
    """The steps of some turns and of those after them, in order."""
    values = {"session": session_id, "turns": json.dumps(turns), "limit": limit}
    return connection.execute(STEPS, values).fetchall()


def all_of(connection: sqlite3.Connection, session_id: str) -> Iterable[sqlite3.Row]:
    """Every entry of a session, table by table."""
    return connection.execute(ALL_OF_SESSION, (session_id,))


def neighbours(connection: sqlite3.Connection, row: sqlite3.Row) -> tuple[sqlite3.Row | None, sqlite3.Row | None]:
    """The messages before and after an entry in its session. A step stands before the first message of its turn."""
    session_id, after = row["session_id"], None
    if row["place"] is None:
        after = connection.execute(FIRST_OF_TURN, (session_id, row["turn_id"])).fetchone()
        if after is None:
            return None, None
        row = after
    at = (session_id, row["place"], row["source"], row["seq"])
    before = connection.execute(BEFORE, at).fetchone()
    return before, after if after is not None else connection.execute(AFTER, at).fetchone()
