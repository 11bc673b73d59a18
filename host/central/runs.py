"""Runs of agents, as columns of `sessions`: the last one that was begun, and whether its end was counted."""

from __future__ import annotations

from host.central.database import Queryable, Transaction
from host.central.sessions import Session

BEGIN = """
UPDATE sessions SET run_id = ?, run_number = run_number + 1, run_settled = 0, runtime = ?, node = ?
WHERE id = ? AND status IN ('active', 'ended') RETURNING run_number
"""
SETTLE = "UPDATE sessions SET run_settled = 1, start_failures = ? WHERE id = ? AND run_id = ? AND run_settled = 0"
PLACED = "UPDATE sessions SET node = ? WHERE id = ? AND run_id = ?"
TELL_WAITS = """
UPDATE sessions SET waits_told = run_number WHERE id = ? AND run_settled = 0 AND waits_told IS NOT run_number
"""
UNSETTLED = "SELECT id FROM sessions WHERE run_settled = 0"
UNSETTLED_RUNTIMES = "SELECT DISTINCT runtime FROM sessions WHERE run_settled = 0 AND runtime IS NOT NULL"
NAMES_OF_LIVING = """
SELECT s.id, a.name FROM sessions s JOIN agent_groups a ON a.id = s.agent_group_id WHERE s.run_settled = 0
"""
LIVING_OF_AGENT_GROUP = "SELECT * FROM sessions WHERE agent_group_id = ? AND status = 'active' AND run_settled = 0"


def begin(tx: Transaction, session_id: str, run_id: str, runtime: str, node: str | None = None) -> int | None:
    """Note a run before it is started, so that its death is counted also by the next host. Returns its number.

    None when the session is not active any more.
    """
    rows = tx.execute(BEGIN, (run_id, runtime, node, session_id)).fetchall()
    return int(rows[0]["run_number"]) if rows else None


def placed(tx: Transaction, session_id: str, run_id: str, node: str) -> None:
    """Note on which node a run is, where that is decided after it was begun."""
    tx.execute(PLACED, (node, session_id, run_id))


def finalize(tx: Transaction, session_id: str, run_id: str, start_failures: int) -> bool:
    """Note that a run is over and counted. False when that was done before."""
    return tx.execute(SETTLE, (start_failures, session_id, run_id)).rowcount > 0


def tell_waits(tx: Transaction, session_id: str) -> bool:
    """Note that people are told that a session waits for the node of its last run. False where they were."""
    return tx.execute(TELL_WAITS, (session_id,)).rowcount > 0


def unsettled(connection: Queryable) -> list[str]:
    """Sessions whose last run may live, or died uncounted."""
    return [row["id"] for row in connection.execute(UNSETTLED)]


def unsettled_runtimes(connection: Queryable) -> set[str]:
    """The runtimes of those."""
    return {row["runtime"] for row in connection.execute(UNSETTLED_RUNTIMES)}


def names_of_living(connection: Queryable) -> dict[str, str]:
    """The names of their agent groups, by session id."""
    return {row["id"]: row["name"] for row in connection.execute(NAMES_OF_LIVING)}


def living_of_agent_group(connection: Queryable, agent_group_id: str) -> list[Session]:
    """The active sessions of an agent group that may have an agent."""
    return [Session.from_row(row) for row in connection.execute(LIVING_OF_AGENT_GROUP, (agent_group_id,))]
