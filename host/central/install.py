"""Which install a registry belongs to, and what becomes of one that turns out to be a copy.

A copy gets an id of its own: no agent, no container and no record of the original's is ever found under it. What was
open when the copy was made is the original's to answer and to send, so here it ends, and what the copied agents' files
still hold is of an older generation. The first id stays, as the key of what agents were shown hashed.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from shared_schema.database import reader
from shared_schema.errors import FileTrouble
from shared_schema.ids import Prefix, new_id

CURRENT = "SELECT id FROM install ORDER BY rowid DESC LIMIT 1"
FIRST = "SELECT id FROM install ORDER BY rowid LIMIT 1"
INSERT = "INSERT INTO install (id, created_at) VALUES (?, ?)"
BECOME_A_COPY = (
    "UPDATE ingest SET status = 'cancelled', finished_at = :now, recorded = (state <> 'written') "
    "WHERE status = 'pending'",
    "UPDATE deliveries SET status = 'suppressed', error = :sentence, finished_at = :now "
    "WHERE status IN ('pending', 'sending')",
    "UPDATE turns SET status = 'cancelled', failure_reason = 'stopped', error = :sentence, finished_at = :now "
    "WHERE status = 'running'",
    "UPDATE sessions SET run_settled = 1, start_failures = 0 WHERE run_settled = 0",
    "UPDATE routes SET generation = 1 + max(generation, "
    "coalesce((SELECT max(s.generation) FROM sessions s WHERE s.route_id = routes.id), 0))",
    "UPDATE sessions SET generation = (SELECT r.generation FROM routes r WHERE r.id = sessions.route_id) "
    "WHERE id IN (SELECT active_session_id FROM routes)",
    # What runs by itself does so in the original: done twice, it costs twice and is said twice.
    "INSERT INTO schedules_paused (id, since, by, where_from) SELECT 1, :now, 'the host', 'this folder is a copy' "
    "WHERE EXISTS (SELECT 1 FROM schedules WHERE status IN ('active', 'waiting')) ON CONFLICT DO NOTHING",
)
_LEFT_TO_THE_ORIGINAL = "this folder is a copy: the original was left to deal with it"


def current(connection: sqlite3.Connection) -> str | None:
    """The install's id; None in a new registry."""
    row = connection.execute(CURRENT).fetchone()
    return None if row is None else str(row["id"])


def first(connection: sqlite3.Connection) -> str:
    """The id that the registry was made with. Raises `LookupError` in a new one."""
    row = connection.execute(FIRST).fetchone()
    if row is None:
        raise LookupError("the registry belongs to no install yet")
    return str(row["id"])


def begin(connection: sqlite3.Connection, now: str) -> str:
    """Give the registry an id."""
    install_id = new_id(Prefix.INSTALL)
    connection.execute(INSERT, (install_id, now))
    return install_id


def become_a_copy(connection: sqlite3.Connection, now: str) -> str:
    """Give the registry a new id, and end what was open in the original; the id."""
    for statement in BECOME_A_COPY:
        connection.execute(statement, {"now": now, "sentence": _LEFT_TO_THE_ORIGINAL})
    return begin(connection, now)


def id_in(path: Path) -> str | None:
    """The install's id in a registry that is not open, and is not touched; None where none can be read."""
    if not path.exists():
        return None
    try:
        with reader(path) as connection:
            return current(connection)
    except FileTrouble:  # the host itself will say what is wrong with it
        return None
