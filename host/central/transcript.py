"""What was said in a session, from the ledger: both directions in the order in which the host took them."""

from __future__ import annotations

import sqlite3
from typing import Any

from shared_schema.rows import decode

LAST = """
SELECT * FROM (
    SELECT message_id AS id, 'in' AS direction, accepted_at AS time, coalesce(sender_name, sender_id) AS sender,
           kind, status, content, position AS place, 0 AS behind
    FROM ingest WHERE session_id = :session
    UNION ALL
    SELECT d.message_out_id, 'out', d.created_at, CASE d.from_host WHEN 1 THEN 'dumbwaiter' ELSE a.name END,
           d.kind, d.status, d.content, d.after_position, d.position
    FROM deliveries d JOIN sessions s ON s.id = d.session_id JOIN agent_groups a ON a.id = s.agent_group_id
    WHERE d.session_id = :session
) ORDER BY place DESC, behind DESC LIMIT :limit
"""


def of_session(connection: sqlite3.Connection, session_id: str, *, limit: int) -> list[dict[str, Any]]:
    """The newest messages of a session, oldest first: id, direction, time, sender, text, files, kind, status."""
    rows = connection.execute(LAST, {"session": session_id, "limit": limit}).fetchall()
    return [_entry(row) for row in reversed(rows)]


def _entry(row: sqlite3.Row) -> dict[str, Any]:
    content = decode(row["content"])
    return {
        "id": row["id"],
        "direction": row["direction"],
        "time": row["time"],
        "sender": row["sender"],
        "text": str(content.get("text", "")),
        "files": [file["name"] if isinstance(file, dict) else str(file) for file in content.get("files", [])],
        "kind": row["kind"],
        "status": row["status"],
    }
