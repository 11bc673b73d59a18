"""Reading `outbound.db`, which a hostile agent may have written.

SQLite opens files by path, and the agent can swap what a path in `out/` means between any check and the opening. So the
host reads through a name of its own: a hard link in the session's `.reading/` folder, made from `out/outbound.db`
without following links, and checked there to be a regular file (docs/decisions/0001-reading-through-a-hard-link.md).

Under that name SQLite does not find the agent's rollback journal, so its absence is checked here, while the read lock
is held: with a journal the file is in mid-commit, or its writer died there, and there is nothing to read this time.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from host.sessions.beneath import opened_file, opened_folder
from shared_schema.database import untrusted_reader
from shared_schema.errors import FileBusy, FileDamaged
from shared_schema.layout import HEARTBEAT, OUTBOUND, SessionLayout
from shared_schema.migrate import OUTBOUND as OUTBOUND_SCHEMA
from shared_schema.migrate import require_readable
from shared_schema.rows import Ack, AgentState, MessageOut, Turn

MAX_ROWS = 200
MAX_TURNS = 100
MAX_FILE_BYTES = 64 * 1024**3
JOURNAL = f"{OUTBOUND}-journal"
_TABLES = frozenset({"messages_out", "processing_ack", "turns", "agent_state"})
_CHANGE_COUNTER = slice(24, 28)  # of the database header, sqlite.org/fileformat2.html#file_change_counter

NEXT_SEQS = "SELECT seq FROM messages_out WHERE seq > ? ORDER BY seq LIMIT ?"
MESSAGE = """
SELECT seq, id, turn_id, in_reply_to, generation, timestamp, deliver_after, kind, destination, channel_type,
    platform_id, thread_id, content
FROM messages_out WHERE seq = ?
"""
ACK = "SELECT message_id, status, turn_id, error, status_changed FROM processing_ack WHERE message_id = ?"
_TURN_COLUMNS = """
id, status, started_at, finished_at, failure_reason, provider, model, provider_session_id, input_tokens, output_tokens,
cache_read_tokens, cache_write_tokens, cost_usd
"""
NEW_TURNS = f"SELECT rowid, {_TURN_COLUMNS} FROM turns WHERE rowid > ? ORDER BY rowid LIMIT ?"
TURN = f"SELECT {_TURN_COLUMNS} FROM turns WHERE id = ?"
AGENT_STATE = """
SELECT state, current_tool, tool_deadline, turn_id, contract_version, updated_at FROM agent_state WHERE id = 1
"""


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells one state of `outbound.db` from the next: SQLite counts every commit in the file's header."""

    inode: int
    size: int
    modified_ns: int
    change_counter: bytes


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be taken: `what` names it, `reason` says why."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What one look at `outbound.db` found: nothing in it is checked beyond being readable."""

    messages: list[MessageOut] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    state: AgentState | None = None
    bad_rows: list[BadRow] = field(default_factory=list)
    out_cursor: int = 0
    turn_cursor: int = 0
    more: bool = False


def signature(layout: SessionLayout) -> Signature | None:
    """The present signature of `outbound.db`, or None when there is no such regular file. Cheap: no SQLite."""
    try:
        with opened_folder(layout.out) as out, opened_file(out, OUTBOUND, max_bytes=MAX_FILE_BYTES) as file:
            status = os.fstat(file)
            header = os.pread(file, 32, 0)
    except FileDamaged:
        return None
    return Signature(status.st_ino, status.st_size, status.st_mtime_ns, header[_CHANGE_COUNTER])


def heartbeat(layout: SessionLayout) -> int | None:
    """The heartbeat file's time stamp in nanoseconds, as the agent set it; only its changes mean something."""
    try:
        return os.lstat(layout.out / HEARTBEAT).st_mtime_ns
    except OSError:
        return None


def read(
    layout: SessionLayout,
    *,
    out_cursor: int,
    turn_cursor: int,
    open_messages: Sequence[str],
    running_turns: Sequence[str],
) -> Glimpse:
    """What is new in `outbound.db`: messages and turns behind the cursors, and what became of what is open.

    Blocks for a second at most. Raises `FileBusy` when there is nothing to read this time, `FileDamaged` when the file
    is no good, `NewerSchema` when the agent is too new.
    """
    with opened_folder(layout.out) as out:
        name = _own_name(layout, out)
        with untrusted_reader(name, tables=_TABLES) as connection:
            require_readable(connection, OUTBOUND_SCHEMA)
            if _exists(JOURNAL, out):
                raise FileBusy("a commit is going on, or was interrupted", where=layout.outbound)
            return _read(connection, out_cursor, turn_cursor, open_messages, running_turns)


def _read(
    connection: sqlite3.Connection,
    out_cursor: int,
    turn_cursor: int,
    open_messages: Sequence[str],
    running_turns: Sequence[str],
) -> Glimpse:
    bad_rows: list[BadRow] = []
    seqs = [row["seq"] for row in connection.execute(NEXT_SEQS, (out_cursor, MAX_ROWS))]
    messages = [_one(connection, MESSAGE, seq, f"out-{seq}", bad_rows) for seq in seqs]
    acks = [_one(connection, ACK, message_id, f"ack of {message_id}", bad_rows) for message_id in open_messages]
    new_turns = _new_turns(connection, turn_cursor, bad_rows)
    turns = [*new_turns, *(_one(connection, TURN, turn_id, turn_id, bad_rows) for turn_id in running_turns)]
    state = _one(connection, AGENT_STATE, None, "agent_state", bad_rows)
    return Glimpse(
        messages=[MessageOut.from_row(row) for row in messages if row is not None],
        acks=[Ack.from_row(row) for row in acks if row is not None],
        turns=[Turn.from_row(row) for row in turns if row is not None],
        state=None if state is None else AgentState.from_row(state),
        bad_rows=bad_rows,
        out_cursor=seqs[-1] if seqs else out_cursor,
        turn_cursor=new_turns[-1]["rowid"] if new_turns else turn_cursor,
        more=len(seqs) == MAX_ROWS,
    )


def _one(
    connection: sqlite3.Connection, statement: str, key: str | int | None, what: str, bad_rows: list[BadRow]
) -> sqlite3.Row | None:
    """One row by its key; one with a value beyond the limit is skipped and noted."""
    rows = _rows(connection, statement, () if key is None else (key,), what, bad_rows)
    return rows[0] if rows else None


def _new_turns(connection: sqlite3.Connection, cursor: int, bad_rows: list[BadRow]) -> list[sqlite3.Row]:
    return _rows(connection, NEW_TURNS, (cursor, MAX_TURNS), "turns", bad_rows)


def _rows(
    connection: sqlite3.Connection, statement: str, parameters: tuple[object, ...], what: str, bad_rows: list[BadRow]
) -> list[sqlite3.Row]:
    try:
        return connection.execute(statement, parameters).fetchall()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_TOOBIG:
            raise
        bad_rows.append(BadRow(what, "a value is larger than allowed"))
        return []


def _own_name(layout: SessionLayout, out: int) -> Path:
    """The host's own name for the file that is `out/outbound.db` now, checked to be a regular file."""
    own = layout.reading / OUTBOUND
    there = _status(OUTBOUND, out)
    if there is None:
        raise FileDamaged("the file is missing", where=layout.outbound)
    here = _status(own)
    if here is None or (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
        draft = layout.reading / "outbound.link"
        draft.unlink(missing_ok=True)
        try:
            os.link(OUTBOUND, draft, src_dir_fd=out, follow_symlinks=False)
        except OSError as error:
            raise FileDamaged(f"the file cannot be linked: {error.strerror}", where=layout.outbound) from error
        os.replace(draft, own)
        here = _status(own)
    if here is None or not stat.S_ISREG(here.st_mode):
        own.unlink(missing_ok=True)
        raise FileDamaged("it is not a regular file", where=layout.outbound)
    return own


def _status(name: str | Path, folder: int | None = None) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None


def _exists(name: str, folder: int) -> bool:
    return _status(name, folder) is not None
