"""What a message or a command costs in central.db, counted in steps of SQLite: it does not depend on all the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from host.central import (
    chat_moves,
    control_tasks,
    delegations,
    deliveries,
    ended,
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
from host.central.database import Transaction
from host.central.messaging_groups import MessagingGroup
from host.central.sessions import Session
from host.routing import reactions, updates
from host.routing.acceptance import Rules, accept
from host.routing.event import Deleted, Edited, Event, Reacted
from host.supervision.sync import view_of
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address, MessageInStatus, Turn
from tests.support.transaction import at
from tests.unit.registry import LATER, NOW, accepted_values, add_agent, add_chat, add_session, wire

MANY = 3000
RULES = Rules(1000, "UTC", lambda session_id: False)

HERE = Address("memory", "one")

Work = Callable[[Transaction, Session], object]


def look_at_ended(statement: str, still_open: str = "[1]") -> Work:
    """A look at what has ended since the newest row of a table, with one row before it still open."""

    def look(tx: Transaction, session: Session) -> None:
        seen = tx.execute(ended.NEWEST[statement]).fetchone()["place"]
        tx.execute(statement, {"seen": seen, "open": still_open, "limit": 100}).fetchall()

    return look


WORK: dict[str, Work] = {
    "a look": lambda c, s: view_of(c, s.id),
    "the next to be sent": lambda c, s: deliveries.next_for(c, ("memory", "one"), NOW),
    "when the next is due": lambda c, s: deliveries.next_due(c, ("memory", "one")),
    "whether answers are out": lambda c, s: deliveries.is_answer_out(c, s.id, "msg_0"),
    "keeping back what waits": lambda c, s: deliveries.suppress_session(at(c, NOW), s.id, "over"),
    "how many wait for their time": lambda c, s: deliveries.delayed_count(c, s.id, 9),
    "a host's start": lambda c, s: deliveries.mark_interrupted(at(c, NOW), "stopped"),
    "cancelling what is open": lambda c, s: ingest.cancel_session(at(c, NOW), s.id),
    "what is unanswered": lambda c, s: ingest.unanswered(c, s.id),
    "whether it is busy": lambda c, s: exchanges.is_busy(c, s.id),
    "whether somebody waits": lambda c, s: control_tasks.talk_waits(c, s.id),
    "turns that were taken back": lambda c, s: turns.withdrawn(c, s.id),
    "a message that is changed": lambda c, s: updates.edited(at(c, NOW), Edited(HERE, "nothing", "changed"), RULES),
    "a message that is deleted": lambda c, s: updates.deleted(at(c, NOW), Deleted(HERE, "nothing")),
    "a reaction": lambda c, s: reactions.reacted(at(c, NOW), Reacted(HERE, "nothing", "👍", "ann")),
    "what waits for a chat that moves": lambda c, s: c.execute(chat_moves.MOVE_DELIVERIES, ("two", "memory", "none")),
    "turns that have ended": look_at_ended(ended.TURNS),
    "messages that have ended": look_at_ended(ended.MESSAGES),
    "deliveries that have ended": look_at_ended(ended.DELIVERIES),
    "messages for a trace": look_at_ended(ended.TRACED_MESSAGES),
    "deliveries for a trace": look_at_ended(ended.TRACED_DELIVERIES, "[]"),  # of a row it looks at 500 messages
    "accepting one more": lambda c, s: accept(
        at(c, NOW),
        Event(Address("memory", "one"), new_id(Prefix.MESSAGE), "one more", sender_id="ann"),
        RULES,
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
    "stopping what was delegated": lambda c, s: delegations.stop_of(at(c, NOW), s.id),
    "removing a conversation": lambda c, s: routes.remove_session(c, s),
}


def steps(tx: Transaction, run: Callable[[], object]) -> int:
    """How many instructions of SQLite's machine that takes; what it changes is undone."""
    count = 0

    def one_more() -> None:
        nonlocal count
        count += 1

    tx.execute("BEGIN")
    tx.connection.set_progress_handler(one_more, 1)
    try:
        run()
    finally:
        tx.connection.set_progress_handler(None, 0)
        tx.execute("ROLLBACK")
    return count


def talk(tx: Transaction, session: Session, count: int) -> None:
    """So many exchanges that are over."""
    tx.execute("BEGIN")
    for number in range(count):
        row, _ = ingest.accept(tx, accepted_values(session))
        turn = f"trn_{number:016x}"
        tx.execute(
            "INSERT INTO turns (session_id, id, status, started_at) VALUES (?, ?, 'completed', ?)",
            (session.id, turn, NOW),
        )
        ingest.mark_written(tx, [row.message_id])
        ingest.note_turn(tx, session.id, row.message_id, turn)
        ingest.finish(at(tx, LATER), session.id, row.message_id, MessageInStatus.COMPLETED)
        deliveries.add(
            tx,
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
    tx.execute("UPDATE ingest SET recorded = 1")
    tx.execute("UPDATE deliveries SET recorded = 1")
    tx.execute("COMMIT")


@pytest.fixture
def session(registry: Transaction) -> Session:
    agent, chat = add_agent(registry), add_chat(registry)
    wire(registry, chat, agent)
    return add_session(registry, agent)


def test_what_is_over_costs_nothing_any_more(registry: Transaction, session: Session) -> None:
    talk(registry, session, 20)
    few = {name: steps(registry, lambda work=work: work(registry, session)) for name, work in WORK.items()}
    registry.execute("DELETE FROM turns")
    talk(registry, session, MANY)
    many = {name: steps(registry, lambda work=work: work(registry, session)) for name, work in WORK.items()}
    assert {name: (few[name], count) for name, count in many.items() if count > 1.5 * few[name] + 50} == {}


def test_what_waits_for_its_time_costs_nobody_else_anything(registry: Transaction, session: Session) -> None:
    flooding = add_session(registry, add_agent(registry, "flooding"))
    delay(registry, flooding, 20)
    few = {name: steps(registry, lambda work=work: work(registry, session)) for name, work in WORK.items()}
    delay(registry, flooding, MANY)
    many = {name: steps(registry, lambda work=work: work(registry, session)) for name, work in WORK.items()}
    del few["a host's start"], many["a host's start"]  # it looks at all that is open
    assert {name: (few[name], count) for name, count in many.items() if count > 1.5 * few[name] + 50} == {}


def delay(tx: Transaction, session: Session, count: int) -> None:
    """So many messages for the same chat, in eight thousand years."""
    tx.execute("BEGIN")
    for _ in range(count):
        deliveries.add(
            tx,
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
    tx.execute("COMMIT")


def test_other_conversations_cost_a_command_nothing(registry: Transaction) -> None:
    agent, here, elsewhere = add_agent(registry), add_chat(registry), add_chat(registry, "elsewhere")
    ended = converse(registry, agent, here, "ended")
    titles.set_manual(at(registry, NOW), ended, "mine")
    sessions.end(at(registry, NOW), ended.id, "new")
    present = converse(registry, agent, here, "present")
    for number in range(20):
        converse(registry, agent, elsewhere, f"few {number}")
    few = {name: steps(registry, lambda work=work: work(registry, present)) for name, work in AMONG_OTHERS.items()}
    registry.execute("BEGIN")
    for number in range(MANY):
        other = converse(registry, agent, elsewhere, f"many {number}")
        if number % 2:
            sessions.end(at(registry, NOW), other.id, "new")
    registry.execute("COMMIT")
    many = {name: steps(registry, lambda work=work: work(registry, present)) for name, work in AMONG_OTHERS.items()}
    assert {name: (few[name], count) for name, count in many.items() if count > 1.5 * few[name] + 50} == {}


def converse(tx: Transaction, agent: AgentGroup, chat: MessagingGroup, thread: str) -> Session:
    """A conversation in a thread of a chat, with one message and a turn that used something, which was delegated."""
    session = routes.resolve(
        at(tx, NOW), agent_group_id=agent.id, route_key=thread, messaging_group_id=chat.id, thread_id=thread
    )
    row, _ = ingest.accept(tx, accepted_values(session))
    task, limits = new_id(Prefix.MESSAGE), {"budget_tokens": 1, "deadline": LATER}
    delegations.insert(
        at(tx, NOW), id=task, parent_id="ses_0", session_id=session.id, message_id=row.message_id, **limits
    )
    delegations.finish(at(tx, NOW), task, delegations.DelegationState.DONE)
    sessions.heard(at(tx, NOW), session.id, "hello")
    assert usage.record(at(tx, NOW), session.id, agent.id, Turn(new_id(Prefix.TURN), "completed", NOW, input_tokens=1))
    return session
