"""The host's copy of every turn."""

from __future__ import annotations

import sqlite3

from host.central.database import Queryable, Transaction, one
from shared_schema.rows import FailureReason, Turn, TurnStatus

# What is final stays; a running turn takes what the agent says of it next. One that ends in a conversation that was
# taken back meanwhile is taken back with it.
UPSERT = """
INSERT INTO turns (session_id, id, status, started_at, finished_at, failure_reason, provider, model,
    provider_session_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, generation,
    reasoning_tokens, context_tokens, context_window, stop_reason, detail, fallback, error, attempt, withdrawn)
VALUES (:session_id, :id, :status, :started_at, :finished_at, :failure_reason, :provider, :model,
    :provider_session_id, :input_tokens, :output_tokens, :cache_read_tokens, :cache_write_tokens, :cost_usd,
    :generation, :reasoning_tokens, :context_tokens, :context_window, :stop_reason, :detail, :fallback, :error,
    :attempt, :status <> 'running' AND coalesce(:generation <> :present, 0))
ON CONFLICT (session_id, id) DO UPDATE SET
    status = excluded.status, finished_at = excluded.finished_at, failure_reason = excluded.failure_reason,
    provider = excluded.provider, model = excluded.model, provider_session_id = excluded.provider_session_id,
    input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
    cache_read_tokens = excluded.cache_read_tokens, cache_write_tokens = excluded.cache_write_tokens,
    cost_usd = excluded.cost_usd, generation = excluded.generation, reasoning_tokens = excluded.reasoning_tokens,
    context_tokens = excluded.context_tokens, context_window = excluded.context_window,
    stop_reason = excluded.stop_reason, detail = excluded.detail, fallback = excluded.fallback,
    error = excluded.error,
    attempt = max(coalesce(turns.attempt, 1), excluded.attempt),
    withdrawn = max(turns.withdrawn, excluded.withdrawn)
WHERE turns.status = 'running'
"""
RUNNING = "SELECT id FROM turns INDEXED BY turns_running WHERE session_id = ? AND status = 'running' LIMIT ?"
CLOSE = """
UPDATE turns INDEXED BY turns_running SET status = ?, failure_reason = ?, error = ?, finished_at = ?
WHERE session_id = ? AND status = 'running'
"""
LAST = """
SELECT id, status, failure_reason, error, attempt, started_at, finished_at, provider, model, input_tokens,
    cache_read_tokens, cache_write_tokens, output_tokens, context_tokens, context_window, stop_reason, detail, fallback,
    withdrawn
FROM turns WHERE session_id = ? ORDER BY rowid DESC LIMIT ?
"""
RUNNING_EVERYWHERE = """
SELECT t.session_id, a.name AS agent_group, t.started_at AS since, coalesce(t.attempt, 1) AS attempt
FROM turns t JOIN sessions s ON s.id = t.session_id JOIN agent_groups a ON a.id = s.agent_group_id
WHERE t.status = 'running' ORDER BY t.started_at LIMIT ?
"""
# What waits in sessions where no turn runs: one row for each, as old as its oldest message.
QUEUED = """
SELECT i.session_id, a.name AS agent_group, min(i.accepted_at) AS since, max(i.tries) + 1 AS attempt,
    count(*) AS messages
FROM ingest i INDEXED BY ingest_open
JOIN sessions s ON s.id = i.session_id JOIN agent_groups a ON a.id = s.agent_group_id
WHERE i.status = 'pending' AND i.trigger = 1 AND i.kind <> 'control'
    AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.session_id = i.session_id AND t.status = 'running')
GROUP BY i.session_id ORDER BY since LIMIT ?
"""
ANSWERED = """
SELECT model, fallback FROM turns WHERE session_id = ? AND id <> ? AND status = 'completed' ORDER BY rowid DESC LIMIT 1
"""
WITHDRAWN = """
SELECT id FROM turns INDEXED BY turns_withdrawn WHERE session_id = ? AND withdrawn = 1 ORDER BY rowid DESC LIMIT ?
"""
END = "SELECT failure_reason, detail FROM turns WHERE session_id = ? AND id = ?"
KNOWN = "SELECT 1 FROM turns WHERE session_id = ? AND id = ?"
COUNT = "SELECT count(*) AS n FROM turns WHERE session_id = ?"
RUNNING_COUNT = "SELECT count(*) AS n FROM turns WHERE status = 'running'"


def copy(
    tx: Transaction, session_id: str, turn: Turn, *, generation: int, tries: int = 0, error: str | None = None
) -> bool:
    """Take over what an agent says of a turn; whether it is over by that.

    `generation` is the session's; `tries` says how often its messages were tried before; `error` is what the people
    are told who asked.
    """
    values = {name: getattr(turn, name) for name in Turn.__slots__} | {
        "session_id": session_id,
        "present": generation,
        "failure_reason": FailureReason.of(turn.failure_reason),
        "error": error,
        "attempt": 1 + tries,
    }
    is_new = tx.execute(UPSERT, values).rowcount > 0
    return is_new and turn.status != TurnStatus.RUNNING


def running(connection: Queryable, session_id: str, limit: int = 10) -> list[str]:
    """Turns that have not ended as far as the host knows."""
    return [row["id"] for row in connection.execute(RUNNING, (session_id, limit))]


def is_known(connection: Queryable, session_id: str, turn_id: str) -> bool:
    """Whether the host has heard of a turn before."""
    return one(connection, KNOWN, (session_id, turn_id)) is not None


def close_running(tx: Transaction, session_id: str, status: TurnStatus, reason: FailureReason, sentence: str) -> None:
    """End the running turns of a session whose agent is gone; `sentence` says how it went."""
    tx.execute(CLOSE, (status, reason, sentence, tx.now, session_id))


def end_of(connection: Queryable, session_id: str, turn_id: str | None) -> tuple[str | None, bool]:
    """Why a turn failed, and whether there are words of its service about it."""
    row = None if turn_id is None else one(connection, END, (session_id, turn_id))
    return (None, False) if row is None else (row["failure_reason"], bool(row["detail"]))


def last(connection: Queryable, session_id: str, limit: int = 5) -> list[sqlite3.Row]:
    """The newest turns of a session, the newest first."""
    return connection.execute(LAST, (session_id, limit)).fetchall()


def at_work(connection: Queryable, limit: int = 100) -> tuple[list[sqlite3.Row], list[sqlite3.Row]]:
    """The turns that run, and the sessions in which messages wait and none does; both the oldest first."""
    running = connection.execute(RUNNING_EVERYWHERE, (limit,)).fetchall()
    return running, connection.execute(QUEUED, (limit,)).fetchall()


def answered_before(connection: Queryable, session_id: str, turn_id: str = "") -> tuple[str | None, str | None]:
    """Which model answered last in a session, before that turn, and why it was not the agent group's own."""
    row = one(connection, ANSWERED, (session_id, turn_id))
    return (None, None) if row is None else (row["model"], row["fallback"])


def count(connection: Queryable, session_id: str) -> int:
    """How many turns a session has had."""
    row = one(connection, COUNT, (session_id,))
    return 0 if row is None else int(row["n"])


def running_count(connection: Queryable) -> int:
    """How many turns run in all sessions."""
    row = one(connection, RUNNING_COUNT)
    return 0 if row is None else int(row["n"])


def withdrawn(connection: Queryable, session_id: str, limit: int = 1000) -> list[str]:
    """The turns of a session that were taken back: the newest, and so many at most."""
    return [row["id"] for row in connection.execute(WITHDRAWN, (session_id, limit))]
