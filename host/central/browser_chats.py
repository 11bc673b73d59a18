"""What the windows of a browser ask of the ledger about one session."""

from __future__ import annotations

import sqlite3
from typing import Any

from host.central.database import Queryable, one
from host.central.transcript import Known
from shared_schema.errors import FileDamaged
from shared_schema.rows import decode

# What a window shows has changed when one of these has.
MARKS = """
SELECT s.status, s.title, s.generation, s.unread_since, s.end_reason, s.run_id,
    (SELECT max(position) FROM ingest WHERE session_id = s.id),
    (SELECT count(*) FROM ingest INDEXED BY ingest_open WHERE session_id = s.id AND status = 'pending'),
    (SELECT max(position) FROM deliveries WHERE session_id = s.id),
    (SELECT count(*) FROM deliveries WHERE session_id = s.id AND status IN ('pending', 'sending')),
    (SELECT max(rowid) FROM turns WHERE session_id = s.id),
    (SELECT count(*) FROM turns INDEXED BY turns_running WHERE session_id = s.id AND status = 'running')
FROM sessions s WHERE s.id = ?
"""
OLDEST_OPEN = """
SELECT count(*) AS waiting, min(accepted_at) AS since FROM ingest INDEXED BY ingest_open
WHERE session_id = ? AND status = 'pending' AND trigger = 1 AND kind = 'chat'
"""
FILES_IN = "SELECT content, spool FROM ingest WHERE message_id = ? AND session_id = ?"
FILES_OUT = "SELECT content, NULL AS spool FROM deliveries WHERE message_out_id = ? AND session_id = ?"
WITHDRAWN = """
SELECT d.message_out_id FROM turns t INDEXED BY turns_withdrawn
JOIN deliveries d ON d.session_id = t.session_id AND d.turn_id = t.id
WHERE t.session_id = ? AND t.withdrawn = 1 ORDER BY d.position DESC LIMIT 10000
"""
# What an agent says is here before it is in history, which is a file of its own.
SAID = """
SELECT d.position, d.message_out_id, d.created_at, d.kind, d.status, d.content, a.name AS agent_group
FROM deliveries d INDEXED BY deliveries_by_session
JOIN sessions s ON s.id = d.session_id JOIN agent_groups a ON a.id = s.agent_group_id
WHERE d.session_id = ? AND d.position > ? AND d.from_host = 0 AND d.deliver_after IS NULL
  AND d.kind IN ('chat', 'card', 'question') AND d.status <> 'suppressed'
ORDER BY d.position LIMIT 100
"""
LAST_SAID = "SELECT max(position) AS position FROM deliveries WHERE session_id = ?"
COST = "SELECT sum(cost_usd) AS dollars FROM turns WHERE session_id = ?"


def marks(connection: Queryable, session_id: str) -> tuple[Any, ...]:
    """What changes whenever something changes that a window shows; of no session, nothing."""
    return tuple(one(connection, MARKS, (session_id,)) or ())


def waiting(connection: Queryable, session_id: str) -> tuple[int, str | None]:
    """How many messages wait for their answer, and since when the oldest of them."""
    row = one(connection, OLDEST_OPEN, (session_id,))
    return (0, None) if row is None else (row["waiting"], row["since"])


def withdrawn(connection: Queryable, session_id: str) -> frozenset[str]:
    """The messages of an agent that belong to exchanges that were taken back."""
    return frozenset(row["message_out_id"] for row in connection.execute(WITHDRAWN, (session_id,)))


def said_behind(connection: Queryable, session_id: str, position: int | None) -> tuple[int, list[dict[str, Any]]]:
    """What an agent said behind a position of the ledger, as entries of a transcript, and the newest position.

    Nothing is said behind None: where the session stands is all that is asked then.
    """
    rows = [] if position is None else connection.execute(SAID, (session_id, position)).fetchall()
    row = one(connection, LAST_SAID, (session_id,))
    newest = 0 if row is None else int(row["position"] or 0)
    return newest, [_entry(each) for each in rows]


def _entry(row: sqlite3.Row) -> dict[str, Any]:
    known = Known(
        row["message_out_id"],
        "out",
        row["created_at"],
        row["agent_group"],
        row["kind"],
        row["status"],
        row["content"],
        0,
    )
    return known.as_entry()


def dollars(connection: Queryable, session_id: str) -> float:
    """What the turns of a session have cost, as far as a price is known."""
    row = one(connection, COST, (session_id,))
    return 0.0 if row is None else float(row["dollars"] or 0.0)


def files_of(connection: Queryable, session_id: str, message_id: str) -> tuple[list[str], str | None] | None:
    """Where the files of a message are, below the folder of its session; and the spool folder that has them before.

    None where the ledger does not have the message.
    """
    known: tuple[list[str], str | None] | None = None
    for statement in (FILES_IN, FILES_OUT):
        row = one(connection, statement, (message_id, session_id))
        if row is None:
            continue
        known = [], None
        try:
            files = decode(row["content"]).get("files")
        except FileDamaged:
            continue
        if isinstance(files, list):
            paths = [str(each.get("path") if isinstance(each, dict) else each) for each in files]
            return paths, row["spool"]
    return known
