"""A real agent process on a bare session folder; the test plays the host."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from shared_schema.clock import to_text
from shared_schema.rows import encode
from tests.agent.session import ROOT, BareSession, agent, until
from tests.support.dispositions import not_ignored


def answered(session: BareSession, count: int) -> bool:
    return list(session.acks().values()).count("completed") == count


@pytest.mark.parametrize("notify", ["auto", "off"])
def test_a_message_is_answered(session: BareSession, notify: str) -> None:
    with agent(session, DUMBWAITER_NOTIFY=notify):
        until(lambda: session.phase() == "idle")
        asked = session.say("hello")
        until(lambda: answered(session, 1))
    [row] = session.out("SELECT * FROM messages_out")
    assert row["in_reply_to"] == asked
    assert session.replies()[0].startswith("hello\n\n(echo: ")
    assert session.turns() == ["completed"]


def test_with_events_the_answer_does_not_wait_for_the_poll(session: BareSession) -> None:
    with agent(session, DUMBWAITER_POLL_SECONDS="3600"):
        until(lambda: session.phase() == "idle")
        for number in range(1, 4):
            session.say("hello")
            until(lambda number=number: answered(session, number))  # type: ignore[misc]


def test_echo_explains_itself_once_and_on_request(session: BareSession) -> None:
    session.say_all(["one", "two", "Help"])
    with agent(session):
        until(lambda: answered(session, 3))
        session.say("four")
        until(lambda: answered(session, 4))
    assert ["(echo: " in reply for reply in session.replies()] == [True, False, True, False]
    assert session.replies()[3] == "four"


def test_a_burst_is_answered_in_order_without_a_sweep(session: BareSession) -> None:
    with agent(session, DUMBWAITER_POLL_SECONDS="3600"):
        until(lambda: session.phase() == "idle")
        session.say_all([str(number) for number in range(25)])
        until(lambda: answered(session, 25))
    assert [reply.split("\n")[0] for reply in session.replies()] == [str(number) for number in range(25)]
    assert session.turns() == ["completed"] * 3


def test_context_alone_is_never_answered(session: BareSession) -> None:
    with agent(session):
        until(lambda: session.phase() == "idle")
        [context] = [session.say("overheard", trigger=0)]
        asked = session.say("asked")
        session.say("overheard later", trigger=0)
        until(lambda: answered(session, 2))
        until(lambda: session.phase() == "idle")
    assert [row["in_reply_to"] for row in session.out("SELECT * FROM messages_out")] == [asked]
    assert set(session.acks()) == {context, asked}


def test_context_that_comes_during_a_turn_is_not_answered(session: BareSession) -> None:
    session.context(provider="scripted")
    with agent(session):
        session.say("think 0.3")
        until(lambda: session.turns() == ["running"])
        session.say("reply 1", trigger=0)
        until(lambda: answered(session, 1))
        session.say("reply 1 really")
        until(lambda: answered(session, 3))
    assert session.replies() == ["thought for 0.3 s", "really 1"]


def test_each_address_gets_its_own_turn_and_answer(session: BareSession) -> None:
    ids = [session.say("one"), session.say("two", platform_id="there"), session.say("three")]
    with agent(session):
        until(lambda: answered(session, 3))
    assert [row["in_reply_to"] for row in session.out("SELECT * FROM messages_out ORDER BY seq")] == ids
    assert len(session.turns()) == 3


def test_a_message_that_the_host_has_not_marked_yet_is_not_answered_twice(session: BareSession) -> None:
    session.say("one")
    with agent(session):
        until(lambda: answered(session, 1))
        session.say("two")
        until(lambda: answered(session, 2))
    with agent(session):
        session.say("three")
        until(lambda: answered(session, 3))
    assert [reply.split("\n")[0] for reply in session.replies()] == ["one", "two", "three"]


def test_no_reader_ever_sees_a_completed_message_of_a_running_turn(session: BareSession) -> None:
    query = """
        SELECT (SELECT count(*) FROM processing_ack AS a JOIN turns AS t ON t.id = a.turn_id
                WHERE (a.status = 'completed') != (t.status = 'completed')) AS torn,
               (SELECT count(*) FROM processing_ack WHERE status = 'completed') AS completed,
               (SELECT count(*) FROM messages_out) AS replies
    """
    session.context(max_batch=1)
    session.say_all(["m"] * 60)
    path = f"file:{session.layout.outbound}?mode=ro"
    with agent(session), closing(sqlite3.connect(path, uri=True, isolation_level=None)) as reader:
        looks, completed = 0, 0
        deadline = time.monotonic() + 20
        while completed < 60:
            assert time.monotonic() < deadline
            torn, completed, replies = reader.execute(query).fetchone()
            assert torn == 0
            assert replies == completed
            looks += 1
    assert looks > 60


def test_a_scheduled_message_waits_until_it_is_due_and_holds_nobody_up(session: BareSession) -> None:
    with agent(session, DUMBWAITER_POLL_SECONDS="3600"):
        session.say("first")
        until(lambda: answered(session, 1))  # it runs: a process may take seconds to start
        due = datetime.now(UTC) + timedelta(seconds=4)
        scheduled = session.say("later", process_after=to_text(due))
        session.say("now")
        until(lambda: answered(session, 3))
    [turn] = session.out(
        "SELECT started_at FROM turns JOIN processing_ack ON turns.id = turn_id WHERE message_id = ?", (scheduled,)
    )
    assert turn["started_at"] >= to_text(due)
    assert [reply.split("\n")[0] for reply in session.replies()] == ["first", "now", "later"]


def test_a_control_message_is_acknowledged_without_a_turn(session: BareSession) -> None:
    with agent(session):
        session.say("anything", kind="control")
        until(lambda: answered(session, 1))
    assert session.turns() == []


def test_a_message_of_an_older_generation_is_left_alone(session: BareSession) -> None:
    session.context(generation=2)
    session.say("old", generation=1)
    with agent(session):
        session.say("new", generation=2)
        until(lambda: answered(session, 1))
    assert [(row["generation"]) for row in session.out("SELECT generation FROM messages_out")] == [2]
    assert session.replies()[0].startswith("new")


def test_a_change_of_context_reaches_a_living_agent(session: BareSession) -> None:
    with agent(session):
        session.say("one")
        until(lambda: answered(session, 1))
        session.context(provider="scripted")
        session.say("two")
        until(lambda: answered(session, 2))
    assert session.replies()[1] == "scripted: two"


def test_stored_times_are_utc_wherever_the_agent_runs(session: BareSession) -> None:
    session.say("due an hour ago", process_after=to_text(datetime.now(UTC) - timedelta(hours=1)))
    scheduled = session.say("due in an hour", process_after=to_text(datetime.now(UTC) + timedelta(hours=1)))
    with agent(session, TZ="America/New_York"):
        until(lambda: answered(session, 1))
        until(lambda: session.phase() == "idle")
    [turn] = session.out("SELECT started_at, finished_at FROM turns")
    now = datetime.now(UTC)
    assert to_text(now - timedelta(minutes=1)) < turn["started_at"] <= turn["finished_at"] <= to_text(now)
    assert scheduled not in session.acks()


def test_files_go_out_with_their_message(session: BareSession) -> None:
    session.context(provider="scripted")
    session.say("attach report.txt 5")
    with agent(session):
        until(lambda: answered(session, 1))
    [row] = session.out("SELECT id, content FROM messages_out")
    assert row["content"] == encode({"text": "attached report.txt", "files": ["report.txt"]})
    file = session.layout.outbox / row["id"] / "report.txt"
    assert file.read_bytes() == b"xxxxx"
    assert file.stat().st_mode & 0o777 == 0o660


def test_an_idle_agent_writes_nothing_but_its_heartbeat(session: BareSession) -> None:
    with agent(session, DUMBWAITER_POLL_SECONDS="0.01"):
        session.say("one")
        until(lambda: answered(session, 1))
        until(lambda: session.phase() == "idle")
        before = (session.layout.outbound.stat(), session.layout.inbound.stat())
        session.write("UPDATE messages_in SET status = 'completed'")  # what the host does next wakes it
        for _ in range(3):
            beat = session.layout.heartbeat.stat().st_mtime_ns
            until(lambda beat=beat: session.layout.heartbeat.stat().st_mtime_ns != beat)  # type: ignore[misc]
        assert session.layout.outbound.stat().st_mtime_ns == before[0].st_mtime_ns
        assert not session.layout.outbound.with_name("outbound.db-journal").exists()


def test_a_turn_of_echo_costs_two_commits(session: BareSession) -> None:
    def commits() -> int:
        return int.from_bytes(session.layout.outbound.read_bytes()[24:28], "big")

    with agent(session):
        until(lambda: session.phase() == "idle")
        before = commits()
        session.say("one")
        until(lambda: answered(session, 1))
        assert commits() - before == 2


def test_the_agent_starts_on_the_standard_library() -> None:
    loaded = "import sys, container_agent.__main__; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    printed = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True).stdout
    foreign = set(printed.split()) - sys.stdlib_module_names - {"container_agent", "shared_schema"}
    assert "host" not in foreign
    assert {name for name in foreign if not name.startswith("__")} - {"_distutils_hack", "sitecustomize"} == set()


def test_an_agent_loads_tls_when_something_of_it_is_used() -> None:
    script = """
import sys
import container_agent.__main__
from container_agent import deferred
deferred.complete()
import asyncio, ssl
print("_ssl" in sys.modules)
context = ssl.create_default_context()
print("_ssl" in sys.modules, isinstance(context, ssl.SSLContext), asyncio.sslproto.SSLProtocol.__name__)
"""
    # -S: what a machine's own start-up files import is no concern of the agent's.
    command = [sys.executable, "-S", "-c", script]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert printed.split() == ["False", "True", "True", "SSLProtocol"]


@pytest.mark.parametrize("number", sorted({signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGRTMIN + 3}))
def test_every_signal_that_ends_a_process_gives_the_turn_back(session: BareSession, number: int) -> None:
    session.context(provider="scripted")
    with not_ignored(number), agent(session, DUMBWAITER_STOP_SECONDS="0.2") as running:
        asked = session.say("think 30")
        until(lambda: session.acks() == {asked: "processing"})
        running.process.send_signal(number)
        assert running.wait() == 0
    assert session.acks() == {}
    assert session.turns() == ["cancelled"]
