"""What a person can do about destinations: the chats and the agents an agent group may send to by name."""

from __future__ import annotations

from typing import Any

from host.central import agent_groups, audit, messaging_groups
from host.central.agent_links import AGENT_CHANNEL
from host.central.database import Queryable, Transaction
from host.operations.push import push_to_agent_group
from host.services import Services
from shared_schema.clock import to_text
from shared_schema.rows import Destination, DestinationType


async def add(services: Services, *, agent_group: str, name: str, messaging_group: str) -> dict[str, Any]:
    """Let an agent group send to a chat under a name, or to another agent (`agent:NAME`), which may answer it.

    Raises `InvalidValue`, `NotFound`, `Conflict`.
    """
    now = to_text(services.clock.now())

    def store(tx: Transaction) -> str:
        group = agent_groups.get_by_name(tx, agent_group)
        channel, _, target = messaging_group.partition(":")
        if channel == AGENT_CHANNEL:
            agent_groups.add_link(tx, group, name, agent_groups.get_by_name(tx, target))
            audit.record(tx, "destination.add", f"{agent_group} {name}", after={"agent_group": target})
            return group.id
        chat = messaging_groups.get_by_name(tx, messaging_group)
        agent_groups.add_destination(tx, group.id, name, chat.id, now)
        audit.record(tx, "destination.add", f"{agent_group} {name}", after={"messaging_group": chat.address})
        return group.id

    await push_to_agent_group(services, await services.central.write(store))
    return next(d for d in await list_all(services, agent_group=agent_group) if d["name"] == name)


async def list_all(services: Services, *, agent_group: str | None = None) -> list[dict[str, Any]]:
    """All destinations, or those of one agent group."""

    def load(connection: Queryable) -> list[dict[str, Any]]:
        groups = agent_groups.all_groups(connection)
        if agent_group is not None:
            groups = [agent_groups.get_by_name(connection, agent_group)]
        return [
            {
                "agent_group": group.name,
                "name": destination.name,
                "messaging_group": _place(destination),
                "display_name": destination.display_name,
            }
            for group in groups
            for destination in agent_groups.destinations(connection, group.id)
        ]

    return await services.central.read(load)


def _place(destination: Destination) -> str:
    """Where it leads, as it is written: `agent:NAME` for another agent."""
    if destination.type == DestinationType.AGENT_GROUP:
        return f"{AGENT_CHANNEL}:{destination.display_name}"
    return f"{destination.channel_type}:{destination.platform_id}"


async def remove(services: Services, *, agent_group: str, name: str) -> dict[str, Any]:
    """Take a destination away; what the agent sends there from now on is refused. Raises `NotFound`."""

    def drop(tx: Transaction) -> str:
        group = agent_groups.get_by_name(tx, agent_group)
        agent_groups.remove_destination(tx, group.id, name)
        audit.record(tx, "destination.remove", f"{agent_group} {name}")
        return group.id

    await push_to_agent_group(services, await services.central.write(drop))
    return {"removed": name}
