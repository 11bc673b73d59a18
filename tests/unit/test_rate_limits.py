"""What the host does by itself is bounded: for each chat and conversation, in an hour, and by what people write."""

from __future__ import annotations

import sqlite3

import pytest

from host.central import agent_groups, deliveries, ingest, questions, quota, rate_limits, routes, sessions, usage
from host.central.agent_groups import AgentGroup
from host.central.database import Transaction
from host.central.quota import Kept, Quota
from host.central.rate_limits import PER_HOUR, Act
from host.central.sessions import Session
from host.delivery import control_results
from host.sessions import transitions
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Ack, Address, MessageInStatus, Turn
from tests.support.transaction import at
from tests.unit.registry import NOW, accepted_values, add_agent, add_session

HERE = Address("memory", "one")
IN_AN_HOUR = "2026-02-28T13:00:00.000Z"
IN_TWO_DAYS = "2026-03-02T13:00:00.000Z"


@pytest.fixture
def agent(registry: Transaction) -> AgentGroup:
    """An agent that can sum up."""
    group = add_agent(registry)
    registry.execute("UPDATE agent_groups SET provider = 'scripted' WHERE id = ?", (group.id,))
    found = agent_groups.by_id(registry, group.id)
    assert found is not None
    return found


@pytest.fixture
def session(registry: Transaction, agent: AgentGroup) -> Session:
    """Its conversation."""
    return add_session(registry, agent)


def write(connection: sqlite3.Connection, session: Session, *, answered: bool = True) -> str:
    """Somebody writes in a session; the id of the message."""
    row, _ = ingest.accept(connection, accepted_values(session))
    if answered:
        ingest.finish(at(connection, NOW), session.id, row.message_id, MessageInStatus.COMPLETED)
    return row.message_id


def test_so_much_is_done_in_an_hour_and_the_first_refusal_is_known(registry: Transaction) -> None:
    most = PER_HOUR[Act.COMPRESSION]
    verdicts = [rate_limits.take(at(registry, NOW), Act.COMPRESSION, "rte_1") for _ in range(most + 3)]
    assert [verdict.allowed for verdict in verdicts] == [True] * most + [False] * 3
    assert [verdict.is_first for verdict in verdicts] == [False] * most + [True, False, False]
    assert rate_limits.take(at(registry, NOW), Act.COMPRESSION, "rte_2").allowed
    assert rate_limits.take(at(registry, NOW), Act.TITLE, "rte_1").allowed
    (limit,) = rate_limits.struck(registry, NOW)
    assert (limit["act"], limit["subject"], limit["used"], limit["most"]) == (Act.COMPRESSION, "rte_1", most + 3, most)
    assert rate_limits.take(at(registry, IN_AN_HOUR), Act.COMPRESSION, "rte_1").allowed
    assert rate_limits.struck(registry, IN_AN_HOUR) == []
    rate_limits.trim(at(registry, IN_TWO_DAYS))
    assert registry.execute("SELECT count(*) FROM rate_limits").fetchone()[0] == 0


def test_notices_that_answer_nobody_are_counted_for_their_chat_and_the_last_says_so(
    registry: Transaction, session: Session
) -> None:
    for number in range(200):
        deliveries.add_notice(at(registry, NOW), session.id, HERE, None, f"notice {number}")
    deliveries.add_notice(at(registry, NOW), session.id, Address("memory", "two"), None, "elsewhere")
    rows = registry.execute("SELECT content, platform_id FROM deliveries ORDER BY position").fetchall()
    assert len(rows) == PER_HOUR[Act.NOTICE] + 2
    assert "left out until the next hour" in rows[-2]["content"]
    assert rows[-1]["platform_id"] == "two"


def test_a_message_brings_three_notices_at_most(registry: Transaction, session: Session) -> None:
    message = write(registry, session)
    for _ in range(50):
        deliveries.add_notice(at(registry, NOW), session.id, HERE, message, "A reply could not be delivered here")
    assert deliveries.waiting(registry) == 3


def fill_up(connection: sqlite3.Connection, session: Session, *acks: Ack, window: int = 200_000) -> Session:
    """A turn says that the window is full; the session in which the conversation goes on."""
    turn = Turn(
        new_id(Prefix.TURN),
        "completed",
        NOW,
        NOW,
        generation=session.generation,
        context_tokens=window,
        context_window=window,
    )
    control_results.compress_when_full(at(connection, NOW), session, turn, acks)
    if not connection.execute("SELECT 1 FROM ingest WHERE kind = 'control' AND status = 'pending'").fetchone():
        return session
    return transitions.compress(at(connection, NOW), session, "in short").after


def test_one_message_is_summed_up_once_however_full_each_summary_is(registry: Transaction, session: Session) -> None:
    write(registry, session)
    for _ in range(50):
        session = fill_up(registry, session)
    assert sessions.count(registry) == 2


def test_a_message_that_waits_is_handed_on_once(registry: Transaction, session: Session) -> None:
    write(registry, session)
    write(registry, session, answered=False)
    for _ in range(50):
        session = fill_up(registry, session)
    assert sessions.count(registry) == 2


def test_a_turn_that_answers_counts_before_its_answer_does(registry: Transaction, session: Session) -> None:
    message = write(registry, session, answered=False)
    assert fill_up(registry, session, Ack(message, "processing", None, None, NOW)).id == session.id
    assert fill_up(registry, session, Ack(message, "completed", None, None, NOW)).id != session.id


@pytest.mark.parametrize(("window", "most"), [(200_000, 4), (32_000, 8), (8_000, 24), (1, 24)])
def test_a_conversation_is_summed_up_so_often_in_an_hour_whatever_is_written(
    registry: Transaction, session: Session, window: int, most: int
) -> None:
    """A small window is full after a few exchanges; one that is said to be tiny brings no more than the most."""
    for _ in range(50):
        write(registry, session)
        session = fill_up(registry, session, window=window)
    assert sessions.count(registry) == 1 + most
    told = registry.execute("SELECT count(*) FROM deliveries WHERE content LIKE '%not summed up any more%'").fetchone()
    assert told[0] == 1


def test_agents_are_asked_for_so_many_titles_in_an_hour(registry: Transaction, session: Session) -> None:
    asked = 0
    for _ in range(100):
        write(registry, session)
        asked += control_results.ask_title(at(registry, NOW), session.id)
        session = transitions.new(at(registry, NOW), session).after
    assert asked == PER_HOUR[Act.TITLE]


def test_what_is_kept_is_counted_in_all_and_in_the_hour(registry: Transaction, session: Session) -> None:
    limits = Quota(rows=30, bytes=10**9, hour_rows=10, hour_bytes=10**9)

    def take(now: str, rows: int = 1) -> str | None:
        kept = Kept.load(registry, session.id, limits, now)
        if (refusal := kept.refusal()) is None:
            kept.add(rows, 0)
        kept.store(registry, session.id)
        return refusal

    assert [take(NOW) for _ in range(10)] == [None] * 10
    assert "more than the host keeps of a session in an hour" in str(take(NOW))
    assert [take(IN_AN_HOUR, 9) for _ in range(2)] == [None] * 2
    assert take(IN_TWO_DAYS, 10) is None
    assert "all that the host keeps of one" in str(take("2026-03-03T13:00:00.000Z"))
    assert quota.largest(registry) == []
    kept = Kept.load(registry, session.id, limits, IN_TWO_DAYS)
    kept.add(1, 64 * 1024)
    kept.store(registry, session.id)
    assert [row["session_id"] for row in quota.largest(registry)] == [session.id]


def test_large_contents_count_by_their_size(registry: Transaction, session: Session) -> None:
    kept = Kept.load(registry, session.id, Quota(hour_bytes=1_000_000), NOW)
    kept.add(1, 999_000)
    assert kept.refusal() is None
    kept.add(1, 1_000)
    assert "1,000" not in str(kept.refusal())
    assert kept.refusal() is not None


def ask(connection: sqlite3.Connection, session: Session, **changes: object) -> tuple[str, str | None]:
    """A question that was delivered; its id, and why its answer needs a mention all the same."""
    message_id = new_id(Prefix.MESSAGE)
    status = str(changes.pop("status", "delivered"))
    deliver_after = changes.pop("deliver_after", None)
    deliveries.add(
        connection,
        message_out_id=message_id,
        session_id=session.id,
        kind="question",
        channel_type="memory",
        platform_id="one",
        thread_id=None,
        content="{}",
        created_at=NOW,
        status=status,
        deliver_after=deliver_after,
    )
    values: dict[str, object] = {
        "session_id": session.id,
        "route_id": session.route_id,
        "message_out_id": message_id,
        "address": HERE,
        "sender_id": "ann",
        "expires": IN_AN_HOUR,
    }
    moment = at(connection, str(changes.pop("now", NOW)))
    return message_id, questions.ask(moment, **(values | changes))  # type: ignore[arg-type]


def waits(connection: sqlite3.Connection, session: Session, sender: str | None = "ann", **changes: object) -> bool:
    """Whether the next message of that person is taken for an answer."""
    values: dict[str, object] = {"address": HERE, "now": NOW} | changes
    key = routes.route_of(connection, session).route_key
    return questions.is_open(
        connection,
        session.agent_group_id,
        key,
        values["address"],
        sender,
        str(values["now"]),  # type: ignore[arg-type]
    )


def test_a_question_waits_for_one_message_of_the_person_who_was_asked_where_they_were(
    registry: Transaction, session: Session
) -> None:
    ask(registry, session)
    assert waits(registry, session)
    assert not waits(registry, session, "bob")
    assert not waits(registry, session, None)
    assert not waits(registry, session, address=Address("memory", "two"))
    assert not waits(registry, session, address=Address("memory", "one", "a thread"))
    assert not waits(registry, session, now=IN_AN_HOUR)
    questions.answered(at(registry, NOW), session.id, HERE, "bob", "yes")
    assert waits(registry, session)
    questions.answered(at(registry, NOW), session.id, HERE, "ann", "yes")
    assert not waits(registry, session)


@pytest.mark.parametrize("expires", [None, 7, "", "never", NOW, "1999-01-01T00:00:00.000Z", ["x"]])
def test_a_question_without_a_time_waits_for_nothing(registry: Transaction, session: Session, expires: object) -> None:
    ask(registry, session, expires=expires)
    assert not waits(registry, session)


def test_no_question_waits_for_longer_than_a_day(registry: Transaction, session: Session) -> None:
    ask(registry, session, expires="9999-12-31T23:59:59.999Z")
    assert waits(registry, session, now="2026-03-01T11:59:59.000Z")
    assert not waits(registry, session, now="2026-03-01T12:00:01.000Z")


@pytest.mark.parametrize(
    ("how", "is_seen"),
    [
        ({"status": "failed"}, False),
        ({"status": "suppressed"}, False),
        ({"status": "uncertain"}, True),
        ({"status": "sending"}, True),
        ({"status": "pending"}, True),
        ({"status": "pending", "deliver_after": IN_AN_HOUR}, False),
    ],
)
def test_what_nobody_can_have_seen_waives_nothing(
    registry: Transaction, session: Session, how: dict[str, object], is_seen: bool
) -> None:
    ask(registry, session, **how)
    assert waits(registry, session) == is_seen


def test_a_question_behind_other_messages_waits_until_it_is_its_turn(registry: Transaction, session: Session) -> None:
    deliveries.add_notice(at(registry, NOW), session.id, HERE, None, "first")
    ask(registry, session, status="pending")
    assert not waits(registry, session)


def test_few_questions_are_open_at_a_time_and_few_in_an_hour(registry: Transaction, session: Session) -> None:
    reasons = [ask(registry, session)[1] for _ in range(questions.MOST_OPEN + 1)]
    assert reasons[:-1] == [None] * questions.MOST_OPEN
    assert "open already" in str(reasons[-1])
    heard = 0
    for _ in range(100):
        questions.answered(at(registry, NOW), session.id, HERE, "ann", "yes")
        ask(registry, session)
        heard += waits(registry, session)
    assert heard <= PER_HOUR[Act.QUESTION]


@pytest.mark.parametrize("transition", [transitions.new, transitions.archive, transitions.delete])
def test_a_conversation_that_is_over_waits_for_no_answer(
    registry: Transaction, session: Session, transition: object
) -> None:
    ask(registry, session)
    transition(at(registry, NOW), session)  # type: ignore[operator]
    assert registry.execute("SELECT count(*) FROM questions").fetchone()[0] == 0


def test_deleted_sessions_are_not_counted(registry: Transaction, session: Session) -> None:
    add_session(registry, add_agent(registry, "other"))
    transitions.delete(at(registry, NOW), session)
    assert sessions.count(registry) == 1
    assert usage.of_session(registry, session.id).turns == 0
