"""What has ended since it was last asked: turns, messages and deliveries, for who counts them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from host.central.database import Queryable, one

_MOST_ROWS = 20_000

TURNS = """
SELECT t.rowid AS place, t.status, t.failure_reason, t.started_at AS began, t.finished_at AS ended,
    a.name AS agent_group, t.input_tokens, t.output_tokens, t.cost_usd
FROM turns t JOIN sessions s ON s.id = t.session_id JOIN agent_groups a ON a.id = s.agent_group_id
WHERE t.rowid > :seen OR t.rowid IN (SELECT value FROM json_each(:open)) ORDER BY t.rowid LIMIT :limit
"""
MESSAGES = """
SELECT i.position AS place, i.status, i.accepted_at AS began, i.finished_at AS ended, a.name AS agent_group
FROM ingest i JOIN agent_groups a ON a.id = i.agent_group_id
WHERE (i.position > :seen OR i.position IN (SELECT value FROM json_each(:open))) AND i.kind = 'chat'
ORDER BY i.position LIMIT :limit
"""
DELIVERIES = """
SELECT position AS place, status, created_at AS began, finished_at AS ended, channel_type
FROM deliveries WHERE position > :seen OR position IN (SELECT value FROM json_each(:open))
ORDER BY position LIMIT :limit
"""
NEWEST = {
    TURNS: "SELECT coalesce(max(rowid), 0) AS place FROM turns",
    MESSAGES: "SELECT coalesce(max(position), 0) AS place FROM ingest",
    DELIVERIES: "SELECT coalesce(max(position), 0) AS place FROM deliveries",
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
        values = {"seen": self.seen, "open": str(sorted(self.open)), "limit": _MOST_ROWS}
        rows = connection.execute(self.statement, values).fetchall()
        new = [row for row in rows if row["place"] > self.seen]
        self.open = {row["place"] for row in rows if row["ended"] is None}
        self.seen = max((row["place"] for row in rows), default=self.seen)
        return [row for row in rows if row["ended"] is not None], len(new)
