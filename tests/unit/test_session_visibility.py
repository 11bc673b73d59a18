"""Which conversations people in a chat can see and take up."""

from __future__ import annotations

import pytest

from host.central import messaging_groups, routes, session_list, session_visibility, sessions, titles
from host.central.agent_groups import AgentGroup
from host.central.database import Transaction
from host.central.messaging_groups import MessagingGroup
from host.central.sessions import Session
from host.sessions import transitions
from shared_schema.errors import Conflict, NotFound
from tests.support.transaction import at
from tests.unit.registry import LATER, NOW, add_agent, add_chat


def open_in(
    registry: Transaction, agent: AgentGroup, chat: MessagingGroup | None, key: str, said: str | None = "hello"
) -> Session:
    """A session of a chat (or, without one, of an agent in all its chats), in which something was said."""
    session = routes.resolve(
        at(registry, NOW),
        agent_group_id=agent.id,
        route_key=key,
        messaging_group_id=None if chat is None else chat.id,
        thread_id=None,
    )
    if said is not None:
        sessions.heard(at(registry, NOW), session.id, said)
    return session


def ids(registry: Transaction, present: Session) -> set[str]:
    return {each.id for each in session_visibility.newest(registry, present, 10)}


def test_threads_of_a_chat_reach_each_other_and_no_other_chat_or_agent(registry: Transaction) -> None:
    agent, other = add_agent(registry), add_agent(registry, "other")
    chat, direct = add_chat(registry), add_chat(registry, "direct")
    here, thread = open_in(registry, agent, chat, "a"), open_in(registry, agent, chat, "b")
    outside = [
        open_in(registry, agent, direct, "c"),
        open_in(registry, other, chat, "d"),
        open_in(registry, agent, None, "e"),
    ]

    assert ids(registry, here) == {here.id, thread.id}
    assert session_visibility.find(registry, here, thread.id).id == thread.id
    for session in outside:
        with pytest.raises(NotFound):
            session_visibility.find(registry, here, session.id)


def test_an_agent_in_all_its_chats_reaches_only_its_own_route(registry: Transaction) -> None:
    """The sessions of a chat that was removed have none either."""
    agent, chat = add_agent(registry), add_chat(registry)
    removed = open_in(registry, agent, chat, "shared/memory/one")
    messaging_groups.delete(registry, chat.id)
    assert sessions.get(registry, removed.id).messaging_group_id is None
    here = open_in(registry, agent, None, "agent-shared/x")

    assert ids(registry, here) == {here.id}
    with pytest.raises(NotFound):
        session_visibility.find(registry, here, removed.id)


def test_empty_and_compressed_and_deleted_ones_are_not_listed(registry: Transaction) -> None:
    agent, chat = add_agent(registry), add_chat(registry)
    first = open_in(registry, agent, chat, "a")
    child = transitions.compress(at(registry, LATER), first, "a summary").after
    empty = transitions.new(at(registry, LATER), child).after
    deleted = open_in(registry, agent, chat, "b")
    transitions.delete(at(registry, LATER), deleted)
    present = transitions.new(at(registry, LATER), empty).after
    sessions.heard(at(registry, NOW), child.id, "more")

    assert ids(registry, present) == {child.id, present.id}
    assert session_visibility.last_ended(registry, present).id == child.id
    assert session_visibility.find(registry, present, first.id).id == child.id


def test_a_name_is_a_number_then_a_title_then_the_beginning_of_an_id(registry: Transaction) -> None:
    agent, chat = add_agent(registry), add_chat(registry)
    one, two = open_in(registry, agent, chat, "a"), open_in(registry, agent, chat, "b")
    titles.set_manual(at(registry, NOW), one, two.id.removeprefix("ses_")[:6])
    session_list.keep_list(at(registry, NOW), one.route_id, [two.id, one.id])

    assert session_visibility.find(registry, one, "1").id == two.id
    assert session_visibility.find(registry, one, "2").id == one.id
    assert session_visibility.find(registry, one, two.id[4:10]).id == one.id
    assert session_visibility.find(registry, one, two.id[:12]).id == two.id
    with pytest.raises(NotFound):
        session_visibility.find(registry, one, "3")
    with pytest.raises(Conflict):
        session_visibility.find(registry, one, "ses_")


def test_a_title_is_the_newest_of_its_line(registry: Transaction) -> None:
    agent, chat = add_agent(registry), add_chat(registry)
    one, two, elsewhere = (
        open_in(registry, agent, where, key) for where, key in ((chat, "a"), (chat, "b"), (None, "c"))
    )
    for session in (one, two, elsewhere):
        titles.set_manual(at(registry, NOW), session, "Plans", lineage=True)

    assert session_visibility.find(registry, one, "Plans").id == two.id
    assert session_visibility.find(registry, one, "Plans #2").id == two.id
    with pytest.raises(NotFound):
        session_visibility.find(registry, one, "Plans #3")
