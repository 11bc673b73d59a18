"""The host's copy of every turn, and what it refused to take from an agent."""

from __future__ import annotations

import sqlite3

from host.central.database import one
from shared_schema.rows import Turn

# What is final stays; a running turn takes whatever the agent says of it next.
UPSERT = """
INSERT INTO turns (session_id, id, status, started_at, finished_at, failure_reason, provider, model,
    provider_session_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd)
VALUES (:session_id, :id, :status, :started_at, :finished_at, :failure_reason, :provider, :model,
    :provider_session_id, :input_tokens, :output_tokens, :cache_read_tokens, :cache_write_tokens, :cost_usd)
ON CONFLICT (session_id, id) DO UPDATE SET
    status = excluded.status, finished_at = excluded.finished_at, failure_reason = excluded.failure_reason,
    provider = excluded.provider, model = excluded.model, provider_session_id = excluded.provider_session_id,
    input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
    cache_read_tokens = excluded.cache_read_tokens, cache_write_tokens = excluded.cache_write_tokens,
    cost_usd = excluded.cost_usd
WHERE turns.status = 'running'
"""
RUNNING = "SELECT id FROM turns WHERE session_id = ? AND status = 'running' LIMIT ?"
CLOSE = """
UPDATE turns SET status = ?, failure_reason = ?, finished_at = ? WHERE session_id = ? AND status = 'running'
"""
RUNNING_COUNT = "SELECT count(*) AS n FROM turns WHERE status = 'running'"

INSERT_REFUSAL = "INSERT INTO refusals (session_id, what, reason, created_at) VALUES (?, ?, ?, ?)"
TRIM_REFUSALS = """
DELETE FROM refusals WHERE session_id = ? AND position <= (
    SELECT position FROM refusals WHERE session_id = ? ORDER BY position DESC LIMIT 1 OFFSET ?)
"""
REFUSALS = "SELECT what, reason, created_at FROM refusals WHERE session_id = ? ORDER BY position DESC LIMIT ?"
_REFUSALS_KEPT = 100

INSERT_DROPPED = """
INSERT INTO dropped_messages (channel_type, platform_id, sender_id, reason, created_at) VALUES (?, ?, ?, ?, ?)
"""
TRIM_DROPPED = """
DELETE FROM dropped_messages WHERE position <= (
    SELECT position FROM dropped_messages ORDER BY position DESC LIMIT 1 OFFSET ?)
"""
_DROPPED_KEPT = 1000


def copy(connection: sqlite3.Connection, session_id: str, turn: Turn) -> None:
    """Take over what an agent says of a turn."""
    values = {name: getattr(turn, name) for name in Turn.__slots__}
    connection.execute(UPSERT, values | {"session_id": session_id})


def running(connection: sqlite3.Connection, session_id: str, limit: int = 10) -> list[str]:
    """Turns that have not ended as far as the host knows."""
    return [row["id"] for row in connection.execute(RUNNING, (session_id, limit))]


def close_running(connection: sqlite3.Connection, session_id: str, status: str, reason: str, now: str) -> None:
    """End the running turns of a session whose agent is gone."""
    connection.execute(CLOSE, (status, reason, now, session_id))


def running_count(connection: sqlite3.Connection) -> int:
    """How many turns run in all sessions."""
    row = one(connection, RUNNING_COUNT)
    return 0 if row is None else int(row["n"])


def refuse(connection: sqlite3.Connection, session_id: str, what: str, reason: str, now: str) -> None:
    """Record something of an agent's that was not taken; the newest are kept."""
    connection.execute(INSERT_REFUSAL, (session_id, what[:200], reason[:500], now))
    connection.execute(TRIM_REFUSALS, (session_id, session_id, _REFUSALS_KEPT))


def refusals(connection: sqlite3.Connection, session_id: str, limit: int = 20) -> list[sqlite3.Row]:
    """What was refused, the newest first."""
    return connection.execute(REFUSALS, (session_id, limit)).fetchall()


def drop(
    connection: sqlite3.Connection, channel_type: str, platform_id: str, sender_id: str | None, reason: str, now: str
) -> None:
    """Record an event that nobody is wired for; the newest are kept."""
    connection.execute(INSERT_DROPPED, (channel_type, platform_id, sender_id, reason, now))
    connection.execute(TRIM_DROPPED, (_DROPPED_KEPT,))
