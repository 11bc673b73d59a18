"""The life of a conversation: what becomes of routes, sessions and messages. Each rule is one transaction.

A route points at one session, which is active or archived; an active session is pointed at by its route. Every
transition but archiving gives the route a new generation, so that what an agent still says for the old one is kept and
never sent, and cancels what was open. What follows outside of central.db (agents, files) is for the caller, can be
repeated, and is repeated by the next reconcile.
"""

from __future__ import annotations

from host.central import delegations, deliveries, events, exchanges, ingest, questions, routes, sessions, titles
from host.central.database import Queryable, Transaction
from host.central.events import EventKind
from host.central.exchanges import Exchanges
from host.central.routes import Route
from host.central.sessions import EndReason, Relation, Session
from host.sessions.memory import ask_to_save
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, InvalidValue
from shared_schema.ids import Prefix, new_id

ASKED_AGAIN = "again-"
"""How the platform's id of a message begins that is asked again."""
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
    tx: Transaction, session: Session, reason: EndReason = EndReason.NEW, *, save_memory: bool = False
) -> Transition:
    """End a session and put a fresh one in its place.

    When it has ended already (two people asked at once), nothing changes: `after` is what took its place. Raises
    `Conflict` when nothing did. With `save_memory` its agent is asked to save what is worth it, where it can: that is
    done in the session that is over, and no message waits for it.
    """
    current = sessions.get(tx, session.id)
    if not routes.is_active_on_route(tx, current):
        return Transition(current, _present(tx, current))
    cancelled, route = _close(tx, current, reason)
    if current.status == "active":
        ask_to_save(tx, current, setting=save_memory)
    fresh = routes.open_session(tx, route, parent=current, relation=Relation.RESET, note=_NOTES[reason])
    return Transition(current, fresh, cancelled)


def resume(tx: Transaction, session: Session, onto: Route | None = None) -> Transition:
    """Take up a session again on its own route, or another one of its agent group; what was there ends.

    A conversation that was compressed is taken up where it goes on. Raises `Conflict` for the session that goes on
    there anyway, or one that was deleted.
    """
    session = sessions.newest_descendant(tx, sessions.get(tx, session.id))
    route = onto or routes.route_of(tx, session)
    if session.status == "deleted":
        raise Conflict(f"session {session.id} was deleted", hint=f"`dumbwaiter session restore {session.id}`")
    if route.agent_group_id != session.agent_group_id:
        raise InvalidValue(
            "a session cannot go to another agent group", hint="`dumbwaiter session export` and `import` copy one"
        )
    before = None if route.active_session_id is None else sessions.get(tx, route.active_session_id)
    if before is not None and before.id == session.id and before.status == "active":
        raise Conflict(f"session {session.id} is the present one already")
    if session.route_id != route.id and routes.is_active_on_route(tx, session):
        routes.leave_route(tx, session)
    cancelled = _silence(tx, session)
    if before is not None and before.id != session.id:
        of_before, route = _close(tx, before, EndReason.RESUME)
        cancelled += of_before
    route = routes.bump(tx, route, session)
    routes.reopen(tx, session, route, before)
    _tell(tx, EventKind.SESSION_RESUMED, session)
    return Transition(before or session, sessions.get(tx, session.id), cancelled)


def undo(tx: Transaction, session: Session, count: int) -> Undone:
    """Take back the last exchanges of the active session, and what is open. Raises `Conflict` when there are none."""
    if count < 1:
        raise InvalidValue(f"at least one exchange can be taken back, not {count}")
    current = require_active(tx, session)
    taken = exchanges.last(tx, current.id, count)
    before = exchanges.inherited(tx, current.id, count - taken.count)
    if not taken.count and not before.count:
        raise Conflict("there is nothing to take back in this conversation")
    if taken.count:
        exchanges.withdraw(tx, current.id, taken)
    exchanges.withdraw_inherited(tx, current.id, before)
    taken = Exchanges(before.count + taken.count, (*before.messages, *taken.messages))
    _silence(tx, current)
    route = routes.leave_route(tx, current)
    routes.begin_generation(tx, current, route, keep_pointer=False)
    _tell(tx, EventKind.SESSION_UNDONE, current)
    return Undone(sessions.get(tx, current.id), taken)


def retry(tx: Transaction, session: Session) -> Undone:
    """Take back the last exchange, and what is open, and ask the same again. Raises `Conflict` when there is none."""
    undone = undo(tx, session, 1)
    for message in undone.exchanges.messages:
        _accept_again(tx, message, undone.session)
    return undone


def branch(tx: Transaction, session: Session) -> Transition:
    """Go on in a copy of a session, which its route points at from now on; the session stays as it is."""
    source = sessions.get(tx, session.id)
    if source.status == "deleted":
        raise Conflict(f"session {source.id} was deleted", hint=f"`dumbwaiter session restore {source.id}`")
    route = routes.route_of(tx, source)
    cancelled = 0
    if route.active_session_id is not None:
        active = sessions.get(tx, route.active_session_id)
        cancelled, route = _close(tx, active, EndReason.BRANCHED)
    else:
        route = routes.bump(tx, route, source)
    copy = routes.open_session(tx, route, parent=source, relation=Relation.BRANCHED)
    return Transition(source, copy, cancelled)


def compress(tx: Transaction, session: Session, summary: str) -> Transition:
    """Go on from a summary: a child session in the place of its parent, with what waits there.

    Nothing is over by that: what was said before and waits for its platform, or its time, is sent. Two at once make
    one: for a session that is over, `after` is what took its place.
    """
    current = sessions.get(tx, session.id)
    if current.status != "active" or not routes.is_active_on_route(tx, current):
        return Transition(current, _present(tx, current))
    route = routes.leave_route(tx, current)
    child = routes.open_session(tx, route, parent=current, relation=Relation.COMPRESSED, summary=summary)
    exchanges.carry(tx, current.id, child.id, child.generation)
    delegations.carry(tx, current.id, child.id)
    ingest.cancel_session(tx, current.id)
    sessions.end(tx, current.id, EndReason.COMPRESSED)
    titles.hand_on(tx, current, child)
    tx.add(ingest.SessionHasNews(child.id))
    _tell(tx, EventKind.SESSION_ENDED, current, reason=EndReason.COMPRESSED)
    return Transition(current, sessions.get(tx, child.id))


def archive(tx: Transaction, session: Session) -> int:
    """Make a session read-only, and cancel what waits in it; how much that was. Raises `Conflict` if it is so already.

    Its route goes on pointing at it, so that what is written there is refused, or opens it again.
    """
    current = sessions.get(tx, session.id)
    if current.status not in ("active", "ended"):
        raise Conflict(
            f"session {current.id} is {current.status} already", hint=f"`dumbwaiter session show {current.id}`"
        )
    cancelled = _silence(tx, current)
    if current.status == "active":
        route = routes.leave_route(tx, current)
        routes.begin_generation(tx, current, route, keep_pointer=True)
    sessions.archive(tx, current.id)
    _tell(tx, EventKind.SESSION_ARCHIVED, current)
    return cancelled


def reopen(tx: Transaction, session: Session) -> Session:
    """Let the archived session its route points at go on."""
    route = routes.leave_route(tx, session)
    routes.reopen(tx, session, route, None)
    _tell(tx, EventKind.SESSION_RESUMED, session)
    return sessions.get(tx, session.id)


def delete(tx: Transaction, session: Session) -> int:
    """Hide a session, which can be restored for a while; how many messages that cancelled."""
    current = sessions.get(tx, session.id)
    if current.status == "deleted":
        raise Conflict(
            f"session {current.id} was deleted already",
            hint=f"`dumbwaiter session restore {current.id}` brings it back",
        )
    if routes.is_active_on_route(tx, current):
        routes.leave_route(tx, current)
    cancelled = _silence(tx, current)
    sessions.delete_softly(tx, current.id)
    _tell(tx, EventKind.SESSION_DELETED, current)
    return cancelled


def restore(tx: Transaction, session: Session) -> Session:
    """Bring back a session that was deleted and not yet removed: ended, or archived as it was."""
    current = sessions.get(tx, session.id)
    if current.status != "deleted":
        raise Conflict(
            f"session {current.id} was not deleted", hint=f"`dumbwaiter session show {current.id}` shows how it stands"
        )
    sessions.restore(tx, current.id)
    _tell(tx, EventKind.SESSION_RESTORED, current)
    return sessions.get(tx, current.id)


def tell_removed(tx: Transaction, session: Session) -> None:
    """Tell live views that nothing is left of a session."""
    _tell(tx, EventKind.SESSION_REMOVED, session)


def _close(tx: Transaction, session: Session, reason: EndReason) -> tuple[int, Route]:
    """End the session a route points at; how many messages that cancelled, and the route, which points at nothing.

    An archived one stays archived.
    """
    route = routes.leave_route(tx, session)
    cancelled = _silence(tx, session)
    tx.add(ingest.SessionHasNews(session.id))
    if session.status == "active":
        sessions.end(tx, session.id, reason)
        _tell(tx, EventKind.SESSION_ENDED, session, reason=reason)
    return cancelled, route


def _silence(tx: Transaction, session: Session) -> int:
    """Cancel what is open in a session, and keep back what its conversation has not sent yet; how many messages were
    cancelled."""
    questions.forget(tx, session.id)
    for session_id in sessions.line(tx, session.id):
        deliveries.suppress_session(tx, session_id, _OVER)
    return ingest.cancel_session(tx, session.id)


def _accept_again(tx: Transaction, message: ingest.AcceptedMessage, session: Session) -> None:
    """Put a message that was taken back into the ledger once more, as if it had been written again."""
    message_id = new_id(Prefix.MESSAGE)
    content = message.content
    if message.state == "accepted":  # its files are not in the session yet
        content = content.replace(f"inbox/{message.message_id}/", f"inbox/{message_id}/")
    ingest.accept(
        tx,
        {
            "message_id": message_id,
            "agent_group_id": message.agent_group_id,
            "session_id": session.id,
            "generation": session.generation,
            "channel_type": message.channel_type,
            "platform_id": message.platform_id,
            "thread_id": message.thread_id,
            "platform_message_id": f"{ASKED_AGAIN}{message_id}",
            "sender_id": message.sender_id,
            "sender_name": message.sender_name,
            "kind": message.kind,
            "trigger": message.trigger,
            "content": content,
            "spool": message.spool if message.state == "accepted" else None,
            "accepted_at": tx.now,
        },
    )


def require_active(connection: Queryable, session: Session) -> Session:
    """The session as it is now. Raises `Conflict` when its conversation does not go on in it."""
    current = sessions.get(connection, session.id)
    if current.status != "active" or not routes.is_active_on_route(connection, current):
        raise Conflict(
            f"session {current.id} is {current.status}", hint=f"`dumbwaiter session resume {current.id}` takes it up"
        )
    return current


def _present(connection: Queryable, session: Session) -> Session:
    """What the route of a session points at. Raises `Conflict` when that is nothing."""
    active = routes.route_of(connection, session).active_session_id
    if active is None:
        raise Conflict(f"session {session.id} has ended already", hint="`dumbwaiter session list` shows all")
    return sessions.get(connection, active)


def _tell(tx: Transaction, kind: EventKind, session: Session, **data: str | None) -> None:
    events.add(tx, kind, session_id=session.id, agent_group_id=session.agent_group_id, data=data)
