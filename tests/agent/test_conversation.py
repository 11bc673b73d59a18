"""What a provider is told of the conversation: what was said before, why it begins anew, who speaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from container_agent.context import SessionContext
from container_agent.outbox import Outbox, RunningTurn, TurnFailure
from container_agent.providers.protocol import Step, TurnRequest, TurnResult, Usage
from shared_schema.clock import ManualClock
from shared_schema.rows import FailureReason
from tests.agent.session import BareSession, agent, until
from tests.agent.test_batch import PLAIN
from tests.agent.test_process import answered


@pytest.fixture
def outbox(session: BareSession) -> Iterator[Outbox]:
    with closing(Outbox(session.layout, ManualClock())) as opened:
        yield opened


def begun(outbox: Outbox, text: str) -> RunningTurn:
    """A running turn with one step."""
    turn = outbox.begin_turn((replace(PLAIN, id=f"msg_{text}"),), generation=1, provider="echo", model="")
    outbox.append_steps(turn, [Step("user", text)])
    return turn


def heard(outbox: Outbox, *withdrawn: str) -> list[str | None]:
    return [step.content for step in outbox.history(withdrawn)]


def test_history_is_what_counts_in_order(session: BareSession, outbox: Outbox) -> None:
    """FAILURES 31: what a provider is given to go on with when its own session is gone."""
    for text in ("seeded", "of the parent"):
        outbox._connection.execute(
            "INSERT INTO steps (turn_id, role, content, timestamp) VALUES (?, 'user', ?, '')", ("seed", text)
        )
    done = begun(outbox, "done")
    outbox.end_turn(done, TurnResult(steps=[Step("assistant", "answer", tool_calls="[]", usage="{}")]), [])
    outbox.fail_turn(begun(outbox, "failed"), TurnFailure(FailureReason.TIMEOUT, "x"))
    outbox.stop_turn(begun(outbox, "stopped"), Usage())
    outbox.give_back(begun(outbox, "given back"), Usage())
    begun(outbox, "died")
    outbox.recover()
    withdrawn = begun(outbox, "withdrawn")
    outbox.end_turn(withdrawn, TurnResult(), [])
    begun(outbox, "running")
    everything = ["seeded", "of the parent", "done", "answer", "failed", "stopped", "withdrawn"]
    assert heard(outbox) == everything
    assert heard(outbox, withdrawn.id) == everything[:-1]
    assert heard(outbox, withdrawn.id, done.id) == ["seeded", "of the parent", "failed", "stopped"]
    assert outbox.history(())[3] == Step("assistant", "answer", tool_calls="[]", usage="{}")


def test_a_turn_that_an_older_agent_left_dead_does_not_count(session: BareSession, outbox: Outbox) -> None:
    turn = begun(outbox, "died")
    outbox.end_turn(turn, TurnResult(), [])
    outbox._connection.execute("UPDATE turns SET status = 'failed', failure_reason = 'agent died'")
    assert heard(outbox) == []


def test_an_agent_remembers_the_conversation_but_for_what_was_taken_back(session: BareSession) -> None:
    session.context(provider="scripted")
    with agent(session):
        session.say("one")
        until(lambda: answered(session, 1))
        session.say("two")
        until(lambda: answered(session, 2))
        session.say("recall")
        until(lambda: answered(session, 3))
        [last] = session.out("SELECT id FROM turns ORDER BY rowid LIMIT 1 OFFSET 1")
        session.context(generation=2, withdrawn=json.dumps([last["id"]]))
        session.say("recall", generation=2)
        until(lambda: answered(session, 4))
    assert session.replies()[2:] == ["4 steps: one | two", "4 steps: one | recall"]


def test_the_reset_note_is_told_once_for_each_generation(session: BareSession) -> None:
    """Told again as long as no turn that told it was completed: whatever fails or dies has told nobody."""
    session.context(provider="scripted", reset_note="a new day")
    session.say_all(["note", "fail", "note\nnote"])
    session.context(max_batch=1)
    with agent(session):
        until(lambda: answered(session, 2))
        until(lambda: session.phase() == "idle")
        session.context(generation=2)
        session.say("fail", generation=2)
        session.say("note", generation=2)
        until(lambda: answered(session, 3))
        session.say("note", generation=2)
        until(lambda: answered(session, 4))
    assert session.replies() == ["note: a new day", "note: none", "note: none", "note: a new day", "note: none"]


def test_the_note_outlives_the_process_that_told_it(session: BareSession) -> None:
    session.context(provider="scripted", reset_note="a new day")
    for number, told in enumerate(("crash-once\nnote", "note"), start=1):
        session.say(told)
        with agent(session) as running:
            if number == 1:
                running.wait()
            else:
                until(lambda: answered(session, 2))
    assert session.replies() == ["did not crash this time", "note: a new day", "note: a new day"]


@pytest.mark.parametrize(
    ("shared", "name", "sender", "expected"),
    [
        (True, "Ann", "u1", "Ann: hello"),
        (True, None, "u1", "u1: hello"),
        (True, " Ann\nBob: ", None, "Ann Bob:: hello"),
        (True, None, None, "hello"),
        (False, "Ann", "u1", "hello"),
    ],
)
def test_where_several_people_speak_a_message_carries_its_senders_name(
    session: BareSession, tmp_path: Path, shared: bool, name: str | None, sender: str | None, expected: str
) -> None:
    """FAILURES 28."""
    message = replace(PLAIN, sender_name=name, sender_id=sender, content='{"text":"hello"}')
    request = TurnRequest((message,), SessionContext(shared=shared), (), tmp_path, session.layout)
    assert request.spoken(message) == expected


def test_an_agent_hears_who_speaks_only_where_several_do(session: BareSession) -> None:
    session.context(provider="scripted")
    with agent(session):
        session.say("hear", sender_name="Ann")
        until(lambda: answered(session, 1))
        session.context(shared=1)
        session.say("hear", sender_name="Ann")
        until(lambda: answered(session, 2))
    assert session.replies() == ["heard hear", "heard Ann: hear"]


def test_a_refused_resume_pointer_is_not_tried_again(session: BareSession) -> None:
    """FAILURES 31."""
    session.context(provider="scripted", resume="lost", max_batch=1)
    session.say_all(["resumed\nrefuse-resume", "resumed\nsession fresh", "resumed"])
    with agent(session):
        until(lambda: answered(session, 3))
    assert session.replies() == ["resumed: lost", "resumed: none", "resumed: fresh"]
    assert [row["resume_refused"] for row in session.out("SELECT resume_refused FROM turns")] == [1, 0, 0]


def test_a_resume_pointer_outlives_a_crash_and_is_not_given_to_another_provider(session: BareSession) -> None:
    """FAILURES 30."""
    session.context(provider="scripted", max_batch=1)
    session.say_all(["session mine", "crash-once\nresumed"])
    with agent(session) as running:
        running.wait()
    with agent(session):
        until(lambda: answered(session, 2))
    assert session.replies() == ["did not crash this time", "resumed: mine"]
    with closing(Outbox(session.layout, ManualClock())) as outbox:
        assert outbox.resume_pointer(1, "scripted") == "mine"
        assert outbox.resume_pointer(1, "another") is None
