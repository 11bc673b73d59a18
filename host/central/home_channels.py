"""The chat of each platform in which an agent group is at home: where it writes without having been asked."""

from __future__ import annotations

from collections.abc import Sequence

from host.central import agent_groups
from host.central.database import Queryable, Transaction
from host.central.messaging_groups import MessagingGroup
from shared_schema.errors import NotFound
from shared_schema.rows import Destination, DestinationType

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


def put(tx: Transaction, agent_group_id: str, chat: MessagingGroup) -> None:
    """Make a chat an agent group's home on its platform, in place of the one before."""
    tx.execute(SET, (agent_group_id, chat.channel_type, chat.id, tx.now))


def remove(tx: Transaction, agent_group_id: str, channel_type: str) -> None:
    """Take the home on a platform away. Raises `NotFound`."""
    if not tx.execute(REMOVE, (agent_group_id, channel_type)).rowcount:
        raise NotFound(f"there is no home on '{channel_type}'", hint="`dumbwaiter home list` shows all")


def reachable(
    connection: Queryable, agent_group_id: str, homes: Sequence[MessagingGroup] | None = None
) -> list[Destination]:
    """Where an agent group may send, by name: its destinations, and its homes as `home-<channel type>`.

    A home that is a destination already keeps the one name it has. `homes`: where they were read already.
    """
    found = agent_groups.destinations(connection, agent_group_id)
    names = {each.name for each in found}
    places = {(each.channel_type, each.platform_id) for each in found}
    for chat in of(connection, agent_group_id) if homes is None else homes:
        name = f"home-{chat.channel_type}"
        while name in names:
            name = f"{name}-home"
        if (chat.channel_type, chat.platform_id) not in places:
            names.add(name)
            found.append(
                Destination(name, chat.name, DestinationType.MESSAGING_GROUP, chat.channel_type, chat.platform_id, None)
            )
    return found


def of(connection: Queryable, agent_group_id: str) -> list[MessagingGroup]:
    """The homes of an agent group, by platform."""
    return [MessagingGroup.from_row(row) for row in connection.execute(HOMES, (agent_group_id,))]
