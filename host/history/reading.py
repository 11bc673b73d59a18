"""Reading a session folder for history: the rows of its two files behind the cursors, and in which state the files are.

`outbound.db` is read as everything of an agent's is (host/sessions/outbox.py): under the host's own name, bounded in
rows, bytes and time, its journal checked while the read lock is held. It is read before `inbound.db`, so that what
an answer answers is there. Only rows that never change are read, so that reading twice finds the same.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field, replace

from host.history import entry
from host.history.entry import Entry
from host.sessions import hard_link, outbox
from host.sessions.outbox import MAX_JUMP, MAX_SECONDS
from shared_schema.database import reader
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileDamaged, FileTrouble
from shared_schema.layout import SessionLayout
from shared_schema.migrate import OUTBOUND, require_readable

MAX_ROWS = 1000
MAX_BYTES = 4_000_000
"""Of one session in memory at a time, all columns of all rows together; what goes beyond is read the next time."""
_TABLES = frozenset({"messages_out", "steps"})
_BUSY_SECONDS = 1.0

NEW_IN = """
SELECT seq, id, kind, timestamp, generation, trigger, channel_type, platform_id, thread_id, sender_id, sender_name,
    content
FROM messages_in WHERE seq > ? ORDER BY seq LIMIT ?
"""
ANSWERED = "SELECT seq, channel_type, platform_id, thread_id FROM messages_in WHERE id = ?"

# Rows could hide behind others in a table without its key.
KEYS = """
SELECT (SELECT group_concat(name || ' ' || type) FROM pragma_table_xinfo('messages_out') WHERE pk > 0) AS messages,
    (SELECT group_concat(name || ' ' || type) FROM pragma_table_xinfo('steps') WHERE pk > 0) AS steps
"""
_OUT_COLUMNS = """
seq, substr(id, 1, 100) AS id, substr(turn_id, 1, 100) AS turn_id, substr(in_reply_to, 1, 600) AS in_reply_to,
generation, substr(timestamp, 1, 100) AS timestamp, substr(kind, 1, 100) AS kind,
substr(destination, 1, 600) AS destination, substr(channel_type, 1, 100) AS channel_type,
substr(platform_id, 1, 600) AS platform_id, substr(thread_id, 1, 600) AS thread_id, content
"""
NEXT_OUT = f"SELECT {_OUT_COLUMNS} FROM messages_out WHERE seq > ? ORDER BY seq LIMIT ?"
OUT_SEQS = "SELECT seq FROM messages_out WHERE seq > ? ORDER BY seq LIMIT ?"
ONE_OUT = f"SELECT {_OUT_COLUMNS} FROM messages_out WHERE seq = ?"
_STEP_COLUMNS = """
seq, substr(turn_id, 1, 100) AS turn_id, substr(role, 1, 20) AS role, content, substr(tool_name, 1, 600) AS tool_name,
substr(tool_call_id, 1, 600) AS tool_call_id, substr(tool_calls, 1, 100000) AS tool_calls,
substr(reasoning, 1, 100000) AS reasoning, substr(usage, 1, 10000) AS usage,
substr(timestamp, 1, 100) AS timestamp
"""
NEXT_STEPS = f"SELECT {_STEP_COLUMNS} FROM steps WHERE seq > ? ORDER BY seq LIMIT ?"
STEP_SEQS = "SELECT seq FROM steps WHERE seq > ? ORDER BY seq LIMIT ?"
ONE_STEP = f"SELECT {_STEP_COLUMNS} FROM steps WHERE seq = ?"
LAST_STEP = "SELECT max(seq) AS seq FROM steps"


@dataclass(frozen=True, slots=True)
class Cursors:
    """How far a session was read: the last seq of each table, and the place of the last message that went out."""

    inbound: int = 0
    outbound: int = 0
    steps: int = 0
    place: int = 0


@dataclass(frozen=True, slots=True)
class NewEntries:
    """What one pass found. `trouble`: the agent's file could not be read this time. `skipped`: rows that are no good.

    `steps_begin_anew`: the file is another one than before (an unreadable one was put aside), and its steps are counted
    from the beginning.
    """

    entries: list[Entry] = field(default_factory=list)
    cursors: Cursors = field(default_factory=Cursors)
    more: bool = False
    skipped: int = 0
    steps_begin_anew: bool = False
    trouble: FileTrouble | None = None
    bytes: int = 0  # that the rows have in memory, about


@dataclass(slots=True)
class _WrittenRows:
    """What an agent wrote: rows, not yet entries, and how far that goes."""

    messages: list[sqlite3.Row] = field(default_factory=list)
    steps: list[sqlite3.Row] = field(default_factory=list)
    outbound: int = 0
    steps_cursor: int = 0
    more: bool = False
    skipped: int = 0
    steps_begin_anew: bool = False
    bytes: int = 0


def signature(layout: SessionLayout) -> str:
    """Which state the two files are in; another text after every change. Raises `FileTrouble`."""
    theirs = outbox.signature(layout)
    try:
        ours = os.stat(layout.inbound)
    except OSError:
        return f"none {theirs}"
    outbound = None if theirs is None else (theirs.inode, theirs.size, theirs.modified_ns, theirs.change_counter.hex())
    return f"{ours.st_ino} {ours.st_size} {ours.st_mtime_ns} {outbound}"


def read(layout: SessionLayout, session_id: str, cursors: Cursors, *, deadline: float = math.inf) -> NewEntries:
    """The rows behind the cursors, as entries, and the new cursors. Blocks for two seconds at most.

    Behind the `deadline` (on the monotonic clock) nothing more is read of the agent's file.
    Raises `FileTrouble` when the host's own file cannot be read; what is wrong with the agent's is in the result.
    """
    trouble = None
    written = _WrittenRows(outbound=cursors.outbound, steps_cursor=cursors.steps)
    try:
        written = _written(layout, cursors, deadline)
    except FileTrouble as error:
        trouble = error
    if not layout.inbound.exists():
        raise FileDamaged("the file is missing", where=layout.inbound)
    with reader(layout.inbound, busy_seconds=_BUSY_SECONDS) as connection:
        heard = _Budget(math.inf)
        rows = list(_within(heard, connection.execute(NEW_IN, (cursors.inbound, MAX_ROWS))))
        entries = [
            found
            for row in rows
            if row["kind"] not in ("control", "system") and (found := entry.of_message_in(session_id, row))
        ]
        known = {row["id"]: row for row in rows}
        place = cursors.place
        for row in written.messages:
            answered = _answered(connection, row["in_reply_to"], known)
            place = max(place, 0 if answered is None else answered["seq"])
            if row["kind"] != "system":
                message = entry.of_message_out(session_id, row, place, answered)
                written.skipped += message is None
                entries += [message] if message is not None else []
    steps = [entry.of_step(session_id, row) for row in written.steps]
    return NewEntries(
        entries=[*entries, *(step for step in steps if step is not None)],
        cursors=replace(
            cursors,
            inbound=rows[-1]["seq"] if rows else cursors.inbound,
            outbound=written.outbound,
            steps=written.steps_cursor,
            place=place,
        ),
        more=written.more or heard.more or len(rows) == MAX_ROWS,
        skipped=written.skipped + steps.count(None),
        steps_begin_anew=written.steps_begin_anew,
        trouble=trouble,
        bytes=heard.bytes + written.bytes,
    )


def _answered(connection: sqlite3.Connection, message_id: object, known: dict[str, sqlite3.Row]) -> sqlite3.Row | None:
    """The message that is answered, if it is there."""
    if not isinstance(message_id, str):
        return None
    if message_id not in known:
        row = connection.execute(ANSWERED, (message_id,)).fetchone()
        if row is None:
            return None
        known[message_id] = row
    return known[message_id]


def _written(layout: SessionLayout, cursors: Cursors, deadline: float) -> _WrittenRows:
    with hard_link.reading(layout, _TABLES) as connection:
        require_readable(connection, OUTBOUND)
        return _read_out(connection, cursors, deadline)


def _read_out(connection: sqlite3.Connection, cursors: Cursors, deadline: float) -> _WrittenRows:
    keys = connection.execute(KEYS).fetchone()
    if (keys["messages"], keys["steps"]) != ("seq INTEGER", "seq INTEGER"):
        raise FileDamaged("messages_out or steps has not its key")
    last = connection.execute(LAST_STEP).fetchone()["seq"]
    anew = cursors.steps > 0 and (last is None or last < cursors.steps)
    written = _WrittenRows(outbound=cursors.outbound, steps_cursor=0 if anew else cursors.steps, steps_begin_anew=anew)
    budget = _Budget(min(deadline, time.monotonic() + MAX_SECONDS))
    for row in _rows(connection, cursors.outbound, (NEXT_OUT, OUT_SEQS, ONE_OUT), budget):
        written.outbound = row if isinstance(row, int) else row["seq"]
        written.messages += [] if isinstance(row, int) else [row]
        written.skipped += isinstance(row, int)
    for row in _rows(connection, written.steps_cursor, (NEXT_STEPS, STEP_SEQS, ONE_STEP), budget):
        written.steps_cursor = row if isinstance(row, int) else row["seq"]
        written.steps += [] if isinstance(row, int) else [row]
        written.skipped += isinstance(row, int)
    written.more, written.bytes = budget.more, budget.bytes
    return written


class _Budget:
    """How much is read in one pass, in bytes and until when. `more`: it was not enough."""

    def __init__(self, deadline: float) -> None:
        self.more = False
        self.bytes = 0
        self._deadline = deadline

    def spend(self, row: sqlite3.Row) -> bool:
        """Count a row, all its columns; whether there is something left."""
        self.bytes += sum(_bytes_of(value) for value in row if isinstance(value, str | bytes))
        return self.bytes <= MAX_BYTES and time.monotonic() <= self._deadline


def _bytes_of(value: str | bytes) -> int:
    """What a value has in memory: text that is not ASCII has up to four bytes a character."""
    return len(value) if isinstance(value, bytes) or value.isascii() else 4 * len(value)


def _within(budget: _Budget, rows: Iterable[sqlite3.Row]) -> Iterator[sqlite3.Row]:
    """Rows as long as the budget has something left, the first one in any case."""
    for row in rows:
        yield row
        if not budget.spend(row):
            budget.more = True
            return


def _rows(
    connection: sqlite3.Connection, cursor: int, statements: tuple[str, str, str], budget: _Budget
) -> Iterator[sqlite3.Row | int]:
    """Rows in order; of one with a value beyond SQLite's limit for this connection only the seq."""
    following, seqs, one = statements
    if budget.more:
        return
    count = 0
    for row in _in_one_go(lambda: connection.execute(following, (cursor, MAX_ROWS)), connection, seqs, one, cursor):
        count += 1
        seq = row if isinstance(row, int) else row["seq"]
        if seq > cursor + MAX_JUMP:
            raise FileDamaged(f"its numbers jump to {seq}")  # taken as the cursor, it would shut out all that follows
        yield row
        if not isinstance(row, int) and not budget.spend(row):
            budget.more = True
            return
    budget.more = count == MAX_ROWS


def _in_one_go(
    begin: Callable[[], sqlite3.Cursor], connection: sqlite3.Connection, seqs: str, one: str, cursor: int
) -> Iterator[sqlite3.Row | int]:
    """All rows by one statement; from a row that is too large on, one by one."""
    last, count = cursor, 0
    try:
        for row in begin():
            yield row
            last, count = row["seq"], count + 1
        return
    except sqlite3.Error as error:
        if not _is_too_big(error):
            raise
    for found in connection.execute(seqs, (last, MAX_ROWS - count)).fetchall():
        try:
            yield connection.execute(one, (found["seq"],)).fetchone()
        except sqlite3.Error as error:
            if not _is_too_big(error):
                raise
            yield int(found["seq"])


def _is_too_big(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_TOOBIG
