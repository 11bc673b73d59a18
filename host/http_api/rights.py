"""What a token may do: which operations, on what, and what it is shown of the result.

| rights | for one agent group | for all of them |
|---|---|---|
| read | looks at its sessions, schedules, usage | looks at everything |
| talk | its own conversations alone | the same, with every agent |
| admin | looks and changes there | everything |

An operation that is not in `_REACHES` is about the whole host, and for tokens of the whole host alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.central import messaging_groups, session_lookup
from host.central.database import Queryable
from host.central.tokens import Rights, Token
from host.channels.api import CHANNEL_TYPE
from host.operations import registry
from host.operations.asking import NotAllowed, chat_of
from host.services import Services
from shared_schema.dataclass import dataclass
from shared_schema.errors import NotFound

_FOR_ALL = "`dumbwaiter token add NAME` without --agent-group makes a token for all agents"
_MARKING = frozenset({"terminal.unread", "terminal.open"})
"""Operations that look, and note for the owner's terminal that it was shown something."""


class SeesNothing(Exception):
    """What a token asks for is a list in which nothing can be."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How an operation is kept to one agent group. `agent_group` and `session` name parameters.

    The first is set, and the second must name a session of it. `needs_session`: it is about everything without one.
    `own`: it may be done to conversations of one's own by who may only talk. `closed` are parameters that lead
    elsewhere.
    """

    agent_group: str | None = None
    session: str | None = None
    needs_session: bool = False
    own: bool = False
    closed: frozenset[str] = frozenset()


_SESSION = Reach(session="session", needs_session=True)
_OWN = Reach(session="session", needs_session=True, own=True)
_GROUP = Reach(agent_group="agent_group")
_REACHES: Mapping[str, Reach] = {
    "agent_group.list": Reach(own=True),
    "agent_group.show": Reach(agent_group="name"),
    "session.list": Reach(agent_group="agent_group", own=True),
    "session.search": Reach(agent_group="agent_group", session="session", own=True),
    "session.show": _OWN,
    "session.transcript": _OWN,
    "session.stop": _OWN,
    "session.title": _OWN,
    "session.undo": _OWN,
    "session.retry": _OWN,
    "session.archive": _OWN,
    "session.logs": _SESSION,
    "session.sql": _SESSION,
    "session.delete": _SESSION,
    "session.restore": _SESSION,
    "session.compress": _SESSION,
    "session.branch": _SESSION,
    "session.export": _SESSION,
    "session.new": Reach(session="session", needs_session=True, closed=frozenset({"messaging_group", "thread"})),
    "session.resume": Reach(
        agent_group="agent_group",
        session="session",
        needs_session=True,
        closed=frozenset({"messaging_group", "thread"}),
    ),
    "schedule.list": _GROUP,
    "schedule.show": _GROUP,
    "schedule.log": _GROUP,
    "schedule.upcoming": _GROUP,
    "schedule.add": _GROUP,
    "schedule.heartbeat": _GROUP,
    "schedule.set": _GROUP,
    "schedule.pause": _GROUP,
    "schedule.resume": _GROUP,
    "schedule.cancel": _GROUP,
    "schedule.run": _GROUP,
    "agent_file.list": _GROUP,
    "agent_file.show": _GROUP,
    "agent_file.set": _GROUP,
    "agent_file.remove": _GROUP,
    "destination.list": _GROUP,
    "home.list": _GROUP,
    "usage": Reach(agent_group="agent_group", session="session"),
    "events": Reach(session="session"),
}


async def allowed(services: Services, token: Token, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with which a token may do an operation.

    Raises `NotAllowed`, `NotFound` for what it cannot see, `SeesNothing`.
    """
    reach = _REACHES.get(name)
    looks = registry.only_looks(name)
    if token.rights == Rights.TALK:
        if reach is None or not reach.own:
            raise NotAllowed(
                f"the token '{token.name}' talks, and sees its own conversations alone", hint=_how(looks, token)
            )
    elif token.rights == Rights.READ and (not looks or name in _MARKING):
        raise NotAllowed(f"the token '{token.name}' may read, and changes nothing", hint=_how(False, token))
    if token.rights != Rights.TALK and token.agent_group_id is None:
        return dict(given)
    if reach is None:
        raise NotAllowed(f"the token '{token.name}' is for {token.agent_group}, and this is for all", hint=_FOR_ALL)
    return await services.central.read(lambda c: _kept_to(c, token, name, reach, dict(given)))


def _how(looks: bool, token: Token) -> str:
    rights = "read" if looks else "admin"
    return f"`dumbwaiter token add NAME --rights {rights}` makes one that may"


def _kept_to(connection: Queryable, token: Token, name: str, reach: Reach, given: dict[str, Any]) -> dict[str, Any]:
    for closed in reach.closed & given.keys():
        raise NotAllowed(f"the parameter '{closed}' leads to chats that this token does not reach", hint=_FOR_ALL)
    if reach.agent_group is not None and token.agent_group_id is not None:
        if given.get(reach.agent_group, token.agent_group) != token.agent_group:
            raise NotFound(f"there is no agent '{str(given[reach.agent_group])[:60]}' that this token reaches")
        given[reach.agent_group] = token.agent_group
    is_own = token.rights == Rights.TALK
    if reach.session is not None:
        wanted = given.get(reach.session)
        if wanted is None and (reach.needs_session or is_own):
            raise NotAllowed("this token names the session it means", hint="give the parameter `session`")
        if wanted is not None:
            given[reach.session] = _seen(connection, token, str(wanted), is_own=is_own)
    if is_own and name == "session.list":
        if messaging_groups.find(connection, CHANNEL_TYPE, token.name) is None:
            raise SeesNothing  # it has said nothing yet
        given["messaging_group"] = chat_of(token)
    return given


def _seen(connection: Queryable, token: Token, wanted: str, *, is_own: bool) -> str:
    """The id of a session that a token sees. Raises `NotFound`, also for what it does not see, in the same words."""
    found = session_lookup.find(connection, wanted, agent_group_id=token.agent_group_id, deleted=True)
    if is_own:
        chat_id = found.messaging_group_id
        chat = None if chat_id is None else messaging_groups.by_id(connection, chat_id)
        if chat is None or chat.address != chat_of(token) or found.status == "deleted":
            session_lookup.find(connection, wanted, agent_group_id="")  # raises
    return found.id


def shown(token: Token, name: str, result: Any) -> Any:
    """What a token is shown of a result: what knows no agent group as a parameter is kept to it here."""
    if token.agent_group_id is None:
        return result
    if name == "usage":  # what acts by itself, and what that has used, is told of the whole host
        return {key: value for key, value in result.items() if key != "schedules"}
    if name == "agent_group.list":
        return [each for each in result if each["id"] == token.agent_group_id]
    if name == "events":
        return [each for each in result if each["agent_group_id"] == token.agent_group_id]
    return result
