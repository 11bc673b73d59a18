"""A transition of a session, carried out: one decision in central.db (`host/sessions/transitions.py`), then what
follows.

Every step after the transaction can be repeated, and is, by the next reconcile or the next host, when this one dies in
between. `also` is done in the same transaction: a command's answer in its chat, for instance.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from host.central import audit, session_lookup, sessions
from host.central.database import Transaction
from host.central.sessions import Session
from host.operations.sessions import shown
from host.services import Services
from host.sessions.transitions import Transition
from host.supervision.decide import StopReason
from shared_schema.errors import FileTrouble

log = logging.getLogger(__name__)

T = TypeVar("T")
Also = Callable[[Transaction, T], object]


async def make_transition(
    services: Services,
    session: Session,
    decide: Callable[[Transaction], Transition],
    also: Also[Transition],
    action: str,
) -> Transition:
    """Put one session in the place of another, and bring the one that is over to rest.

    `action` is what the audit log calls it.
    """

    def note(tx: Transaction, done: Transition) -> None:
        after = {"session": done.after.id, "cancelled": done.cancelled}
        audit.record(tx, action, session.id, after=after)

    async with services.supervisor.holding(session.id):
        done = await _decided(services, decide, also, note)
        if done.before.id == session.id != done.after.id:
            await end_agent(services, session)
        elif done.after.id == session.id:
            await asyncio.to_thread(services.inbox_sync.push, done.after)
            await asyncio.to_thread(services.inbox_sync.record, done.after)
    if done.before.id != session.id:
        services.supervisor.schedule(done.before.id)
    services.supervisor.schedule(done.after.id)
    return done


async def change(
    services: Services,
    session: Session,
    decide: Callable[[Transaction], T],
    also: Also[T] = lambda c, done: None,
    *,
    action: str,
) -> T:
    """Change a session that stays where it is, and tell its agent what is cancelled and what was taken back."""

    def note(tx: Transaction, done: T) -> None:
        current = sessions.lookup(tx, session.id)
        after = {"status": None if current is None else current.status}
        audit.record(tx, action, session.id, after=after)

    async with services.supervisor.holding(session.id):
        done = await _decided(services, decide, also, note)
        current = await services.central.read(sessions.get, session.id)
        if current.status != "active":
            await end_agent(services, current)
            return done
        await asyncio.to_thread(services.inbox_sync.push, current)
        await asyncio.to_thread(services.inbox_sync.record, current)
    return done


async def _decided(
    services: Services,
    decide: Callable[[Transaction], T],
    also: Also[T],
    note: Callable[[Transaction, T], None],
) -> T:
    """The decision, and what is done with it, in one transaction."""

    def run(tx: Transaction) -> T:
        done = decide(tx)
        also(tx, done)
        note(tx, done)
        return done

    return await services.central.write(run)


async def end_agent(services: Services, session: Session) -> None:
    """Stop the agent of a session that is over. It hears first that its messages are cancelled, and ends its turn."""
    try:
        await asyncio.to_thread(services.inbox_sync.record, session)
    except FileTrouble as error:
        log.warning("a session could not be told", extra={"session_id": session.id, "error": str(error)})
    await services.supervisor.termination.end(session, StopReason.SESSION_OVER)
    await asyncio.to_thread(services.inbox_sync.record, session)


async def find(services: Services, name: str) -> Session:
    return await services.central.read(session_lookup.find, name)


async def as_shown(services: Services, session: Session) -> dict[str, Any]:
    return await services.central.read(lambda c: shown(services, c, session.id))
