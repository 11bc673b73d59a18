"""The life of a session: a fresh one, stopping its agent, deleting it. Each is one decision in central.db, then acts.

Every step after the transaction can be repeated, and is, by the next host, when this one dies in between.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from host.central import agent_groups, deliveries, ingest, mailbox, messaging_groups, sessions
from host.central.sessions import Session
from host.operations.sessions import shown
from host.services import Services
from host.sessions.folder import remove_session_folder
from host.supervision.facts import StopReason
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, NotFound

_RESET = "the conversation was reset before this was said"


async def new(
    services: Services,
    *,
    session: str | None = None,
    messaging_group: str | None = None,
    agent_group: str | None = None,
    thread: str | None = None,
) -> dict[str, Any]:
    """End a conversation and put a fresh session in its place; the fresh one. The old one stays to be read.

    The conversation is named by its session, or by chat (and agent group, thread). Output still under way in the old
    one is kept and not sent. Raises `NotFound`, `Conflict` when several conversations fit or it has ended already.
    """
    old = await services.central.read(lambda c: _meant(c, session, messaging_group, agent_group, thread))
    async with services.conductor.holding(old.id):
        now = to_text(services.clock.now())

        def turn_over(connection: sqlite3.Connection) -> Session:
            current = sessions.get(connection, old.id)
            if current.status != "active" or not sessions.is_active_on_route(connection, current):
                raise Conflict(f"session {old.id} has ended already", hint="`dumbwaiter session list` shows all")
            route = sessions.leave_route(connection, current)
            sessions.end(connection, old.id, "new")
            ingest.cancel_session(connection, old.id, now)
            deliveries.suppress_session(connection, old.id, _RESET, now)
            return sessions.open_session(
                connection, route, messaging_group_id=current.messaging_group_id, thread_id=current.thread_id, now=now
            )

        fresh = await services.central.write(turn_over)
        services.terminal.notice()
        await services.conductor.endings.end(old, StopReason.SESSION_OVER)
        await asyncio.to_thread(services.post.record, old)
    return await services.central.read(lambda c: shown(services, c, fresh.id))


async def stop(services: Services, *, session: str) -> dict[str, Any]:
    """Stop the agent of a session and cancel what it was to answer. The session goes on with the next message."""
    found = await services.central.read(lambda c: sessions.find(c, session))
    async with services.conductor.holding(found.id):
        now = to_text(services.clock.now())
        cancelled = await services.central.write(lambda c: ingest.cancel_session(c, found.id, now))
        services.terminal.notice()
        stopped = await services.conductor.endings.end(found, StopReason.ASKED)
        await asyncio.to_thread(services.post.record, found)
    return {"session": found.id, "stopped": stopped, "cancelled": cancelled}


async def delete(services: Services, *, session: str) -> dict[str, Any]:
    """Delete a session: rows in one transaction, then its agent, then its folder. Nothing of it is sent any more.

    A message that comes at the same time is either of this session, and cancelled, or begins a fresh one.
    """
    found = await services.central.read(lambda c: sessions.find(c, session))
    async with services.conductor.holding(found.id):
        now = to_text(services.clock.now())

        def drop(connection: sqlite3.Connection) -> int:
            current = sessions.get(connection, found.id)
            if sessions.is_active_on_route(connection, current):
                sessions.leave_route(connection, current)
            cancelled = ingest.cancel_session(connection, found.id, now)
            ingest.forget_content(connection, found.id)
            mailbox.forget_session(connection, found.id)
            sessions.delete(connection, found.id)
            return cancelled

        cancelled = await services.central.write(drop)
        services.terminal.notice()
        await services.conductor.endings.end_deleted(found)
        await asyncio.to_thread(remove_session_folder, services.post.folder(found))
    return {"deleted": found.id, "cancelled": cancelled}


def _meant(
    connection: sqlite3.Connection,
    session: str | None,
    messaging_group: str | None,
    agent_group: str | None,
    thread: str | None,
) -> Session:
    """The active session a person means."""
    if session is not None:
        return sessions.find(connection, session)
    if messaging_group is None:
        raise NotFound("neither a session nor a messaging group was named")
    chat = messaging_groups.named(connection, messaging_group)
    groups = [w.agent_group_id for w in messaging_groups.wirings_of(connection, chat.id)]
    if agent_group is not None:
        groups = [agent_groups.named(connection, agent_group).id]
    found = [active for group in groups for active in sessions.active_in_chat(connection, group, chat.id, thread)]
    if not found:
        raise NotFound(f"there is no conversation in {messaging_group} yet", hint="the first message begins one")
    if len(found) > 1:
        raise Conflict(f"there are {len(found)} conversations in {messaging_group}", hint="name the session instead")
    return found[0]
