"""Routes and sessions: the active session is a pointer, and the first of everything wins."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import pytest

from host.central import agent_groups, messaging_groups, routes, runs, session_list, session_lookup, sessions
from host.central.database import Central, Transaction
from host.central.session_list import Filter, Key
from host.central.sessions import Session
from shared_schema.errors import Conflict, InvalidValue, NotFound
from tests.support.transaction import at
from tests.unit.registry import LATER, NOW, add_agent, add_chat, add_session, wire


async def test_two_first_messages_at_the_same_moment_make_one_session(central: Central) -> None:
    """FAILURES 23."""
    agent = await central.write(add_agent)
    found = await asyncio.gather(*(central.write(add_session, agent) for _ in range(50)))
    assert len({session.id for session in found}) == 1
    counts = await central.read(
        lambda c: c.execute("SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM routes)").fetchone()
    )
    assert tuple(counts) == (1, 1)


def test_the_same_route_key_of_two_agents_is_two_sessions(registry: Transaction) -> None:
    one, other = add_agent(registry, "one"), add_agent(registry, "other")
    assert add_session(registry, one).id != add_session(registry, other).id
    assert add_session(registry, one).agent_group_id == one.id


def test_the_active_session_is_the_one_pointed_at_and_not_the_newest(registry: Transaction) -> None:
    agent = add_agent(registry)
    first = add_session(registry, agent, "shared/memory/one")
    newest = add_session(registry, agent, "agent-shared/x", now=LATER)
    sessions.touch(at(registry, "2030-01-01T00:00:00.000Z"), newest.id)
    assert add_session(registry, agent, "shared/memory/one").id == first.id


def test_after_an_end_the_route_gets_a_fresh_session_of_a_newer_generation(registry: Transaction) -> None:
    agent = add_agent(registry)
    old = add_session(registry, agent)
    assert routes.is_active_on_route(registry, old)
    route = routes.leave_route(registry, old)
    sessions.end(at(registry, NOW), old.id, "new")
    fresh = add_session(registry, agent)
    assert (route.generation, fresh.generation, old.generation) == (2, 2, 1)
    assert fresh.id != old.id
    assert not routes.is_active_on_route(registry, old)
    assert routes.is_active_on_route(registry, fresh)


def test_a_pointer_at_an_ended_session_is_not_followed(registry: Transaction) -> None:
    agent = add_agent(registry)
    old = add_session(registry, agent)
    sessions.end(at(registry, NOW), old.id, "crashed in between")
    assert add_session(registry, agent).id != old.id


def test_the_first_reason_for_an_end_wins(registry: Transaction) -> None:
    session = add_session(registry, add_agent(registry))
    sessions.end(at(registry, NOW), session.id, "new")
    sessions.end(at(registry, LATER), session.id, "idle")
    ended = sessions.get(registry, session.id)
    assert (ended.status, ended.end_reason) == ("ended", "new")


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_resume_pointer_never_overwrites_a_recorded_one(registry: Transaction, empty: str | None) -> None:
    session = add_session(registry, add_agent(registry))
    sessions.keep_pointer(registry, session.id, empty, "scripted")
    assert sessions.get(registry, session.id).provider_session_id is None
    sessions.keep_pointer(registry, session.id, "thread-1", "scripted")
    sessions.keep_pointer(registry, session.id, empty, "scripted")
    assert sessions.get(registry, session.id).provider_session_id == "thread-1"
    sessions.keep_pointer(registry, session.id, "thread-2", "scripted")
    assert sessions.get(registry, session.id).provider_session_id == "thread-2"


def with_id(
    connection: sqlite3.Connection, agent_group: str, route_key: str, session_id: str, title: str | None = None
) -> str:
    """A session with a chosen id."""
    agent = agent_groups.get_by_name(connection, agent_group)
    made = add_session(connection, agent, route_key)
    connection.execute("UPDATE routes SET active_session_id = NULL WHERE active_session_id = ?", (made.id,))
    connection.execute("UPDATE sessions SET id = ?, title = ? WHERE id = ?", (session_id, title, made.id))
    return session_id


@pytest.fixture
def three(registry: Transaction) -> sqlite3.Connection:
    """Three sessions whose ids begin alike, two of them of different agents with the same title."""
    add_agent(registry)
    add_agent(registry, "other")
    with_id(registry, "assistant", "r1", "ses_abc0000000000000", "Holiday plans")
    with_id(registry, "other", "r2", "ses_abcf000000000000", "Holiday plans")
    with_id(registry, "assistant", "r3", "ses_ffff000000000000", "Taxes 100%")
    return registry


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ses_abc0000000000000", "ses_abc0000000000000"),
        ("ses_abc0", "ses_abc0000000000000"),
        ("abcf", "ses_abcf000000000000"),
        ("f", "ses_ffff000000000000"),
        ("ffff000000000000", "ses_ffff000000000000"),
        ("Taxes 100%", "ses_ffff000000000000"),
    ],
)
def test_a_session_is_found_by_id_prefix_or_title(three: sqlite3.Connection, name: str, found: str) -> None:
    assert session_lookup.find(three, name).id == found


@pytest.mark.parametrize("name", ["ses_abc", "abc", "a", "Holiday plans"])
def test_a_name_that_fits_several_sessions_is_refused(three: sqlite3.Connection, name: str) -> None:
    with pytest.raises(Conflict, match=f"several sessions fit '{name}'"):
        session_lookup.find(three, name)


@pytest.mark.parametrize(
    "name", ["", "ses_", "ses_0123456789abcdef", "b", "ses_abcg", "%", "_", "Taxes", "taxes 100%", "żółw", "'", "a%"]
)
def test_a_name_that_fits_no_session_is_not_found(three: sqlite3.Connection, name: str) -> None:
    with pytest.raises(NotFound, match="there is no session"):
        session_lookup.find(three, name)


def test_what_belongs_to_another_agent_group_is_not_found(three: sqlite3.Connection) -> None:
    """FAILURES 39."""
    mine, other = (agent_groups.get_by_name(three, name).id for name in ("assistant", "other"))
    assert session_lookup.find(three, "Holiday plans", agent_group_id=other).id == "ses_abcf000000000000"
    assert session_lookup.find(three, "abc", agent_group_id=mine).id == "ses_abc0000000000000"
    for name in ("ses_ffff000000000000", "f", "Taxes 100%"):
        with pytest.raises(NotFound, match="there is no session"):
            session_lookup.find(three, name, agent_group_id=other)


def test_a_number_means_the_list_that_was_shown_last_in_that_place(three: sqlite3.Connection) -> None:
    session_list.keep_list(at(three, NOW), "here", ["ses_ffff000000000000", "ses_abc0000000000000"])
    session_list.keep_list(at(three, NOW), "there", ["ses_abcf000000000000"])
    assert session_lookup.find(three, "2", place="here").id == "ses_abc0000000000000"
    assert session_lookup.find(three, "1", place="there").id == "ses_abcf000000000000"
    for number in ("0", "3", "99999", "-1", "²"):
        with pytest.raises(NotFound):
            session_lookup.find(three, number, place="here")


def test_a_deleted_session_is_found_by_those_who_ask_for_it(three: sqlite3.Connection) -> None:
    sessions.delete_softly(at(three, NOW), "ses_ffff000000000000")
    for name in ("ses_ffff000000000000", "f", "Taxes 100%"):
        with pytest.raises(NotFound):
            session_lookup.find(three, name)
    assert session_lookup.find(three, "f", deleted=True).id == "ses_ffff000000000000"


def test_deleting_a_session_takes_what_hangs_on_it_and_leaves_its_children(registry: Transaction) -> None:
    agent = add_agent(registry)
    parent, child = add_session(registry, agent, "r1"), add_session(registry, agent, "r2")
    registry.execute("UPDATE sessions SET parent_session_id = ? WHERE id = ?", (parent.id, child.id))
    registry.execute(
        "INSERT INTO turns (session_id, id, status, started_at) VALUES (?, 't', 'running', ?)", (parent.id, NOW)
    )
    sessions.delete(registry, parent.id)
    assert sessions.lookup(registry, parent.id) is None
    row = registry.execute("SELECT id, parent_session_id FROM sessions").fetchone()
    assert tuple(row) == (child.id, None)
    assert registry.execute("SELECT count(*) FROM turns").fetchone()[0] == 0
    assert registry.execute("SELECT active_session_id FROM routes WHERE route_key = 'r1'").fetchone()[0] is None
    assert add_session(registry, agent, "r1").id != parent.id


def test_a_run_is_settled_once_and_only_the_last_one(registry: Transaction) -> None:
    session = add_session(registry, add_agent(registry))
    assert runs.unsettled(registry) == []
    assert runs.begin(registry, session.id, "run_1", "process")
    assert runs.begin(registry, session.id, "run_2", "docker")
    assert (runs.unsettled(registry), runs.unsettled_runtimes(registry)) == ([session.id], {"docker"})
    assert not runs.finalize(registry, session.id, "run_1", 1)
    assert runs.finalize(registry, session.id, "run_2", 2)
    assert not runs.finalize(registry, session.id, "run_2", 3)
    assert sessions.get(registry, session.id).start_failures == 2
    assert runs.unsettled(registry) == []


def test_no_run_begins_in_an_archived_session(registry: Transaction) -> None:
    session = add_session(registry, add_agent(registry))
    sessions.archive(at(registry, NOW), session.id)
    assert not runs.begin(registry, session.id, "run_1", "process")
    assert sessions.get(registry, session.id).run_id is None


def listed(connection: sqlite3.Connection, *, after: Key | None = None, limit: int = 100, **filters: Any) -> list[str]:
    page = session_list.page(connection, Filter(**filters), limit=limit, after=after)
    return [row["id"] for row in page]


def test_sessions_are_shown_with_names_the_most_recently_active_first(registry: Transaction) -> None:
    one, other = add_agent(registry, "one"), add_agent(registry, "other")
    first, second = add_session(registry, one, "r1", now=NOW), add_session(registry, other, "r2", now=LATER)
    assert listed(registry) == [second.id, first.id]
    assert listed(registry, agent_group_id=one.id) == [first.id]
    assert listed(registry, limit=1) == [second.id]
    sessions.end(at(registry, NOW), first.id, "new")
    assert listed(registry, status="active") == [second.id]
    assert listed(registry, messaging_group_id="mgr_none") == []
    assert session_list.shown(registry, second.id)["agent_group"] == "other"


def test_pages_cut_by_key_hold_every_session_once_also_those_of_the_same_moment(registry: Transaction) -> None:
    agent = add_agent(registry)
    everything = {add_session(registry, agent, f"r{number}", now=NOW).id for number in range(25)}
    found: list[str] = []
    while page := listed(registry, limit=10, after=Key(NOW, found[-1]) if found else None):
        found += page
    assert len(found) == 25
    assert set(found) == everything


def test_deleted_sessions_are_listed_only_on_demand(registry: Transaction) -> None:
    session = add_session(registry, add_agent(registry))
    sessions.delete_softly(at(registry, NOW), session.id)
    assert listed(registry) == []
    assert listed(registry, status="deleted") == [session.id]


def test_an_agent_group_with_sessions_cannot_be_removed_from_under_them(registry: Transaction) -> None:
    agent = add_agent(registry)
    session = add_session(registry, agent)
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        agent_groups.delete(registry, agent.id)
    sessions.delete(registry, session.id)
    agent_groups.delete(registry, agent.id)
    assert agent_groups.by_id(registry, agent.id) is None


def test_removing_a_chat_takes_wirings_and_destinations_and_leaves_sessions(registry: Transaction) -> None:
    agent, chat = add_agent(registry), add_chat(registry)
    wire(registry, chat, agent)
    agent_groups.add_destination(registry, agent.id, "home", chat.id, NOW)
    session: Session = routes.resolve(
        at(registry, NOW), agent_group_id=agent.id, route_key="r", messaging_group_id=chat.id, thread_id=None
    )
    messaging_groups.delete(registry, chat.id)
    assert messaging_groups.wirings_of(registry, chat.id) == []
    assert agent_groups.destinations(registry, agent.id) == []
    assert sessions.get(registry, session.id).messaging_group_id is None


def test_a_chat_that_is_added_again_has_its_conversation_back(registry: Transaction) -> None:
    agent, chat = add_agent(registry), add_chat(registry)

    def session(chat_id: str | None) -> Session:
        return routes.resolve(
            at(registry, NOW), agent_group_id=agent.id, route_key="r", messaging_group_id=chat_id, thread_id=None
        )

    before = session(chat.id)
    messaging_groups.delete(registry, chat.id)
    assert session(None).messaging_group_id is None
    again = add_chat(registry)
    assert (session(again.id).id, session(again.id).messaging_group_id) == (before.id, again.id)
    assert session(None).messaging_group_id == again.id


def test_a_name_that_is_taken_is_refused(registry: Transaction) -> None:
    agent, chat = add_agent(registry), add_chat(registry)
    agent_groups.add_destination(registry, agent.id, "home", chat.id, NOW)
    with pytest.raises(Conflict, match="agent group 'assistant' already"):
        add_agent(registry)
    with pytest.raises(Conflict, match="messaging group memory:one already"):
        add_chat(registry)
    with pytest.raises(Conflict, match="destination 'home' already"):
        agent_groups.add_destination(registry, agent.id, "home", chat.id, NOW)


@pytest.mark.parametrize("name", ["", "Assistant", "-a", "_a", "a b", "a/b", "..", "a" * 64, "ä", "a\n"])
def test_a_name_that_cannot_be_a_folder_is_refused(registry: Transaction, name: str) -> None:
    with pytest.raises(InvalidValue, match="cannot be a name"):
        add_agent(registry, name)
    assert agent_groups.all_groups(registry) == []


@pytest.mark.parametrize(
    "address",
    ["", "memory", "memory:", ":one", "Memory:one", "mem ory:one", "memory: one", "memory:a\nb", "m" * 40 + ":a"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidValue, match="does not name a messaging group"):
        messaging_groups.parse_address(address)


@pytest.mark.parametrize(
    ("address", "parts"),
    [("cli:terminal", ("cli", "terminal")), ("memory:a:b/c d", ("memory", "a:b/c d")), ("tg:-100", ("tg", "-100"))],
)
def test_an_address_is_split_at_the_first_colon(address: str, parts: tuple[str, str]) -> None:
    assert messaging_groups.parse_address(address) == parts


def test_wiring_again_changes_the_wiring(registry: Transaction) -> None:
    agent, chat = add_agent(registry), add_chat(registry)
    wire(registry, chat, agent)
    wire(registry, chat, agent, session_mode="per-thread", engage="pattern", pattern="x")
    (wiring,) = messaging_groups.wirings_of(registry, chat.id)
    assert (wiring.session_mode, wiring.engage, wiring.pattern) == ("per-thread", "pattern", "x")
    assert messaging_groups.unwire(registry, chat.id, agent.id)
    assert not messaging_groups.unwire(registry, chat.id, agent.id)
