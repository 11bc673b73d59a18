"""The log of schedules: each run a row, with its session, what it used, its outcome and that of what it said."""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from typing import Any

from host.central import sessions
from host.central.database import Queryable, Transaction, one
from host.central.sessions import Session
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

INSERT = """
INSERT INTO schedule_runs (id, schedule_id, due_at, started_at, finished_at, state, cause, session_id, message_id, note)
VALUES (:id, :schedule_id, :due_at, :started_at, :finished_at, :state, :cause, :session_id, :message_id, :note)
"""
BY_ID = "SELECT * FROM schedule_runs WHERE id = ?"
BY_MESSAGE = "SELECT * FROM schedule_runs INDEXED BY schedule_runs_by_message WHERE message_id = ?"
FINISH = """
UPDATE schedule_runs SET state = :state, finished_at = :now, note = coalesce(:note, note), delivery = :delivery,
    tokens = :tokens, cost_usd = :cost_usd
WHERE id = :id AND state IN ('running', 'delivering')
"""
# Runs whose message has its outcome, and runs of which nothing waits to be sent any more. The conditions of the partial
# indexes stand here word for word, or SQLite does not take them.
ANSWERED = """
SELECT r.*, i.status AS outcome, i.error, i.turn_id, t.stop_reason
FROM schedule_runs r INDEXED BY schedule_runs_open
LEFT JOIN ingest i ON i.message_id = r.message_id
LEFT JOIN turns t ON t.session_id = r.session_id AND t.id = i.turn_id
WHERE r.state IN ('running', 'delivering') AND r.state = 'running' AND (i.status IS NULL OR i.status <> 'pending')
ORDER BY r.position LIMIT :limit
"""
SENT = """
SELECT r.*, i.status AS outcome, i.error, i.turn_id, NULL AS stop_reason
FROM schedule_runs r INDEXED BY schedule_runs_open
LEFT JOIN ingest i ON i.message_id = r.message_id
WHERE r.state IN ('running', 'delivering') AND r.state = 'delivering' AND NOT EXISTS (
    SELECT 1 FROM deliveries d INDEXED BY deliveries_open_of_session
    WHERE d.session_id = r.session_id AND d.status IN ('pending', 'sending') AND d.in_reply_to = r.message_id)
ORDER BY r.position LIMIT :limit
"""
DELIVERING = """
UPDATE schedule_runs SET state = 'delivering', delivery = :delivery WHERE id = :id AND state = 'running'
"""
# Conversations of runs that are over, beyond the newest so many of each schedule, or not active since a time. Those of
# schedules that are gone count by time alone.
OLD_SESSIONS = """
WITH placed AS (
    SELECT s.id, s.last_active, r.state,
        row_number() OVER (PARTITION BY r.schedule_id ORDER BY r.position DESC) AS place
    FROM sessions s JOIN schedule_runs r ON r.session_id = s.id
    WHERE s.kind = 'schedule' AND s.status IN ('ended', 'archived')  -- not one that a person has taken up again
)
SELECT id FROM placed WHERE state NOT IN ('running', 'delivering') AND (place > :most OR last_active < :before)
UNION
SELECT s.id FROM sessions s
WHERE s.kind = 'schedule' AND s.status <> 'deleted' AND s.last_active < :before
    AND s.id NOT IN (SELECT session_id FROM schedule_runs WHERE session_id IS NOT NULL)
LIMIT :limit
"""
ANY_OPEN = """
SELECT 1 FROM schedule_runs INDEXED BY schedule_runs_open WHERE state IN ('running', 'delivering') LIMIT 1
"""
SAID = """
SELECT status, error, deliver_after, channel_type || ':' || platform_id AS chat FROM deliveries
WHERE session_id = :session_id AND in_reply_to = :message_id AND from_host = 0
    AND kind IN ('chat', 'card', 'question')
"""
USED = """
SELECT CAST(total(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens) AS INTEGER) AS tokens,
    total(cost_usd) AS usd
FROM usage WHERE session_id = :session_id AND (:whole = 1 OR turn_id = :turn_id)
"""
USED_ON_DAY = """
SELECT CAST(total(tokens) AS INTEGER) AS tokens, total(cost_usd) AS usd FROM schedule_runs
WHERE schedule_id = ? AND started_at >= ?
"""
LOG = """
SELECT r.*, s.name AS schedule FROM schedule_runs r JOIN schedules s ON s.id = r.schedule_id
WHERE (:schedule_id IS NULL OR r.schedule_id = :schedule_id) AND (:state IS NULL OR r.state = :state)
ORDER BY r.position DESC LIMIT :limit
"""
LAST_BEGUN = """
SELECT * FROM schedule_runs WHERE schedule_id = ? AND session_id IS NOT NULL ORDER BY position DESC LIMIT 1
"""
LAST = "SELECT * FROM schedule_runs WHERE schedule_id = ? ORDER BY position DESC LIMIT 1"
SINCE = """
SELECT s.name AS schedule, a.name AS agent_group, s.status, s.next_at, count(r.id) AS runs,
    coalesce(sum(r.state IN ('failed', 'undelivered')), 0) AS failed,
    CAST(total(r.tokens) AS INTEGER) AS tokens, total(r.cost_usd) AS cost_usd
FROM schedules s JOIN agent_groups a ON a.id = s.agent_group_id
LEFT JOIN schedule_runs r ON r.schedule_id = s.id AND r.started_at >= :since AND r.session_id IS NOT NULL
WHERE s.status IN ('active', 'paused', 'waiting') OR r.id IS NOT NULL
GROUP BY s.id ORDER BY cost_usd DESC, tokens DESC, s.name LIMIT :limit
"""
# The newest rows of a schedule are kept, and every one that goes on.
TRIM = """
DELETE FROM schedule_runs WHERE schedule_id = :schedule_id AND state NOT IN ('running', 'delivering') AND position <= (
    SELECT position FROM schedule_runs WHERE schedule_id = :schedule_id ORDER BY position DESC LIMIT 1 OFFSET :kept)
"""

KEPT = 1_000
"""Runs of one schedule that are kept; what they used stays in `usage`."""


class RunState(StrEnum):
    """What became of a run."""

    RUNNING = "running"
    DELIVERING = "delivering"  # the agent is done, and what it said is on its way
    OK = "ok"
    SILENT = "silent"  # it ended well, and had nothing to say
    FAILED = "failed"
    UNDELIVERED = "undelivered"  # what it said did not arrive
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # it was due, and a budget or a check said no
    MISSED = "missed"  # due times that are not made up for


@dataclass(frozen=True, slots=True)
class ScheduleRun(Row):
    """One run. `note` says why it ended so, or what it made up for."""

    position: int
    id: str
    schedule_id: str
    due_at: str
    started_at: str
    finished_at: str | None
    state: str
    cause: str
    session_id: str | None
    message_id: str | None
    note: str | None
    delivery: str | None
    tokens: int
    cost_usd: float


def old_sessions(connection: Queryable, before: str, most: int, limit: int = 200) -> list[Session]:
    """Conversations of runs that are over: not active since a time, or beyond the newest so many of their schedule.

    It goes through all runs, and belongs in no transaction.
    """
    rows = connection.execute(OLD_SESSIONS, {"before": before, "most": most, "limit": limit}).fetchall()
    return [sessions.get(connection, row["id"]) for row in rows]


def insert(
    tx: Transaction,
    *,
    id: str,
    schedule_id: str,
    due_at: str,
    now: str,
    state: RunState,
    cause: str = "due",
    session_id: str | None = None,
    message_id: str | None = None,
    note: str | None = None,
) -> None:
    """Note a run that begins, or one that does not take place. The oldest rows of the schedule go in time."""
    tx.execute(
        INSERT,
        {
            "id": id,
            "schedule_id": schedule_id,
            "due_at": due_at,
            "started_at": now,
            "finished_at": None if state == RunState.RUNNING else now,
            "state": state,
            "cause": cause,
            "session_id": session_id,
            "message_id": message_id,
            "note": note,
        },
    )
    tx.execute(TRIM, {"schedule_id": schedule_id, "kept": KEPT})


def finish(
    tx: Transaction,
    run_id: str,
    state: RunState,
    now: str,
    *,
    note: str | None = None,
    delivery: str | None = None,
    tokens: int = 0,
    cost_usd: float = 0.0,
) -> bool:
    """Give a run its outcome. False when it has one."""
    values = {
        "id": run_id,
        "state": state,
        "now": now,
        "note": note,
        "delivery": delivery,
        "tokens": tokens,
        "cost_usd": cost_usd,
    }
    return tx.execute(FINISH, values).rowcount > 0


def get(connection: Queryable, run_id: str) -> ScheduleRun | None:
    """The run with that id."""
    row = one(connection, BY_ID, (run_id,))
    return None if row is None else ScheduleRun.from_row(row)


def of_message(connection: Queryable, message_id: str) -> ScheduleRun | None:
    """The run that a message began."""
    row = one(connection, BY_MESSAGE, (message_id,))
    return None if row is None else ScheduleRun.from_row(row)


def is_any_open(connection: Queryable) -> bool:
    """Whether any run goes on."""
    return one(connection, ANY_OPEN) is not None


def answered(connection: Queryable, limit: int) -> list[sqlite3.Row]:
    """Running runs whose message has its outcome (`outcome`, `error`, `turn_id`, `stop_reason`; None: it is gone)."""
    return connection.execute(ANSWERED, {"limit": limit}).fetchall()


def sent(connection: Queryable, limit: int) -> list[sqlite3.Row]:
    """Runs that were delivering, and of which nothing waits to be sent any more; with the same."""
    return connection.execute(SENT, {"limit": limit}).fetchall()


def mark_delivering(tx: Transaction, run_id: str, delivery: str) -> None:
    """Note that the agent is done and something it said is still to be sent; `delivery` says what it waits for."""
    tx.execute(DELIVERING, {"id": run_id, "delivery": delivery})


def said(connection: Queryable, session_id: str, message_id: str) -> list[sqlite3.Row]:
    """`status, error, deliver_after, chat` of what was said in answer to a run's message."""
    return connection.execute(SAID, {"session_id": session_id, "message_id": message_id}).fetchall()


def used(connection: Queryable, session_id: str, turn_id: str | None, *, whole: bool) -> tuple[int, float]:
    """Tokens and dollars of a turn; `whole`: of all turns of its session."""
    row = one(connection, USED, {"session_id": session_id, "turn_id": turn_id, "whole": int(whole)})
    assert row is not None
    return row["tokens"], row["usd"]


def used_on_day(connection: Queryable, schedule_id: str, day: str) -> tuple[int, float]:
    """Tokens and dollars of the runs that began on a day (UTC) or later."""
    row = one(connection, USED_ON_DAY, (schedule_id, day))
    assert row is not None
    return row["tokens"], row["usd"]


def log(
    connection: Queryable, schedule_id: str | None = None, state: str | None = None, limit: int = 50
) -> list[sqlite3.Row]:
    """Runs with the name of their schedule (`schedule`), the newest first."""
    return connection.execute(LOG, {"schedule_id": schedule_id, "state": state, "limit": limit}).fetchall()


def last(connection: Queryable, schedule_id: str) -> ScheduleRun | None:
    """The newest row of a schedule's log."""
    row = one(connection, LAST, (schedule_id,))
    return None if row is None else ScheduleRun.from_row(row)


def last_begun(connection: Queryable, schedule_id: str) -> ScheduleRun | None:
    """The newest run that took place."""
    row = one(connection, LAST_BEGUN, (schedule_id,))
    return None if row is None else ScheduleRun.from_row(row)


def since(connection: Queryable, moment: str, limit: int = 20) -> list[dict[str, Any]]:
    """What acts by itself, and what that has used since then, the dearest first."""
    return [dict(row) for row in connection.execute(SINCE, {"since": moment, "limit": limit})]
