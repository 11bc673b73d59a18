"""Where a schedule speaks: the chat in which it was made, a destination or a home of its agent, or nowhere."""

from __future__ import annotations

from host.central import agent_groups, home_channels, messaging_groups
from host.central.database import Queryable
from host.central.deliveries import NO_CHAT
from host.central.schedules import Schedule
from shared_schema.errors import NotFound
from shared_schema.rows import Address

ORIGIN = "origin"
NOWHERE = "nowhere"
HOME = "home"


def address_of(connection: Queryable, schedule: Schedule) -> Address:
    """Where the runs of a schedule speak now. Raises `NotFound` when that is gone."""
    if schedule.speaks_in == NOWHERE:
        return Address(NO_CHAT, schedule.id)
    if schedule.speaks_in == ORIGIN:
        if schedule.channel_type is None or schedule.platform_id is None:
            raise NotFound("the chat in which it was made is not known")
        return Address(schedule.channel_type, schedule.platform_id, schedule.thread_id)
    return named(connection, schedule.agent_group_id, schedule.speaks_in)


def named(connection: Queryable, agent_group_id: str, name: str) -> Address:
    """The chat that an agent group knows by a name: a destination, `home` or `home-<channel>`. Raises `NotFound`."""
    if name == HOME:
        homes = home_channels.of(connection, agent_group_id)
        if not homes:
            raise NotFound("its agent is at home in no chat", hint=_how_to_settle(connection, agent_group_id))
        return Address(homes[0].channel_type, homes[0].platform_id)
    for each in home_channels.reachable(connection, agent_group_id):
        if each.name == name and each.channel_type is not None and each.platform_id is not None:
            return Address(each.channel_type, each.platform_id)
    group = agent_groups.by_id(connection, agent_group_id)
    lists = f"`dumbwaiter destination list {group.name if group is not None else ''}` shows where it may send"
    raise NotFound(f"'{name[:80]}' is not one of its agent's destinations or homes", hint=lists)


def _how_to_settle(connection: Queryable, agent_group_id: str) -> str:
    group = agent_groups.by_id(connection, agent_group_id)
    chats = messaging_groups.wired_to(connection, agent_group_id, 1)
    name, chat = group.name if group is not None else "AGENT", chats[0].address if chats else "CHAT"
    return f"`dumbwaiter home set {name} {chat}` makes one its home"


def zone_of(connection: Queryable, address: Address | None, setting: str) -> str:
    """The time zone of a chat, or the host's."""
    chat = None if address is None else messaging_groups.find(connection, address.channel_type, address.platform_id)
    return (chat and chat.timezone) or setting
