"""What an admin has said of nodes: that one takes no more agents, or that it is gone for good."""

from __future__ import annotations

from host.central.database import Queryable, Transaction
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

ALL = "SELECT name, drained_at, lost_at FROM nodes ORDER BY name"
DRAIN = """
INSERT INTO nodes (name, drained_at) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET drained_at = coalesce(drained_at, excluded.drained_at)
"""
LOSE = """
INSERT INTO nodes (name, lost_at) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET lost_at = coalesce(lost_at, excluded.lost_at)
"""
READMIT = "DELETE FROM nodes WHERE name = ?"
SESSIONS_ON = "SELECT id FROM sessions WHERE run_settled = 0 AND node = ?"
UNSETTLED = "SELECT node, count(*) AS n FROM sessions WHERE run_settled = 0 AND node IS NOT NULL GROUP BY node"


@dataclass(frozen=True, slots=True)
class NodeWord(Row):
    """The admin's word on one node, with the times it was given."""

    name: str
    drained_at: str | None
    lost_at: str | None


def all_words(connection: Queryable) -> dict[str, NodeWord]:
    """What was said, by the node's name."""
    return {row["name"]: NodeWord.from_row(row) for row in connection.execute(ALL)}


def drain(tx: Transaction, name: str) -> None:
    """The node takes no more agents."""
    tx.execute(DRAIN, (name, tx.now))


def lose(tx: Transaction, name: str) -> None:
    """The node is gone for good: what ran there has ended."""
    tx.execute(LOSE, (name, tx.now))


def readmit(tx: Transaction, name: str) -> None:
    """The node takes agents again."""
    tx.execute(READMIT, (name,))


def sessions_on(connection: Queryable, name: str) -> list[str]:
    """The sessions whose last run was placed there and is not known to be over."""
    return [row["id"] for row in connection.execute(SESSIONS_ON, (name,))]


def unsettled(connection: Queryable) -> dict[str, int]:
    """How many runs of each node are not known to be over."""
    return {row["node"]: row["n"] for row in connection.execute(UNSETTLED)}
