"""Routes and sessions. The active session is a pointer on the route, never "the newest row"."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from host.central.database import one
from shared_schema.errors import Conflict, NotFound
from shared_schema.ids import Prefix, is_id, new_id
from shared_schema.rows import Row

FIND_ROUTE = "SELECT * FROM routes WHERE agent_group_id = ? AND route_key = ?"
INSERT_ROUTE = "INSERT INTO routes (id, agent_group_id, route_key, sender_id) VALUES (?, ?, ?, ?)"
ROUTE_BY_ID = "SELECT * FROM routes WHERE id = ?"
POINT_ROUTE = "UPDATE routes SET active_session_id = ? WHERE id = ?"
BUMP_ROUTE = "UPDATE routes SET generation = generation + 1, active_session_id = NULL WHERE id = ? RETURNING generation"

INSERT_SESSION = """
INSERT INTO sessions (id, agent_group_id, route_id, messaging_group_id, thread_id, generation, kind, status,
    created_at, last_active)
VALUES (?, ?, ?, ?, ?, ?, 'chat', 'active', ?, ?)
"""
BY_ID = "SELECT * FROM sessions WHERE id = ?"
BY_PREFIX = "SELECT id FROM sessions WHERE id >= ? AND id < ? LIMIT 2"
BY_TITLE = "SELECT id FROM sessions WHERE title = ? ORDER BY last_active DESC LIMIT 2"
TOUCH = "UPDATE sessions SET last_active = ? WHERE id = ?"
# The first reason wins; only reopening would clear it.
END = "UPDATE sessions SET status = 'ended', end_reason = coalesce(end_reason, ?) WHERE id = ? AND status = 'active'"
DELETE = "DELETE FROM sessions WHERE id = ?"
ALL_IDS = "SELECT id FROM sessions"
COUNT = "SELECT count(*) AS n FROM sessions"
ACTIVE_IN_CHAT = """
SELECT s.* FROM sessions s JOIN routes r ON r.active_session_id = s.id
WHERE s.agent_group_id = ? AND s.messaging_group_id IS ? AND s.thread_id IS ? AND s.status = 'active'
ORDER BY s.last_active DESC
"""
OF_AGENT_GROUP = "SELECT id FROM sessions WHERE agent_group_id = ?"

ADVANCE = "UPDATE sessions SET out_cursor = ?, turn_cursor = ? WHERE id = ?"
# An empty resume pointer never overwrites a recorded one.
KEEP_POINTER = "UPDATE sessions SET provider_session_id = ? WHERE id = ? AND ? <> ''"

SHOWN = """
SELECT s.id, a.name AS agent_group, m.channel_type || ':' || m.platform_id AS messaging_group, s.thread_id, s.kind,
       s.status, s.end_reason, s.title, s.last_active, s.created_at, s.agent_group_id, s.generation, s.run_id,
       s.run_settled,
       (SELECT count(*) FROM ingest i WHERE i.session_id = s.id AND i.status = 'pending' AND i.trigger = 1) AS pending
FROM sessions s JOIN agent_groups a ON a.id = s.agent_group_id
LEFT JOIN messaging_groups m ON m.id = s.messaging_group_id
WHERE (:id IS NULL OR s.id = :id)
  AND (:agent_group IS NULL OR a.name = :agent_group)
  AND (:messaging_group IS NULL OR m.channel_type || ':' || m.platform_id = :messaging_group)
  AND (:status IS NULL OR s.status = :status)
ORDER BY s.last_active DESC, s.id LIMIT :limit
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


@dataclass(frozen=True, slots=True)
class Session(Row):
    """One conversation of one agent group."""

    id: str
    agent_group_id: str
    route_id: str
    messaging_group_id: str | None
    thread_id: str | None
    generation: int
    kind: str
    status: str
    end_reason: str | None
    title: str | None
    provider_session_id: str | None
    created_at: str
    last_active: str
    out_cursor: int
    turn_cursor: int
    runtime: str | None
    run_id: str | None
    run_settled: int
    start_failures: int


def resolve(
    connection: sqlite3.Connection,
    *,
    agent_group_id: str,
    route_key: str,
    messaging_group_id: str | None,
    thread_id: str | None,
    now: str,
    sender_id: str | None = None,
) -> Session:
    """The active session of a route; route and session are made when they are not there.

    `sender_id` is the one person a route with `per_user` is for.

    One writing thread and one transaction: two first messages at the same moment find the same session.
    """
    row = one(connection, FIND_ROUTE, (agent_group_id, route_key))
    if row is None:
        connection.execute(INSERT_ROUTE, (new_id(Prefix.ROUTE), agent_group_id, route_key, sender_id))
        row = one(connection, FIND_ROUTE, (agent_group_id, route_key))
        assert row is not None
    route = Route.from_row(row)
    if route.active_session_id is not None:
        session = get(connection, route.active_session_id)
        if session.status == "active":
            return session
    return open_session(connection, route, messaging_group_id=messaging_group_id, thread_id=thread_id, now=now)


def open_session(
    connection: sqlite3.Connection,
    route: Route,
    *,
    messaging_group_id: str | None,
    thread_id: str | None,
    now: str,
) -> Session:
    """A fresh session on a route, which now points at it."""
    session_id = new_id(Prefix.SESSION)
    connection.execute(
        INSERT_SESSION,
        (session_id, route.agent_group_id, route.id, messaging_group_id, thread_id, route.generation, now, now),
    )
    connection.execute(POINT_ROUTE, (session_id, route.id))
    return get(connection, session_id)


def leave_route(connection: sqlite3.Connection, session: Session) -> Route:
    """Bump the generation of a session's route and take its pointer away: what still comes out is not sent."""
    connection.execute(BUMP_ROUTE, (session.route_id,)).fetchone()
    return route_of(connection, session)


def route_of(connection: sqlite3.Connection, session: Session) -> Route:
    """The route of a session."""
    row = one(connection, ROUTE_BY_ID, (session.route_id,))
    assert row is not None
    return Route.from_row(row)


def is_active_on_route(connection: sqlite3.Connection, session: Session) -> bool:
    """Whether the session's route points at it."""
    return route_of(connection, session).active_session_id == session.id


def end(connection: sqlite3.Connection, session_id: str, reason: str) -> None:
    """End an active session. The first reason wins."""
    connection.execute(END, (reason, session_id))


def touch(connection: sqlite3.Connection, session_id: str, now: str) -> None:
    """Note that something happened in the session."""
    connection.execute(TOUCH, (now, session_id))


def get(connection: sqlite3.Connection, session_id: str) -> Session:
    """The session with that id. Raises `NotFound`."""
    row = one(connection, BY_ID, (session_id,))
    if row is None:
        raise NotFound(f"there is no session {session_id}", hint="`dumbwaiter session list` shows all")
    return Session.from_row(row)


def lookup(connection: sqlite3.Connection, session_id: str) -> Session | None:
    """The session with that id, if there is one."""
    row = one(connection, BY_ID, (session_id,))
    return None if row is None else Session.from_row(row)


def find(connection: sqlite3.Connection, name: str) -> Session:
    """The session a person means: by id, unique id prefix (with or without `ses_`), or title.

    Raises `NotFound`, or `Conflict` when several fit.
    """
    if is_id(name, Prefix.SESSION):
        return get(connection, name)
    prefix = name if name.startswith("ses_") else f"ses_{name}"
    rows = connection.execute(BY_PREFIX, (prefix, prefix + "g")).fetchall() if prefix.isascii() else []
    rows = rows if len(prefix) > len("ses_") else []
    if not rows:
        rows = connection.execute(BY_TITLE, (name,)).fetchall()
    if not rows:
        raise NotFound(f"there is no session '{name}'", hint="`dumbwaiter session list` shows all")
    if len(rows) > 1:
        raise Conflict(f"several sessions fit '{name}'", hint="write more of the id")
    return get(connection, rows[0]["id"])


def delete(connection: sqlite3.Connection, session_id: str) -> None:
    """Remove the row with all that hangs on it; accepted events stay, without a session, so that they stay known."""
    connection.execute(DELETE, (session_id,))


def of_agent_group(connection: sqlite3.Connection, agent_group_id: str) -> list[str]:
    """The ids of all sessions of an agent group."""
    return [row["id"] for row in connection.execute(OF_AGENT_GROUP, (agent_group_id,))]


def active_in_chat(
    connection: sqlite3.Connection, agent_group_id: str, messaging_group_id: str, thread_id: str | None
) -> list[Session]:
    """The active sessions of an agent group in a chat (and thread)."""
    rows = connection.execute(ACTIVE_IN_CHAT, (agent_group_id, messaging_group_id, thread_id))
    return [Session.from_row(row) for row in rows]


def all_ids(connection: sqlite3.Connection) -> set[str]:
    """The ids of all sessions."""
    return {row["id"] for row in connection.execute(ALL_IDS)}


def count(connection: sqlite3.Connection) -> int:
    """How many sessions there are."""
    row = one(connection, COUNT)
    return 0 if row is None else int(row["n"])


def advance(connection: sqlite3.Connection, session_id: str, out_cursor: int, turn_cursor: int) -> None:
    """Note up to where `outbound.db` was copied."""
    connection.execute(ADVANCE, (out_cursor, turn_cursor, session_id))


def keep_pointer(connection: sqlite3.Connection, session_id: str, provider_session_id: str | None) -> None:
    """Record the provider's resume pointer, unless it is empty."""
    if provider_session_id:
        connection.execute(KEEP_POINTER, (provider_session_id, session_id, provider_session_id))


def shown(
    connection: sqlite3.Connection,
    *,
    session_id: str | None = None,
    agent_group: str | None = None,
    messaging_group: str | None = None,
    status: str | None = None,
    limit: int = 100,
) -> list[sqlite3.Row]:
    """Sessions with the names people use, the most recently active first."""
    return connection.execute(
        SHOWN,
        {
            "id": session_id,
            "agent_group": agent_group,
            "messaging_group": messaging_group,
            "status": status,
            "limit": limit,
        },
    ).fetchall()
