"""Routes: what a wiring and an event resolve to. The active session is their pointer, never "the newest row"."""

from __future__ import annotations

from host.central import events, session_list, sessions
from host.central.database import Queryable, Transaction, one
from host.central.events import EventKind
from host.central.sessions import Relation, Session
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Row

FIND_ROUTE = "SELECT * FROM routes WHERE agent_group_id = ? AND route_key = ?"
INSERT_ROUTE = "INSERT INTO routes (id, agent_group_id, route_key, sender_id) VALUES (?, ?, ?, ?)"
ROUTE_BY_ID = "SELECT * FROM routes WHERE id = ?"
POINT_ROUTE = "UPDATE routes SET active_session_id = ? WHERE id = ?"
# Above every generation that the route or the session it points at next has had: no late output looks like present.
BUMP_ROUTE = """
UPDATE routes SET generation = max(generation, ?) + 1, active_session_id = NULL WHERE id = ?
"""
INSERT_SESSION = """
INSERT INTO sessions (id, agent_group_id, route_id, messaging_group_id, thread_id, generation, kind, status,
    created_at, last_active, parent_session_id, parent_relation, reset_note, summary)
VALUES (:id, :agent_group_id, :route_id, :messaging_group_id, :thread_id, :generation, :kind, 'active',
    :now, :now, :parent, :relation, :note, :summary)
"""
REOPEN = """
UPDATE sessions SET status = 'active', end_reason = NULL, ended_at = NULL, route_id = :route_id,
    messaging_group_id = :messaging_group_id, thread_id = :thread_id, generation = :generation
WHERE id = :id
"""
ADOPT = "UPDATE sessions SET messaging_group_id = ? WHERE id = ?"
DELETE_EMPTY = "DELETE FROM routes WHERE id = ? AND NOT EXISTS (SELECT 1 FROM sessions WHERE route_id = routes.id)"
BEGIN_GENERATION = """
UPDATE sessions SET generation = ?, provider_session_id = CASE ? WHEN 1 THEN provider_session_id END WHERE id = ?
"""
ACTIVE_IN_CHAT = """
SELECT s.* FROM sessions s JOIN routes r ON r.active_session_id = s.id
WHERE s.agent_group_id = ? AND s.messaging_group_id IS ? AND s.thread_id IS ? AND s.kind = 'chat'
    AND s.status IN ('active', 'archived')
ORDER BY s.last_active DESC
"""


@dataclass(frozen=True, slots=True)
class Route(Row):
    """What a wiring and an event resolve to."""

    id: str
    agent_group_id: str
    route_key: str
    active_session_id: str | None
    generation: int
    sender_id: str | None


def resolve(
    tx: Transaction,
    *,
    agent_group_id: str,
    route_key: str,
    messaging_group_id: str | None,
    thread_id: str | None,
    sender_id: str | None = None,
    kind: str = "chat",
) -> Session:
    """The session of a route, active or archived; route and session are made when they are not there.

    `sender_id` is the one person a route with `per_user` is for. A session that has lost its chat, which was removed
    and added again, is the chat's once more.

    One writing thread and one transaction: two first messages at the same moment find the same session.
    """
    row = one(tx, FIND_ROUTE, (agent_group_id, route_key))
    if row is None:
        tx.execute(INSERT_ROUTE, (new_id(Prefix.ROUTE), agent_group_id, route_key, sender_id))
        row = one(tx, FIND_ROUTE, (agent_group_id, route_key))
        assert row is not None
    route = Route.from_row(row)
    if route.active_session_id is not None:
        session = sessions.get(tx, route.active_session_id)
        if session.status in ("active", "archived"):
            if session.messaging_group_id is None and messaging_group_id is not None:
                tx.execute(ADOPT, (messaging_group_id, session.id))
                return sessions.get(tx, session.id)
            return session
    return open_session(tx, route, messaging_group_id=messaging_group_id, thread_id=thread_id, kind=kind)


def open_session(
    tx: Transaction,
    route: Route,
    *,
    messaging_group_id: str | None = None,
    thread_id: str | None = None,
    parent: Session | None = None,
    relation: Relation | None = None,
    note: str | None = None,
    summary: str | None = None,
    kind: str = "chat",
) -> Session:
    """A fresh session on a route, which now points at it; in the chat and thread of its parent, if it has one.

    `note` is told to the agent once; `summary` is what it knows of the conversation that was compressed into it.
    """
    session_id = new_id(Prefix.SESSION)
    tx.execute(
        INSERT_SESSION,
        {
            "id": session_id,
            "agent_group_id": route.agent_group_id,
            "route_id": route.id,
            "messaging_group_id": messaging_group_id if parent is None else parent.messaging_group_id,
            "thread_id": thread_id if parent is None else parent.thread_id,
            "generation": route.generation,
            "now": tx.now,
            "parent": None if parent is None else parent.id,
            "relation": relation,
            "note": note,
            "summary": summary,
            "kind": kind if parent is None else parent.kind,
        },
    )
    point(tx, route, session_id)
    events.add(
        tx,
        EventKind.SESSION_NEW,
        session_id=session_id,
        agent_group_id=route.agent_group_id,
        data={} if parent is None else {"parent_id": parent.id, "relation": relation},
    )
    return sessions.get(tx, session_id)


def point(tx: Transaction, route: Route, session_id: str) -> None:
    """Make a route point at a session."""
    tx.execute(POINT_ROUTE, (session_id, route.id))


def leave_route(tx: Transaction, session: Session) -> Route:
    """Bump the generation of a session's route and take its pointer away: what still comes out is not sent."""
    return bump(tx, route_of(tx, session), session)


def bump(tx: Transaction, route: Route, session: Session) -> Route:
    """A new generation of a route, also for `session`, which may come from another one; it points at nothing now."""
    tx.execute(BUMP_ROUTE, (session.generation, route.id))
    return _get(tx, route.id)


def reopen(tx: Transaction, session: Session, route: Route, place: Session | None) -> None:
    """Make a session the active one of a route, in the place (chat and thread) of another one there, if any."""
    place = place or session
    tx.execute(
        REOPEN,
        {
            "id": session.id,
            "route_id": route.id,
            "messaging_group_id": place.messaging_group_id,
            "thread_id": place.thread_id,
            "generation": route.generation,
        },
    )
    point(tx, route, session.id)


def begin_generation(tx: Transaction, session: Session, route: Route, *, keep_pointer: bool) -> None:
    """Let the active session of a route go on in the route's new generation, with or without its resume pointer."""
    tx.execute(BEGIN_GENERATION, (route.generation, int(keep_pointer), session.id))
    point(tx, route, session.id)


def route_of(connection: Queryable, session: Session) -> Route:
    """The route of a session. Raises `Conflict` when both were removed for good meanwhile."""
    return _get(connection, session.route_id)


def is_active_on_route(connection: Queryable, session: Session) -> bool:
    """Whether the session's route points at it."""
    return route_of(connection, session).active_session_id == session.id


def active_in_chat(
    connection: Queryable, agent_group_id: str, messaging_group_id: str, thread_id: str | None
) -> list[Session]:
    """The active sessions of an agent group in a chat (and thread)."""
    rows = connection.execute(ACTIVE_IN_CHAT, (agent_group_id, messaging_group_id, thread_id))
    return [Session.from_row(row) for row in rows]


def remove_session(tx: Transaction, session: Session) -> None:
    """Remove a session with all that hangs on it; with the last one of a route, the route and the list shown there."""
    sessions.delete(tx, session.id)
    if tx.execute(DELETE_EMPTY, (session.route_id,)).rowcount:
        session_list.forget_list(tx, session.route_id)


def _get(connection: Queryable, route_id: str) -> Route:
    row = one(connection, ROUTE_BY_ID, (route_id,))
    if row is None:
        raise Conflict("the conversation is gone", hint="`dumbwaiter session list` shows those that are there")
    return Route.from_row(row)
