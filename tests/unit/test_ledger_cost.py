"""What a message or a command costs in central.db, counted in steps of SQLite: it does not depend on all the others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from host.central import (
    control_tasks,
    deliveries,
    exchanges,
    ingest,
    routes,
    session_visibility,
    sessions,
    titles,
    turns,
    usage,
)
from host.central.agent_groups import AgentGroup
from host.central.messaging_groups import MessagingGroup
from host.central.sessions import Session
from host.routing.acceptance import Rules, accept
from host.routing.event import Event
from host.supervision.sync import view_of
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address, MessageInStatus, Turn
from tests.unit.registry import LATER, NOW, accepted_values, add_agent, add_chat, add_session, wire

MANY = 3000
RULES = Rules(1000, "UTC", lambda session_id: False)

Work = Callable[[sqlite3.Connection, Session], object]
WORK: dict[str, Work] = {
    "a look": lambda c, s: view_of(c, s.id),
    "the next to be sent": lambda c, s: deliveries.next_for(c, ("memory", "one"), NOW),
    "when the next is due": lambda c, s: deliveries.next_due(c, ("memory", "one")),
    "whether answers are out": lambda c, s: deliveries.is_answer_out(c, s.id, "msg_0"),
    "keeping back what waits": lambda c, s: deliveries.suppress_session(c, s.id, "over", NOW),
    "how many wait for their time": lambda c, s: deliveries.delayed_count(c, s.id, 9),
    "a host's start": lambda c, s: deliveries.mark_interrupted(c, "stopped", NOW),
    "cancelling what is open": lambda c, s: ingest.cancel_session(c, s.id, NOW),
    "what is unanswered": lambda c, s: ingest.unanswered(c, s.id),
    "whether it is busy": lambda c, s: exchanges.is_busy(c, s.id),
    "whether somebody waits": lambda c, s: control_tasks.talk_waits(c, s.id),
    "turns that were taken back": lambda c, s: turns.withdrawn(c, s.id),
    "accepting one more": lambda c, s: accept(
        c,
        Event(Address("memory", "one"), new_id(Prefix.MESSAGE), "one more", sender_id="ann"),
        RULES,
        datetime(2026, 6, 1, tzinfo=UTC),
        spool=None,
        names=[],
    ),
}

AMONG_OTHERS: dict[str, Work] = {
    "the conversation that ended last": lambda c, s: session_visibility.last_ended(c, s),
    "the list of conversations": lambda c, s: session_visibility.newest(c, s, 10),
    "a conversation by its name": lambda c, s: session_visibility.find(c, s, "mine"),
    "what a conversation is called": lambda c, s: session_visibility.name_of(c, s),
    "what a conversation has used": lambda c, s: usage.of_session(c, s.id),
    "the conversations of a chat": lambda c, s: routes.active_in_chat(
        c, s.agent_group_id, str(s.messaging_group_id), s.thread_id
    ),
    "removing a conversation": lambda c, s: routes.remove_session(c, s),
}


def steps(connection: sqlite3.Connection, run: Callable[[], object]) -> int:
    """How many instructions of SQLite's machine that takes; what it changes is undone."""
    count = 0

    def one_more() -> None:
        nonlocal count
        count += 1

    connection.execute("BEGIN")
    connection.set_progress_handler(one_more, 1)
    try:
        run()
    finally:
        connection.set_progress_handler(None, 0)
        connection.execute("ROLLBACK")
    return count


def talk(connection: sqlite3.Connection, session: Session, count: int) -> None:
    """So many exchanges that are over."""
    connection.execute("BEGIN")
    for number in range(count):
        row, _ = ingest.accept(connection, accepted_values(session))
        turn = f"trn_{number:016x}"
        connection.execute(
            "INSERT INTO turns (session_id, id, status, started_at) VALUES (?, ?, 'completed', ?)",
            (session.id, turn, NOW),
        )
        ingest.mark_written(connection, [row.message_id])
        ingest.note_turn(connection, session.id, row.message_id, turn)
        ingest.finish(connection, session.id, row.message_id, MessageInStatus.COMPLETED, now=LATER)
        deliveries.add(
            connection,
            message_out_id=new_id(Prefix.MESSAGE),
            session_id=session.id,
            kind="chat",
            channel_type="memory",
            platform_id="one",
            thread_id=None,
            content="{}",
            created_at=NOW,
            in_reply_to=row.message_id,
            status="delivered",
        )
    connection.execute("UPDATE ingest SET recorded = 1")
    connection.execute("UPDATE deliveries SET recorded = 1")
    connection.execute("COMMIT")


@pytest.fixture
def session(registry: sqlite3.Connection) -> Session:
    agent, chat = add_agent(registry), add_chat(registry)
    wire(registry, chat, agent)
    return add_session(registry, agent)


def test_what_is_over_costs_nothing_any_more(registry: sqlite3.Connection, session: Session) -> None:
    talk(registry, session, 20)
    few = {name: steps(registry, lambda work=work: work(registry, session)) for name, work in WORK.items()}
    registry.execute("DELETE FROM turns")
    talk(registry, session, MANY)
    many = {name: steps(registry, lambda work=work: work(registry, session)) for name, work in WORK.items()}
    assert {name: (few[name], count) for name, count in many.items() if count > 1.5 * few[name] + 50} == {}


def test_what_waits_for_its_time_costs_nobody_else_anything(registry: sqlite3.Connection, session: Session) -> None:
    flooding = add_session(registry, add_agent(registry, "flooding"))
    delay(registry, flooding, 20)
    few = {name: steps(registry, lambda work=work: work(registry, session)) for name, work in WORK.items()}
    delay(registry, flooding, MANY)
    many = {name: steps(registry, lambda work=work: work(registry, session)) for name, work in WORK.items()}
    del few["a host's start"], many["a host's start"]  # it looks at all that is open
    assert {name: (few[name], count) for name, count in many.items() if count > 1.5 * few[name] + 50} == {}


def delay(connection: sqlite3.Connection, session: Session, count: int) -> None:
    """So many messages for the same chat, in eight thousand years."""
    connection.execute("BEGIN")
    for _ in range(count):
        deliveries.add(
            connection,
            message_out_id=new_id(Prefix.MESSAGE),
            session_id=session.id,
            kind="chat",
            channel_type="memory",
            platform_id="one",
            thread_id=None,
            content="{}",
            created_at=NOW,
            in_reply_to="msg_0",
            deliver_after="9999-12-31T23:59:59.999Z",
        )
    connection.execute("COMMIT")


def test_other_conversations_cost_a_command_nothing(registry: sqlite3.Connection) -> None:
    agent, here, elsewhere = add_agent(registry), add_chat(registry), add_chat(registry, "elsewhere")
    ended = converse(registry, agent, here, "ended")
    titles.set_manual(registry, ended, "mine", NOW)
    sessions.end(registry, ended.id, "new", NOW)
    present = converse(registry, agent, here, "present")
    for number in range(20):
        converse(registry, agent, elsewhere, f"few {number}")
    few = {name: steps(registry, lambda work=work: work(registry, present)) for name, work in AMONG_OTHERS.items()}
    registry.execute("BEGIN")
    for number in range(MANY):
        other = converse(registry, agent, elsewhere, f"many {number}")
        if number % 2:
            sessions.end(registry, other.id, "new", NOW)
    registry.execute("COMMIT")
    many = {name: steps(registry, lambda work=work: work(registry, present)) for name, work in AMONG_OTHERS.items()}
    assert {name: (few[name], count) for name, count in many.items() if count > 1.5 * few[name] + 50} == {}


def converse(connection: sqlite3.Connection, agent: AgentGroup, chat: MessagingGroup, thread: str) -> Session:
    """A conversation in a thread of a chat, with one message and a turn that used something."""
    session = routes.resolve(
        connection, agent_group_id=agent.id, route_key=thread, messaging_group_id=chat.id, thread_id=thread, now=NOW
    )
    ingest.accept(connection, accepted_values(session))
    sessions.heard(connection, session.id, "hello", NOW)
    assert usage.record(
        connection, session.id, agent.id, Turn(new_id(Prefix.TURN), "completed", NOW, input_tokens=1), NOW
    )
    return session
