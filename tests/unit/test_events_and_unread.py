"""Numbered events for live views, and what nobody has read yet."""

from __future__ import annotations

import sqlite3

import pytest

from host.central import events, home_channels, mailbox, messaging_groups, routes, sessions, unread
from host.central.database import Transaction
from host.central.events import KEPT, EventKind
from host.central.sessions import Session
from shared_schema.errors import NotFound
from tests.support.transaction import at
from tests.unit.registry import LATER, NOW, add_agent, add_chat, add_session, wire


def tell(connection: sqlite3.Connection, session: Session, **data: object) -> None:
    events.add(
        at(connection, NOW),
        EventKind.TURN_ENDED,
        session_id=session.id,
        agent_group_id=session.agent_group_id,
        data=data,
    )


def test_events_are_numbered_and_read_from_a_number(registry: Transaction) -> None:
    agent = add_agent(registry)
    one, two = add_session(registry, agent), add_session(registry, agent, "shared/memory/two")
    assert [event.kind for event in events.after(registry, 0, 10)] == [EventKind.SESSION_NEW] * 2
    assert events.newest(registry) == 2
    for session in (one, two, one):
        tell(registry, session, turn="trn_1")
    assert [event.number for event in events.after(registry, 2, 10)] == [3, 4, 5]
    assert [event.number for event in events.after(registry, 3, 10, one.id)] == [5]
    assert [event.number for event in events.after(registry, 2, 2)] == [3, 4]
    assert [event.number for event in events.last(registry, 2)] == [4, 5]
    assert events.newest(registry) == 5
    assert events.after(registry, 2, 1)[0].data == '{"turn": "trn_1"}'


def test_the_newest_ten_thousand_events_are_kept(registry: Transaction) -> None:
    session = add_session(registry, add_agent(registry))
    registry.execute("BEGIN")
    for _ in range(KEPT + 350):
        tell(registry, session)
    registry.execute("COMMIT")
    kept = events.after(registry, 0, KEPT * 2)
    assert KEPT <= len(kept) <= KEPT + 100
    assert kept[-1].number == KEPT + 350 + 1


def since(connection: sqlite3.Connection, session: Session) -> str | None:
    return sessions.get(connection, session.id).unread_since


def test_a_session_is_unread_since_the_first_reply_that_nobody_has_read(registry: Transaction) -> None:
    session = add_session(registry, add_agent(registry))
    unread.note_reply(at(registry, NOW), session.id, "msg_1")
    unread.note_reply(at(registry, LATER), session.id, "msg_2")
    assert since(registry, session) == NOW
    unread.mark_read(registry, session.id)
    assert since(registry, session) is None
    unread.note_reply(at(registry, LATER), session.id, "msg_3")
    assert since(registry, session) == LATER


def test_a_letter_that_was_read_before_its_delivery_was_noted_is_read(registry: Transaction) -> None:
    session = add_session(registry, add_agent(registry))
    position = mailbox.put(
        at(registry, NOW),
        message_out_id=f"{session.id}/msg_1",
        platform_id="terminal",
        thread_id=None,
        in_reply_to=None,
        content="{}",
    )
    (letter,) = mailbox.unread(registry, "terminal")
    assert letter.session_id == session.id
    mailbox.mark_read(at(registry, NOW), [position])
    unread.note_reply(at(registry, LATER), session.id, "msg_1")
    assert since(registry, session) is None


@pytest.mark.parametrize(
    ("receipt", "read"),
    [
        (("one", None), {"whole", "everywhere"}),
        (("one", "t1"), {"whole", "first thread", "everywhere"}),
        (("two", None), {"other chat"}),
    ],
)
def test_reading_a_chat_reads_its_sessions_and_with_a_thread_that_thread(
    registry: Transaction, receipt: tuple[str, str | None], read: set[str]
) -> None:
    agents = [add_agent(registry, name) for name in ("a", "b", "c")]
    one, two = add_chat(registry, "one"), add_chat(registry, "two")
    wire(registry, one, agents[0])
    wire(registry, one, agents[1], session_mode="per-thread")
    wire(registry, one, agents[2], session_mode="agent-shared")
    places = {
        "whole": (agents[0], one.id, None),
        "first thread": (agents[1], one.id, "t1"),
        "second thread": (agents[1], one.id, "t2"),
        "everywhere": (agents[2], None, None),
        "other chat": (agents[0], two.id, None),
    }
    made = {
        name: routes.resolve(
            at(registry, NOW), agent_group_id=agent.id, route_key=name, messaging_group_id=chat, thread_id=thread
        )
        for name, (agent, chat, thread) in places.items()
    }
    for session in made.values():
        unread.note_reply(at(registry, NOW), session.id, "msg_1")
    group = messaging_groups.find(registry, "memory", receipt[0])
    assert group is not None
    unread.mark_read_in_chat(registry, group.id, receipt[1])
    assert {name for name, session in made.items() if since(registry, session) is None} == read


def test_an_agent_group_has_one_home_on_each_platform(registry: Transaction) -> None:
    agent = add_agent(registry)
    one, two, other = add_chat(registry), add_chat(registry, "two"), add_chat(registry, "x", channel_type="cli")
    for chat in (one, other, two):
        home_channels.put(at(registry, NOW), agent.id, chat)
    assert [chat.address for chat in home_channels.of(registry, agent.id)] == ["cli:x", "memory:two"]
    messaging_groups.delete(registry, other.id)
    home_channels.remove(registry, agent.id, "memory")
    assert home_channels.of(registry, agent.id) == []
    with pytest.raises(NotFound, match="there is no home on 'memory'"):
        home_channels.remove(registry, agent.id, "memory")


def test_of_a_session_that_is_removed_live_views_keep_no_word(registry: Transaction) -> None:
    agent = add_agent(registry)
    one, two = add_session(registry, agent), add_session(registry, agent, "shared/memory/two")
    for session in (one, two):
        tell(registry, session, title="a secret")
    events.forget_session(registry, one.id)
    assert [event.data for event in events.after(registry, 0, 10)] == ["{}", "{}", "{}", '{"title": "a secret"}']


def test_whoever_writes_in_a_conversation_has_read_it(registry: Transaction) -> None:
    session = add_session(registry, add_agent(registry))
    unread.note_reply(at(registry, NOW), session.id, "msg_1")
    sessions.heard(at(registry, LATER), session.id, "thank you")
    assert sessions.get(registry, session.id).unread_since is None


def test_whoever_writes_in_a_chat_has_read_all_that_stands_there(registry: Transaction) -> None:
    chat, agents = add_chat(registry), [add_agent(registry, name) for name in ("one", "two")]
    found = [
        routes.resolve(
            at(registry, NOW),
            agent_group_id=agent.id,
            route_key="shared/memory/one",
            messaging_group_id=chat.id,
            thread_id=None,
        )
        for agent in agents
    ]
    for session in found:
        unread.note_reply(at(registry, NOW), session.id, "msg_1")
    unread.wrote(registry, chat.id, None)
    assert [sessions.get(registry, session.id).unread_since for session in found] == [None, None]


def test_what_is_archived_is_not_unread(registry: Transaction) -> None:
    session = add_session(registry, add_agent(registry))
    unread.note_reply(at(registry, NOW), session.id, "msg_1")
    sessions.archive(at(registry, NOW), session.id)
    unread.note_reply(at(registry, LATER), session.id, "msg_2")
    assert sessions.get(registry, session.id).unread_since is None
