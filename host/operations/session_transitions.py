"""How a conversation goes on, as people ask for it: anew, again, in a copy, from a summary, without what was said last.

Each has a form for people (names in, JSON out) and one for the commands in chats, which add their answer (`also`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from host.central import agent_groups, audit, control_tasks, ingest, routes, session_lookup, sessions
from host.central.control_tasks import ControlTask
from host.central.database import Queryable, Transaction
from host.central.routes import Route
from host.central.sessions import Session
from host.operations.resolve_session import resolve_session
from host.operations.session_change import Also, as_shown, change, find, make_transition
from host.services import Services
from host.sessions import transitions
from host.sessions.transitions import Transition, Undone
from host.start_line import start_line
from shared_schema.errors import Conflict
from shared_schema.rows import MessageInStatus

_COMPRESS_SECONDS = 100.0


async def new(
    services: Services,
    *,
    session: str | None = None,
    messaging_group: str | None = None,
    agent_group: str | None = None,
    thread: str | None = None,
) -> dict[str, Any]:
    """End a conversation and put a fresh session in its place; the fresh one. The old one can be read and taken up.

    The conversation is named by its session, or by chat (and agent group, thread). Two who ask at once get the same.
    Raises `NotFound`, `Conflict` when several conversations fit or it has ended already.
    """
    old = await services.central.read(resolve_session, session, messaging_group, agent_group, thread)
    if old.status == "ended":
        raise Conflict(f"session {old.id} has ended already", hint="`dumbwaiter session list` shows all")
    return await as_shown(services, (await begin_anew(services, old)).after)


async def begin_anew(services: Services, old: Session, also: Also[Transition] = lambda c, done: None) -> Transition:
    """A fresh session in the place of one."""
    return await make_transition(
        services,
        old,
        lambda tx: transitions.new(tx, old, save_memory=services.settings.save_memory),
        also,
        "session.new",
    )


async def resume(
    services: Services,
    *,
    session: str,
    agent_group: str | None = None,
    messaging_group: str | None = None,
    thread: str | None = None,
) -> dict[str, Any]:
    """Take up a session again, on its own route or in the place of a chat's present one; the session.

    Raises `NotFound`, also for a session of another agent group than the named one, and `Conflict`.
    """

    def load(connection: Queryable) -> tuple[Session, Route | None]:
        group = None if agent_group is None else agent_groups.get_by_name(connection, agent_group).id
        found = session_lookup.find(connection, session, agent_group_id=group)
        if messaging_group is None:
            return found, None
        present = resolve_session(connection, None, messaging_group, agent_group, thread)
        return found, routes.route_of(connection, present)

    found, onto = await services.central.read(load)
    return await as_shown(services, (await take_up(services, found, onto)).after)


async def take_up(
    services: Services, session: Session, onto: Route | None, also: Also[Transition] = lambda c, done: None
) -> Transition:
    """Make a session the present one of a route."""
    return await make_transition(
        services, session, lambda tx: transitions.resume(tx, session, onto), also, "session.resume"
    )


async def branch(services: Services, *, session: str) -> dict[str, Any]:
    """Go on in a copy of a session; the copy."""
    found = await find(services, session)
    return await as_shown(services, (await go_on_in_copy(services, found)).after)


async def go_on_in_copy(
    services: Services, session: Session, also: Also[Transition] = lambda c, done: None
) -> Transition:
    """A copy of a session in the place of what its route points at."""
    return await make_transition(services, session, lambda tx: transitions.branch(tx, session), also, "session.branch")


async def undo(services: Services, *, session: str, count: int = 1) -> dict[str, Any]:
    """Take back the last exchanges of the active session: `session, exchanges, messages` (texts, oldest first)."""
    return _undone(await take_back(services, await find(services, session), count))


async def retry(services: Services, *, session: str) -> dict[str, Any]:
    """Take back the last exchange of the active session, and what is open, and ask the same again; as `undo`."""
    return _undone(await ask_again(services, await find(services, session)))


async def take_back(
    services: Services, session: Session, count: int, also: Also[Undone] = lambda c, done: None
) -> Undone:
    """Take back the last exchanges, and what is open; the agent hears of it before it says anything more."""
    return await change(services, session, lambda tx: transitions.undo(tx, session, count), also, action="session.undo")


async def ask_again(services: Services, session: Session, also: Also[Undone] = lambda c, done: None) -> Undone:
    """Take back the last exchange, and what is open, and put the messages to the agent once more."""
    return await change(services, session, lambda tx: transitions.retry(tx, session), also, action="session.retry")


async def compress(services: Services, *, session: str, timeout: float = _COMPRESS_SECONDS) -> dict[str, Any]:
    """Have the agent sum up a conversation and go on from that; the session in which it goes on.

    Raises `Conflict` when the session is not active or its provider cannot do it, and when it takes too long: it is
    done later then.
    """
    if services.started_at is None:
        hint = f"start it with {start_line(services.settings.data)}"
        raise Conflict("a conversation cannot be summed up while no host runs", hint=hint)
    found = await find(services, session)
    task = await ask_for_summary(services, found)
    deadline = services.clock.monotonic() + timeout
    while True:
        change = services.terminal.change()
        row = await services.central.read(ingest.get, task)
        if row is None or row.status != MessageInStatus.PENDING:
            break
        if services.clock.monotonic() > deadline:
            raise Conflict("the agent has not summed up the conversation yet", hint="it goes on; look again later")
        await _wait(change)
    after = await services.central.read(sessions.newest_descendant, found)
    if after.id == found.id:
        raise Conflict(f"the conversation could not be compressed: {(row and row.error) or 'there is no summary'}")
    return await as_shown(services, after)


async def ask_for_summary(services: Services, session: Session, also: Also[str] = lambda c, done: None) -> str:
    """Ask the agent of an active session for a summary. Returns the id of that control task; two at once are one."""

    def ask(tx: Transaction) -> str:
        current = transitions.require_active(tx, session)
        task = control_tasks.ask(tx, current, ControlTask.SUMMARIZE)
        audit.record(tx, "session.compress", session.id)
        also(tx, task)
        return task

    return await services.central.write(ask)


def _undone(undone: Undone) -> dict[str, Any]:
    return {
        "session_id": undone.session.id,
        "exchanges": undone.exchanges.count,
        "messages": [ingest.text_of(message) for message in undone.exchanges.messages],
    }


async def _wait(change: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(1.0):
            await change.wait()
    except TimeoutError:
        pass
