"""Which agent groups an agent group may write to, by the names it calls them."""

from __future__ import annotations

from host.central.database import Queryable, Transaction, one
from shared_schema.rows import Destination, DestinationType

AGENT_CHANNEL = "agent"
"""Stands before the colon of an address that is an agent group (to ask it) or a session (to answer it)."""

INSERT = (
    "INSERT INTO agent_links (agent_group_id, name, target_id, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
DELETE = "DELETE FROM agent_links WHERE agent_group_id = ? AND name = ?"
NAMED = "SELECT 1 FROM agent_links WHERE agent_group_id = ? AND name = ?"
BETWEEN = "SELECT 1 FROM agent_links WHERE agent_group_id = ? AND target_id = ?"
CHILDREN = "SELECT count(*) AS n FROM agent_links WHERE target_id = ? AND name = 'parent'"
OF = """
SELECT l.name, l.target_id, a.name AS target FROM agent_links l JOIN agent_groups a ON a.id = l.target_id
WHERE l.agent_group_id = ? ORDER BY l.name
"""


def add(tx: Transaction, agent_group_id: str, name: str, target_id: str, now: str) -> bool:
    """Let an agent group write to another one; False when that name is one of its links already."""
    return tx.execute(INSERT, (agent_group_id, name, target_id, now)).rowcount > 0


def remove(tx: Transaction, agent_group_id: str, name: str) -> bool:
    """Take a link away; False when there is none of that name."""
    return tx.execute(DELETE, (agent_group_id, name)).rowcount > 0


def is_named(connection: Queryable, agent_group_id: str, name: str) -> bool:
    """Whether an agent group calls another one by that name."""
    return one(connection, NAMED, (agent_group_id, name)) is not None


def is_between(connection: Queryable, agent_group_id: str, target_id: str) -> bool:
    """Whether an agent group may write to another one now."""
    return one(connection, BETWEEN, (agent_group_id, target_id)) is not None


def children(connection: Queryable, agent_group_id: str) -> int:
    """How many agents that are there were made by an agent group: they call it their parent."""
    row = one(connection, CHILDREN, (agent_group_id,))
    return 0 if row is None else int(row["n"])


def of(connection: Queryable, agent_group_id: str) -> list[Destination]:
    """The agent groups that one may write to, as rows of `inbound.db: destinations`."""
    return [
        Destination(
            name=row["name"],
            display_name=row["target"],
            type=DestinationType.AGENT_GROUP,
            channel_type=AGENT_CHANNEL,
            platform_id=row["target_id"],
            agent_group_id=row["target_id"],
        )
        for row in connection.execute(OF, (agent_group_id,))
    ]
