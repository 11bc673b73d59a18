"""What was not taken, kept for people to look at: rows and files of agents, and events nobody is wired for.

Both tables are bounded: whoever sends nonsense without end pushes out older nonsense, and nothing else.
"""

from __future__ import annotations

import sqlite3

INSERT = "INSERT INTO refusals (session_id, what, reason, created_at) VALUES (?, ?, ?, ?)"
TRIM = """
DELETE FROM refusals WHERE session_id = ? AND position <= (
    SELECT position FROM refusals WHERE session_id = ? ORDER BY position DESC LIMIT 1 OFFSET ?)
"""
OF_SESSION = "SELECT what, reason, created_at FROM refusals WHERE session_id = ? ORDER BY position DESC LIMIT ?"
INSERT_DROPPED = """
INSERT INTO dropped_messages (channel_type, platform_id, sender_id, reason, created_at) VALUES (?, ?, ?, ?, ?)
"""
TRIM_DROPPED = """
DELETE FROM dropped_messages WHERE position <= (
    SELECT position FROM dropped_messages ORDER BY position DESC LIMIT 1 OFFSET ?)
"""

_KEPT = 100  # of each session
_DROPPED_KEPT = 1000


def refuse(connection: sqlite3.Connection, session_id: str, what: str, reason: str, now: str) -> None:
    """Record something of an agent's that was not taken; the newest are kept."""
    connection.execute(INSERT, (session_id, what[:200], reason[:500], now))
    connection.execute(TRIM, (session_id, session_id, _KEPT))


def of_session(connection: sqlite3.Connection, session_id: str, limit: int = 20) -> list[sqlite3.Row]:
    """What was refused of a session's agent, the newest first: `what, reason, created_at`."""
    return connection.execute(OF_SESSION, (session_id, limit)).fetchall()


def drop(
    connection: sqlite3.Connection, channel_type: str, platform_id: str, sender_id: str | None, reason: str, now: str
) -> None:
    """Record an event that nobody is wired for; the newest are kept."""
    connection.execute(INSERT_DROPPED, (channel_type, platform_id, sender_id, reason, now))
    connection.execute(TRIM_DROPPED, (_DROPPED_KEPT,))
