"""What has ended since it was last asked: turns, messages and deliveries, for who counts them."""

from __future__ import annotations

import sqlite3
from dataclasses import field

from host.central.database import Queryable, one
from shared_schema.dataclass import dataclass

_MOST_ROWS = 20_000

# `place IN`, and no OR: with that SQLite walks through the whole table, with each look.
TURNS = """
SELECT t.rowid AS place, t.status, t.failure_reason, t.started_at AS began, t.finished_at AS ended,
    a.name AS agent_group, t.input_tokens, t.output_tokens, t.cost_usd
FROM turns t JOIN sessions s ON s.id = t.session_id JOIN agent_groups a ON a.id = s.agent_group_id
WHERE t.rowid IN (SELECT rowid FROM turns WHERE rowid > :seen UNION ALL SELECT value FROM json_each(:open))
ORDER BY t.rowid LIMIT :limit
"""
MESSAGES = """
SELECT i.position AS place, i.status, i.accepted_at AS began, i.finished_at AS ended, a.name AS agent_group
FROM ingest i JOIN agent_groups a ON a.id = i.agent_group_id
WHERE i.position IN (SELECT position FROM ingest WHERE position > :seen UNION ALL SELECT value FROM json_each(:open))
    AND i.kind = 'chat'
ORDER BY i.position LIMIT :limit
"""
DELIVERIES = """
SELECT position AS place, status, created_at AS began, finished_at AS ended, channel_type
FROM deliveries
WHERE position IN (SELECT position FROM deliveries WHERE position > :seen UNION ALL SELECT value FROM json_each(:open))
ORDER BY position LIMIT :limit
"""
# Messages of every kind but commands, as a trace shows them: with the turn that ended each, and the oldest of the
# messages that this turn answered, to which it belongs.
TRACED_MESSAGES = """
SELECT i.position AS place, i.message_id, i.session_id, i.channel_type, i.kind, i.status, i.tries, i.traceparent,
    i.accepted_at AS began, i.written_at, i.finished_at AS ended, a.id AS agent_group_id, a.name AS agent_group,
    t.id AS turn_id, t.status AS turn_status, t.started_at AS turn_began, t.finished_at AS turn_ended,
    t.failure_reason, t.provider, t.model, t.attempt, t.input_tokens, t.output_tokens, t.cost_usd,
    l.message_id AS leader_id, l.traceparent AS leader_traceparent
FROM ingest i JOIN agent_groups a ON a.id = i.agent_group_id
LEFT JOIN turns t ON t.session_id = i.session_id AND t.id = i.turn_id
LEFT JOIN ingest l ON l.position = (
    SELECT min(j.position) FROM ingest j INDEXED BY ingest_by_session
    WHERE j.session_id = i.session_id AND j.turn_id = i.turn_id AND j.trigger = 1
        AND j.position BETWEEN i.position - 10000 AND i.position)
WHERE i.position IN (SELECT position FROM ingest WHERE position > :seen UNION ALL SELECT value FROM json_each(:open))
    AND i.kind <> 'command'
ORDER BY i.position LIMIT :limit
"""
# What was sent, with the oldest message of the turn that sent it; without one, the message that it answers.
TRACED_DELIVERIES = """
SELECT d.position AS place, d.message_out_id, d.session_id, d.kind, d.from_host, d.channel_type, d.status, d.attempts,
    d.created_at AS began, d.finished_at AS ended, coalesce(l.message_id, r.message_id) AS leader_id,
    iif(l.message_id IS NULL, r.traceparent, l.traceparent) AS leader_traceparent
FROM deliveries d
LEFT JOIN ingest r ON r.message_id = d.in_reply_to AND r.session_id = d.session_id
LEFT JOIN ingest l ON l.position = (
    SELECT min(j.position) FROM (
        SELECT position, turn_id, trigger FROM ingest INDEXED BY ingest_by_session
        WHERE session_id = d.session_id ORDER BY position DESC LIMIT 500) j
    WHERE j.turn_id = d.turn_id AND j.trigger = 1)
WHERE d.position IN (
    SELECT position FROM deliveries WHERE position > :seen UNION ALL SELECT value FROM json_each(:open))
ORDER BY d.position LIMIT :limit
"""
# Turns over a message that died before the one that ended it; no other message was ended by them.
EARLIER_TURNS = """
SELECT t.id AS turn_id, t.status AS turn_status, t.started_at AS turn_began, t.finished_at AS turn_ended,
    t.failure_reason, t.provider, t.model, t.attempt, t.input_tokens, t.output_tokens, t.cost_usd
FROM turns t
WHERE t.session_id = :session_id AND t.status <> 'running' AND t.started_at >= :began AND t.started_at <= :ended
    AND NOT EXISTS (
        SELECT 1 FROM (
            SELECT turn_id FROM ingest INDEXED BY ingest_by_session
            WHERE session_id = :session_id ORDER BY position DESC LIMIT 500) i
        WHERE i.turn_id = t.id)
ORDER BY t.rowid LIMIT 20
"""
OPEN = {
    TRACED_MESSAGES: "SELECT position AS place FROM ingest WHERE status = 'pending' LIMIT ?",
    TRACED_DELIVERIES: "SELECT position AS place FROM deliveries WHERE status IN ('pending', 'sending') LIMIT ?",
}
"""What was open already when it was asked for the first time, where that is told as well."""

NEWEST = {
    TURNS: "SELECT coalesce(max(rowid), 0) AS place FROM turns",
    MESSAGES: "SELECT coalesce(max(position), 0) AS place FROM ingest",
    DELIVERIES: "SELECT coalesce(max(position), 0) AS place FROM deliveries",
    TRACED_MESSAGES: "SELECT coalesce(max(position), 0) AS place FROM ingest",
    TRACED_DELIVERIES: "SELECT coalesce(max(position), 0) AS place FROM deliveries",
}


@dataclass(slots=True)
class EndedFeed:
    """How far one table has been read, and which rows were still open then. Rows that ended before are not told."""

    statement: str
    seen: int | None = None
    open: set[int] = field(default_factory=set)

    def read(self, connection: Queryable) -> tuple[list[sqlite3.Row], int]:
        """What has ended since the last time, and how many rows are new."""
        if self.seen is None:  # what was before the first question is not counted
            row = one(connection, NEWEST[self.statement])
            self.seen = 0 if row is None else int(row["place"])
            if (open_now := OPEN.get(self.statement)) is not None:
                self.open = {row["place"] for row in connection.execute(open_now, (_MOST_ROWS // 2,))}
        values = {"seen": self.seen, "open": str(sorted(self.open)), "limit": _MOST_ROWS}
        rows = connection.execute(self.statement, values).fetchall()
        new = [row for row in rows if row["place"] > self.seen]
        self.open = {row["place"] for row in rows if row["ended"] is None}
        # Those that were open stand before it: without itself, a look that finds them alone would set it back.
        self.seen = max([self.seen, *(row["place"] for row in rows)])
        return [row for row in rows if row["ended"] is not None], len(new)


def earlier_turns(connection: Queryable, session_id: str, began: str, ended: str) -> list[sqlite3.Row]:
    """Turns of a session in that time whose messages were taken by a later one, the oldest first."""
    return connection.execute(EARLIER_TURNS, {"session_id": session_id, "began": began, "ended": ended}).fetchall()
