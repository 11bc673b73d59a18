"""What goes wrong in a real agent process, and what the next one makes of it."""

from __future__ import annotations

import os
import signal

import pytest

from shared_schema.errors import EXIT_FILES
from tests.agent.session import BareSession, agent, until
from tests.agent.test_process import answered


@pytest.fixture
def scripted(session: BareSession) -> BareSession:
    session.context(provider="scripted")
    return session


def failure(session: BareSession) -> tuple[str, str]:
    """The failure reason of the only turn, and the error of its only message."""
    [row] = session.out(
        "SELECT failure_reason, error, a.status FROM turns AS t JOIN processing_ack AS a ON turn_id = t.id"
    )
    assert row["status"] == "failed"
    return row["failure_reason"], row["error"]


def failed(session: BareSession) -> bool:
    return "failed" in session.acks().values()


@pytest.mark.parametrize(
    ("text", "reason", "sentence"),
    [
        ("fail the model is on holiday", "provider_error", "the model is on holiday"),
        ("raise secret details", "provider_error", "the provider failed: RuntimeError"),
        ("attach ../../x", "bad_input", "a file cannot go out under the name '../../x'"),
        ("reply many", "bad_input", "cannot obey 'reply many'"),
        ("stall", "timeout", "the turn took longer than 2 seconds"),
    ],
)
def test_a_failing_turn_fails_its_message_with_a_sentence(
    scripted: BareSession, text: str, reason: str, sentence: str
) -> None:
    scripted.context(turn_seconds=2)
    scripted.say(text)
    with agent(scripted):
        until(lambda: failed(scripted))
        assert failure(scripted) == (reason, sentence)
        scripted.say("and on")
        until(lambda: answered(scripted, 1))
    assert scripted.replies() == ["scripted: and on"]


def test_an_unknown_provider_fails_the_turn_and_says_which_there_are(session: BareSession) -> None:
    session.context(provider="gtp-5")
    session.say("hello")
    with agent(session):
        until(lambda: failed(session))
    assert failure(session) == (
        "bad_input",
        "there is no provider 'gtp-5'; this agent has: claude, echo, model, scripted",
    )


def test_a_crash_leaves_the_turn_running_and_the_next_agent_fails_it(scripted: BareSession) -> None:
    message = scripted.say("crash-once")
    with agent(scripted) as first:
        assert first.wait() == 70
    assert scripted.turns() == ["running"]
    assert scripted.acks() == {message: "processing"}
    with agent(scripted):
        until(lambda: answered(scripted, 1))
    assert scripted.turns() == ["failed", "completed"]
    assert scripted.out("SELECT failure_reason FROM turns ORDER BY rowid")[0]["failure_reason"] == "agent_died"
    assert scripted.replies() == ["did not crash this time"]


def test_a_provider_that_ends_the_process_politely_has_died_too(scripted: BareSession) -> None:
    scripted.say("exit")
    with agent(scripted) as running:
        assert running.wait() == 0
    assert scripted.turns() == ["running"]


def test_a_follow_up_during_a_turn_survives_the_death_of_the_agent(scripted: BareSession) -> None:
    first = scripted.say("think 60")
    with agent(scripted) as running:
        until(lambda: scripted.turns() == ["running"])
        follow_up = scripted.say("reply 1 still-here")
        running.kill()
    assert scripted.acks() == {first: "processing"}
    scripted.write("UPDATE messages_in SET status = 'failed' WHERE id = ?", (first,))
    with agent(scripted):
        until(lambda: scripted.acks().get(follow_up) == "completed")
    assert scripted.replies() == ["still-here 1"]


def test_what_was_sent_in_mid_turn_is_there_before_the_turn_ends(scripted: BareSession) -> None:
    scripted.say("stream 2 0.05\nstall")
    with agent(scripted) as running:
        until(lambda: scripted.replies() == ["stream 1", "stream 2"])
        assert scripted.turns() == ["running"]
        running.kill()


def test_a_message_that_kills_takes_no_other_along(scripted: BareSession) -> None:
    poison, fine = scripted.say("crash"), scripted.say("fine")
    with agent(scripted) as running:
        running.wait()
    scripted.write("UPDATE messages_in SET tries = 1")
    with agent(scripted) as running:
        running.wait()
    assert set(scripted.acks()) == {poison}
    scripted.write("UPDATE messages_in SET status = 'failed' WHERE id = ?", (poison,))
    with agent(scripted):
        until(lambda: scripted.acks().get(fine) == "completed")


def test_a_killed_commit_is_rolled_back_by_the_next_agent(scripted: BareSession) -> None:
    message = scripted.say("kill-mid-commit")
    with agent(scripted) as running:
        assert running.wait() == -signal.SIGKILL
    assert scripted.layout.outbound.with_name("outbound.db-journal").stat().st_size > 0
    scripted.write("UPDATE messages_in SET status = 'failed' WHERE id = ?", (message,))
    scripted.say("after")
    with agent(scripted):
        until(lambda: not scripted.layout.outbound.with_name("outbound.db-journal").exists())
        until(lambda: answered(scripted, 1))
    assert scripted.turns() == ["failed", "completed"]
    assert scripted.out("SELECT * FROM session_state") == []


@pytest.mark.parametrize(("message", "expected"), [("stall", True), ("hang", False)])
def test_the_heart_of_a_stalled_turn_beats_and_that_of_a_hanging_loop_does_not(
    scripted: BareSession, message: str, expected: bool
) -> None:
    heartbeat = scripted.layout.heartbeat
    scripted.say(message)
    with agent(scripted):
        until(lambda: scripted.turns() == ["running"])
        os.utime(heartbeat, (0, 0))
        beats = True
        try:
            until(lambda: heartbeat.stat().st_mtime > 0, seconds=1)
        except AssertionError:
            beats = False
    assert beats is expected


def test_sigterm_lets_a_short_turn_finish(scripted: BareSession) -> None:
    scripted.say("think 0.5")
    with agent(scripted) as running:
        until(lambda: scripted.turns() == ["running"])
        scripted.say("not any more")
        assert running.stop() == 0
    assert scripted.turns() == ["completed"]
    assert scripted.phase() == "stopping"
    assert scripted.replies() == ["thought for 0.5 s"]


def test_sigterm_gives_a_long_turn_back(scripted: BareSession) -> None:
    scripted.say("think 600")
    with agent(scripted, DUMBWAITER_STOP_SECONDS="0.2") as running:
        until(lambda: scripted.turns() == ["running"])
        assert running.stop() == 0
    assert scripted.turns() == ["cancelled"]
    assert scripted.acks() == {}
    assert scripted.phase() == "stopping"


def test_sigterm_ends_an_idle_agent_at_once(session: BareSession) -> None:
    with agent(session, DUMBWAITER_POLL_SECONDS="3600") as running:
        until(lambda: session.phase() == "idle")
        assert running.stop() == 0
    assert session.phase() == "stopping"


def test_bad_rows_do_not_keep_the_agent_from_going_on(scripted: BareSession) -> None:
    scripted.say("bad-row")
    with agent(scripted):
        until(lambda: answered(scripted, 1))
    assert len(scripted.out("SELECT seq FROM messages_out")) > 5


def test_a_file_that_cannot_be_read_for_a_while_is_waited_for_and_logged_once(session: BareSession) -> None:
    good = session.layout.inbound.read_bytes()
    session.layout.inbound.write_bytes(b"nonsense" * 200)
    with agent(session, DUMBWAITER_POLL_SECONDS="0.02"):
        until(lambda: "nothing this time" in session.log())
        session.layout.inbound.write_bytes(good)
        session.say("hello")
        until(lambda: answered(session, 1))
    assert session.log().count("nothing this time") == 1
    assert "readable again" in session.log()


def test_a_contract_too_far_away_ends_the_agent_with_a_sentence(session: BareSession) -> None:
    session.context(contract_version=9)
    with agent(session) as running:
        assert running.wait() == 1
    assert "the host speaks version 9 of the contract, and this agent version 2" in session.log()


@pytest.mark.parametrize(("name", "value"), [("DUMBWAITER_NOTIFY", "maybe"), ("DUMBWAITER_POLL_SECONDS", "often")])
def test_a_wrong_setting_is_named(session: BareSession, name: str, value: str) -> None:
    with agent(session, **{name: value}) as running:
        assert running.wait() == 2
    assert f"{name} is '{value}'" in session.log()


def test_a_missing_outbound_file_is_an_error_and_not_made_anew(session: BareSession) -> None:
    session.layout.outbound.unlink()
    with agent(session) as running:
        assert running.wait() == EXIT_FILES
    assert not session.layout.outbound.exists()
    assert "Traceback" not in session.log()


def test_an_inbound_file_two_versions_ahead_ends_the_agent_with_a_sentence(session: BareSession) -> None:
    session.write("PRAGMA user_version = 99")
    with agent(session) as running:
        assert running.wait() == EXIT_FILES
    assert "inbound.db has schema version 99" in session.log()
