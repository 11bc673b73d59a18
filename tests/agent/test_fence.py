"""A run has a number that only grows: a process of an earlier run writes nothing more, and ends."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from container_agent.__main__ import EXIT_SUPERSEDED
from container_agent.fence import FRESH_SECONDS, LATE_SECONDS, Fence, Superseded
from container_agent.heartbeat import Heartbeat
from container_agent.inbox import Inbox
from container_agent.outbox import Outbox
from container_agent.providers.protocol import Reply, TurnResult
from host.sessions import outbox as host_outbox
from shared_schema.clock import SystemClock
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import AgentPhase, MessageIn
from tests.agent.session import AgentProcess, BareSession, until


def of_run(session: BareSession, run: int) -> Outbox:
    """The outbox of a run that has taken the session over."""
    outbox = Outbox(session.layout, SystemClock(), Fence(session.layout.inbound, run))
    outbox.recover()
    return outbox


def pending(session: BareSession, outbox: Outbox) -> tuple[MessageIn, ...]:
    return Inbox(session.layout.inbound, outbox.acknowledged, fence=outbox.fence).read().pending


def test_a_read_that_finds_another_run_ends_this_one(session: BareSession) -> None:
    session.context(run=1)
    with closing(of_run(session, 1)) as outbox:
        assert pending(session, outbox) == ()
        session.context(run=2)
        with pytest.raises(Superseded, match="this is run 1 of the session, and run 2 has taken its place"):
            pending(session, outbox)
        before = session.layout.outbound.read_bytes()
        with pytest.raises(Superseded):  # also though it looked a moment ago
            outbox.set_phase(AgentPhase.STOPPING)
        assert session.layout.outbound.read_bytes() == before


def test_a_turn_is_not_wanted_by_another_run(session: BareSession) -> None:
    session.context(run=1)
    message_id = session.say("hello")
    inbox = Inbox(session.layout.inbound, lambda ids: set(), fence=Fence(session.layout.inbound, 1))
    assert inbox.wanted([message_id], 1) == {message_id}
    session.context(run=2)
    with pytest.raises(Superseded):
        inbox.wanted([message_id], 1)


def test_a_write_long_after_the_last_look_looks_again(session: BareSession) -> None:
    session.context(run=1)
    now = [0.0]
    fence = Fence(session.layout.inbound, 1, lambda: now[0])
    with closing(Outbox(session.layout, SystemClock(), fence)) as outbox:
        outbox.recover()
        session.context(run=2)
        outbox.set_phase(AgentPhase.IDLE)  # it has looked in this moment
        now[0] += FRESH_SECONDS
        with pytest.raises(Superseded):
            outbox.set_phase(AgentPhase.STOPPING)


def test_what_a_later_run_has_taken_over_an_earlier_one_does_not_write(session: BareSession) -> None:
    """Also where the earlier one cannot see the number: its mount is late, or it froze between look and write."""
    session.context(run=1)
    with closing(of_run(session, 1)) as first:
        stale = session.layout.inbound.read_bytes()
        session.context(run=2)
        with closing(of_run(session, 2)) as second:
            session.layout.inbound.write_bytes(stale)  # what the first one still sees
            with pytest.raises(Superseded, match="another run has taken this session over"):
                first.set_phase(AgentPhase.STOPPING)
            session.context(run=2)
            second.set_phase(AgentPhase.IDLE)


def test_a_commit_that_took_long_looks_again_before_it_ends(session: BareSession) -> None:
    """A mount without locks keeps no later run from the file meanwhile."""
    session.context(run=1)
    now = [0.0]

    class Frozen(SystemClock):
        def now(self) -> datetime:
            now[0] += FRESH_SECONDS  # the process sleeps within the transaction, and another run begins
            session.context(run=2)
            return super().now()

    with closing(Outbox(session.layout, SystemClock(), Fence(session.layout.inbound, 1))) as outbox:
        outbox.recover()
    before = session.layout.outbound.read_bytes()
    with closing(Outbox(session.layout, Frozen(), Fence(session.layout.inbound, 1, lambda: now[0]))) as outbox:
        with pytest.raises(Superseded, match="run 2 has taken its place"):
            outbox.set_phase(AgentPhase.IDLE)
        assert session.layout.outbound.read_bytes() == before


def test_a_run_that_slept_before_it_took_over_takes_nothing_from_a_later_one(session: BareSession) -> None:
    session.context(run=1)
    with closing(Outbox(session.layout, SystemClock(), Fence(session.layout.inbound, 1, lambda: 0.0))) as first:
        session.context(run=2)
        with closing(of_run(session, 2)) as second:
            with pytest.raises(Superseded):
                first.recover()  # it has looked in this moment, as far as its clock says
            second.set_phase(AgentPhase.IDLE)


def test_what_an_earlier_run_acknowledged_and_no_host_took_is_taken_again(session: BareSession) -> None:
    """Its start was given up and carried out late: it answered after the host had read its file for the last time."""
    session.context(run=1)
    told, untold = session.say("one"), session.say("two")
    with closing(of_run(session, 1)) as first:
        answer(session, first, told)
        tell_outcomes(session)
        answer(session, first, untold)
        assert pending(session, first) == ()
    session.context(run=2)
    with closing(of_run(session, 2)) as second:
        assert [message.id for message in pending(session, second)] == [untold]
        answer(session, second, untold)
        assert pending(session, second) == ()
    turns = "SELECT run FROM processing_ack JOIN turns ON id = turn_id WHERE message_id = ?"
    assert [session.out(turns, (each,)) for each in (told, untold)] == [[{"run": 1}], [{"run": 2}]]


def answer(session: BareSession, outbox: Outbox, message_id: str) -> None:
    messages = tuple(message for message in pending(session, outbox) if message.id == message_id)
    turn = outbox.begin_turn(messages, generation=1, provider="echo", model="")
    outbox.end_turn(turn, TurnResult(replies=[Reply("done")]), [new_id(Prefix.MESSAGE)])


def test_an_earlier_run_does_not_even_open_the_file(session: BareSession) -> None:
    session.context(run=2)
    before = session.layout.outbound.read_bytes()
    with pytest.raises(Superseded):
        Outbox(session.layout, SystemClock(), Fence(session.layout.inbound, 1))
    assert session.layout.outbound.read_bytes() == before


def test_an_earlier_run_shows_no_sign_of_life(session: BareSession) -> None:
    session.context(run=1)
    heartbeat = Heartbeat(session.layout.heartbeat, 1.0, Fence(session.layout.inbound, 1))
    heartbeat.touch()
    before = session.layout.heartbeat.read_bytes(), session.layout.heartbeat.stat().st_mtime_ns
    session.context(run=2)
    heartbeat.touch()
    assert (session.layout.heartbeat.read_bytes(), session.layout.heartbeat.stat().st_mtime_ns) == before


def test_a_session_without_numbers_has_no_fence(session: BareSession) -> None:
    with closing(Outbox(session.layout, SystemClock(), Fence(session.layout.inbound, 1))) as outbox:
        outbox.recover()  # a host of an older version
        assert pending(session, outbox) == ()
    session.context(run=7)
    with closing(Outbox(session.layout, SystemClock())) as outbox:  # an agent that was given none
        outbox.recover()
        outbox.set_phase(AgentPhase.IDLE)


def test_the_host_takes_no_row_of_another_run(session: BareSession) -> None:
    session.context(run=1)
    session.say("hello")
    with closing(of_run(session, 1)) as outbox:
        turn = outbox.begin_turn(pending(session, outbox), generation=1, provider="echo", model="")
        outbox.append_message(turn, "msg_1", Reply("from the first run"))
        (message,) = turn.messages

    def read(run: int) -> host_outbox.OutboxSnapshot:
        return host_outbox.read(
            session.layout, out_cursor=0, turn_cursor=0, open_messages=[message.id], running_turns=[turn.id], run=run
        )

    session.layout.reading.mkdir()
    own, others = read(1), read(2)
    assert (len(own.messages), len(own.acks), len(own.turns)) == (1, 1, 1 + 1)  # a running turn is asked for by name
    assert (others.messages, others.acks, others.turns) == ([], [], [])
    assert [bad.reason for bad in others.bad_rows] == ["it was written by an earlier run of the agent"]
    assert others.out_cursor == own.out_cursor


@pytest.fixture
def agents(session: BareSession) -> Iterator[list[AgentProcess]]:
    """Agents that are ended after the test, frozen ones too."""
    started: list[AgentProcess] = []
    yield started
    for agent in started:
        if agent.process.poll() is None:
            agent.process.send_signal(signal.SIGCONT)
        agent.kill()


def started(session: BareSession, agents: list[AgentProcess], run: int) -> AgentProcess:
    """The next run of a session: its number first, as the host does it."""
    session.context(run=run, provider="scripted")
    agent = AgentProcess(session, DUMBWAITER_RUN_NUMBER=str(run), DUMBWAITER_HEARTBEAT_SECONDS="0.05")
    agents.append(agent)
    return agent


@pytest.mark.parametrize("seconds", [0.0, 0.013, 0.031, 0.052])
def test_an_agent_that_was_frozen_wakes_and_not_one_row_of_it_is_there(
    session: BareSession, agents: list[AgentProcess], seconds: float
) -> None:
    """Whatever it was doing when it froze. What it had committed before is there, and is the earlier run's."""
    first = started(session, agents, 1)
    session.context(max_batch=1)
    asked = session.say_all([f"message {n}" for n in range(60)])
    until(lambda: session.out("SELECT 1 FROM turns WHERE run = 1"))
    freeze(session, first, seconds)
    session.layout.agent_lock.unlink()  # as on a machine that is cut off: its lock is nowhere to be seen
    tell_outcomes(session)
    started(session, agents, 2)
    asked.append(session.say("the last message"))  # a quick first agent may have answered all the others
    until(lambda: session.out("SELECT 1 FROM turns WHERE run = 2"), seconds=120)
    by_first = session.out("SELECT count(*) AS n FROM turns WHERE run = 1")
    beat = session.layout.heartbeat.read_bytes()
    first.process.send_signal(signal.SIGCONT)
    assert first.wait() == EXIT_SUPERSEDED
    until(lambda: session.layout.heartbeat.read_bytes() != beat)  # the second lives
    until(lambda: set(asked) <= set(session.acks()), seconds=120)
    assert session.out("SELECT count(*) AS n FROM turns WHERE run = 1") == by_first
    assert session.out("SELECT run FROM turns ORDER BY rowid DESC LIMIT 1") == [{"run": 2}]
    assert session.out("SELECT in_reply_to FROM messages_out GROUP BY in_reply_to HAVING count(*) > 1") == []


def tell_outcomes(session: BareSession) -> None:
    """What an agent has acknowledged has its outcome, as the host writes it before it begins the next run."""
    for message_id, status in session.acks().items():
        if status != "processing":
            session.write("UPDATE messages_in SET status = ? WHERE id = ?", (status, message_id))


def freeze(session: BareSession, agent: AgentProcess, seconds: float) -> None:
    """Stop an agent in another place each time, but not while it holds a lock: then no other run can begin at all."""
    while True:
        run_on(seconds)
        agent.process.send_signal(signal.SIGSTOP)
        until(lambda: Path(f"/proc/{agent.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        if not any(is_locked(path) for path in (session.layout.inbound, session.layout.outbound)):
            return
        agent.process.send_signal(signal.SIGCONT)


def run_on(seconds: float) -> None:
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end)


def is_locked(path: Path) -> bool:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
        return False


def test_a_run_waits_until_a_late_mount_shows_its_own_number(session: BareSession) -> None:
    session.context(run=1)
    moments = iter([0.0, 0.1, 0.2, 0.3])

    def clock() -> float:
        now = next(moments)
        if now >= 0.2:
            session.context(run=2)
        return now

    Fence(session.layout.inbound, 2, clock, shared=True).begin()


def test_an_earlier_number_that_stays_is_that_of_a_restored_folder(session: BareSession) -> None:
    session.context(run=1)
    moments = iter([0.0, 0.1, LATE_SECONDS, LATE_SECONDS])
    with pytest.raises(Superseded):
        Fence(session.layout.inbound, 2, lambda: next(moments), shared=True).begin()


def test_a_later_number_is_not_waited_for(session: BareSession) -> None:
    session.context(run=3)
    moments = iter([0.0])
    with pytest.raises(Superseded):
        Fence(session.layout.inbound, 2, lambda: next(moments), shared=True).begin()
