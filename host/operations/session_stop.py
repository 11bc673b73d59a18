"""How sessions come to rest, as people ask for it: stopped, interrupted, archived, deleted, removed for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from host.central import audit, delegations, events, ingest, mailbox, questions, routes, session_lookup, sessions, turns
from host.central.database import Transaction
from host.central.events import EventKind
from host.central.sessions import Session
from host.operations.session_change import Also, as_shown, change, find
from host.services import Services
from host.sessions import outbox, transitions
from host.sessions.folder import remove_session_folder
from host.supervision.decide import StopReason
from shared_schema.errors import FileTrouble
from shared_schema.rows import AgentPhase, TurnStatus

_INTERRUPT_SECONDS = 1.2
_LOOK_SECONDS = 0.02
_MOST_TURNS = 100


async def stop(services: Services, *, session: str) -> dict[str, Any]:
    """Stop the agent of a session and cancel what it was to answer. The session goes on with the next message."""
    found = await find(services, session)
    async with services.supervisor.holding(found.id):

        def cancel(tx: Transaction) -> int:
            questions.forget(tx, found.id)
            cancelled = ingest.cancel_session(tx, found.id)
            delegations.stop_of(tx, found.id)
            audit.record(tx, "session.stop", found.id, after={"cancelled": cancelled})
            return cancelled

        cancelled = await services.central.write(cancel)
        stopped = await services.supervisor.termination.end(found, StopReason.ASKED)
        await asyncio.to_thread(services.inbox_sync.record, found)
    return {"session_id": found.id, "stopped": stopped, "cancelled": cancelled}


async def interrupt(services: Services, session: Session, also: Also[int] = lambda c, done: None) -> int:
    """End what the agent of a session does now, within two seconds; how many messages that cancelled.

    What it has said stays. The agent ends its turn by itself when its messages are cancelled; one that does not is
    stopped.
    """

    def cancel(tx: Transaction) -> int:
        questions.forget(tx, session.id)
        cancelled = ingest.cancel_session(tx, session.id)
        delegations.stop_of(tx, session.id)
        audit.record(tx, "session.stop", session.id, after={"cancelled": cancelled})
        also(tx, cancelled)
        return cancelled

    async with services.supervisor.holding(session.id):
        cancelled = await services.central.write(cancel)
        deadline = services.clock.monotonic() + _INTERRUPT_SECONDS  # the file may be locked for a part of that
        try:
            await asyncio.to_thread(services.inbox_sync.record, session)
            over = session.id not in services.supervisor.agents or await _falls_silent(services, session, deadline)
        except FileTrouble:
            over = False
        if not over:
            await services.supervisor.termination.end(session, StopReason.IGNORES_CANCEL)
    return cancelled


async def archive(services: Services, *, session: str) -> dict[str, Any]:
    """Make a session read-only, and cancel what waits in it. `session.resume` opens it again."""
    found = await find(services, session)
    await change(services, found, lambda tx: transitions.archive(tx, found), action="session.archive")
    return await as_shown(services, found)


async def delete(services: Services, *, session: str, for_good: bool = False) -> dict[str, Any]:
    """Delete a session. It can be restored for a while, unless it is removed `for_good`. Nothing more of it is sent.

    A message that comes at the same time is either of this session, and cancelled, or begins a fresh one.
    """
    found = await services.central.read(session_lookup.find, session, deleted=for_good)
    if for_good:
        return {
            "session_id": found.id,
            "deleted": True,
            "cancelled": await remove(services, found),
            "restorable": False,
        }
    cancelled = await change(services, found, lambda tx: transitions.delete(tx, found), action="session.delete")
    return {"session_id": found.id, "deleted": True, "cancelled": cancelled, "restorable": True}


async def restore(services: Services, *, session: str) -> dict[str, Any]:
    """Bring back a deleted session, ended; `session.resume` takes it up again. Raises `NotFound`, `Conflict`."""
    found = await services.central.read(session_lookup.find, session, deleted=True)

    def bring_back(tx: Transaction) -> Session:
        restored = transitions.restore(tx, found)
        audit.record(tx, "session.restore", found.id, after={"status": restored.status})
        return restored

    return await as_shown(services, await services.central.write(bring_back))


async def remove(services: Services, found: Session, require: Callable[[Transaction], object] = lambda c: None) -> int:
    """Remove a session for good: rows in one transaction, then its agent, folder and history; what that cancelled.

    `require` raises in that transaction when it is not to be removed after all. Once the rows are gone, all that can
    be removed is, also when one removal fails; raises what failed.
    """
    async with services.supervisor.holding(found.id):

        def drop(tx: Transaction) -> int:
            require(tx)
            current = sessions.get(tx, found.id)
            cancelled = transitions.delete(tx, current) if current.status != "deleted" else 0
            audit.record(tx, "session.remove", found.id, before={"title": current.title})
            ingest.forget_content(tx, found.id)
            mailbox.forget_session(tx, found.id)
            events.forget_session(tx, found.id)
            for turn_id in turns.running(tx, found.id, _MOST_TURNS):  # live views that show them wait for this
                events.add(
                    tx,
                    EventKind.TURN_ENDED,
                    session_id=found.id,
                    agent_group_id=found.agent_group_id,
                    data={"turn_id": turn_id, "status": TurnStatus.CANCELLED},
                )
            routes.remove_session(tx, current)
            return cancelled

        cancelled = await services.central.write(drop)
        try:
            await services.supervisor.termination.end_deleted(found)
        finally:
            await _forget(services, found)
    return cancelled


async def _forget(services: Services, session: Session) -> None:
    """Remove folder and history of a session whose rows are gone, and tell that nothing is left of it."""
    try:
        await asyncio.to_thread(remove_session_folder, services.inbox_sync.folder(session))
    finally:
        await services.history.forget(session.id)
    await services.central.write(transitions.tell_removed, session)


async def _falls_silent(services: Services, session: Session, deadline: float) -> bool:
    """Whether the agent of a session, whose messages were cancelled, ends its turn in time."""
    layout = services.inbox_sync.folder(session)
    while services.clock.monotonic() < deadline:
        try:
            state = await asyncio.to_thread(outbox.agent_state, layout)
        except FileTrouble:
            state = None
        if state is not None and state.state != AgentPhase.WORKING:
            return True
        await asyncio.sleep(_LOOK_SECONDS)
    return False
