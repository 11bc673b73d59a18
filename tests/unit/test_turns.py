"""The host's copy of every turn."""

from __future__ import annotations

import pytest

from host.central import ingest, sessions, turns
from host.central.database import Transaction
from host.central.sessions import Session
from host.delivery.turn import store
from shared_schema.rows import Ack, FailureReason, Turn, TurnStatus
from tests.support.transaction import at
from tests.unit.registry import LATER, NOW, accepted_values, add_agent, add_session


@pytest.fixture
def session(registry: Transaction) -> Session:
    return add_session(registry, add_agent(registry))


def turn(status: str, **changes: object) -> Turn:
    return Turn(**({"id": "trn_0123456789abcdef", "status": status, "started_at": NOW} | changes))  # type: ignore[arg-type]


def copy(registry: Transaction, session: Session, said: Turn, **about: object) -> bool:
    return turns.copy(registry, session.id, said, generation=session.generation, **about)  # type: ignore[arg-type]


def test_a_turn_takes_what_the_agent_says_until_it_is_over(registry: Transaction, session: Session) -> None:
    assert not copy(registry, session, turn("running"))
    assert turns.running(registry, session.id) == ["trn_0123456789abcdef"]
    assert copy(registry, session, turn("completed", output_tokens=5, reasoning_tokens=2, finished_at=LATER))
    assert not copy(registry, session, turn("failed", output_tokens=500, failure_reason="timeout"))
    row = registry.execute("SELECT status, output_tokens, reasoning_tokens, failure_reason FROM turns").fetchone()
    assert tuple(row) == ("completed", 5, 2, None)
    assert turns.running_count(registry) == 0


def test_token_counts_are_set_and_not_added(registry: Transaction, session: Session) -> None:
    """FAILURES 40."""
    for total in (10, 25, 40):
        copy(registry, session, turn("running", input_tokens=total))
    assert registry.execute("SELECT input_tokens FROM turns").fetchone()[0] == 40


def test_running_turns_of_a_dead_agent_are_closed_and_finished_ones_stay(
    registry: Transaction, session: Session
) -> None:
    copy(registry, session, turn("completed", id="trn_1"))
    copy(registry, session, turn("running", id="trn_2"))
    turns.close_running(
        at(registry, LATER), session.id, TurnStatus.FAILED, FailureReason.AGENT_DIED, "the agent died: no memory left"
    )
    rows = registry.execute("SELECT id, status, failure_reason, error FROM turns ORDER BY id").fetchall()
    assert [tuple(row) for row in rows] == [
        ("trn_1", "completed", None, None),
        ("trn_2", "failed", "agent_died", "the agent died: no memory left"),
    ]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (None, None),
        ("rate_limited", "rate_limited"),
        ("agent died", "agent_died"),
        ("<script>", "other"),
        ("", "other"),
    ],
)
def test_the_reason_of_a_failure_is_one_of_a_closed_list(
    registry: Transaction, session: Session, said: str | None, kept: str | None
) -> None:
    copy(registry, session, turn("failed", failure_reason=said), error="no luck")
    assert tuple(registry.execute("SELECT failure_reason, error FROM turns").fetchone()) == (kept, "no luck")


def test_the_attempt_is_one_more_than_its_messages_were_tried(registry: Transaction, session: Session) -> None:
    accepted = [ingest.accept(registry, accepted_values(session))[0].message_id for _ in range(2)]
    for _ in range(2):
        ingest.count_try(registry, accepted[1])
    acks = [Ack(message_id, "processing", "trn_0123456789abcdef", None, NOW) for message_id in accepted]
    rows = ingest.get_all(registry, accepted)
    store(at(registry, NOW), session, turn("running"), acks, is_known=False, rows=rows)
    copy(registry, session, turn("completed"))
    store(at(registry, NOW), session, turn("running", id="trn_first"), [], is_known=False, rows={})
    assert [row["attempt"] for row in registry.execute("SELECT attempt FROM turns ORDER BY rowid")] == [3, 1]


@pytest.mark.parametrize(
    ("generation", "status", "withdrawn"),
    [(1, "completed", 1), (1, "failed", 1), (1, "running", 0), (2, "completed", 0), (None, "completed", 0)],
)
def test_a_turn_that_ends_in_a_conversation_that_was_taken_back_is_taken_back(
    registry: Transaction, session: Session, generation: int | None, status: str, withdrawn: int
) -> None:
    copy(registry, session, turn("running", generation=generation))
    registry.execute("UPDATE sessions SET generation = 2")
    copy(registry, sessions.get(registry, session.id), turn(status, generation=generation))
    assert registry.execute("SELECT withdrawn FROM turns").fetchone()[0] == withdrawn


def test_what_was_taken_back_while_it_ran_stays_so(registry: Transaction, session: Session) -> None:
    copy(registry, session, turn("running", generation=1))
    registry.execute("UPDATE turns SET withdrawn = 1")
    copy(registry, session, turn("completed", generation=1))
    assert turns.withdrawn(registry, session.id) == ["trn_0123456789abcdef"]


def test_at_work_are_the_turns_that_run_and_the_sessions_that_wait(registry: Transaction, session: Session) -> None:
    other = add_session(registry, add_agent(registry, "other"), "shared/memory/two")
    for each in (session, other, other):
        ingest.accept(registry, accepted_values(each))
    copy(registry, session, turn("running"))
    running, queued = turns.at_work(registry)
    assert [(row["session_id"], row["agent_group"], row["attempt"]) for row in running] == [
        (session.id, "assistant", 1)
    ]
    assert [(row["session_id"], row["since"], row["messages"]) for row in queued] == [(other.id, NOW, 2)]
