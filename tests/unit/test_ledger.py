"""The ledger: every accepted event once, every message exactly one outcome."""

from __future__ import annotations

import sqlite3

import pytest

from host.central import deliveries, ingest, refusals, routes, sessions
from host.central.database import Transaction
from host.central.sessions import Relation, Session
from shared_schema.rows import Address, MessageInStatus
from tests.support.transaction import at
from tests.unit.registry import LATER, NOW, accepted_values, add_agent, add_session

OUTCOMES = [MessageInStatus.COMPLETED, MessageInStatus.FAILED, MessageInStatus.CANCELLED]


@pytest.fixture
def session(registry: Transaction) -> Session:
    """A session of one agent group."""
    return add_session(registry, add_agent(registry))


def accept(connection: sqlite3.Connection, session: Session, *, written: bool = True, **changes: object) -> str:
    """One accepted message; its id."""
    row, added = ingest.accept(connection, accepted_values(session, **changes))
    assert added
    if written:
        ingest.mark_written(connection, [row.message_id])
    return row.message_id


def status_of(connection: sqlite3.Connection, message_id: str) -> str:
    row = ingest.get(connection, message_id)
    assert row is not None
    return row.status


@pytest.mark.parametrize("first", OUTCOMES)
@pytest.mark.parametrize("second", OUTCOMES)
def test_the_first_outcome_is_the_only_one(
    registry: Transaction, session: Session, first: MessageInStatus, second: MessageInStatus
) -> None:
    message = accept(registry, session)
    assert ingest.finish(at(registry, NOW), session.id, message, first, error="first")
    assert not ingest.finish(at(registry, LATER), session.id, message, second, error="second")
    row = registry.execute("SELECT status, error, finished_at FROM ingest").fetchone()
    assert tuple(row) == (first, "first", NOW)


def test_cancelling_a_session_leaves_what_is_finished(registry: Transaction, session: Session) -> None:
    done, failed, waiting, unwritten = (accept(registry, session, written=number != 3) for number in range(4))
    ingest.finish(at(registry, NOW), session.id, done, MessageInStatus.COMPLETED)
    ingest.finish(at(registry, NOW), session.id, failed, MessageInStatus.FAILED)
    assert ingest.cancel_session(at(registry, LATER), session.id) == 2
    assert [status_of(registry, m) for m in (done, failed, waiting, unwritten)] == [
        "completed",
        "failed",
        "cancelled",
        "cancelled",
    ]
    assert ingest.cancel_session(at(registry, LATER), session.id) == 0


def test_another_session_cannot_finish_the_message(registry: Transaction, session: Session) -> None:
    other = add_session(registry, add_agent(registry, "other"))
    message = accept(registry, session)
    assert not ingest.finish(at(registry, NOW), other.id, message, MessageInStatus.COMPLETED)
    assert status_of(registry, message) == "pending"


def test_the_same_platform_message_is_taken_once(registry: Transaction, session: Session) -> None:
    first, added = ingest.accept(registry, accepted_values(session, platform_message_id="42"))
    again, added_again = ingest.accept(
        registry, accepted_values(session, platform_message_id="42", content='{"text":"changed"}')
    )
    assert (added, added_again) == (True, False)
    assert again == first
    assert ingest.known(registry, session.agent_group_id, "memory", "one", "42") == first
    assert registry.execute("SELECT count(*) FROM ingest").fetchone()[0] == 1


@pytest.mark.parametrize("change", [{"channel_type": "other"}, {"platform_id": "two"}, {"platform_message_id": "43"}])
def test_the_same_number_elsewhere_is_another_message(
    registry: Transaction, session: Session, change: dict[str, object]
) -> None:
    accept(registry, session, platform_message_id="42")
    ingest.accept(registry, accepted_values(session, platform_message_id="42") | change)
    assert registry.execute("SELECT count(*) FROM ingest").fetchone()[0] == 2


def test_each_agent_group_takes_the_same_platform_message(registry: Transaction, session: Session) -> None:
    other = add_session(registry, add_agent(registry, "other"))
    assert accept(registry, session, platform_message_id="42") != accept(registry, other, platform_message_id="42")


def test_a_finished_message_is_still_known_when_it_comes_again(registry: Transaction, session: Session) -> None:
    message = accept(registry, session, platform_message_id="42")
    ingest.finish(at(registry, NOW), session.id, message, MessageInStatus.COMPLETED)
    again, added = ingest.accept(registry, accepted_values(session, platform_message_id="42"))
    assert (again.message_id, again.status, added) == (message, "completed", False)


def test_messages_are_written_and_answered_in_the_order_of_acceptance(registry: Transaction, session: Session) -> None:
    messages = [accept(registry, session, written=False, accepted_at=NOW) for _ in range(25)]
    assert [row.message_id for row in ingest.accepted(registry, session.id)] == messages
    ingest.mark_written(registry, messages[:10])
    assert [row.message_id for row in ingest.accepted(registry, session.id)] == messages[10:]
    assert [row.message_id for row in ingest.open_messages(registry, session.id)] == messages[:10]
    assert [row.message_id for row in ingest.open_messages(registry, session.id, 3)] == messages[:3]


def test_tries_are_counted_until_there_is_an_outcome(registry: Transaction, session: Session) -> None:
    message = accept(registry, session)
    assert [ingest.count_try(registry, message) for _ in range(3)] == [1, 2, 3]
    ingest.finish(at(registry, NOW), session.id, message, MessageInStatus.FAILED)
    assert ingest.count_try(registry, message) == 0
    row = ingest.get(registry, message)
    assert row is not None
    assert row.tries == 3


def test_an_outcome_is_told_once_and_again_when_it_changed_meanwhile(registry: Transaction, session: Session) -> None:
    message = accept(registry, session)
    assert ingest.unrecorded(registry, session.id) == []
    ingest.count_try(registry, message)
    told = ingest.unrecorded(registry, session.id)
    assert [(row["status"], row["tries"]) for row in told] == [("pending", 1)]
    ingest.finish(at(registry, NOW), session.id, message, MessageInStatus.COMPLETED)  # while the file was being told
    ingest.mark_recorded(registry, told)
    told = ingest.unrecorded(registry, session.id)
    assert [(row["status"], row["tries"]) for row in told] == [("completed", 1)]
    ingest.mark_recorded(registry, told)
    assert ingest.unrecorded(registry, session.id) == []


def test_a_session_has_work_until_its_file_knows_every_outcome(registry: Transaction, session: Session) -> None:
    assert ingest.sessions_with_work(registry) == []
    message = accept(registry, session)
    assert ingest.sessions_with_work(registry) == [session.id]
    ingest.finish(at(registry, NOW), session.id, message, MessageInStatus.COMPLETED)
    assert ingest.sessions_with_work(registry) == [session.id]
    ingest.mark_recorded(registry, ingest.unrecorded(registry, session.id))
    assert ingest.sessions_with_work(registry) == []


def test_the_backlog_counts_what_asks_for_an_answer(registry: Transaction, session: Session) -> None:
    assert ingest.backlog(registry) == (0, None)
    accept(registry, session, trigger=0, accepted_at=NOW)
    asked = accept(registry, session, accepted_at=LATER)
    assert ingest.backlog(registry) == (1, LATER)
    ingest.finish(at(registry, LATER), session.id, asked, MessageInStatus.COMPLETED)
    assert ingest.backlog(registry) == (0, None)


def test_all_commands_that_are_open_are_found_at_a_start(registry: Transaction, session: Session) -> None:
    accepted = [accept(registry, session, kind=ingest.COMMAND, trigger=0) for _ in range(1_001)]
    assert [row.message_id for row in ingest.commands(registry)] == accepted


def test_files_are_kept_while_any_of_the_agents_that_took_them_waits(registry: Transaction, session: Session) -> None:
    other = add_session(registry, add_agent(registry, "other"))
    first = accept(registry, session, written=False, spool="s1")
    second = accept(registry, other, written=False, spool="s1")
    assert ingest.spools_in_use(registry) == {"s1"}
    ingest.mark_written(registry, [first])
    assert ingest.spool_in_use(registry, "s1")
    ingest.mark_written(registry, [second])
    assert not ingest.spool_in_use(registry, "s1")
    assert ingest.spools_in_use(registry) == set()


def test_the_default_reply_address_is_where_the_newest_message_came_from(
    registry: Transaction, session: Session
) -> None:
    assert ingest.last_address(registry, session.id) is None
    accept(registry, session, thread_id="t1")
    accept(registry, session, platform_id="two", thread_id=None)
    assert ingest.last_address(registry, session.id) == Address("memory", "two", None)


def test_deleting_a_session_keeps_its_ledger_rows_without_content(registry: Transaction, session: Session) -> None:
    message = accept(registry, session, platform_message_id="42", content='{"text":"my secret"}', spool="s1")
    kept = accept(registry, add_session(registry, add_agent(registry, "other")), content='{"text":"stays"}')
    ingest.cancel_session(at(registry, LATER), session.id)
    ingest.forget_content(registry, session.id)
    sessions.delete(registry, session.id)
    row = ingest.get(registry, message)
    assert row is not None
    assert (row.session_id, row.content, row.spool, row.sender_name) == (None, "{}", None, None)
    assert (row.status, row.platform_message_id) == ("cancelled", "42")
    assert ingest.known(registry, session.agent_group_id, "memory", "one", "42") == row
    assert ingest.open_messages(registry, session.id) == []
    other = ingest.get(registry, kept)
    assert other is not None
    assert other.content == '{"text":"stays"}'


def test_refusals_are_bounded_for_each_session_and_the_newest_are_kept(registry: Transaction, session: Session) -> None:
    other = add_session(registry, add_agent(registry, "other"))
    refusals.refuse(at(registry, NOW), other.id, "row", "stays")
    for number in range(250):
        refusals.refuse(at(registry, NOW), session.id, f"out-{number}", "x" * 10_000)
    kept = refusals.of_session(registry, session.id, 1000)
    assert [row["what"] for row in kept] == [f"out-{number}" for number in range(249, 149, -1)]
    assert {len(row["reason"]) for row in kept} == {500}
    assert [row["reason"] for row in refusals.of_session(registry, other.id)] == ["stays"]


def test_dropped_events_are_bounded_and_the_newest_are_kept(registry: Transaction) -> None:
    with_rows = "SELECT count(*) AS n, min(platform_id) AS oldest, max(platform_id) AS newest FROM dropped_messages"
    registry.execute("BEGIN")
    for number in range(1_250):
        refusals.drop(at(registry, NOW), "memory", f"{number:05}", None, "nobody is wired")
    registry.execute("COMMIT")
    assert tuple(registry.execute(with_rows).fetchone()) == (1_000, "00250", "01249")


def queue(connection: sqlite3.Connection, session: Session, name: str, **changes: object) -> bool:
    values = {
        "message_out_id": name,
        "session_id": session.id,
        "kind": "chat",
        "channel_type": "memory",
        "platform_id": "one",
        "thread_id": None,
        "content": "{}",
        "created_at": NOW,
    } | changes
    return deliveries.add(connection, **values)  # type: ignore[arg-type]


def next_name(connection: sqlite3.Connection, now: str = NOW) -> str | None:
    delivery = deliveries.next_for(connection, ("memory", "one"), now)
    return None if delivery is None else delivery.message_out_id


def finish_next(connection: sqlite3.Connection, status: str = "delivered") -> None:
    delivery = deliveries.next_for(connection, ("memory", "one"), LATER)
    assert delivery is not None
    deliveries.finish(at(connection, LATER), delivery.position, status, attempts=1)


def test_a_message_is_queued_once(registry: Transaction, session: Session) -> None:
    assert [queue(registry, session, "m1"), queue(registry, session, "m1")] == [True, False]
    finish_next(registry)
    assert not queue(registry, session, "m1")
    assert next_name(registry) is None


def send_all(connection: sqlite3.Connection, *resting: str) -> list[str]:
    """The messages of a chat as they would be sent, one after the other."""
    sent, last = [], ""
    while (found := deliveries.next_for(connection, ("memory", "one"), NOW, after=last, resting=resting)) is not None:
        sent.append(found.message_out_id)
        last = found.lane
        deliveries.finish(at(connection, LATER), found.position, "delivered", attempts=1)
    return sent


def test_conversations_take_turns_in_a_chat_and_each_keeps_its_order(registry: Transaction, session: Session) -> None:
    sessions = [session, *(add_session(registry, add_agent(registry, name)) for name in ("second", "third"))]
    for number in range(20):
        queue(registry, sessions[0], f"0-{number}")
    for number in range(3):
        queue(registry, sessions[1], f"1-{number}")
    queue(registry, sessions[2], "2-0")
    queue(registry, session, "elsewhere", platform_id="two")
    sent = send_all(registry)
    assert sent.index("2-0") <= 2
    assert sent.index("1-2") <= 7
    for which in range(3):
        mine = [name for name in sent if name.startswith(f"{which}-")]
        assert mine == sorted(mine, key=lambda name: int(name[2:]))
    assert len(sent) == 24
    assert deliveries.chats_with_work(registry) == [("memory", "two")]


def test_sessions_of_one_conversation_keep_the_order_in_which_they_spoke(
    registry: Transaction, session: Session
) -> None:
    route = routes.route_of(registry, session)
    child = routes.open_session(
        at(registry, NOW), route, parent=session, relation=Relation.COMPRESSED, summary="in short"
    )
    for number in range(6):
        queue(registry, (child, session)[number % 2], f"m{number}")
    assert send_all(registry) == [f"m{number}" for number in range(6)]


def test_a_conversation_that_rests_is_passed_over(registry: Transaction, session: Session) -> None:
    other = add_session(registry, add_agent(registry, "other"))
    queue(registry, session, "rests")
    queue(registry, other, "goes on")
    assert send_all(registry, session.route_id) == ["goes on"]
    assert send_all(registry) == ["rests"]


def test_a_delayed_message_waits_and_holds_nobody_up(registry: Transaction, session: Session) -> None:
    queue(registry, session, "later", deliver_after=LATER)
    queue(registry, session, "now")
    assert (next_name(registry), deliveries.next_due(registry, ("memory", "one"))) == ("now", LATER)
    assert next_name(registry, LATER) == "later"
    finish_next(registry)
    assert (next_name(registry, LATER), deliveries.next_due(registry, ("memory", "one"))) == ("now", None)


def test_an_outcome_of_a_delivery_is_final_too(registry: Transaction, session: Session) -> None:
    queue(registry, session, "m1")
    delivery = deliveries.next_for(registry, ("memory", "one"), NOW)
    assert delivery is not None
    deliveries.finish(at(registry, NOW), delivery.position, "delivered", attempts=1, platform_message_id="p1")
    deliveries.finish(at(registry, LATER), delivery.position, "failed", attempts=9, error="late")
    deliveries.mark_attempted(registry, delivery.position, 7, "late")
    assert not deliveries.mark_sending(registry, delivery.position)
    (told,) = deliveries.unrecorded(registry, session.id)
    assert (told["status"], told["platform_message_id"], told["attempts"]) == ("delivered", "p1", 1)


@pytest.mark.parametrize(
    ("outcome", "recorded"), [("delivered", "delivered"), ("uncertain", "uncertain"), ("failed", "suppressed")]
)
def test_what_arrived_though_its_session_had_ended_is_recorded(
    registry: Transaction, session: Session, outcome: str, recorded: str
) -> None:
    queue(registry, session, "m1")
    delivery = deliveries.next_for(registry, ("memory", "one"), NOW)
    assert delivery is not None
    deliveries.suppress_session(at(registry, LATER), session.id, "reset")
    became = deliveries.finish(at(registry, LATER), delivery.position, outcome, attempts=1)
    (row,) = registry.execute("SELECT status, recorded FROM deliveries")
    assert (row["status"], row["recorded"] == 0) == (recorded, recorded == outcome)
    assert became == (outcome if recorded == outcome else None)


def test_what_was_being_sent_when_the_host_died_is_uncertain(registry: Transaction, session: Session) -> None:
    queue(registry, session, "sending")
    queue(registry, session, "waiting")
    delivery = deliveries.next_for(registry, ("memory", "one"), NOW)
    assert delivery is not None
    assert deliveries.mark_sending(registry, delivery.position)
    assert not deliveries.mark_sending(registry, delivery.position)
    assert deliveries.mark_interrupted(at(registry, LATER), "the host stopped") == 1
    rows = registry.execute("SELECT message_out_id, status FROM deliveries ORDER BY position").fetchall()
    assert [tuple(row) for row in rows] == [("sending", "uncertain"), ("waiting", "pending")]


def test_an_ended_session_sends_only_the_host_s_own_notices(registry: Transaction, session: Session) -> None:
    queue(registry, session, "reply")
    queue(registry, session, "notice", from_host=True)
    deliveries.suppress_session(at(registry, LATER), session.id, "reset")
    assert next_name(registry) == "notice"
    finish_next(registry)
    assert next_name(registry) is None


def test_an_answer_is_out_when_all_that_answers_the_message_was_sent_or_failed(
    registry: Transaction, session: Session
) -> None:
    queue(registry, session, "m1", in_reply_to="asked")
    queue(registry, session, "m2", in_reply_to="asked")
    queue(registry, session, "reminder", in_reply_to="asked", deliver_after="2030-01-01T00:00:00.000Z")
    queue(registry, session, "elsewhere", in_reply_to="other", platform_id="two")
    out = []
    for status in ("delivered", "failed"):
        out.append(deliveries.is_answer_out(registry, session.id, "asked"))
        finish_next(registry, status)
    assert [*out, deliveries.is_answer_out(registry, session.id, "asked")] == [False, False, True]
    assert not deliveries.is_answer_out(registry, session.id, "other")


def test_what_an_agent_said_elsewhere_and_stands_here_as_context_changes_no_reply_address(
    registry: Transaction, session: Session
) -> None:
    assert ingest.last_address(registry, session.id) is None
    accept(registry, session, platform_id="asked-here")
    accept(registry, session, platform_id="told-there", kind="agent", trigger=0, sender_id=None)
    assert ingest.last_address(registry, session.id) == Address("memory", "asked-here", None)
    accept(registry, session, platform_id="another-agent-asks", kind="agent", sender_id=None)
    assert ingest.last_address(registry, session.id) == Address("memory", "another-agent-asks", None)
