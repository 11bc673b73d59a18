"""The chat of each platform in which an agent group is at home: where it writes when nobody has asked."""

from __future__ import annotations

import sqlite3

from host.central.messaging_groups import MessagingGroup
from shared_schema.errors import NotFound

SET = """
INSERT INTO home_channels (agent_group_id, channel_type, messaging_group_id, created_at) VALUES (?, ?, ?, ?)
ON CONFLICT (agent_group_id, channel_type) DO UPDATE SET messaging_group_id = excluded.messaging_group_id,
    created_at = excluded.created_at
"""
REMOVE = "DELETE FROM home_channels WHERE agent_group_id = ? AND channel_type = ?"
HOMES = """
SELECT m.* FROM home_channels h JOIN messaging_groups m ON m.id = h.messaging_group_id
WHERE h.agent_group_id = ? ORDER BY h.channel_type
"""


def put(connection: sqlite3.Connection, agent_group_id: str, chat: MessagingGroup, now: str) -> None:
    """Make a chat an agent group's home on its platform, in place of the one before."""
    connection.execute(SET, (agent_group_id, chat.channel_type, chat.id, now))


def remove(connection: sqlite3.Connection, agent_group_id: str, channel_type: str) -> None:
    """Take the home on a platform away. Raises `NotFound`."""
    if not connection.execute(REMOVE, (agent_group_id, channel_type)).rowcount:
        raise NotFound(f"there is no home on '{channel_type}'", hint="`dumbwaiter home list` shows all")


def of(connection: sqlite3.Connection, agent_group_id: str) -> list[MessagingGroup]:
    """The homes of an agent group, by platform."""
    return [MessagingGroup.from_row(row) for row in connection.execute(HOMES, (agent_group_id,))]
