"""What a person can do about home channels: the chat of each platform in which an agent group is at home."""

from __future__ import annotations

from typing import Any

from host.central import agent_groups, audit, home_channels, messaging_groups
from host.central.database import Queryable, Transaction
from host.operations.push import push_to_agent_group
from host.services import Services


async def put(services: Services, *, agent_group: str, messaging_group: str) -> dict[str, Any]:
    """Make a chat the home of an agent group on that platform. Raises `InvalidValue`, `NotFound`."""

    def store(tx: Transaction) -> tuple[str, dict[str, Any]]:
        group = agent_groups.get_by_name(tx, agent_group)
        chat = messaging_groups.get_by_name(tx, messaging_group)
        home_channels.put(tx, group.id, chat)
        audit.record(tx, "home.set", group.name, after={"messaging_group": chat.address})
        return group.id, _shown(group.name, chat)

    agent_group_id, home = await services.central.write(store)
    await push_to_agent_group(services, agent_group_id)
    return home


async def list_all(services: Services, *, agent_group: str | None = None) -> list[dict[str, Any]]:
    """All homes, or those of one agent group."""

    def load(connection: Queryable) -> list[dict[str, Any]]:
        groups = agent_groups.all_groups(connection)
        if agent_group is not None:
            groups = [agent_groups.get_by_name(connection, agent_group)]
        return [_shown(group.name, chat) for group in groups for chat in home_channels.of(connection, group.id)]

    return await services.central.read(load)


async def remove(services: Services, *, agent_group: str, channel_type: str) -> dict[str, Any]:
    """Take the home of an agent group on a platform away. Raises `NotFound`."""

    def drop(tx: Transaction) -> str:
        group = agent_groups.get_by_name(tx, agent_group)
        home_channels.remove(tx, group.id, channel_type)
        audit.record(tx, "home.remove", group.name, before={"channel_type": channel_type})
        return group.id

    await push_to_agent_group(services, await services.central.write(drop))
    return {"removed": channel_type}


def _shown(agent_group: str, chat: messaging_groups.MessagingGroup) -> dict[str, Any]:
    return {
        "agent_group": agent_group,
        "channel_type": chat.channel_type,
        "messaging_group": chat.address,
        "name": chat.name,
    }
