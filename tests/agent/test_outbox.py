"""The one writer of outbound.db."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from container_agent import attachments
from container_agent.inbox import Inbox
from container_agent.outbox import Outbox, RunningTurn, TurnFailure
from container_agent.providers.protocol import (
    OutgoingFile,
    ProviderError,
    Reply,
    Step,
    TurnResult,
    Usage,
)
from shared_schema.clock import ManualClock
from shared_schema.database import open_reader, reader, writer
from shared_schema.errors import Conflict, FileBusy, FileTrouble
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import AgentPhase, FailureReason
from tests.agent.session import BareSession, agent


@pytest.fixture
def outbox(session: BareSession) -> Iterator[Outbox]:
    with closing(Outbox(session.layout, ManualClock())) as opened:
        yield opened


def begin(session: BareSession, outbox: Outbox, *texts: str) -> RunningTurn:
    for text in texts:
        session.say(text)
    snapshot = Inbox(session.layout.inbound, outbox.acknowledged).read()
    return outbox.begin_turn(snapshot.pending, generation=7, provider="echo", model="m")


def test_a_turn_begins_with_everything_at_once(session: BareSession, outbox: Outbox) -> None:
    turn = begin(session, outbox, "one", "two")
    [row] = session.out("SELECT * FROM turns")
    assert (row["id"], row["status"], row["provider"], row["model"]) == (turn.id, "running", "echo", "m")
    assert list(session.acks().values()) == ["processing", "processing"]
    assert session.out("SELECT state, turn_id FROM agent_state") == [{"state": "working", "turn_id": turn.id}]


def test_a_turn_ends_with_everything_at_once(session: BareSession, outbox: Outbox) -> None:
    turn = begin(session, outbox, "one", "two")
    result = TurnResult(
        replies=[Reply("answer")],
        steps=[Step("assistant", "answer")],
        usage=Usage(input_tokens=3, cost_usd=0.5),
        provider_session_id="p1",
    )
    message_id = new_id(Prefix.MESSAGE)
    outbox.end_turn(turn, result, [message_id])
    [row] = session.out("SELECT * FROM turns")
    assert (row["status"], row["input_tokens"], row["output_tokens"], row["cost_usd"]) == ("completed", 3, None, 0.5)
    assert row["provider_session_id"] == "p1"
    assert row["finished_at"] == "2026-02-28T12:00:00.000Z"
    assert set(session.acks().values()) == {"completed"}
    [message] = session.out("SELECT * FROM messages_out")
    assert message["id"] == message_id
    assert message["generation"] == 7
    assert message["in_reply_to"] == turn.messages[-1].id
    assert (message["channel_type"], message["platform_id"], message["thread_id"]) == (None, None, None)
    assert len(session.out("SELECT * FROM steps")) == 1
    assert session.phase() == "idle"


def test_an_end_that_fails_half_way_changes_nothing(session: BareSession, outbox: Outbox) -> None:
    turn = begin(session, outbox, "one")
    result = TurnResult(replies=[Reply("answer")], steps=[Step("no such role")])
    with pytest.raises(FileTrouble):
        outbox.end_turn(turn, result, [new_id(Prefix.MESSAGE)])
    assert session.replies() == []
    assert session.turns() == ["running"]
    assert set(session.acks().values()) == {"processing"}


def test_a_failed_turn_fails_its_messages_with_the_sentence(session: BareSession, outbox: Outbox) -> None:
    turn = begin(session, outbox, "one")
    outbox.fail_turn(turn, TurnFailure(FailureReason.TIMEOUT, "too long"))
    assert session.out("SELECT status, failure_reason FROM turns") == [
        {"status": "failed", "failure_reason": "timeout"}
    ]
    assert session.out("SELECT status, error FROM processing_ack") == [{"status": "failed", "error": "too long"}]


def test_a_turn_given_back_leaves_its_messages_pending(session: BareSession, outbox: Outbox) -> None:
    outbox.give_back(begin(session, outbox, "one"), Usage())
    assert session.turns() == ["cancelled"]
    assert session.acks() == {}


def test_a_new_process_gives_back_what_a_dead_one_held(session: BareSession, outbox: Outbox) -> None:
    done = begin(session, outbox, "one")
    outbox.end_turn(done, TurnResult(), [])
    turn = begin(session, outbox, "two")
    outbox.append_message(turn, new_id(Prefix.MESSAGE), Reply("sent before death"))
    with closing(Outbox(session.layout, ManualClock())) as successor:
        assert successor.recover() == 1
        assert session.phase() == "starting"
    assert session.out("SELECT status, failure_reason FROM turns ORDER BY rowid") == [
        {"status": "completed", "failure_reason": None},
        {"status": "failed", "failure_reason": "agent_died"},
    ]
    assert session.acks() == {done.messages[0].id: "completed"}
    assert session.replies() == ["sent before death"]
    with pytest.raises(Conflict):
        outbox.end_turn(turn, TurnResult(replies=[Reply("too late")]), [new_id(Prefix.MESSAGE)])
    assert session.replies() == ["sent before death"]


def test_a_resume_pointer_is_kept_for_its_generation_and_never_emptied(session: BareSession, outbox: Outbox) -> None:
    outbox.end_turn(begin(session, outbox, "one"), TurnResult(provider_session_id="p1"), [])
    outbox.end_turn(begin(session, outbox, "two"), TurnResult(provider_session_id=""), [])
    outbox.fail_turn(begin(session, outbox, "three"), TurnFailure(FailureReason.PROVIDER_ERROR, "x"))
    assert outbox.resume_pointer(7, "echo") == "p1"
    assert outbox.resume_pointer(8, "echo") is None
    assert outbox.resume_pointer(7, "scripted") is None


def test_the_same_phase_is_not_written_twice(session: BareSession, outbox: Outbox) -> None:
    outbox.set_phase(AgentPhase.IDLE)
    before = session.layout.outbound.stat().st_mtime_ns, session.layout.outbound.read_bytes()
    outbox.set_phase(AgentPhase.IDLE)
    assert (session.layout.outbound.stat().st_mtime_ns, session.layout.outbound.read_bytes()) == before


def test_a_tool_has_a_deadline_by_the_clock(session: BareSession, outbox: Outbox) -> None:
    turn = begin(session, outbox, "one")
    outbox.set_tool(turn, "shell", 90)
    assert session.out("SELECT state, current_tool, tool_deadline FROM agent_state") == [
        {"state": "working", "current_tool": "shell", "tool_deadline": "2026-02-28T12:01:30.000Z"}
    ]


def test_a_host_that_reads_for_long_delays_a_commit_without_breaking_it(session: BareSession, outbox: Outbox) -> None:
    with closing(open_reader(session.layout.outbound)) as host:
        host.execute("BEGIN")
        host.execute("SELECT * FROM turns").fetchall()
        outbox._connection.execute("PRAGMA busy_timeout = 10")  # the patience, shortened for the test
        with pytest.raises(FileBusy):
            outbox.set_phase(AgentPhase.IDLE)
    outbox.set_phase(AgentPhase.IDLE)
    assert session.phase() == "idle"


def test_files_are_in_place_under_their_message(session: BareSession, tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(b"pdf")
    attachments.place(
        session.layout.outbox, "msg_1", [OutgoingFile("a.txt", b"a"), OutgoingFile("b.pdf", tmp_path / "report.pdf")]
    )
    folder = session.layout.outbox / "msg_1"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.txt": b"a", "b.pdf": b"pdf"}


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\0b", "a\nb", "x" * 256])
def test_a_file_name_that_is_a_path_is_refused(session: BareSession, name: str) -> None:
    with pytest.raises(ProviderError):
        attachments.place(session.layout.outbox, "msg_1", [OutgoingFile(name, b"")])
    assert not session.layout.outbox.exists()


def test_the_same_file_name_twice_is_refused(session: BareSession) -> None:
    with pytest.raises(ProviderError):
        attachments.place(session.layout.outbox, "msg_1", [OutgoingFile("a", b""), OutgoingFile("a", b"")])


def test_what_joined_a_turn_that_is_stopped_waits_for_the_next_one(session: BareSession, outbox: Outbox) -> None:
    turn = begin(session, outbox, "one")
    session.say("written behind the /stop")
    (follow_up,) = Inbox(session.layout.inbound, outbox.acknowledged).read().pending
    outbox.join_turn(turn, follow_up)
    outbox.stop_turn(turn, Usage())
    assert session.acks() == {turn.messages[0].id: "failed"}
    assert Inbox(session.layout.inbound, outbox.acknowledged).read().pending == (follow_up,)


def test_a_hot_journal_stops_readers_until_a_writer_opens_the_file(session: BareSession) -> None:
    session.context(provider="scripted")
    session.say("kill-mid-commit")
    with agent(session) as running:
        assert running.wait() == -signal.SIGKILL
    for _ in range(2):  # opening to read does not mend it
        with pytest.raises(FileBusy), reader(session.layout.outbound) as connection:
            connection.execute("SELECT * FROM turns").fetchall()
    with closing(Outbox(session.layout, ManualClock())) as outbox:
        assert outbox.recover() == 1
    assert session.out("SELECT * FROM session_state") == []


def test_text_that_is_no_text_from_an_agent_before_ends_no_agent_after_it(session: BareSession) -> None:
    broken = "CAST(x'ff61c328' AS TEXT)"
    with writer(session.layout.outbound) as connection:
        connection.execute(
            "INSERT INTO messages_out (id, generation, timestamp, kind, content) "
            f"VALUES ({broken}, 7, '', 'chat', json_quote({broken}))"
        )
        connection.execute(f"INSERT INTO steps (turn_id, role, content, timestamp) VALUES ('t', 'user', {broken}, '')")
        connection.execute(f"INSERT INTO processing_ack VALUES ({broken}, 'completed', NULL, NULL, '')")
        for key in ("resume", "failures_told", "usage", "owed"):
            connection.execute(f"INSERT INTO session_state VALUES ('{key}', {broken}, '')")
    with closing(Outbox(session.layout, ManualClock())) as outbox:
        assert list(outbox.newest_messages(7)) == ["\ufffda\ufffd("]
        assert [step.content for step in outbox.history([])] == ["\ufffda\ufffd("]
        turn = begin(session, outbox, "one")
        used = TurnResult(replies=[Reply("answer")], usage=Usage(input_tokens=3), cumulative=True)
        outbox.end_turn(turn, used, [new_id(Prefix.MESSAGE)])
        assert outbox.acknowledged([message.id for message in turn.messages])
        assert outbox.resume_pointer(7, "echo") is None


def test_content_is_the_text_and_the_names_of_the_files(session: BareSession, outbox: Outbox) -> None:
    turn = begin(session, outbox, "one")
    outbox.append_message(turn, new_id(Prefix.MESSAGE), Reply("héllo", files=(OutgoingFile("a.txt", b""),)))
    [row] = session.out("SELECT content FROM messages_out")
    assert json.loads(row["content"]) == {"text": "héllo", "files": ["a.txt"]}
