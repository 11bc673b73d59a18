"""Which session a person means: by id, the beginning of one, title, or its number in the list that was shown last."""

from __future__ import annotations

from host.central import session_list, sessions, titles
from host.central.database import Queryable
from host.central.sessions import Session
from shared_schema.errors import Conflict, NotFound
from shared_schema.ids import Prefix, is_id

BY_PREFIX = """
SELECT id FROM sessions
WHERE id >= :from AND id < :to AND (:agent_group_id IS NULL OR agent_group_id = :agent_group_id)
  AND (status = 'deleted') <= :deleted
LIMIT 2
"""


def find(
    connection: Queryable,
    name: str,
    *,
    agent_group_id: str | None = None,
    place: str | None = None,
    deleted: bool = False,
) -> Session:
    """The session of that name, of one agent group or of any: what belongs to another one is not found.

    `name` is an id, a unique beginning of one (with or without `ses_`), a title, or a number in the list that was shown
    last in `place`. With `deleted` also one that was deleted and can be restored. Raises `NotFound`, or `Conflict` when
    several fit.
    """
    name = name.strip()
    found = _by_number(connection, name, place) or _by_id(connection, name, agent_group_id, deleted=deleted)
    found = found or titles.find(connection, name, agent_group_id)
    if deleted and not found:  # the title may be another session's by now, which is meant before it
        found = titles.find(connection, name, agent_group_id, deleted=True)
    if len(found) > 1:
        raise Conflict(f"several sessions fit '{name[:100]}'", hint="write more of the id")
    session = sessions.lookup(connection, found[0]) if found else None
    if (
        session is None
        or (agent_group_id is not None and session.agent_group_id != agent_group_id)
        or (session.status == "deleted" and not deleted)
    ):
        raise NotFound(f"there is no session '{name[:100]}'", hint="`dumbwaiter session list` shows all")
    return session


def _by_number(connection: Queryable, name: str, place: str | None) -> list[str]:
    listed = None if place is None else session_list.numbered(connection, place, name)
    return [] if listed is None else [listed]


def _by_id(connection: Queryable, name: str, agent_group_id: str | None, *, deleted: bool) -> list[str]:
    if is_id(name, Prefix.SESSION):
        return [name]
    prefix = name if name.startswith("ses_") else f"ses_{name}"
    if not prefix.isascii() or len(prefix) == len("ses_"):
        return []
    values = {"from": prefix, "to": prefix + "g", "agent_group_id": agent_group_id, "deleted": int(deleted)}
    return [row["id"] for row in connection.execute(BY_PREFIX, values)]
