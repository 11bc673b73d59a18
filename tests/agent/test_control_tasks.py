"""The host's errands: a title or a summary, as a turn that says nothing to anybody but the host."""

from __future__ import annotations

import pytest

from shared_schema.rows import encode
from tests.agent.session import BareSession, agent, until
from tests.agent.test_process import answered


def send(session: BareSession, purpose: str) -> str:
    """An errand, as the host writes it; its id."""
    return session.say(
        "", kind="control", trigger=0, channel_type=None, platform_id=None, content=encode({"do": purpose})
    )


def settled(session: BareSession, count: int) -> bool:
    statuses = list(session.acks().values())  # read once: between two reads a message may be taken
    return len(statuses) == count and "processing" not in statuses


@pytest.fixture
def scripted(session: BareSession) -> BareSession:
    session.context(provider="scripted")
    return session


def test_a_title_and_a_summary_go_to_the_host_and_add_nothing_to_the_transcript(scripted: BareSession) -> None:
    with agent(scripted):
        scripted.say("why is the sky blue, and not green")
        until(lambda: answered(scripted, 1))
        steps = scripted.out("SELECT * FROM steps")
        errands = [send(scripted, "title"), send(scripted, "summarize")]
        until(lambda: answered(scripted, 3))
    answers = scripted.out(
        "SELECT kind, in_reply_to, content ->> 'text' AS text FROM messages_out WHERE kind <> 'chat'"
    )
    assert answers == [
        {"kind": "system", "in_reply_to": errands[0], "text": "Title of why is the sky blue,"},
        {"kind": "system", "in_reply_to": errands[1], "text": "Summary of 2 messages"},
    ]
    assert scripted.out("SELECT * FROM steps") == steps
    assert scripted.turns() == ["completed"] * 3


def test_a_provider_that_cannot_says_so_without_a_turn(session: BareSession) -> None:
    with agent(session):
        errand = send(session, "title")
        until(lambda: settled(session, 1))
    assert session.out("SELECT message_id, status, error FROM processing_ack") == [
        {"message_id": errand, "status": "failed", "error": "the provider echo cannot summarize"}
    ]
    assert session.turns() == []


def test_an_errand_of_a_newer_host_is_acknowledged_without_an_answer(scripted: BareSession) -> None:
    with agent(scripted):
        send(scripted, "paint")
        until(lambda: answered(scripted, 1))
    assert scripted.replies() == scripted.turns() == []


@pytest.mark.parametrize(
    ("line", "reason", "sentence"),
    [("fail no more today", "provider_error", "no more today"), ("stall", "timeout", "the turn took longer")],
)
def test_an_errand_that_fails_is_a_failed_turn(scripted: BareSession, line: str, reason: str, sentence: str) -> None:
    scripted.context(turn_seconds=2)  # enough for the turn before it, on a busy machine as well
    with agent(scripted):
        scripted.say(f"errand {line}")
        until(lambda: answered(scripted, 1))
        errand = send(scripted, "title")
        until(lambda: settled(scripted, 2))
    [ack] = scripted.out("SELECT status, error FROM processing_ack WHERE message_id = ?", (errand,))
    assert (ack["status"], ack["error"][: len(sentence)]) == ("failed", sentence)
    assert scripted.out("SELECT failure_reason FROM turns")[-1] == {"failure_reason": reason}


def test_an_errand_that_kills_the_agent_is_taken_again_and_its_usage_counts(scripted: BareSession) -> None:
    with agent(scripted) as running:
        scripted.say("errand crash-once")
        until(lambda: answered(scripted, 1))
        send(scripted, "title")
        assert running.wait() == 70
    with agent(scripted):
        scripted.say("errand use 7")
        until(lambda: answered(scripted, 3))
        send(scripted, "summarize")
        until(lambda: answered(scripted, 4))
    assert scripted.out("SELECT status, input_tokens FROM turns") == [
        {"status": "completed", "input_tokens": None},
        {"status": "failed", "input_tokens": None},
        {"status": "completed", "input_tokens": None},
        {"status": "completed", "input_tokens": None},
        {"status": "completed", "input_tokens": 7},
    ]
