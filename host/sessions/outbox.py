"""Reading `outbound.db`, which a hostile agent may have written.

The host reads through a name of its own (`hard_link.py`), and what it takes is bounded.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import field, replace

from host.sessions.hard_link import header, opened_afresh, reading
from shared_schema import background, mcp_notices
from shared_schema.background import PROCESSES, BackgroundProcess
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileDamaged, FileTrouble
from shared_schema.layout import HEARTBEAT, SessionLayout
from shared_schema.mcp_notices import NOTIFICATIONS, Notification
from shared_schema.migrate import OUTBOUND as OUTBOUND_SCHEMA
from shared_schema.migrate import require_readable
from shared_schema.rows import DRAFT, Ack, AgentState, MessageOut, Turn

MAX_ROWS = 50
MAX_TURNS = 50
"""In one read. All other sessions wait for the one transaction in which they are copied: about 10 ms."""
MAX_JUMP = 10**9
MAX_CHARACTERS = 4_000_000
MAX_SECONDS = 0.5
_TABLES = frozenset({"messages_out", "processing_ack", "turns", "agent_state", "session_state"})
_DRAFT_TABLES = frozenset({"session_state"})
_AHEAD_TABLES = frozenset({"session_state", "messages_out", "turns"})
MAX_DRAFT = 20_000
_MAX_HEARTBEAT = 64
_SEQUENCE = frozenset({"sqlite_sequence"})
_CHANGE_COUNTER = slice(24, 28)  # of the database header, sqlite.org/fileformat2.html#file_change_counter

KEY = "SELECT name || ' ' || type AS key FROM pragma_table_xinfo('messages_out') WHERE pk > 0"
NEXT_SEQS = "SELECT seq FROM messages_out WHERE seq > ? ORDER BY seq LIMIT ?"
MESSAGE = """
SELECT seq, substr(id, 1, 100) AS id, substr(turn_id, 1, 600) AS turn_id, substr(in_reply_to, 1, 600) AS in_reply_to,
    CASE typeof(generation) WHEN 'integer' THEN generation END AS generation, substr(timestamp, 1, 100) AS timestamp,
    substr(deliver_after, 1, 100) AS deliver_after, substr(kind, 1, 100) AS kind,
    substr(destination, 1, 600) AS destination, substr(channel_type, 1, 100) AS channel_type,
    substr(platform_id, 1, 600) AS platform_id, substr(thread_id, 1, 600) AS thread_id, content
FROM messages_out WHERE seq = ?
"""
ACK = """
SELECT message_id, substr(status, 1, 100) AS status, substr(turn_id, 1, 100) AS turn_id,
    substr(error, 1, 1000) AS error, substr(status_changed, 1, 100) AS status_changed
FROM processing_ack WHERE message_id = ?
"""
_TURN_COLUMNS_1 = """
substr(id, 1, 100) AS id, substr(status, 1, 100) AS status, substr(started_at, 1, 100) AS started_at,
substr(finished_at, 1, 100) AS finished_at, substr(failure_reason, 1, 1000) AS failure_reason,
substr(provider, 1, 1000) AS provider, substr(model, 1, 1000) AS model,
substr(provider_session_id, 1, 1000) AS provider_session_id,
CASE WHEN typeof(input_tokens) IN ('integer', 'null') THEN input_tokens ELSE -1 END AS input_tokens,
CASE WHEN typeof(output_tokens) IN ('integer', 'null') THEN output_tokens ELSE -1 END AS output_tokens,
CASE WHEN typeof(cache_read_tokens) IN ('integer', 'null') THEN cache_read_tokens ELSE -1 END AS cache_read_tokens,
CASE WHEN typeof(cache_write_tokens) IN ('integer', 'null') THEN cache_write_tokens ELSE -1 END AS cache_write_tokens,
CASE WHEN typeof(cost_usd) IN ('integer', 'real', 'null') THEN cost_usd ELSE -1 END AS cost_usd
"""
_TURN_COLUMNS_2 = f"""{_TURN_COLUMNS_1},
CASE WHEN typeof(generation) IN ('integer', 'null') THEN generation ELSE -1 END AS generation,
CASE WHEN typeof(reasoning_tokens) IN ('integer', 'null') THEN reasoning_tokens ELSE -1 END AS reasoning_tokens,
CASE WHEN typeof(context_tokens) IN ('integer', 'null') THEN context_tokens ELSE -1 END AS context_tokens,
CASE WHEN typeof(context_window) IN ('integer', 'null') THEN context_window ELSE -1 END AS context_window,
resume_refused IS 1 AS resume_refused
"""
_TURN_COLUMNS_3 = f"""{_TURN_COLUMNS_2},
substr(stop_reason, 1, 100) AS stop_reason, substr(detail, 1, 2000) AS detail
"""
_TURN_COLUMNS_4 = f"""{_TURN_COLUMNS_3},
substr(fallback, 1, 1000) AS fallback
"""
_TURN_COLUMNS = f"""{_TURN_COLUMNS_4},
CASE typeof(run) WHEN 'integer' THEN run END AS run
"""
_NEVER_SAID_3 = "NULL AS fallback"
_NEVER_SAID_2 = f"NULL AS stop_reason, NULL AS detail, {_NEVER_SAID_3}"
_NEVER_SAID = f"""
NULL AS generation, NULL AS reasoning_tokens, NULL AS context_tokens, NULL AS context_window, 0 AS resume_refused,
{_NEVER_SAID_2}
"""
LAST_SEQ = "SELECT CASE typeof(max(seq)) WHEN 'integer' THEN max(seq) ELSE 0 END AS last FROM messages_out"
LAST_GIVEN = """
SELECT coalesce(max(CASE typeof(seq) WHEN 'integer' THEN seq END), 0) AS last FROM sqlite_sequence
WHERE name = 'messages_out'
"""
LAST_TURN = "SELECT coalesce(max(rowid), 0) AS last FROM turns"
NEXT_TURNS = "SELECT rowid AS place FROM turns WHERE rowid > ? ORDER BY rowid LIMIT ?"
NEW_TURN_1 = f"SELECT {_TURN_COLUMNS_1}, {_NEVER_SAID} FROM turns WHERE rowid = ?"
TURN_1 = f"SELECT {_TURN_COLUMNS_1}, {_NEVER_SAID} FROM turns WHERE id = ?"
NEW_TURN_2 = f"SELECT {_TURN_COLUMNS_2}, {_NEVER_SAID_2} FROM turns WHERE rowid = ?"
TURN_2 = f"SELECT {_TURN_COLUMNS_2}, {_NEVER_SAID_2} FROM turns WHERE id = ?"
NEW_TURN_3 = f"SELECT {_TURN_COLUMNS_3}, {_NEVER_SAID_3} FROM turns WHERE rowid = ?"
TURN_3 = f"SELECT {_TURN_COLUMNS_3}, {_NEVER_SAID_3} FROM turns WHERE id = ?"
NEW_TURN_4 = f"SELECT {_TURN_COLUMNS_4} FROM turns WHERE rowid = ?"
TURN_4 = f"SELECT {_TURN_COLUMNS_4} FROM turns WHERE id = ?"
NEW_TURN = f"SELECT {_TURN_COLUMNS} FROM turns WHERE rowid = ?"
TURN = f"SELECT {_TURN_COLUMNS} FROM turns WHERE id = ?"
RUN_OF_TURN = "SELECT CASE typeof(run) WHEN 'integer' THEN run END AS run FROM turns WHERE id = ?"
_FIRST_WITH_RUNS = 5
_TURN_OF_VERSION = {1: (NEW_TURN_1, TURN_1), 2: (NEW_TURN_2, TURN_2), 3: (NEW_TURN_3, TURN_3), 4: (NEW_TURN_4, TURN_4)}
AGENT_STATE = """
SELECT substr(state, 1, 100) AS state, substr(current_tool, 1, 100) AS current_tool,
    substr(tool_deadline, 1, 100) AS tool_deadline, substr(turn_id, 1, 100) AS turn_id,
    CAST(contract_version AS INTEGER) AS contract_version, substr(updated_at, 1, 100) AS updated_at
FROM agent_state WHERE id = 1
"""
_MOST_STATE = max(background.MOST_CHARACTERS, mcp_notices.MOST_CHARACTERS) + 1
STATE = f"SELECT substr(value, 1, {_MOST_STATE}) AS value FROM session_state WHERE key = ?"
DRAFT_STATE = f"SELECT substr(value, 1, {MAX_DRAFT * 2}) AS value FROM session_state WHERE key = ?"


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
class OutboxSnapshot:
    """What one look at `outbound.db` found: nothing in it is checked beyond being readable."""

    messages: list[MessageOut] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    state: AgentState | None = None
    processes: tuple[BackgroundProcess, ...] = ()
    notifications: tuple[Notification, ...] = ()
    bad_rows: list[BadRow] = field(default_factory=list)
    out_cursor: int = 0
    turn_cursor: int = 0
    more: bool = False
    signature: Signature | None = None  # of the state that was read

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it to be taken over."""
        return not (self.messages or self.acks or self.turns or self.bad_rows or self.more)


def signature(layout: SessionLayout) -> Signature | None:
    """The present signature of `outbound.db`, or None when there is no such regular file. Cheap: no SQLite."""
    try:
        status, first = header(layout)
    except FileDamaged:
        return None
    return Signature(status.st_ino, status.st_size, status.st_mtime_ns, first[_CHANGE_COUNTER])


def heartbeat(layout: SessionLayout) -> int | None:
    """What the heartbeat file says, as a number: its time stamp, or on a shared mount what stands in it.

    The agent sets both; only their changes mean something.
    """
    if layout.shared:  # its time is seconds late there, as late as an agent may be silent
        return _beat(layout)
    try:
        return os.lstat(layout.out / HEARTBEAT).st_mtime_ns
    except OSError:
        return None


def _beat(layout: SessionLayout) -> int | None:
    try:
        with opened_afresh(layout, HEARTBEAT) as descriptor:
            return int.from_bytes(os.pread(descriptor, _MAX_HEARTBEAT, 0), "big")
    except (FileTrouble, OSError):  # no heartbeat is in a pipe or a folder
        return None


def read(
    layout: SessionLayout,
    *,
    out_cursor: int,
    turn_cursor: int,
    open_messages: Sequence[str],
    running_turns: Sequence[str],
    run: int | None = None,
) -> OutboxSnapshot:
    """What is new in `outbound.db`: messages and turns behind the cursors, and what became of what is open.

    Rows of turns that another run than `run` made are bad: the host takes rows of the run that it started. Turns that
    name no run are an older agent's.

    Blocks for a second at most. Raises `FileBusy` when there is nothing to read this time, `FileDamaged` when the file
    is no good, `NewerSchema` when the agent is too new.
    """
    with reading(layout, _TABLES) as connection:
        version = require_readable(connection, OUTBOUND_SCHEMA)
        # Within the snapshot: it is locked, so this is the state that is read, and not one before its last commit.
        present = signature(layout)
        foreign = _ForeignTurns(connection, run if version >= _FIRST_WITH_RUNS else None)
        found = _read(connection, version, out_cursor, turn_cursor, open_messages, running_turns, foreign)
    return replace(found, signature=present)


def agent_state(layout: SessionLayout) -> AgentState | None:
    """What the agent says it is doing now. Raises as `read`."""
    with reading(layout, _TABLES) as connection:
        row = _one(connection, AGENT_STATE, None, "agent_state", [])
    return None if row is None else AgentState.from_row(row)


def draft(layout: SessionLayout) -> str:
    """What the agent has said so far of an answer that it is still writing; empty when it says nothing of that.

    Only for showing: what is sent is in `messages_out`. Raises as `read`.
    """
    with reading(layout, _DRAFT_TABLES) as connection:
        return _draft(connection)


def _draft(connection: sqlite3.Connection) -> str:
    row = _one(connection, DRAFT_STATE, DRAFT, "the draft", [])
    value = None if row is None else row["value"]
    return value[-MAX_DRAFT:] if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What an agent has written and the ledger has not: its draft, and the first message behind the cursor."""

    draft: str
    message: MessageOut | None


def ahead(
    layout: SessionLayout, known: Signature | None, *, out_cursor: int | None, run: int | None
) -> tuple[Signature | None, Ahead | None]:
    """The signature of the file, and what is ahead in it; None where the file is the one that is `known`.

    Only for showing, and as unchecked as all of it. Without an `out_cursor` it is the draft alone; `run` is as in
    `read`. Raises as that.
    """
    present = signature(layout)  # before reading: what is written meanwhile is seen the next time
    if present == known:
        return present, None
    with reading(layout, _AHEAD_TABLES) as connection:
        version = require_readable(connection, OUTBOUND_SCHEMA)
        messages: list[MessageOut] = []
        if out_cursor is not None:
            foreign = _ForeignTurns(connection, run if version >= _FIRST_WITH_RUNS else None)
            messages, _, _ = _messages(connection, out_cursor, [], foreign, most=1)
        return present, Ahead(_draft(connection), messages[0] if messages else None)


@dataclass(frozen=True, slots=True)
class OutboxStanding:
    """How far a file has got: the highest `seq` it has given, and the last place in `turns`."""

    last_seq: int
    last_turn: int


def standing(layout: SessionLayout) -> OutboxStanding:
    """How far the file has got, to be compared with what was read from it before. Raises as `read`."""
    with reading(layout, _TABLES) as connection:
        last_seq: int = connection.execute(LAST_SEQ).fetchone()["last"]
        last_turn: int = connection.execute(LAST_TURN).fetchone()["last"]
    try:
        with reading(layout, _SEQUENCE) as connection:  # the next row is numbered above this, also after a deletion
            last_seq = max(last_seq, connection.execute(LAST_GIVEN).fetchone()["last"])
    except FileDamaged:  # an agent made the table anew, without numbers that only grow
        pass
    return OutboxStanding(last_seq, last_turn)


def _read(
    connection: sqlite3.Connection,
    version: int,
    out_cursor: int,
    turn_cursor: int,
    open_messages: Sequence[str],
    running_turns: Sequence[str],
    foreign: _ForeignTurns,
) -> OutboxSnapshot:
    """Bounded in rows, characters and time; what is left is read the next time (`more`)."""
    if [row["key"] for row in connection.execute(KEY)] != ["seq INTEGER"]:
        raise FileDamaged("messages_out has not its key")  # rows could hide behind others
    bad_rows: list[BadRow] = []
    messages, more, out_cursor = _messages(connection, out_cursor, bad_rows, foreign)
    acks = [_one(connection, ACK, message_id, f"ack of {message_id}", bad_rows) for message_id in open_messages]
    places = [row["place"] for row in connection.execute(NEXT_TURNS, (turn_cursor, MAX_TURNS))]
    new_turn, known_turn = _TURN_OF_VERSION.get(version, (NEW_TURN, TURN))
    turns = [_one(connection, new_turn, place, "a turn", bad_rows) for place in places]
    turns += [_one(connection, known_turn, turn_id, turn_id, bad_rows) for turn_id in running_turns]
    state = _one(connection, AGENT_STATE, None, "agent_state", bad_rows)
    processes = _one(connection, STATE, PROCESSES, "the background processes", bad_rows)
    notifications = _one(connection, STATE, NOTIFICATIONS, "the notifications", bad_rows)
    return OutboxSnapshot(
        messages=messages,
        acks=[Ack.from_row(row) for row in acks if row is not None and not foreign.has(row["turn_id"])],
        turns=[Turn.from_row(row) for row in turns if row is not None and not foreign.has(row["id"])],
        state=None if state is None else AgentState.from_row(state),
        processes=() if processes is None else background.parsed(processes["value"]),
        notifications=() if notifications is None else mcp_notices.parsed(notifications["value"]),
        bad_rows=bad_rows,
        out_cursor=out_cursor,
        turn_cursor=places[-1] if places else turn_cursor,
        more=more or len(places) == MAX_TURNS,
    )


def is_foreign(made_by: int | None, run: int | None) -> bool:
    """Whether another run made a turn than the one the host started last; a turn that names none is an older agent's.

    Pure. `run` None: the host gave no numbers.
    """
    return run is not None and made_by not in (None, run)


class _ForeignTurns:
    """The turns of a file that another run made than the one the host started last."""

    def __init__(self, connection: sqlite3.Connection, run: int | None) -> None:
        self._connection = connection
        self._run = run
        self._known: dict[str, bool] = {}

    def has(self, turn_id: object) -> bool:
        """Whether a turn is of another run; one that names none is an older agent's."""
        if self._run is None or not isinstance(turn_id, str):
            return False
        if turn_id not in self._known:
            row = self._connection.execute(RUN_OF_TURN, (turn_id,)).fetchone()
            self._known[turn_id] = row is not None and is_foreign(row["run"], self._run)
        return self._known[turn_id]


def _messages(
    connection: sqlite3.Connection, cursor: int, bad_rows: list[BadRow], foreign: _ForeignTurns, most: int = MAX_ROWS
) -> tuple[list[MessageOut], bool, int]:
    """The next messages in order, whether there are more, and the cursor behind them."""
    seqs = [row["seq"] for row in connection.execute(NEXT_SEQS, (cursor, most))]
    if seqs and seqs[-1] > cursor + MAX_JUMP:
        raise FileDamaged(f"its numbers jump to {seqs[-1]}")  # taken as the cursor, it would shut out all that follows
    found: list[MessageOut] = []
    characters, deadline = 0, time.monotonic() + MAX_SECONDS
    for seq in seqs:
        row = _one(connection, MESSAGE, seq, f"out-{seq}", bad_rows)
        cursor = seq
        if row is not None and foreign.has(row["turn_id"]):
            bad_rows.append(BadRow(f"out-{seq}", "it was written by an earlier run of the agent"))
        elif row is not None:
            found.append(MessageOut.from_row(row))
            characters += len(row["content"]) if isinstance(row["content"], str | bytes) else 0
        if characters > MAX_CHARACTERS or time.monotonic() > deadline:
            return found, True, cursor
    return found, len(seqs) == most, cursor


def _one(
    connection: sqlite3.Connection, statement: str, key: str | int | None, what: str, bad_rows: list[BadRow]
) -> sqlite3.Row | None:
    """One row by its key; one with a value beyond SQLite's limit for this connection is skipped and noted."""
    try:
        row: sqlite3.Row | None = connection.execute(statement, () if key is None else (key,)).fetchone()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_TOOBIG:
            raise
        bad_rows.append(BadRow(what, "a value is larger than allowed"))
        return None
    return row
