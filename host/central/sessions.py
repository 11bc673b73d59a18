"""Sessions: their rows, how they end, and what is noted of them."""

from __future__ import annotations

import sqlite3
from enum import StrEnum

from host.central.database import Queryable, Transaction, one
from shared_schema.dataclass import dataclass
from shared_schema.errors import NotFound
from shared_schema.rows import Row

BY_ID = "SELECT * FROM sessions WHERE id = ?"
TOUCH = "UPDATE sessions SET last_active = ? WHERE id = ?"
# A person who writes in a conversation has read it: most platforms say so in no other way.
HEARD = "UPDATE sessions SET last_active = ?, preview = coalesce(preview, ?), unread_since = NULL WHERE id = ?"
# The first reason and time win; only reopening clears them.
END = """
UPDATE sessions SET status = 'ended', end_reason = coalesce(end_reason, ?), ended_at = coalesce(ended_at, ?)
WHERE id = ? AND status = 'active'
"""
ARCHIVE = """
UPDATE sessions SET status = 'archived', end_reason = coalesce(end_reason, 'archived'),
    ended_at = coalesce(ended_at, ?), unread_since = NULL
WHERE id = ? AND status IN ('active', 'ended')
"""
DELETE_SOFTLY = """
UPDATE sessions SET status = 'deleted', deleted_status = status, deleted_at = ? WHERE id = ? AND status <> 'deleted'
"""
RESTORE = """
UPDATE sessions SET status = CASE deleted_status WHEN 'archived' THEN 'archived' ELSE 'ended' END,
    end_reason = coalesce(end_reason, 'deleted'), ended_at = coalesce(ended_at, deleted_at), deleted_at = NULL,
    deleted_status = NULL
WHERE id = ? AND status = 'deleted'
"""
DELETED_BEFORE = "SELECT id FROM sessions WHERE status = 'deleted' AND deleted_at < ? ORDER BY deleted_at"
IS_DELETED_BEFORE = "SELECT 1 FROM sessions WHERE id = ? AND status = 'deleted' AND deleted_at < ?"
DELETED = "SELECT id FROM sessions WHERE status = 'deleted'"
ENDED_BEFORE = """
SELECT id FROM sessions WHERE status = 'ended' AND ended_at < :before AND last_active < :before
  AND (:agent_group_id IS NULL OR agent_group_id = :agent_group_id)
ORDER BY ended_at LIMIT :limit
"""
HAS_ENDED_BEFORE = """
SELECT 1 FROM sessions WHERE id = :id AND status = 'ended' AND ended_at < :before AND last_active < :before
"""
COMPRESSED_CHILD = """
SELECT id FROM sessions WHERE parent_session_id = ? AND parent_relation = 'compressed' AND status <> 'deleted'
ORDER BY created_at DESC, rowid DESC LIMIT 1
"""
# A parent that was taken up again by itself is a conversation of its own.
LINE = """
WITH RECURSIVE line (id, parent) AS (
    SELECT id, CASE parent_relation WHEN 'compressed' THEN parent_session_id END FROM sessions WHERE id = ?
    UNION
    SELECT s.id, CASE s.parent_relation WHEN 'compressed' THEN s.parent_session_id END
    FROM line JOIN sessions s ON s.id = line.parent WHERE s.end_reason = 'compressed'
)
SELECT id FROM line
"""
DELETE = "DELETE FROM sessions WHERE id = ?"
ALL_IDS = "SELECT id FROM sessions"
COUNT = "SELECT count(*) AS n FROM sessions WHERE status <> 'deleted'"
OF_AGENT_GROUP = "SELECT id FROM sessions WHERE agent_group_id = ?"
COUNT_OF_AGENT_GROUP = "SELECT count(*) AS n FROM sessions WHERE agent_group_id = ?"

NOTE_COPY = """
UPDATE sessions SET out_cursor = ?, turn_cursor = ?, last_active = coalesce(?, last_active),
    kept_rows = ?, kept_bytes = ?, kept_hour = ?, kept_hour_rows = ?, kept_hour_bytes = ?
WHERE id = ?
"""
ADVANCE = "UPDATE sessions SET out_cursor = ?, turn_cursor = ? WHERE id = ?"
# An empty resume pointer never overwrites a recorded one.
KEEP_POINTER = """
UPDATE sessions SET provider_session_id = ?, pointer_provider = ?, pointer_runtime = runtime WHERE id = ?
"""
DROP_POINTER = """
UPDATE sessions SET provider_session_id = NULL, pointer_provider = NULL, pointer_runtime = NULL WHERE id = ?
"""


class EndReason(StrEnum):
    """Why a session ended."""

    NEW = "new"  # a person began a new conversation
    IDLE = "idle"  # it rested for longer than its wiring allows
    DAILY = "daily"  # the hour came at which its wiring begins anew
    RESUME = "resume"  # another session was taken up in its place
    BRANCHED = "branched"
    COMPRESSED = "compressed"
    ARCHIVED = "archived"
    DELETED = "deleted"
    IMPORTED = "imported"
    DONE = "done"  # the run of a schedule it was made for is over


class Relation(StrEnum):
    """What a session is to its parent."""

    RESET = "reset"  # begun in its place
    COMPRESSED = "compressed"  # goes on from its summary
    BRANCHED = "branched"  # goes on from a copy


@dataclass(frozen=True, slots=True)
class Session(Row):
    """One conversation of one agent group.

    `run_number` counts its runs and only grows (`container_agent/fence.py`); `node` is where the last one was placed.
    """

    id: str
    agent_group_id: str
    route_id: str
    messaging_group_id: str | None
    thread_id: str | None
    generation: int
    kind: str
    status: str
    end_reason: str | None
    title: str | None
    title_source: str | None
    parent_session_id: str | None
    parent_relation: str | None
    provider_session_id: str | None
    pointer_provider: str | None
    pointer_runtime: str | None
    reset_note: str | None
    summary: str | None
    unread_since: str | None
    created_at: str
    last_active: str
    out_cursor: int
    turn_cursor: int
    runtime: str | None
    run_id: str | None
    run_settled: int
    start_failures: int
    run_number: int = 0
    node: str | None = None


def end(tx: Transaction, session_id: str, reason: str) -> None:
    """End an active session. The first reason wins."""
    tx.execute(END, (reason, tx.now, session_id))


def archive(tx: Transaction, session_id: str) -> None:
    """Make a session read-only. Its route goes on pointing at it, if it does."""
    tx.execute(ARCHIVE, (tx.now, session_id))


def delete_softly(tx: Transaction, session_id: str) -> None:
    """Hide a session; it can be restored until it is removed for good."""
    tx.execute(DELETE_SOFTLY, (tx.now, session_id))


def restore(tx: Transaction, session_id: str) -> None:
    """Bring back a session that was hidden, ended or archived as it was, but for a title that another one has now."""
    tx.execute(RESTORE, (session_id,))


def deleted_before(connection: Queryable, moment: str) -> list[str]:
    """Sessions that were hidden before a time, the oldest first. All: those that cannot be removed hide no others."""
    return [row["id"] for row in connection.execute(DELETED_BEFORE, (moment,))]


def is_deleted_before(connection: Queryable, session_id: str, moment: str) -> bool:
    """Whether a session was hidden before a time, and was not restored since."""
    return one(connection, IS_DELETED_BEFORE, (session_id, moment)) is not None


def deleted(connection: Queryable) -> frozenset[str]:
    """The ids of all sessions that are hidden."""
    return frozenset(row["id"] for row in connection.execute(DELETED))


def ended_before(connection: Queryable, moment: str, agent_group_id: str | None, limit: int = 10_000) -> list[str]:
    """Sessions that ended before a time and were not active since."""
    values = {"before": moment, "agent_group_id": agent_group_id, "limit": limit}
    return [row["id"] for row in connection.execute(ENDED_BEFORE, values)]


def has_ended_before(connection: Queryable, session_id: str, moment: str) -> bool:
    """Whether a session is one of those."""
    return one(connection, HAS_ENDED_BEFORE, {"id": session_id, "before": moment}) is not None


def newest_descendant(connection: Queryable, session: Session) -> Session:
    """The session in which a compressed conversation goes on; the session itself where it was not compressed."""
    seen = {session.id}
    while (row := one(connection, COMPRESSED_CHILD, (session.id,))) is not None and row["id"] not in seen:
        session = get(connection, row["id"])
        seen.add(session.id)
    return session


def line(connection: Queryable, session_id: str) -> list[str]:
    """The sessions of one conversation: this one, and those from whose summaries it goes on."""
    return [row["id"] for row in connection.execute(LINE, (session_id,))]


def touch(tx: Transaction, session_id: str) -> None:
    """Note that something happened in the session."""
    tx.execute(TOUCH, (tx.now, session_id))


def heard(tx: Transaction, session_id: str, preview: str) -> None:
    """Note that a person wrote in the session, and has read it; the first text is its preview."""
    tx.execute(HEARD, (tx.now, preview or None, session_id))


def get(connection: Queryable, session_id: str) -> Session:
    """The session with that id. Raises `NotFound`."""
    return Session.from_row(row_of(connection, session_id))


def lookup(connection: Queryable, session_id: str) -> Session | None:
    """The session with that id, if there is one."""
    row = one(connection, BY_ID, (session_id,))
    return None if row is None else Session.from_row(row)


def delete(tx: Transaction, session_id: str) -> None:
    """Remove the row with all that hangs on it; accepted events stay, without a session, so that they stay known."""
    tx.execute(DELETE, (session_id,))


def of_agent_group(connection: Queryable, agent_group_id: str) -> list[str]:
    """The ids of all sessions of an agent group."""
    return [row["id"] for row in connection.execute(OF_AGENT_GROUP, (agent_group_id,))]


def count_of_agent_group(connection: Queryable, agent_group_id: str) -> int:
    """How many sessions an agent group has."""
    row = one(connection, COUNT_OF_AGENT_GROUP, (agent_group_id,))
    return 0 if row is None else int(row["n"])


def all_ids(connection: Queryable) -> set[str]:
    """The ids of all sessions."""
    return {row["id"] for row in connection.execute(ALL_IDS)}


def count(connection: Queryable) -> int:
    """How many sessions there are, without those that were deleted and can be restored."""
    row = one(connection, COUNT)
    return 0 if row is None else int(row["n"])


def row_of(connection: Queryable, session_id: str) -> sqlite3.Row:
    """Everything that is known of a session. Raises `NotFound`."""
    row = one(connection, BY_ID, (session_id,))
    if row is None:
        raise NotFound(f"there is no session {session_id}", hint="`dumbwaiter session list` shows all")
    return row


def note_copy(
    tx: Transaction,
    session_id: str,
    *,
    out_cursor: int,
    turn_cursor: int,
    active_at: str | None,
    kept: tuple[int, int, str, int, int],
) -> None:
    """Note up to where the agent's file was copied, when the session was last active, and what is kept of it.

    `active_at` None: as before. `kept` is as `Kept.values` gives it.
    """
    tx.execute(NOTE_COPY, (out_cursor, turn_cursor, active_at, *kept, session_id))


def advance(tx: Transaction, session_id: str, out_cursor: int, turn_cursor: int) -> None:
    """Note up to where `outbound.db` was copied."""
    tx.execute(ADVANCE, (out_cursor, turn_cursor, session_id))


def keep_pointer(tx: Transaction, session_id: str, provider_session_id: str | None, provider: str | None) -> None:
    """Record a provider's resume pointer, with the session's present runtime, unless it is empty."""
    if provider_session_id:
        tx.execute(KEEP_POINTER, (provider_session_id, provider, session_id))


def drop_pointer(tx: Transaction, session_id: str) -> None:
    """Forget a resume pointer that the provider has refused."""
    tx.execute(DROP_POINTER, (session_id,))
