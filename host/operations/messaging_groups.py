"""What a person can do about messaging groups (chats)."""

from __future__ import annotations

import dataclasses
from difflib import get_close_matches
from typing import Any

from host.central import agent_groups, audit
from host.central import messaging_groups as table
from host.central.agent_links import AGENT_CHANNEL
from host.central.database import Queryable, Transaction
from host.central.messaging_groups import MessagingGroup, UnknownSender, default_unknown_sender
from host.channels.registry import installed
from host.operations.push import push_to_agent_group
from host.services import Services
from host.sessions.reset import zone as require_zone
from shared_schema.clock import to_text
from shared_schema.errors import InvalidValue
from shared_schema.ids import Prefix, new_id


async def add(
    services: Services,
    *,
    address: str,
    name: str | None = None,
    is_group: bool = False,
    timezone: str | None = None,
    unknown_sender: str | None = None,
) -> dict[str, Any]:
    """Register a chat. Without a rule for unknown senders it is `pair` in direct chats and `strict` in groups.

    Raises `InvalidValue`, `Conflict`.
    """
    channel_type, platform_id = table.parse_address(address)
    known = {*services.channels, *services.running.names()} - {
        AGENT_CHANNEL
    }  # one that cannot be connected yet is one all the same
    if channel_type not in known:
        raise InvalidValue(
            f"this host has no channel '{channel_type}', only {', '.join(sorted(known))}",
            hint=_how_to_have(channel_type),
        )
    group = MessagingGroup(
        id=new_id(Prefix.MESSAGING_GROUP),
        channel_type=channel_type,
        platform_id=platform_id,
        name=name,
        is_group=int(is_group),
        created_at=to_text(services.clock.now()),
        timezone=_zone(timezone),
        unknown_sender=_rule(unknown_sender) or default_unknown_sender(channel_type, is_group=is_group),
    )

    def store(tx: Transaction) -> None:
        table.insert(tx, group)
        audit.record(tx, "messaging_group.add", address, after=_audited(group))

    await services.central.write(store)
    return await show(services, address=address)


async def list_all(services: Services, *, search: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
    """All chats, by address; the first `limit` of them, or those in whose address or name `search` stands."""
    most = None if limit is None else max(0, limit)
    return await services.central.read(lambda c: [_shown(c, group) for group in table.all_groups(c, search, most)])


async def show(services: Services, *, address: str) -> dict[str, Any]:
    """One chat. Raises `InvalidValue`, `NotFound`."""
    return await services.central.read(lambda c: _shown(c, table.get_by_name(c, address)))


async def change(
    services: Services,
    *,
    address: str,
    name: str | None = None,
    is_group: bool | None = None,
    timezone: str | None = None,
    unknown_sender: str | None = None,
) -> dict[str, Any]:
    """Change a chat's name, whether it is a group, its time zone (empty: the setting), or who may speak there."""
    zone, rule = _zone(timezone), _rule(unknown_sender)

    def store(tx: Transaction) -> list[str]:
        group = before = table.get_by_name(tx, address)
        if name is not None:
            group = dataclasses.replace(group, name=name or None)
        if is_group is not None:
            group = dataclasses.replace(group, is_group=int(is_group))
        if timezone is not None:
            group = dataclasses.replace(group, timezone=zone)
        if rule is not None:
            group = dataclasses.replace(group, unknown_sender=rule)
        table.update(tx, group)
        audit.record(tx, "messaging_group.set", address, before=_audited(before), after=_audited(group))
        return table.users(tx, group.id)

    for agent_group_id in await services.central.write(store):
        await push_to_agent_group(services, agent_group_id)
    return await show(services, address=address)


async def remove(services: Services, *, address: str) -> dict[str, Any]:
    """Remove a chat with its wirings and the destinations that point at it. Sessions stay, and take nothing from it."""

    def drop(tx: Transaction) -> list[str]:
        group = table.get_by_name(tx, address)
        users = table.users(tx, group.id)
        table.delete(tx, group.id)
        audit.record(tx, "messaging_group.remove", address, before=_audited(group))
        return users

    for agent_group_id in await services.central.write(drop):
        await push_to_agent_group(services, agent_group_id)
    return {"removed": address}


def _how_to_have(channel_type: str) -> str:
    """What to type for a channel that the host does not have."""
    if meant := get_close_matches(channel_type, installed(), 1, 0.75):
        return f"`dumbwaiter channel add {meant[0]}` sets one up"
    return "a chat on the terminal is cli: and any name, such as `dumbwaiter messaging-group add cli:team`"


def _rule(unknown_sender: str | None) -> UnknownSender | None:
    if unknown_sender is not None and unknown_sender not in set(UnknownSender):
        raise InvalidValue(
            f"'{unknown_sender}' is not a rule for unknown senders", hint=f"use one of {', '.join(UnknownSender)}"
        )
    return None if unknown_sender is None else UnknownSender(unknown_sender)


def _audited(group: MessagingGroup) -> dict[str, Any]:
    return {
        "name": group.name,
        "is_group": bool(group.is_group),
        "timezone": group.timezone,
        "unknown_sender": group.unknown_sender,
    }


def _zone(name: str | None) -> str | None:
    """The name of a time zone that exists, or None for an empty one. Raises `InvalidValue`."""
    return require_zone(name).key if name else None


def _shown(connection: Queryable, group: MessagingGroup) -> dict[str, Any]:
    wired = [agent_groups.by_id(connection, w.agent_group_id) for w in table.wirings_of(connection, group.id)]
    return {
        "id": group.id,
        "address": group.address,
        "channel_type": group.channel_type,
        "platform_id": group.platform_id,
        "name": group.name,
        "is_group": bool(group.is_group),
        "timezone": group.timezone,
        "unknown_sender": group.unknown_sender,
        "agent_groups": [agent.name for agent in wired if agent is not None],
        "created_at": group.created_at,
    }
