"""A turn that the host ends: its messages got an outcome meanwhile, or the conversation was reset."""

from __future__ import annotations

import time

import pytest

from tests.agent.session import BareSession, agent, until
from tests.agent.test_process import answered


def ended(session: BareSession) -> bool:
    return session.turns()[:1] == ["cancelled"]


@pytest.mark.parametrize("notify", ["auto", "off"])
def test_a_turn_ends_at_once_when_all_its_messages_are_cancelled(session: BareSession, notify: str) -> None:
    session.context(provider="scripted")
    ids = session.say_all(["one\nstream 1 0\nsteps 1\nstall", "two"])
    with agent(session, DUMBWAITER_NOTIFY=notify, DUMBWAITER_POLL_SECONDS="0.5"):
        until(lambda: session.replies() == ["scripted: one", "stream 1"] and session.out("SELECT * FROM steps"))
        session.write("UPDATE messages_in SET status = 'cancelled' WHERE id = ?", (ids[0],))
        session.say("and on")
        assert session.turns() == ["running"]  # one message is still wanted
        began = time.monotonic()
        session.write("UPDATE messages_in SET status = 'cancelled' WHERE id = ?", (ids[1],))
        until(lambda: ended(session))
        assert time.monotonic() - began < 2
        until(lambda: answered(session, 1))
    assert session.out("SELECT status, failure_reason FROM turns") == [
        {"status": "cancelled", "failure_reason": "stopped"},
        {"status": "completed", "failure_reason": None},
    ]
    assert [session.acks()[message] for message in ids] == ["failed", "failed"]
    assert session.replies() == ["scripted: one", "stream 1", "scripted: and on"]
    assert session.out("SELECT content FROM steps")[0] == {"content": "step 1"}


def test_a_turn_ends_at_once_when_the_conversation_is_reset(session: BareSession) -> None:
    session.context(provider="scripted")
    session.say("stall")
    with agent(session):
        until(lambda: session.turns() == ["running"])
        session.context(generation=2)
        session.say("anew", generation=2)
        until(lambda: answered(session, 1))
    assert session.turns() == ["cancelled", "completed"]


def test_new_messages_and_hints_do_not_end_a_turn(session: BareSession) -> None:
    session.context(provider="scripted")
    session.say("think 0.5")
    with agent(session):
        until(lambda: session.turns() == ["running"])
        for number in range(5):
            session.say(f"{number}")
        until(lambda: answered(session, 6))
    assert session.replies()[0] == "thought for 0.5 s"
    assert "cancelled" not in session.turns()


def test_a_provider_that_will_not_end_is_left_behind_with_its_process(session: BareSession) -> None:
    session.context(provider="scripted")
    asked = session.say("cling")
    with agent(session) as running:
        until(lambda: session.turns() == ["running"])
        session.write("UPDATE messages_in SET status = 'cancelled'")
        assert running.wait() == 75
    assert "the provider scripted does not end when it is cancelled" in session.log()
    assert (session.turns(), session.acks()[asked]) == (["cancelled"], "failed")
    session.say("next")
    with agent(session):
        until(lambda: answered(session, 1))
    assert session.replies() == ["scripted: next"]


def test_a_provider_that_will_not_end_gives_its_messages_back_when_the_agent_has_to_go(session: BareSession) -> None:
    session.context(provider="scripted")
    session.say("cling")
    with agent(session, DUMBWAITER_STOP_SECONDS="0") as running:
        until(lambda: session.turns() == ["running"])
        assert running.stop() == 75
    assert (session.turns(), session.acks()) == (["cancelled"], {})


def test_what_the_steps_used_is_known_of_a_turn_that_was_stopped(session: BareSession) -> None:
    session.context(provider="scripted")
    session.say("use-step 5\nuse-step 6\nstall")
    with agent(session):
        until(lambda: len(session.out("SELECT * FROM steps")) == 2)
        session.write("UPDATE messages_in SET status = 'cancelled'")
        until(lambda: ended(session))
    assert session.out("SELECT input_tokens, output_tokens FROM turns") == [{"input_tokens": 11, "output_tokens": 11}]


def test_a_turn_that_has_just_begun_with_what_is_changed_is_begun_again_with_the_rest(session: BareSession) -> None:
    """The host did not know yet that the message was taken: it has cancelled it, and put another in its place."""
    session.context(provider="scripted")
    changed, other = session.say_all(["think 60", "think 0.1"])
    with agent(session):
        until(lambda: session.turns() == ["running"])
        session.write("UPDATE messages_in SET status = 'cancelled' WHERE id = ?", (changed,))
        session.say("and in its place")
        until(lambda: answered(session, 2))
    assert session.turns()[0] == "cancelled"
    assert session.replies() == ["thought for 0.1 s", "scripted: and in its place"]
    assert session.acks()[other] == "completed"
    assert changed not in session.acks()


def test_a_turn_that_has_said_something_goes_on_when_one_of_its_messages_is_changed(session: BareSession) -> None:
    """What it has said is known: begun again, it would say that twice."""
    session.context(provider="scripted")
    _, _, changed = session.say_all(["stream 1 0.1", "think 1", "changed"])
    with agent(session):
        until(lambda: session.replies() == ["stream 1"])
        session.write("UPDATE messages_in SET status = 'cancelled' WHERE id = ?", (changed,))
        until(lambda: "completed" in session.turns())
    assert session.turns() == ["completed"]
    assert session.replies() == ["stream 1", "thought for 1 s", "scripted: changed"]
