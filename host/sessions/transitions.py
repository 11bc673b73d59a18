"""The life of a conversation: what becomes of routes, sessions and messages. Each rule is one transaction.

A route points at one session, which is active or archived; an active session is pointed at by its route. Every
transition but archiving gives the route a new generation, so that what an agent still says for the old one is kept and
never sent, and cancels what was open. What follows outside of central.db (agents, files) is for the caller, can be
repeated, and is repeated by the next reconcile.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from host.central import deliveries, events, exchanges, ingest, questions, routes, sessions, titles
from host.central.events import EventKind
from host.central.exchanges import Exchanges
from host.central.routes import Route
from host.central.sessions import EndReason, Relation, Session
from host.sessions.memory import ask_to_save
from shared_schema.errors import Conflict, InvalidValue
from shared_schema.ids import Prefix, new_id

_OVER = "the conversation was reset or ended before this was said"

_NOTES = {
    EndReason.NEW: "The person began a new conversation. Nothing of the one before is part of this one.",
    EndReason.IDLE: "The conversation before this one had rested for long and is over. Nothing of it is part of this.",
    EndReason.DAILY: "A new day has begun, and with it a new conversation. Nothing of the one before is part of it.",
}


@dataclass(frozen=True, slots=True)
class Transition:
    """One session took the place of another on a route; `cancelled` messages will not be answered.

    They may be the same session, in a new generation.
    """

    before: Session
    after: Session
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class Undone:
    """Exchanges that were taken back, in the session as it is now."""

    session: Session
    exchanges: Exchanges


def new(
    connection: sqlite3.Connection,
    session: Session,
    now: str,
    reason: EndReason = EndReason.NEW,
    *,
    save_memory: bool = False,
) -> Transition:
    """End a session and put a fresh one in its place.

    When it has ended already (two people asked at once), nothing changes: `after` is what took its place. Raises
    `Conflict` when nothing did. With `save_memory` its agent is asked to save what is worth it, where it can: that is
    done in the session that is over, and no message waits for it.
    """
    current = sessions.get(connection, session.id)
    if not routes.is_active_on_route(connection, current):
        return Transition(current, _present(connection, current))
    cancelled, route = _close(connection, current, reason, now)
    if current.status == "active":
        ask_to_save(connection, current, now, setting=save_memory)
    fresh = routes.open_session(
        connection, route, parent=current, relation=Relation.RESET, now=now, note=_NOTES[reason]
    )
    return Transition(current, fresh, cancelled)


def resume(connection: sqlite3.Connection, session: Session, now: str, onto: Route | None = None) -> Transition:
    """Take up a session again on its own route, or another one of its agent group; what was there ends.

    A conversation that was compressed is taken up where it goes on. Raises `Conflict` for the session that goes on
    there anyway, or one that was deleted.
    """
    session = sessions.newest_descendant(connection, sessions.get(connection, session.id))
    route = onto or routes.route_of(connection, session)
    if session.status == "deleted":
        raise Conflict(f"session {session.id} was deleted", hint=f"`dumbwaiter session restore {session.id}`")
    if route.agent_group_id != session.agent_group_id:
        raise InvalidValue(
            "a session cannot go to another agent group", hint="`dumbwaiter session export` and `import` copy one"
        )
    before = None if route.active_session_id is None else sessions.get(connection, route.active_session_id)
    if before is not None and before.id == session.id and before.status == "active":
        raise Conflict(f"session {session.id} is the present one already")
    if session.route_id != route.id and routes.is_active_on_route(connection, session):
        routes.leave_route(connection, session)
    cancelled = _silence(connection, session, now)
    if before is not None and before.id != session.id:
        of_before, route = _close(connection, before, EndReason.RESUME, now)
        cancelled += of_before
    route = routes.bump(connection, route, session)
    routes.reopen(connection, session, route, before)
    _tell(connection, EventKind.SESSION_RESUMED, session, now)
    return Transition(before or session, sessions.get(connection, session.id), cancelled)


def undo(connection: sqlite3.Connection, session: Session, count: int, now: str) -> Undone:
    """Take back the last exchanges of the active session, and what is open. Raises `Conflict` when there are none."""
    if count < 1:
        raise InvalidValue(f"at least one exchange can be taken back, not {count}")
    current = require_active(connection, session)
    taken = exchanges.last(connection, current.id, count)
    before = exchanges.inherited(connection, current.id, count - taken.count)
    if not taken.count and not before.count:
        raise Conflict("there is nothing to take back in this conversation")
    if taken.count:
        exchanges.withdraw(connection, current.id, taken, now)
    exchanges.withdraw_inherited(connection, current.id, before, now)
    taken = Exchanges(before.count + taken.count, (*before.messages, *taken.messages))
    _silence(connection, current, now)
    route = routes.leave_route(connection, current)
    routes.begin_generation(connection, current, route, keep_pointer=False)
    _tell(connection, EventKind.SESSION_UNDONE, current, now)
    return Undone(sessions.get(connection, current.id), taken)


def retry(connection: sqlite3.Connection, session: Session, now: str) -> Undone:
    """Take back the last exchange, and what is open, and ask the same again. Raises `Conflict` when there is none."""
    undone = undo(connection, session, 1, now)
    for message in undone.exchanges.messages:
        _accept_again(connection, message, undone.session, now)
    return undone


def branch(connection: sqlite3.Connection, session: Session, now: str) -> Transition:
    """Go on in a copy of a session, which its route points at from now on; the session stays as it is."""
    source = sessions.get(connection, session.id)
    if source.status == "deleted":
        raise Conflict(f"session {source.id} was deleted", hint=f"`dumbwaiter session restore {source.id}`")
    route = routes.route_of(connection, source)
    cancelled = 0
    if route.active_session_id is not None:
        active = sessions.get(connection, route.active_session_id)
        cancelled, route = _close(connection, active, EndReason.BRANCHED, now)
    else:
        route = routes.bump(connection, route, source)
    copy = routes.open_session(connection, route, parent=source, relation=Relation.BRANCHED, now=now)
    return Transition(source, copy, cancelled)


def compress(connection: sqlite3.Connection, session: Session, summary: str, now: str) -> Transition:
    """Go on from a summary: a child session in the place of its parent, with what waits there.

    Nothing is over by that: what was said before and waits for its platform, or its time, is sent. Two at once make
    one: for a session that is over, `after` is what took its place.
    """
    current = sessions.get(connection, session.id)
    if current.status != "active" or not routes.is_active_on_route(connection, current):
        return Transition(current, _present(connection, current))
    route = routes.leave_route(connection, current)
    child = routes.open_session(
        connection, route, parent=current, relation=Relation.COMPRESSED, now=now, summary=summary
    )
    exchanges.carry(connection, current.id, child.id, child.generation)
    ingest.cancel_session(connection, current.id, now)
    sessions.end(connection, current.id, EndReason.COMPRESSED, now)
    titles.hand_on(connection, current, child)
    _tell(connection, EventKind.SESSION_ENDED, current, now, reason=EndReason.COMPRESSED)
    return Transition(current, sessions.get(connection, child.id))


def archive(connection: sqlite3.Connection, session: Session, now: str) -> int:
    """Make a session read-only, and cancel what waits in it; how much that was. Raises `Conflict` if it is so already.

    Its route goes on pointing at it, so that what is written there is refused, or opens it again.
    """
    current = sessions.get(connection, session.id)
    if current.status not in ("active", "ended"):
        raise Conflict(
            f"session {current.id} is {current.status} already", hint=f"`dumbwaiter session show {current.id}`"
        )
    cancelled = _silence(connection, current, now)
    if current.status == "active":
        route = routes.leave_route(connection, current)
        routes.begin_generation(connection, current, route, keep_pointer=True)
    sessions.archive(connection, current.id, now)
    _tell(connection, EventKind.SESSION_ARCHIVED, current, now)
    return cancelled


def reopen(connection: sqlite3.Connection, session: Session, now: str) -> Session:
    """Let the archived session its route points at go on."""
    route = routes.leave_route(connection, session)
    routes.reopen(connection, session, route, None)
    _tell(connection, EventKind.SESSION_RESUMED, session, now)
    return sessions.get(connection, session.id)


def delete(connection: sqlite3.Connection, session: Session, now: str) -> int:
    """Hide a session, which can be restored for a while; how many messages that cancelled."""
    current = sessions.get(connection, session.id)
    if current.status == "deleted":
        raise Conflict(
            f"session {current.id} was deleted already",
            hint=f"`dumbwaiter session restore {current.id}` brings it back",
        )
    if routes.is_active_on_route(connection, current):
        routes.leave_route(connection, current)
    cancelled = _silence(connection, current, now)
    sessions.delete_softly(connection, current.id, now)
    _tell(connection, EventKind.SESSION_DELETED, current, now)
    return cancelled


def restore(connection: sqlite3.Connection, session: Session, now: str) -> Session:
    """Bring back a session that was deleted and not yet removed: ended, or archived as it was."""
    current = sessions.get(connection, session.id)
    if current.status != "deleted":
        raise Conflict(
            f"session {current.id} was not deleted", hint=f"`dumbwaiter session show {current.id}` shows how it stands"
        )
    sessions.restore(connection, current.id)
    _tell(connection, EventKind.SESSION_RESTORED, current, now)
    return sessions.get(connection, current.id)


def tell_removed(connection: sqlite3.Connection, session: Session, now: str) -> None:
    """Tell live views that nothing is left of a session."""
    _tell(connection, EventKind.SESSION_REMOVED, session, now)


def _close(connection: sqlite3.Connection, session: Session, reason: EndReason, now: str) -> tuple[int, Route]:
    """End the session a route points at; how many messages that cancelled, and the route, which points at nothing.

    An archived one stays archived.
    """
    route = routes.leave_route(connection, session)
    cancelled = _silence(connection, session, now)
    if session.status == "active":
        sessions.end(connection, session.id, reason, now)
        _tell(connection, EventKind.SESSION_ENDED, session, now, reason=reason)
    return cancelled, route


def _silence(connection: sqlite3.Connection, session: Session, now: str) -> int:
    """Cancel what is open in a session, and keep back what its conversation has not sent yet; how many messages were
    cancelled."""
    questions.forget(connection, session.id)
    for session_id in sessions.line(connection, session.id):
        deliveries.suppress_session(connection, session_id, _OVER, now)
    return ingest.cancel_session(connection, session.id, now)


def _accept_again(connection: sqlite3.Connection, message: ingest.AcceptedMessage, session: Session, now: str) -> None:
    """Put a message that was taken back into the ledger once more, as if it had been written again."""
    message_id = new_id(Prefix.MESSAGE)
    content = message.content
    if message.state == "accepted":  # its files are not in the session yet
        content = content.replace(f"inbox/{message.message_id}/", f"inbox/{message_id}/")
    ingest.accept(
        connection,
        {
            "message_id": message_id,
            "agent_group_id": message.agent_group_id,
            "session_id": session.id,
            "generation": session.generation,
            "channel_type": message.channel_type,
            "platform_id": message.platform_id,
            "thread_id": message.thread_id,
            "platform_message_id": f"again-{message_id}",
            "sender_id": message.sender_id,
            "sender_name": message.sender_name,
            "kind": message.kind,
            "trigger": message.trigger,
            "content": content,
            "spool": message.spool if message.state == "accepted" else None,
            "accepted_at": now,
        },
    )


def require_active(connection: sqlite3.Connection, session: Session) -> Session:
    """The session as it is now. Raises `Conflict` when its conversation does not go on in it."""
    current = sessions.get(connection, session.id)
    if current.status != "active" or not routes.is_active_on_route(connection, current):
        raise Conflict(
            f"session {current.id} is {current.status}", hint=f"`dumbwaiter session resume {current.id}` takes it up"
        )
    return current


def _present(connection: sqlite3.Connection, session: Session) -> Session:
    """What the route of a session points at. Raises `Conflict` when that is nothing."""
    active = routes.route_of(connection, session).active_session_id
    if active is None:
        raise Conflict(f"session {session.id} has ended already", hint="`dumbwaiter session list` shows all")
    return sessions.get(connection, active)


def _tell(connection: sqlite3.Connection, kind: EventKind, session: Session, now: str, **data: str | None) -> None:
    events.add(connection, kind, session_id=session.id, agent_group_id=session.agent_group_id, data=data, now=now)
