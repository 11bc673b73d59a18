"""What live views are told: numbered, in the transaction that made it true. The newest are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum

from host.central.database import Effect, Queryable, Transaction, one
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

INSERT = """
INSERT INTO events (at, kind, session_id, agent_group_id, data) VALUES (?, ?, ?, ?, ?) RETURNING number
"""
TRIM = "DELETE FROM events WHERE number <= ?"
AFTER = """
SELECT * FROM events WHERE number > :number AND (:session_id IS NULL OR session_id = :session_id)
ORDER BY number LIMIT :limit
"""
LAST = """
SELECT * FROM events WHERE :session_id IS NULL OR session_id = :session_id ORDER BY number DESC LIMIT :limit
"""
LAST_OF_KIND = """
SELECT * FROM events WHERE kind = ? AND at >= ? AND data <> '{}' ORDER BY number DESC LIMIT ?
"""
FORGET = "UPDATE events SET data = '{}' WHERE session_id = ?"
NEWEST = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"

KEPT = 10_000
_TRIMMED_AT_ONCE = 100


class EventKind(StrEnum):
    """What happened. `data` says more where it belongs: `title`, `reason`, `parent_id`, `turn_id`, `status`, `what`."""

    SESSION_NEW = "session-new"
    SESSION_ENDED = "session-ended"
    SESSION_RESUMED = "session-resumed"
    SESSION_UNDONE = "session-undone"
    SESSION_TITLE = "session-title"
    SESSION_ARCHIVED = "session-archived"
    SESSION_DELETED = "session-deleted"
    SESSION_RESTORED = "session-restored"
    SESSION_REMOVED = "session-removed"  # for good
    SESSION_REPAIRED = "session-repaired"  # a file of it had lost what it had once said it had
    TURN_STARTED = "turn-started"
    TURN_ENDED = "turn-ended"


@dataclass(frozen=True, slots=True)
class LiveEvent(Row):
    """One event. `data` is JSON."""

    number: int
    at: str
    kind: str
    session_id: str | None
    agent_group_id: str | None
    data: str


@dataclass(frozen=True, slots=True)
class LiveEventAdded(Effect):
    """Live views have something to show."""


def add(tx: Transaction, kind: EventKind, *, session_id: str, agent_group_id: str, data: Mapping[str, object]) -> None:
    """Tell live views, once the caller's transaction is committed. Every hundredth time, the oldest go."""
    text = json.dumps(dict(data), ensure_ascii=False)
    (number,) = tx.execute(INSERT, (tx.now, kind, session_id, agent_group_id, text)).fetchone()
    tx.add(LiveEventAdded())
    if number % _TRIMMED_AT_ONCE == 0:
        tx.execute(TRIM, (number - KEPT,))


def after(connection: Queryable, number: int, limit: int, session_id: str | None = None) -> list[LiveEvent]:
    """The events behind a number, oldest first; all, or those of one session."""
    values = {"number": number, "limit": limit, "session_id": session_id}
    return [LiveEvent.from_row(row) for row in connection.execute(AFTER, values)]


def last(connection: Queryable, limit: int, session_id: str | None = None) -> list[LiveEvent]:
    """The newest events, oldest first."""
    rows = connection.execute(LAST, {"limit": limit, "session_id": session_id}).fetchall()
    return [LiveEvent.from_row(row) for row in reversed(rows)]


def last_of_kind(connection: Queryable, kind: EventKind, since: str, limit: int) -> list[LiveEvent]:
    """The newest events of a kind since a time, the newest first."""
    return [LiveEvent.from_row(row) for row in connection.execute(LAST_OF_KIND, (kind, since, limit))]


def forget_session(tx: Transaction, session_id: str) -> None:
    """Drop what was told of a session, such as its titles; that something happened in it stays known."""
    tx.execute(FORGET, (session_id,))


def newest(connection: Queryable) -> int:
    """The number of the last event there was; 0 before the first."""
    row = one(connection, NEWEST)
    return 0 if row is None else int(row["seq"])
