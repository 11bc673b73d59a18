"""What was not taken, kept for people to look at: rows and files of agents, and events that no wiring takes.

Both tables are bounded: nonsense without end pushes out older nonsense, and nothing else.
"""

from __future__ import annotations

import sqlite3

from host.central.database import Queryable, Transaction

INSERT = "INSERT INTO refusals (session_id, what, reason, created_at) VALUES (?, ?, ?, ?)"
TRIM = """
DELETE FROM refusals WHERE session_id = ? AND position <= (
    SELECT position FROM refusals WHERE session_id = ? ORDER BY position DESC LIMIT 1 OFFSET ?)
"""
OF_SESSION = "SELECT what, reason, created_at FROM refusals WHERE session_id = ? ORDER BY position DESC LIMIT ?"
COUNT_DROPPED = """
UPDATE dropped_messages SET times = times + 1, last_at = :now
WHERE position = (SELECT position FROM dropped_messages INDEXED BY dropped_messages_by_sender
    WHERE channel_type = :channel_type AND platform_id = :platform_id AND sender_id IS :sender_id AND reason = :reason
    LIMIT 1)
"""
INSERT_DROPPED = """
INSERT INTO dropped_messages (channel_type, platform_id, sender_id, reason, created_at, last_at)
VALUES (:channel_type, :platform_id, :sender_id, :reason, :now, :now)
"""
# Those that were not seen for the longest time go first.
TRIM_DROPPED = """
DELETE FROM dropped_messages WHERE position IN (
    SELECT position FROM dropped_messages INDEXED BY dropped_messages_by_time
    ORDER BY coalesce(last_at, created_at) DESC, position DESC LIMIT -1 OFFSET ?)
"""
DROPPED = """
SELECT channel_type || ':' || platform_id AS messaging_group, sender_id, reason, times, created_at AS first_at,
    coalesce(last_at, created_at) AS last_at
FROM dropped_messages INDEXED BY dropped_messages_by_time
WHERE :address IS NULL OR channel_type || ':' || platform_id = :address
ORDER BY coalesce(last_at, created_at) DESC, position DESC LIMIT :limit
"""

_KEPT = 100  # of each session
_DROPPED_KEPT = 1000


def refuse(tx: Transaction, session_id: str, what: str, reason: str) -> None:
    """Record something of an agent's that was not taken; the newest are kept."""
    tx.execute(INSERT, (session_id, what[:200], reason[:500], tx.now))
    tx.execute(TRIM, (session_id, session_id, _KEPT))


def of_session(connection: Queryable, session_id: str, limit: int = 20) -> list[sqlite3.Row]:
    """What was refused of a session's agent, the newest first: `what, reason, created_at`."""
    return connection.execute(OF_SESSION, (session_id, limit)).fetchall()


def drop(tx: Transaction, channel_type: str, platform_id: str, sender_id: str | None, reason: str) -> None:
    """Count an event that was not taken: one record for each chat, sender and reason; the newest are kept."""
    values = {
        "channel_type": channel_type,
        "platform_id": platform_id,
        "sender_id": sender_id,
        "reason": reason,
        "now": tx.now,
    }
    if not tx.execute(COUNT_DROPPED, values).rowcount:
        tx.execute(INSERT_DROPPED, values)
        tx.execute(TRIM_DROPPED, (_DROPPED_KEPT,))


def dropped(connection: Queryable, address: str | None = None, limit: int = 100) -> list[dict[str, object]]:
    """What was dropped last, of all chats or of one: `messaging_group, sender_id, reason, times, first_at, last_at`."""
    return [dict(row) for row in connection.execute(DROPPED, {"address": address, "limit": limit})]
