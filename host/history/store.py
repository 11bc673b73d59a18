"""The rows of history.db: how far each session was read, and its entries."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence

from host.history.entry import COLUMNS, Entry
from host.history.reading import Cursors
from shared_schema.dataclass import dataclass

STATE = "SELECT * FROM sessions WHERE session_id = ?"
SIGNATURES = "SELECT session_id, signature FROM sessions"
SET_STATE = """
INSERT INTO sessions (
    session_id, agent_group_id, signature, inbound_cursor, outbound_cursor, steps_cursor, place, taken_rows, taken_bytes
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (session_id) DO UPDATE SET signature = excluded.signature, inbound_cursor = excluded.inbound_cursor,
    outbound_cursor = excluded.outbound_cursor, steps_cursor = excluded.steps_cursor, place = excluded.place,
    taken_rows = excluded.taken_rows, taken_bytes = excluded.taken_bytes
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
SELECT seq, source, place, kind, message_id, turn_id, sender_id, sender_name, time, text, content
FROM entries WHERE session_id = ? AND place IS NOT NULL
ORDER BY place DESC, source DESC, seq DESC LIMIT ?
"""
# The steps of some turns (a JSON array), and all between and after them. Turns before them that sent nothing (they
# failed, or were stopped) belong to them, too, back to the last turn that did. All steps when none of them has one.
STEPS = """
WITH first AS (
    SELECT min(seq) AS seq FROM entries WHERE session_id = :session AND source = 'steps'
        AND turn_id IN (SELECT value FROM json_each(:turns))
), earlier AS (
    SELECT max(seq) AS seq FROM entries WHERE session_id = :session AND source = 'steps'
        AND seq < (SELECT seq FROM first) AND turn_id IN (
            SELECT turn_id FROM entries WHERE session_id = :session AND source = 'messages_out')
)
SELECT seq, source, turn_id, time, role, text, content, tool_name, tool_call_id, tool_calls, reasoning, usage
FROM entries WHERE session_id = :session AND source = 'steps' AND seq > coalesce((SELECT seq FROM earlier), 0)
ORDER BY seq DESC LIMIT :limit
"""
PAGE = """
SELECT * FROM entries WHERE session_id = ? AND (source, seq) > (?, ?) ORDER BY source, seq LIMIT 1000
"""
# Of a neighbour of a hit only the beginning is shown.
_NEIGHBOUR = """
message_id, seq, role, sender_name, sender_id, time, place, source, substr(text, 1, 300) AS text
"""
BEFORE = f"""
SELECT {_NEIGHBOUR} FROM entries WHERE session_id = ? AND place IS NOT NULL AND (place, source, seq) < (?, ?, ?)
ORDER BY place DESC, source DESC, seq DESC LIMIT 1
"""
AFTER = f"""
SELECT {_NEIGHBOUR} FROM entries WHERE session_id = ? AND place IS NOT NULL AND (place, source, seq) > (?, ?, ?)
ORDER BY place, source, seq LIMIT 1
"""
FIRST_OF_TURN = f"""
SELECT {_NEIGHBOUR} FROM entries WHERE session_id = ? AND place IS NOT NULL AND source = 'messages_out' AND turn_id = ?
ORDER BY place, source, seq LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class State:
    """How far a session was read. `signature` is None when it has to be read again in any case.

    `taken` is how much of it was taken in all: entries and bytes.
    """

    agent_group_id: str
    signature: str | None
    cursors: Cursors
    taken: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class StoredStep:
    """What one pass over a session adds: its entries, and the states before and after it."""

    session_id: str
    before: State | None
    after: State
    entries: Sequence[Entry]
    steps_begin_anew: bool = False
    bytes: int = 0


def state(connection: sqlite3.Connection, session_id: str) -> State | None:
    """How far a session was read; None for one that is not known."""
    row = connection.execute(STATE, (session_id,)).fetchone()
    if row is None:
        return None
    cursors = Cursors(row["inbound_cursor"], row["outbound_cursor"], row["steps_cursor"], row["place"])
    return State(row["agent_group_id"], row["signature"], cursors, (row["taken_rows"], row["taken_bytes"]))


def signatures(connection: sqlite3.Connection) -> dict[str, str | None]:
    """The signature of every session that is known."""
    return {row["session_id"]: row["signature"] for row in connection.execute(SIGNATURES)}


def add(connection: sqlite3.Connection, steps: Iterable[StoredStep]) -> None:
    """Store what was read, with the cursors. A step that begins where the session is not any more is left out."""
    last = connection.execute(LAST_POSITION).fetchone()["position"]
    entries: list[Entry] = []
    for step in steps:
        if state(connection, step.session_id) != step.before:
            continue  # another process was faster
        if step.steps_begin_anew:
            _forget(connection, step.session_id, "steps")
        set_state(connection, step.session_id, step.after)
        entries += step.entries
    # A search walks back by position: sessions that are read together stand in the order of time, as in a rebuild.
    entries.sort(key=_time_of)
    connection.executemany(INSERT, entries)
    connection.execute(INDEX_WORDS, (last,))
    connection.execute(INDEX_PIECES, (last,))


def _time_of(entry: Entry) -> str:
    return entry.time or ""


def set_state(connection: sqlite3.Connection, session_id: str, new: State) -> None:
    """Note how far a session was read."""
    at = new.cursors
    connection.execute(
        SET_STATE,
        (session_id, new.agent_group_id, new.signature, at.inbound, at.outbound, at.steps, at.place, *new.taken),
    )


def forget(connection: sqlite3.Connection, session_id: str) -> None:
    """Remove all that is known of a session."""
    _forget(connection, session_id, "")
    connection.execute(FORGET_SESSION, (session_id,))


def _forget(connection: sqlite3.Connection, session_id: str, source: str) -> None:
    for statement in (FORGET_WORDS, FORGET_PIECES, FORGET_ENTRIES):
        connection.execute(statement, (session_id, source))


class Room:
    """How many bytes, and until when, is read for one who asks. `cut`: there was more."""

    def __init__(self, size: int, seconds: float) -> None:
        self.cut = False
        self._left = size
        self._deadline = time.monotonic() + seconds

    def take(self, rows: Iterable[sqlite3.Row]) -> list[sqlite3.Row]:
        """The rows there is room for; the first one in any case."""
        found: list[sqlite3.Row] = []
        for row in rows:
            if found and (self._left < 0 or time.monotonic() > self._deadline):
                self.cut = True
                break
            found.append(row)
            self._left -= sum(len(value) for value in row if isinstance(value, str))
        return found


def last_messages(connection: sqlite3.Connection, session_id: str, limit: int, room: Room) -> list[sqlite3.Row]:
    """The last messages of a session, in their order."""
    return room.take(connection.execute(LAST_MESSAGES, (session_id, limit)))[::-1]


def steps_of(
    connection: sqlite3.Connection, session_id: str, turns: Sequence[str], limit: int, room: Room
) -> list[sqlite3.Row]:
    """The last steps, of some turns and of those around them that sent nothing, in order."""
    values = {"session": session_id, "turns": json.dumps(turns), "limit": limit + 1}
    found = room.take(connection.execute(STEPS, values))
    room.cut |= len(found) > limit
    return found[:limit][::-1]


def page_of(
    connection: sqlite3.Connection, session_id: str, after: sqlite3.Row | None, room: Room
) -> list[sqlite3.Row]:
    """The next entries of a session, table by table; none at the end."""
    source, seq = ("", 0) if after is None else (after["source"], after["seq"])
    return room.take(connection.execute(PAGE, (session_id, source, seq)))


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
