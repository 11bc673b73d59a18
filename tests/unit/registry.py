"""Rows of central.db that tests begin with."""

from __future__ import annotations

import sqlite3

from host.central import agent_groups, messaging_groups, routes
from host.central.agent_groups import AgentGroup, new_agent_group
from host.central.messaging_groups import MessagingGroup, Wiring
from host.central.sessions import Session
from shared_schema.ids import Prefix, new_id
from tests.support.transaction import at

NOW = "2026-02-28T12:00:00.000Z"
LATER = "2026-02-28T12:00:01.000Z"


def add_agent(connection: sqlite3.Connection, name: str = "assistant") -> AgentGroup:
    """An agent group."""
    group = new_agent_group(name, created_at=NOW, provider="echo")
    agent_groups.insert(connection, group)
    return group


def add_chat(
    connection: sqlite3.Connection, platform_id: str = "one", *, channel_type: str = "memory", is_group: bool = True
) -> MessagingGroup:
    """A chat."""
    chat = MessagingGroup(new_id(Prefix.MESSAGING_GROUP), channel_type, platform_id, None, int(is_group), NOW)
    messaging_groups.insert(connection, chat)
    return chat


def wire(
    connection: sqlite3.Connection,
    chat: MessagingGroup,
    agent: AgentGroup,
    *,
    session_mode: str = "shared",
    per_user: bool = False,
    engage: str = "all",
    pattern: str | None = None,
) -> None:
    """A wiring of the two."""
    messaging_groups.wire(
        connection, Wiring(new_id(Prefix.WIRING), chat.id, agent.id, session_mode, int(per_user), engage, pattern, NOW)
    )


def add_session(
    connection: sqlite3.Connection, agent: AgentGroup, route_key: str = "shared/memory/one", *, now: str = NOW
) -> Session:
    """The active session of a route."""
    return routes.resolve(
        at(connection, now), agent_group_id=agent.id, route_key=route_key, messaging_group_id=None, thread_id=None
    )


def accepted_values(session: Session, **changes: object) -> dict[str, object]:
    """What the router stores of an event."""
    return {
        "message_id": new_id(Prefix.MESSAGE),
        "agent_group_id": session.agent_group_id,
        "session_id": session.id,
        "generation": session.generation,
        "channel_type": "memory",
        "platform_id": "one",
        "thread_id": None,
        "platform_message_id": new_id(Prefix.MESSAGE),
        "sender_id": "ann",
        "sender_name": "Ann",
        "kind": "chat",
        "trigger": 1,
        "content": '{"text":"hello"}',
        "spool": None,
        "accepted_at": NOW,
    } | changes
