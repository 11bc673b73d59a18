"""Which conversation a person means who names a session, or a chat and an agent."""

from __future__ import annotations

from host.central import agent_groups, messaging_groups, routes, session_lookup
from host.central.database import Queryable
from host.central.sessions import Session
from shared_schema.errors import Conflict, NotFound


def resolve_session(
    connection: Queryable,
    session: str | None,
    messaging_group: str | None,
    agent_group: str | None,
    thread: str | None,
) -> Session:
    """The session of that name, or the present one of a chat (and agent group, thread).

    Raises `NotFound`, `Conflict` when several fit.
    """
    group = None if agent_group is None else agent_groups.get_by_name(connection, agent_group)
    if session is not None:
        return session_lookup.find(connection, session, agent_group_id=None if group is None else group.id)
    if messaging_group is None:
        raise NotFound(
            "neither a session nor a messaging group was named", hint="`dumbwaiter session list` shows the sessions"
        )
    chat = messaging_groups.get_by_name(connection, messaging_group)
    groups = (
        [w.agent_group_id for w in messaging_groups.wirings_of(connection, chat.id)] if group is None else [group.id]
    )
    found = [active for each in groups for active in routes.active_in_chat(connection, each, chat.id, thread)]
    if not found:
        raise NotFound(f"there is no conversation in {messaging_group} yet", hint="the first message begins one")
    if len(found) > 1:
        raise Conflict(f"there are {len(found)} conversations in {messaging_group}", hint="name the session instead")
    return found[0]
