"""Which sessions people in a chat may see and take up: those of that chat and agent group, and no others.

What is asked from within a conversation reaches the sessions of its agent group in the same chat; in a conversation of
one person alone, or of an agent in all its chats together, those of its own route. What lies outside is not found,
also by its id or title: otherwise what was said in a direct chat could be called into a group.
"""

from __future__ import annotations

from host.central import routes, session_list, sessions
from host.central import title as form
from host.central.database import Queryable, one
from host.central.sessions import Session
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.rows import Row

# Of two conditions one is empty; both have an index, and the `+` keeps SQLite from taking that of the status of all the
# sessions there are. What was compressed goes on in another session.
WITHIN = """
WITH reached AS (
    SELECT s.* FROM sessions s JOIN routes r ON r.id = s.route_id
    WHERE s.messaging_group_id = :messaging_group_id AND s.agent_group_id = :agent_group_id AND r.sender_id IS NULL
    UNION ALL
    SELECT s.* FROM sessions s WHERE s.route_id = :route_id
)
SELECT id, title, status, last_active, unread_since, coalesce(title, preview, (
    SELECT coalesce(p.title, p.preview) FROM sessions p
    WHERE p.id = s.parent_session_id AND s.parent_relation = 'branched')) AS name
FROM reached s
WHERE kind = 'chat' AND status <> 'deleted'
"""
SAID = """
  AND end_reason IS NOT 'compressed' AND (id = :present OR coalesce(title, preview) IS NOT NULL
    OR EXISTS (SELECT 1 FROM ingest i WHERE i.session_id = s.id AND i.kind = 'chat'))
"""
NEWEST = f"{WITHIN} {SAID} ORDER BY last_active DESC, id DESC LIMIT :limit"
LAST_ENDED = f"{WITHIN} {SAID} AND +status = 'ended' ORDER BY ended_at DESC, last_active DESC LIMIT 1"
ONE = f"{WITHIN} AND id = :id"


@dataclass(frozen=True, slots=True)
class Reached(Row):
    """A session that can be seen, as a list shows it. `name`: what people know it by, if anything was said."""

    id: str
    title: str | None
    name: str | None
    status: str
    last_active: str
    unread_since: str | None


def newest(connection: Queryable, present: Session, limit: int) -> list[Reached]:
    """Returns the conversations in reach of the present one, the most recently active first, without those in which
    nothing was said."""
    return [Reached.from_row(row) for row in connection.execute(NEWEST, _values(connection, present, limit=limit))]


def last_ended(connection: Queryable, present: Session) -> Session:
    """The conversation in reach that ended last. Raises `NotFound`."""
    row = one(connection, LAST_ENDED, _values(connection, present))
    if row is None:
        raise NotFound("there is no earlier conversation here")
    return sessions.get(connection, row["id"])


def name_of(connection: Queryable, session: Session) -> str | None:
    """What people know a session by: its title, what it began with, or what its original did."""
    row = one(connection, ONE, _values(connection, session, id=session.id))
    return None if row is None else row["name"]


def find(connection: Queryable, present: Session, name: str) -> Session:
    """The session in reach of that name; of a compressed conversation the one in which it goes on.

    `name` is a number in the list that was shown last on the route, an id, a title, or a unique beginning of an id
    (with or without `ses_`). Raises `NotFound`, or `Conflict` when several fit.
    """
    found = _by_number(connection, present, name) or _by_name(connection, present, name)
    if len(found) > 1:
        raise Conflict(f"several conversations begin with '{name[:100]}'; /sessions numbers them")
    session = sessions.newest_descendant(connection, sessions.get(connection, found[0])) if found else None
    if session is None or one(connection, ONE, _values(connection, present, id=session.id)) is None:
        raise NotFound(f"there is no conversation '{name[:100]}' here; /sessions lists those there are")
    return session


def _by_number(connection: Queryable, present: Session, name: str) -> list[str]:
    listed = session_list.numbered(connection, present.route_id, name)
    return [] if listed is None or sessions.lookup(connection, listed) is None else [listed]


def _by_name(connection: Queryable, present: Session, name: str) -> list[str]:
    within = [Reached.from_row(row) for row in connection.execute(WITHIN, _values(connection, present))]
    titled = _titled(within, name)
    if titled or session_list.is_number(name):
        return titled
    prefix = name if name.startswith("ses_") else f"ses_{name}"
    exact = [each.id for each in within if each.id == prefix]
    return exact or [each.id for each in within if each.id.startswith(prefix)]


def _titled(within: list[Reached], name: str) -> list[str]:
    """The session with that title; `name` is the newest of `name`, `name #2`, …"""
    try:
        wanted = form.clean(name)
    except InvalidValue:
        return []
    titles = {each.title: each.id for each in within if each.title is not None}
    title = wanted if form.number_of(wanted) > 1 else form.newest(wanted, titles)
    return [titles[title]] if title in titles else []


def _values(connection: Queryable, present: Session, **more: object) -> dict[str, object]:
    route = routes.route_of(connection, present)
    is_own = present.messaging_group_id is None or route.sender_id is not None
    return {
        "agent_group_id": present.agent_group_id,
        "messaging_group_id": None if is_own else present.messaging_group_id,
        "route_id": route.id if is_own else None,
        "present": present.id,
        **more,
    }
