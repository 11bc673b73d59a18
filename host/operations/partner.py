"""With whom a person at the terminal talks: the agent that was named, or the one that answers there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from host.central import agent_groups, messaging_groups, routes, session_lookup
from host.central.agent_groups import AgentGroup
from host.central.database import Queryable
from host.central.messaging_groups import Engage, Wiring
from host.central.sessions import Session
from host.channels.cli import CHANNEL_TYPE, PLATFORM_ID
from host.routing.engage import engages
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, NotFound

TERMINAL = f"{CHANNEL_TYPE}:{PLATFORM_ID}"


@dataclass(frozen=True, slots=True)
class Partner:
    """An agent group, and the session where one was named (`is_pinned`) or is under way."""

    group: AgentGroup
    session: Session | None
    is_pinned: bool


def of_prompt(connection: Queryable, agent_group: str | None, session: str | None) -> Partner:
    """Who answers what a person will type. Raises `NotFound`, `Conflict`."""
    if session is not None:
        found = session_lookup.find(connection, session)
        owner = agent_groups.by_id(connection, found.agent_group_id)
        assert owner is not None, "a session belongs to an agent group"
        return Partner(owner, found, is_pinned=True)
    terminal = messaging_groups.find(connection, CHANNEL_TYPE, PLATFORM_ID)
    if agent_group is None:
        wirings = _wirings(connection)
        takes_all = [wiring for wiring in wirings if wiring.engage == Engage.ALL]
        usual = takes_all or [wiring for wiring in wirings if wiring.engage != Engage.PATTERN] or wirings
        group = _only(_groups(connection, usual)) or _nobody(connection)
    else:
        group = named(connection, agent_group)
    active = [] if terminal is None else routes.active_in_chat(connection, group.id, terminal.id, None)
    return Partner(group, active[0] if len(active) == 1 else None, is_pinned=False)


def of_text(connection: Queryable, text: str) -> AgentGroup | None:
    """The agent group that answers one text; None where none does. Raises `Conflict`.

    In a direct chat every message is meant for each agent; an agent that waits to be meant makes room for one that
    takes everything, so that a second agent does not end the first one's conversation.
    """
    wirings = _wirings(connection)
    takers = [wiring for wiring in wirings if _takes(wiring, text, is_meant=False)]
    takers = takers or [wiring for wiring in wirings if _takes(wiring, text, is_meant=True)]
    return _only(_groups(connection, takers))


def require_any(connection: Queryable) -> None:
    """Raises `NotFound` where no agent answers at the terminal."""
    if not _groups(connection, _wirings(connection)):
        _nobody(connection)


def named(connection: Queryable, name: str) -> AgentGroup:
    """The agent group of that name, which answers at the terminal. Raises `NotFound`."""
    group = agent_groups.get_by_name(connection, name)
    if group.id not in {wiring.agent_group_id for wiring in _wirings(connection)}:
        raise NotFound(f"'{group.name}' does not answer at the terminal", hint=how_to_wire(group.name))
    return group


def how_to_wire(name: str) -> str:
    """What lets an agent answer at the terminal, beside those that do already."""
    return (
        f"`dumbwaiter wire {TERMINAL} {name} --engage mention` lets it answer there when it is meant, "
        f"`--pattern '^{name}'` what begins with that, `--engage all` everything"
    )


def _wirings(connection: Queryable) -> Sequence[Wiring]:
    terminal = messaging_groups.find(connection, CHANNEL_TYPE, PLATFORM_ID)
    return [] if terminal is None else messaging_groups.wirings_of(connection, terminal.id)


def _groups(connection: Queryable, wirings: Sequence[Wiring]) -> list[AgentGroup]:
    found = [agent_groups.by_id(connection, wiring.agent_group_id) for wiring in wirings]
    return [group for group in found if group is not None]


def _takes(wiring: Wiring, text: str, *, is_meant: bool) -> bool:
    return engages(wiring.engage, wiring.pattern, text=text, is_mention=is_meant, is_group=not is_meant)


def _only(groups: Sequence[AgentGroup]) -> AgentGroup | None:
    if len(groups) > 1:
        names = ", ".join(group.name for group in groups)
        raise Conflict(
            f"several agents answer at the terminal: {names}", hint=f"name one: `dumbwaiter chat {groups[0].name}`"
        )
    return groups[0] if groups else None


def _nobody(connection: Queryable) -> NoReturn:
    known = agent_groups.all_groups(connection)
    if not known:
        raise NotFound("there is no agent yet", hint="`dumbwaiter init` makes one")
    lets = f"`dumbwaiter wire {TERMINAL} {known[0].name}` lets one do so"
    raise NotFound("no agent answers at the terminal", hint=lets)
