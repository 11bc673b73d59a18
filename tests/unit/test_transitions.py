"""The rules of a conversation's life: random operations at the same time against a plain model, and each by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host.central import deliveries, events, ingest, routes, session_list, sessions, turns
from host.central.agent_groups import AgentGroup
from host.central.database import Central, Transaction
from host.central.events import EventKind
from host.central.sessions import EndReason, Session
from host.sessions import transitions
from shared_schema.clock import ManualClock, from_text, to_text
from shared_schema.errors import Conflict, DumbwaiterError, InvalidValue
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address, MessageInStatus
from tests.support.registry import open_central
from tests.support.transaction import at
from tests.unit.life_model import REFUSED, Model
from tests.unit.registry import LATER, NOW, accepted_values, add_agent, add_session

ROUTES = ("one", "two")
OF_SESSION = ("answer", "new", "resume", "retry", "branch", "compress", "archive", "delete", "restore")

Operation = tuple[str, Any, int]
OPERATIONS = st.one_of(
    st.tuples(st.just("hear"), st.sampled_from(ROUTES), st.just(0)),
    st.tuples(st.sampled_from((*OF_SESSION, "undo")), st.integers(0, 5), st.integers(1, 3)),
)


class Registry:
    """The same operations on a real central.db."""

    def __init__(self, central: Central, agent: AgentGroup) -> None:
        self._central = central
        self._agent = agent
        self.done: list[tuple[Operation, str | None]] = []
        self._number = self._turns = 0
        self._now = NOW

    async def run(self, operation: Operation) -> None:
        """One operation; the order in which they come to be done is noted where it is decided: in the transaction."""

        def job(connection: sqlite3.Connection) -> None:
            self._number += 1
            self._now = to_text(from_text(NOW) + timedelta(milliseconds=self._number))
            try:
                connection.execute("SAVEPOINT operation")
                result = self._do(connection, *operation)
            except DumbwaiterError:
                connection.execute("ROLLBACK TO operation")
                result = REFUSED
            connection.execute("RELEASE operation")
            self.done.append((operation, result))

        await self._central.write(job)

    def _do(self, connection: sqlite3.Connection, name: str, target: Any, count: int) -> str | None:
        if name == "hear":
            self._hear(connection, target)
            return None
        found = _sessions(connection)
        if not found:
            return REFUSED
        session = found[target % len(found)]
        if name == "answer":
            self._turns += 1
            turn = f"{Prefix.TURN}_{self._turns:016x}"
            for message in ingest.unanswered(connection, session.id):
                ingest.note_turn(connection, session.id, message, turn)
                ingest.finish(at(connection, self._now), session.id, message, MessageInStatus.COMPLETED)
            return None
        arguments: dict[str, tuple[Any, ...]] = {"undo": (count,), "compress": ("so far",)}
        transition: Callable[..., object] = getattr(transitions, name)
        transition(at(connection, self._now), session, *arguments.get(name, ()))
        return None

    def _hear(self, connection: sqlite3.Connection, route: str) -> None:
        session = add_session(connection, self._agent, route, now=self._now)
        row, _ = ingest.accept(connection, accepted_values(session, accepted_at=self._now))
        if session.status == "archived":
            ingest.finish(at(connection, self._now), session.id, row.message_id, MessageInStatus.FAILED)

    async def picture(self) -> dict[str, Any]:
        """All that the model knows, too."""
        return await self._central.read(_picture)


def _sessions(connection: sqlite3.Connection) -> list[Session]:
    return [Session.from_row(row) for row in connection.execute("SELECT * FROM sessions ORDER BY rowid")]


def _picture(connection: sqlite3.Connection) -> dict[str, Any]:
    found = _sessions(connection)
    number = {session.id: place for place, session in enumerate(found)}
    routes = {row["id"]: row for row in connection.execute("SELECT * FROM routes")}
    messages = {
        session.id: [
            (row["status"], bool(row["withdrawn"]))
            for row in connection.execute("SELECT * FROM ingest WHERE session_id = ? ORDER BY position", (session.id,))
        ]
        for session in found
    }
    forgotten = {
        session.id: sorted(int(turn.partition("_")[2], 16) for turn in turns.withdrawn(connection, session.id))
        for session in found
    }
    return {
        "routes": {
            row["route_key"]: (row["generation"], number.get(row["active_session_id"])) for row in routes.values()
        },
        "sessions": [
            (
                routes[session.route_id]["route_key"],
                session.status,
                session.end_reason,
                session.generation,
                None if session.parent_session_id is None else number[session.parent_session_id],
                session.parent_relation,
                messages[session.id],
                forgotten[session.id],
            )
            for session in found
        ],
    }


def _expected(model: Model) -> dict[str, Any]:
    begun = {session.route for session in model.sessions}
    return {
        "routes": {name: (route.generation, route.active) for name, route in model.routes.items() if name in begun},
        "sessions": [
            (
                session.route,
                session.status,
                session.reason,
                session.generation,
                session.parent,
                session.relation,
                [(message.status, message.withdrawn is not None) for message in session.messages],
                sorted(session.forgot),
            )
            for session in model.sessions
        ],
    }


def _apply(model: Model, name: str, target: Any, count: int) -> str | None:
    model.now += 1
    if name == "hear":
        return model.hear(target)
    if not model.sessions:
        return REFUSED
    number = target % len(model.sessions)
    return model.undo(number, count) if name == "undo" else getattr(model, name)(number)  # type: ignore[no-any-return]


BATCHES = st.lists(st.lists(OPERATIONS, min_size=1, max_size=4), min_size=1, max_size=12)
_ONE_FOLDER = {"suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@settings(max_examples=40, **_ONE_FOLDER)
@given(batches=BATCHES)
def test_operations_at_the_same_time_do_what_the_rules_say_one_after_the_other(
    tmp_path: Path, batches: Sequence[Sequence[Operation]]
) -> None:
    do_as_the_rules_say(tmp_path, batches)


@pytest.mark.full
@settings(max_examples=500, derandomize=False, **_ONE_FOLDER)
@given(batches=BATCHES)
def test_many_more_of_them(tmp_path: Path, batches: Sequence[Sequence[Operation]]) -> None:
    do_as_the_rules_say(tmp_path, batches)


def do_as_the_rules_say(tmp_path: Path, batches: Sequence[Sequence[Operation]]) -> None:
    """Do what is in a batch at the same time, and the model of it one after the other, in the order it was done in."""

    async def play() -> None:
        path = tmp_path / new_id(Prefix.INSTALL)
        central = await asyncio.to_thread(open_central, path, ManualClock())
        try:
            registry = Registry(central, await central.write(add_agent))
            model = Model(*ROUTES)
            for batch in batches:
                registry.done.clear()
                await asyncio.gather(*(registry.run(operation) for operation in batch))
                for operation, result in registry.done:
                    assert _apply(model, *operation) == result, operation
                assert await registry.picture() == _expected(model)
        finally:
            await asyncio.to_thread(central.close)
            path.unlink()

    asyncio.run(play())


@pytest.fixture
def session(registry: Transaction) -> Session:
    """An active session."""
    return add_session(registry, add_agent(registry))


def hear(registry: Transaction, session: Session, text: str = "hello", *, turn: str | None = None) -> str:
    """A message; one that a turn has answered already."""
    row, _ = ingest.accept(registry, accepted_values(session, content=f'{{"text":"{text}"}}'))
    if turn is not None:
        registry.execute(
            "INSERT OR IGNORE INTO turns (session_id, id, status, started_at) VALUES (?, ?, 'completed', ?)",
            (session.id, turn, NOW),
        )
        ingest.note_turn(registry, session.id, row.message_id, turn)
        ingest.finish(at(registry, NOW), session.id, row.message_id, MessageInStatus.COMPLETED)
    return row.message_id


def say(registry: Transaction, session: Session, *, deliver_after: str | None = None) -> str:
    """A reply that waits to be sent."""
    message_id = new_id(Prefix.MESSAGE)
    deliveries.add(
        registry,
        message_out_id=message_id,
        session_id=session.id,
        kind="chat",
        channel_type="memory",
        platform_id="one",
        thread_id=None,
        content="{}",
        created_at=NOW,
        deliver_after=deliver_after,
    )
    return message_id


def sent_as(registry: Transaction, *message_ids: str) -> list[str]:
    """What became of replies."""
    find = "SELECT status FROM deliveries WHERE message_out_id = ?"
    return [registry.execute(find, (message_id,)).fetchone()["status"] for message_id in message_ids]


def now_of(registry: Transaction, session: Session) -> Session:
    return sessions.get(registry, session.id)


def test_two_who_begin_anew_at_once_get_the_same_fresh_session(registry: Transaction, session: Session) -> None:
    first = transitions.new(at(registry, LATER), session)
    second = transitions.new(at(registry, LATER), session)
    assert first.after.id == second.after.id != session.id
    assert len(_sessions(registry)) == 2


def test_the_first_end_of_a_session_stays_until_it_is_taken_up_again(registry: Transaction, session: Session) -> None:
    """FAILURES 32."""
    transitions.new(at(registry, NOW), session, EndReason.IDLE)
    sessions.end(at(registry, LATER), session.id, "new")
    row = registry.execute("SELECT end_reason, ended_at FROM sessions WHERE id = ?", (session.id,)).fetchone()
    assert tuple(row) == ("idle", NOW)
    assert transitions.resume(at(registry, LATER), session).after.id == session.id
    row = registry.execute("SELECT status, end_reason, ended_at FROM sessions WHERE id = ?", (session.id,)).fetchone()
    assert tuple(row) == ("active", None, None)


def test_what_was_said_for_an_older_generation_is_kept_back(registry: Transaction, session: Session) -> None:
    """FAILURES 20."""
    waiting = say(registry, session)
    transitions.new(at(registry, LATER), session)
    assert sent_as(registry, waiting) == ["suppressed"]


def test_what_is_being_sent_when_its_conversation_ends_is_not_sent_again(
    registry: Transaction, session: Session
) -> None:
    """FAILURES 20."""
    waiting = say(registry, session)
    delivery = deliveries.next_for(registry, ("memory", "one"), NOW)
    assert delivery is not None
    assert deliveries.mark_sending(registry, delivery.position)
    transitions.new(at(registry, LATER), session)
    deliveries.mark_attempted(registry, delivery.position, 1, "the platform is down")
    assert sent_as(registry, waiting) == ["suppressed"]
    assert deliveries.next_for(registry, ("memory", "one"), LATER) is None


def test_compressing_keeps_back_nothing_until_the_conversation_ends(registry: Transaction, session: Session) -> None:
    said = [say(registry, session), say(registry, session, deliver_after="2030-01-01T00:00:00.000Z")]
    child = transitions.compress(at(registry, LATER), session, "so far").after
    grandchild = transitions.compress(at(registry, LATER), child, "farther").after
    assert sent_as(registry, *said) == ["pending", "pending"]
    transitions.new(at(registry, LATER), grandchild)
    assert sent_as(registry, *said) == ["suppressed", "suppressed"]


def test_a_session_taken_up_on_another_route_never_has_a_generation_it_had_before(
    registry: Transaction, session: Session
) -> None:
    other = add_session(registry, add_agent(registry, "unused"), "elsewhere")
    registry.execute("UPDATE sessions SET agent_group_id = ? WHERE id = ?", (session.agent_group_id, other.id))
    registry.execute(
        "UPDATE routes SET agent_group_id = ?, generation = 1 WHERE id = ?", (session.agent_group_id, other.route_id)
    )
    registry.execute("UPDATE routes SET generation = 7 WHERE id = ?", (session.route_id,))
    registry.execute("UPDATE sessions SET generation = 7 WHERE id = ?", (session.id,))
    moved = transitions.resume(at(registry, LATER), session, routes.route_of(registry, other)).after
    assert (moved.route_id, moved.generation > 7) == (other.route_id, True)
    assert now_of(registry, other).status == "ended"
    assert (
        registry.execute("SELECT active_session_id FROM routes WHERE id = ?", (session.route_id,)).fetchone()[0] is None
    )


def test_what_waits_on_both_sides_is_counted_when_a_session_is_taken_up_elsewhere(
    registry: Transaction, session: Session
) -> None:
    other = routes.resolve(
        at(registry, NOW),
        agent_group_id=session.agent_group_id,
        route_key="elsewhere",
        messaging_group_id=None,
        thread_id=None,
    )
    hear(registry, session)
    hear(registry, other)
    hear(registry, other)
    assert transitions.resume(at(registry, LATER), session, routes.route_of(registry, other)).cancelled == 3


def test_only_what_ends_is_told_to_have_ended(registry: Transaction, session: Session) -> None:
    transitions.archive(at(registry, LATER), session)
    fresh = transitions.new(at(registry, LATER), session).after
    transitions.new(at(registry, LATER), fresh)
    ended = [event.session_id for event in events.last(registry, 100) if event.kind == EventKind.SESSION_ENDED]
    assert ended == [fresh.id]


def test_a_session_does_not_go_to_another_agent_group(registry: Transaction, session: Session) -> None:
    """FAILURES 39."""
    other = add_session(registry, add_agent(registry, "other"), "elsewhere")
    with pytest.raises(InvalidValue, match="another agent group"):
        transitions.resume(at(registry, LATER), session, routes.route_of(registry, other))


def test_a_compressed_ancestor_is_taken_up_where_it_goes_on(registry: Transaction, session: Session) -> None:
    child = transitions.compress(at(registry, LATER), session, "so far").after
    grandchild = transitions.compress(at(registry, LATER), child, "farther").after
    transitions.new(at(registry, LATER), grandchild)
    assert transitions.resume(at(registry, LATER), session).after.id == grandchild.id


def test_compressing_twice_at_once_makes_one_child_with_what_waited(registry: Transaction, session: Session) -> None:
    waiting = hear(registry, session)
    first = transitions.compress(at(registry, LATER), session, "so far")
    second = transitions.compress(at(registry, LATER), session, "so far")
    assert first.after.id == second.after.id
    assert (first.after.summary, first.after.parent_relation) == ("so far", "compressed")
    row = ingest.get(registry, waiting)
    assert row is not None
    assert (row.session_id, row.generation, row.state, row.status) == (
        first.after.id,
        first.after.generation,
        "accepted",
        "pending",
    )


def test_a_parent_that_was_taken_up_again_is_a_conversation_of_its_own(registry: Transaction, session: Session) -> None:
    child = transitions.compress(at(registry, LATER), session, "so far").after
    transitions.delete(at(registry, LATER), child)
    assert transitions.resume(at(registry, LATER), session).after.id == session.id
    waiting = say(registry, session)
    transitions.delete(at(registry, LATER), transitions.restore(at(registry, LATER), child))
    assert sent_as(registry, waiting) == ["pending"]


def test_what_is_taken_back_is_whole_turns(registry: Transaction, session: Session) -> None:
    hear(registry, session, "first", turn="trn_1")
    hear(registry, session, "second", turn="trn_2")
    hear(registry, session, "third", turn="trn_2")
    undone = transitions.undo(at(registry, LATER), session, 1)
    assert [ingest.text_of(message) for message in undone.exchanges.messages] == ["second", "third"]
    assert turns.withdrawn(registry, session.id) == ["trn_2"]
    assert transitions.undo(at(registry, LATER), session, 9).exchanges.count == 1
    with pytest.raises(Conflict, match="nothing to take back"):
        transitions.undo(at(registry, LATER), session, 1)


def test_what_is_open_is_taken_back_with_the_last_exchange_and_asked_again(
    registry: Transaction, session: Session
) -> None:
    """Somebody else's message, too: it would be cancelled without a word."""
    hear(registry, session, "answered", turn="trn_1")
    overheard, _ = ingest.accept(registry, accepted_values(session, trigger=0, content='{"text":"overheard"}'))
    opened = hear(registry, session, "book the flight")
    ingest.note_turn(registry, session.id, opened, "trn_2")
    hear(registry, session, "and a hotel")
    undone = transitions.retry(at(registry, LATER), session)
    assert undone.exchanges.count == 2
    assert [ingest.text_of(message) for message in undone.exchanges.messages] == [
        "overheard",
        "book the flight",
        "and a hotel",
    ]
    rows = registry.execute("SELECT content, trigger, status, withdrawn FROM ingest ORDER BY position").fetchall()
    assert [tuple(row)[1:] for row in rows[:4]] == [
        (1, "completed", 0),
        (0, "cancelled", 1),
        (1, "cancelled", 1),
        (1, "cancelled", 1),
    ]
    assert [tuple(row) for row in rows[4:]] == [(row["content"], row["trigger"], "pending", 0) for row in rows[1:4]]
    again = transitions.undo(at(registry, LATER), undone.session, 1)
    assert (again.exchanges.count, len(again.exchanges.messages)) == (2, 3)
    assert ingest.get(registry, overheard.message_id) is not None


def test_what_was_overheard_before_a_message_is_asked_again_with_it(registry: Transaction, session: Session) -> None:
    row, _ = ingest.accept(registry, accepted_values(session, trigger=0, content='{"text":"overheard"}'))
    ingest.note_turn(registry, session.id, row.message_id, "trn_1")
    ingest.finish(at(registry, NOW), session.id, row.message_id, MessageInStatus.COMPLETED)
    hear(registry, session, "what did she say?", turn="trn_1")
    hear(registry, session, "later", turn="trn_2")
    undone = transitions.retry(at(registry, LATER), transitions.undo(at(registry, LATER), session, 1).session)
    assert undone.exchanges.count == 1
    waiting = registry.execute("SELECT content FROM ingest WHERE status = 'pending' ORDER BY position").fetchall()
    assert [row["content"] for row in waiting] == ['{"text":"overheard"}', '{"text":"what did she say?"}']


def test_what_was_overheard_alone_is_nothing_to_take_back(registry: Transaction, session: Session) -> None:
    ingest.accept(registry, accepted_values(session, trigger=0))
    with pytest.raises(Conflict, match="nothing to take back"):
        transitions.undo(at(registry, LATER), session, 1)


def test_taking_back_drops_the_resume_pointer_and_archiving_keeps_it(registry: Transaction, session: Session) -> None:
    registry.execute("UPDATE sessions SET provider_session_id = 'p' WHERE id = ?", (session.id,))
    transitions.archive(at(registry, LATER), session)
    assert now_of(registry, session).provider_session_id == "p"
    reopened = transitions.reopen(at(registry, LATER), now_of(registry, session))
    assert (reopened.status, reopened.provider_session_id) == ("active", "p")
    hear(registry, session, turn="trn_1")
    assert transitions.undo(at(registry, LATER), reopened, 1).session.provider_session_id is None


def test_asking_again_puts_the_same_words_into_the_ledger_once_more(registry: Transaction, session: Session) -> None:
    first = hear(registry, session, "again please", turn="trn_1")
    transitions.retry(at(registry, LATER), session)
    rows = registry.execute("SELECT * FROM ingest ORDER BY position").fetchall()
    assert [(row["status"], row["withdrawn"], row["content"]) for row in rows] == [
        ("completed", 1, '{"text":"again please"}'),
        ("pending", 0, '{"text":"again please"}'),
    ]
    assert rows[0]["message_id"] == first
    assert rows[1]["generation"] == now_of(registry, session).generation > session.generation


def test_a_deleted_parent_leaves_its_children(registry: Transaction, session: Session) -> None:
    """FAILURES 33."""
    child = transitions.branch(at(registry, LATER), session).after
    transitions.delete(at(registry, LATER), session)
    sessions.delete(registry, session.id)
    found = now_of(registry, child)
    assert (found.status, found.parent_session_id, found.parent_relation) == ("active", None, "branched")


def test_a_route_is_gone_with_its_last_session(registry: Transaction, session: Session) -> None:
    fresh = transitions.new(at(registry, LATER), session).after
    session_list.keep_list(at(registry, NOW), session.route_id, [fresh.id, session.id])
    routes.remove_session(registry, fresh)
    assert routes.route_of(registry, session).active_session_id is None
    routes.remove_session(registry, session)
    with pytest.raises(Conflict, match="is gone"):
        routes.route_of(registry, session)
    assert registry.execute("SELECT 1 FROM shown_lists").fetchone() is None


def test_a_command_is_cancelled_by_no_end_of_its_session(registry: Transaction, session: Session) -> None:
    row, _ = ingest.accept(registry, accepted_values(session, kind="command", trigger=0))
    transitions.new(at(registry, LATER), session)
    assert [each.message_id for each in ingest.commands(registry)] == [row.message_id]
    assert ingest.open_messages(registry, session.id) == []


def test_an_ending_turn_of_the_same_moment_is_withdrawn_with_its_exchange(
    registry: Transaction, session: Session
) -> None:
    hear(registry, session)
    registry.execute(
        "INSERT INTO turns (session_id, id, status, started_at) VALUES (?, 'trn_1', 'running', ?)", (session.id, NOW)
    )
    transitions.undo(at(registry, LATER), session, 1)
    assert turns.withdrawn(registry, session.id) == ["trn_1"]
    assert ingest.last_address(registry, session.id) == Address("memory", "one", None)
