"""Titles in the registry: one of each in an agent group, a person's above all (FAILURES 38)."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import pytest

from host.central import control_tasks, events, ingest, session_lookup, sessions, titles
from host.central.database import Central, Transaction
from host.central.events import EventKind
from host.central.sessions import Session
from host.central.titles import TitleSource
from host.delivery import control_results
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.rows import encode
from tests.support.transaction import at
from tests.unit.registry import LATER, NOW, accepted_values, add_agent, add_session


@pytest.fixture
def pair(registry: Transaction) -> tuple[Session, Session]:
    """Two sessions of one agent group."""
    agent = add_agent(registry)
    return add_session(registry, agent), add_session(registry, agent, "shared/memory/two")


def title_of(connection: sqlite3.Connection, session: Session) -> tuple[str | None, str | None]:
    found = sessions.get(connection, session.id)
    return found.title, found.title_source


def test_a_title_is_one_session_s_in_its_agent_group(registry: Transaction, pair: tuple[Session, Session]) -> None:
    one, two = pair
    assert titles.set_manual(at(registry, NOW), one, " The  plan ") == "The plan"
    assert titles.set_manual(at(registry, NOW), one, "The plan") == "The plan"
    with pytest.raises(Conflict, match="another session has the title 'The plan': choose another one"):
        titles.set_manual(at(registry, NOW), two, "The\u200b plan")
    assert title_of(registry, two) == (None, None)
    assert titles.set_manual(at(registry, NOW), two, "The plan", lineage=True) == "The plan #2"
    elsewhere = add_session(registry, add_agent(registry, "other"))
    assert titles.set_manual(at(registry, NOW), elsewhere, "The plan") == "The plan"
    with pytest.raises(InvalidValue):
        titles.set_manual(at(registry, NOW), one, "\u200b")


def test_an_automatic_title_never_takes_the_place_of_a_person_s(
    registry: Transaction, pair: tuple[Session, Session]
) -> None:
    one, two = pair
    titles.set_manual(at(registry, NOW), one, "Mine")
    assert not titles.set_automatic(at(registry, LATER), one, "Theirs")
    assert not titles.set_first_words(at(registry, LATER), one, "hello")
    assert title_of(registry, one) == ("Mine", TitleSource.MANUAL)
    titles.clear(at(registry, NOW), two)
    assert not titles.set_automatic(at(registry, LATER), two, "Theirs")
    assert title_of(registry, two) == (None, TitleSource.MANUAL)


def test_an_automatic_title_takes_the_place_of_the_first_words_once(
    registry: Transaction, pair: tuple[Session, Session]
) -> None:
    one, _ = pair
    assert titles.set_first_words(at(registry, NOW), one, "what is a dumbwaiter?")
    assert not titles.set_first_words(at(registry, NOW), one, "something else")
    assert titles.set_automatic(at(registry, LATER), one, "Small lifts")
    assert not titles.set_automatic(at(registry, LATER), one, "Another")
    assert title_of(registry, one) == ("Small lifts", TitleSource.AUTOMATIC)
    assert titles.set_manual(at(registry, LATER), one, "Lifts") == "Lifts"
    assert not titles.set_first_words(at(registry, NOW), pair[1], "\u200b")


def test_automatic_titles_that_are_the_same_get_numbers(registry: Transaction, pair: tuple[Session, Session]) -> None:
    one, two = pair
    titles.set_automatic(at(registry, NOW), one, "x" * 120)
    titles.set_automatic(at(registry, NOW), two, "x" * 120)
    assert title_of(registry, one)[0] == "x" * 100
    assert title_of(registry, two)[0] == "x" * 97 + " #2"


async def test_two_automatic_titles_at_once_leave_one(central: Central) -> None:
    session = await central.write(lambda c: add_session(c, add_agent(c)))
    taken = await asyncio.gather(
        *(central.write(lambda c, n=n: titles.set_automatic(at(c, NOW), session, f"title {n}")) for n in range(20))
    )
    assert taken.count(True) == 1
    found = await central.read(sessions.get, session.id)
    assert found.title == f"title {taken.index(True)}"


async def test_two_people_who_want_one_title_at_once_get_one_each(central: Central) -> None:
    def make(connection: sqlite3.Connection) -> list[Session]:
        agent = add_agent(connection)
        return [add_session(connection, agent, f"shared/memory/{number}") for number in range(12)]

    made = await central.write(make)
    given = await asyncio.gather(
        *(central.write(lambda c, s=s: titles.set_manual(at(c, NOW), s, "name", lineage=True)) for s in made)
    )
    assert sorted(given, key=len) == ["name", *(f"name #{number}" for number in range(2, 13))]


def test_a_name_means_the_newest_of_its_lineage_and_a_number_that_one(
    registry: Transaction, pair: tuple[Session, Session]
) -> None:
    one, two = pair
    titles.set_manual(at(registry, NOW), one, "name")
    assert session_lookup.find(registry, "name").id == one.id
    titles.set_manual(at(registry, NOW), two, "name #2")
    assert session_lookup.find(registry, "name").id == two.id
    assert session_lookup.find(registry, " name  #2 ").id == two.id
    assert titles.find(registry, "name #1") == []
    titles.clear(at(registry, NOW), one)
    assert session_lookup.find(registry, "name").id == two.id
    with pytest.raises(NotFound):
        session_lookup.find(registry, "name #3")
    with pytest.raises(NotFound):
        session_lookup.find(registry, "nam")


def test_a_title_of_another_agent_group_is_not_found(registry: Transaction, pair: tuple[Session, Session]) -> None:
    one, _ = pair
    other = add_session(registry, add_agent(registry, "other"))
    titles.set_manual(at(registry, NOW), other, "name #7")
    assert titles.find(registry, "name", one.agent_group_id) == []
    titles.set_manual(at(registry, NOW), one, "name")
    assert titles.find(registry, "name", one.agent_group_id) == [one.id]
    with pytest.raises(Conflict, match="several sessions fit 'name'"):
        session_lookup.find(registry, "name")


def test_a_deleted_session_keeps_nobody_from_its_title(registry: Transaction, pair: tuple[Session, Session]) -> None:
    one, two = pair
    titles.set_manual(at(registry, NOW), one, "name")
    sessions.delete_softly(at(registry, NOW), one.id)
    assert titles.find(registry, "name") == []
    assert titles.set_manual(at(registry, NOW), two, "name") == "name"
    assert title_of(registry, one) == (None, None)
    assert titles.find(registry, "name") == [two.id]


def test_a_conversation_that_goes_on_has_the_next_title(registry: Transaction, pair: tuple[Session, Session]) -> None:
    one, two = pair
    titles.hand_on(registry, one, two)
    assert title_of(registry, two) == (None, None)
    titles.set_automatic(at(registry, NOW), one, "name")
    titles.hand_on(registry, sessions.get(registry, one.id), two)
    assert title_of(registry, two) == ("name #2", TitleSource.AUTOMATIC)
    assert not titles.mark_asked(registry, two.id)


def test_every_change_of_a_title_is_told_to_live_views(registry: Transaction, pair: tuple[Session, Session]) -> None:
    one, _ = pair
    titles.set_first_words(at(registry, NOW), one, "hello there")
    titles.set_automatic(at(registry, LATER), one, "Greetings")
    titles.set_automatic(at(registry, LATER), one, "Too late")
    titles.clear(at(registry, LATER), one)
    told = [event for event in events.after(registry, 0, 10, one.id) if event.kind != EventKind.SESSION_NEW]
    assert {event.kind for event in told} == {EventKind.SESSION_TITLE}
    assert [json.loads(event.data) for event in told] == [
        {"title": "hello there", "source": "first-words"},
        {"title": "Greetings", "source": "automatic"},
        {"title": None, "source": "manual"},
    ]


def test_an_errand_that_is_open_is_not_asked_again(registry: Transaction, pair: tuple[Session, Session]) -> None:
    one, two = pair
    first = control_tasks.ask(at(registry, NOW), one, control_tasks.ControlTask.SUMMARIZE)
    assert control_tasks.ask(at(registry, LATER), one, control_tasks.ControlTask.SUMMARIZE) == first
    assert control_tasks.ask(at(registry, LATER), one, control_tasks.ControlTask.TITLE) != first
    assert control_tasks.ask(at(registry, LATER), two, control_tasks.ControlTask.SUMMARIZE) != first
    registry.execute("UPDATE ingest SET status = 'failed' WHERE message_id = ?", (first,))
    assert control_tasks.ask(at(registry, LATER), one, control_tasks.ControlTask.SUMMARIZE) != first


def talk(connection: sqlite3.Connection, *, provider: str = "scripted", text: str = "good morning") -> Session:
    """A session in which somebody wrote and was answered."""
    agent = add_agent(connection)
    connection.execute("UPDATE agent_groups SET provider = ? WHERE id = ?", (provider, agent.id))
    session = add_session(connection, agent)
    ingest.accept(connection, accepted_values(session, content=encode({"text": text})))
    answer_all(connection)
    return session


def answer_all(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE ingest SET status = 'completed' WHERE status = 'pending'")


def test_an_agent_is_asked_for_a_title_once_though_nothing_came_of_it(registry: Transaction) -> None:
    session = talk(registry)
    assert control_results.wants_title(at(registry, NOW), session)
    assert title_of(registry, session) == ("good morning", TitleSource.FIRST_WORDS)
    assert control_results.ask_title(at(registry, NOW), session.id)
    answer_all(registry)
    assert not control_results.wants_title(at(registry, LATER), session)
    assert not control_results.ask_title(at(registry, LATER), session.id)


def test_an_agent_is_not_asked_while_somebody_waits_and_asked_later(registry: Transaction) -> None:
    session = talk(registry)
    assert control_results.wants_title(at(registry, NOW), session)
    ingest.accept(registry, accepted_values(session))
    assert not control_results.ask_title(at(registry, NOW), session.id)
    answer_all(registry)
    assert control_results.wants_title(at(registry, LATER), session)
    assert control_results.ask_title(at(registry, LATER), session.id)


def test_nobody_asks_an_agent_that_cannot_or_a_session_that_is_over_or_named(registry: Transaction) -> None:
    session = talk(registry, provider="echo")
    assert not control_results.wants_title(at(registry, NOW), session)
    assert not control_results.ask_title(at(registry, NOW), session.id)
    registry.execute("UPDATE agent_groups SET provider = 'scripted'")
    titles.set_manual(at(registry, NOW), session, "Mine")
    assert not control_results.wants_title(at(registry, NOW), session)
    assert not control_results.ask_title(at(registry, NOW), session.id)
    assert not control_results.ask_title(at(registry, NOW), "ses_0000000000000000")
    titles.clear(at(registry, NOW), session)
    assert not control_results.ask_title(at(registry, NOW), session.id)
    registry.execute("UPDATE sessions SET status = 'ended', title_source = NULL")
    assert not control_results.ask_title(at(registry, NOW), session.id)


def test_a_conversation_that_began_with_a_file_has_no_first_words_and_its_agent_is_asked(
    registry: Transaction,
) -> None:
    session = talk(registry, text="")
    assert control_results.wants_title(at(registry, NOW), session)
    assert title_of(registry, session) == (None, None)
    assert control_results.ask_title(at(registry, NOW), session.id)
