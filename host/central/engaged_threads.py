"""Threads in which an agent was mentioned: with engage rule `mention-sticky` it takes all that is written there."""

from __future__ import annotations

from host.central.database import Queryable, Transaction, one

IS_ENGAGED = "SELECT 1 FROM engaged_threads WHERE wiring_id = ? AND thread_id = ?"
ENGAGE = "INSERT INTO engaged_threads (wiring_id, thread_id, engaged_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
TRIM = """
DELETE FROM engaged_threads WHERE rowid IN (
    SELECT rowid FROM engaged_threads WHERE wiring_id = ? ORDER BY rowid DESC LIMIT -1 OFFSET ?)
"""

KEPT = 1_000
"""Threads of one wiring; in older ones the agent needs a mention again."""


def is_engaged(connection: Queryable, wiring_id: str, thread_id: str) -> bool:
    """Whether the agent was mentioned in that thread."""
    return one(connection, IS_ENGAGED, (wiring_id, thread_id)) is not None


def engage(tx: Transaction, wiring_id: str, thread_id: str) -> None:
    """Note that it was."""
    if tx.execute(ENGAGE, (wiring_id, thread_id, tx.now)).rowcount:
        tx.execute(TRIM, (wiring_id, KEPT))
