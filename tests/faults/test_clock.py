"""FAILURES 15: a wall clock that is set, the calendar's odd moments, and a machine that is not in UTC.

The clock is set where the host and the agent take theirs from: nothing else of the machine is touched.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from container_agent import providers
from container_agent.loop import LONGEST_WAIT, Loop
from container_agent.outbox import Outbox
from container_agent.wake import Waker
from host.channels.memory import MemoryChannel
from host.cli.output import moment
from shared_schema.clock import Clock, from_text, to_text
from tests.agent.session import BareSession, agent
from tests.support.chats import agent_pid, answers, is_working_on, session_of
from tests.support.clocks import JumpingClock
from tests.support.daemon import daemon
from tests.support.host import Host, rows, running
from tests.support.runtimes import CountingRuntime
from tests.support.script import script
from tests.support.wait import until, until_sync

_BEGINS_LIKE_A_TIME = re.compile(r"\d{4,}-\d\d?-\d\d?[T ]")
HOUR = 3600.0


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 400 * 24 * HOUR], ids=["an hour on", "an hour back", "a year on"])
async def test_failure_15_a_jump_of_the_clock_kills_no_agent_and_fails_no_message(tmp_path: Path, jump: float) -> None:
    clock, runtime = JumpingClock(), CountingRuntime(tmp_path)
    limits = {"poll_seconds": 0.05, "heartbeat_seconds": 0.1, "silent_seconds": 10, "idle_seconds": 60}
    async with running(tmp_path, runtime=runtime, clock=clock, **limits) as host:
        assert await host.ask("hello") == "scripted: hello"
        working = (await host.say("think 0.5")).accepted[0]
        await is_working_on(await host.session(), working.message_id)
        clock.jump(jump)
        await host.channel.wait_for(2)
        clock.jump(-jump)
        assert await host.ask("again") == "scripted: again"
        await host.settled()
        assert host.texts() == ["scripted: hello", "thought for 0.5 s", "scripted: again"]
        assert len(runtime.started) == 1
        assert await host.central("SELECT DISTINCT status, tries FROM ingest") == [{"status": "completed", "tries": 0}]


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["an hour on", "an hour back"])
async def test_failure_15_a_retry_is_not_shortened_or_stretched_by_a_jump(tmp_path: Path, jump: float) -> None:
    clock = JumpingClock()
    async with running(tmp_path, clock=clock, poll_seconds=0.05) as host:
        crashing = (await host.say("crash-once")).accepted[0]
        await until(lambda: host.central("SELECT 1 FROM ingest WHERE tries = 1"), "the crash was counted")
        clock.jump(jump)
        assert await host.outcome(crashing.message_id) == "completed"
        await host.channel.wait_for(1)
        assert host.texts() == ["did not crash this time"]


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["an hour on", "an hour back"])
async def test_failure_15_sending_again_is_not_shortened_or_stretched_by_a_jump(tmp_path: Path, jump: float) -> None:
    clock, channel = JumpingClock(), MemoryChannel(is_down=True)
    async with running(tmp_path, clock=clock, channel=channel, delivery_hours=1) as host:
        await host.say("one")
        await until(lambda: channel.attempts, "sending was tried")
        clock.jump(jump)
        await host.say("two")
        tried = channel.attempts
        await until(lambda: channel.attempts > tried, "sending is tried again")
        channel.is_down = False
        await answers(host, "one", 2)
        await host.settled()
        assert host.texts() == ["scripted: one", "scripted: two"]


async def test_failure_15_a_conversation_is_shown_in_its_order_when_the_clock_was_set_back(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path, clock=clock) as host:
        for number in range(2):
            await host.ask(f"number {number}")
        clock.jump(-HOUR)
        await host.ask("number 2")
        shown = await host.do("session.transcript", session=await session_of(host, "one"))
        said = [text for number in range(3) for text in (f"number {number}", f"scripted: number {number}")]
        assert [entry["text"] for entry in shown] == said


LATER = """
def answer(message, text):
    word, _, when = text.partition(" ")
    if word == "later":
        return reply(message, text, deliver_after=when)
    if word == "stamped":
        return reply(message, text, timestamp=when)
    reply(message, "ok: " + text)
"""


async def test_failure_15_what_is_to_be_sent_later_is_sent_once_when_the_clock_has_jumped_there(tmp_path: Path) -> None:
    clock = JumpingClock()
    later = f"later {to_text(clock.now() + timedelta(hours=1))}"
    async with running(tmp_path, clock=clock, command=script(tmp_path, LATER)) as host:
        accepted = (await host.say(later)).accepted[0]
        assert await host.outcome(accepted.message_id) == "completed"
        assert await host.ask("hello") == "ok: hello"
        clock.jump(HOUR)
        await host.say("again")
        await answers(host, "one", 3)
        clock.jump(-HOUR)
        assert await host.ask("and back") == "ok: and back"
        await host.settled()
        assert host.texts() == ["ok: hello", later, "ok: again", "ok: and back"]


async def test_a_host_that_stops_does_not_wait_for_what_has_its_time(tmp_path: Path) -> None:
    clock = JumpingClock()
    later = f"later {to_text(clock.now() + timedelta(hours=1))}"
    async with running(tmp_path, clock=clock, command=script(tmp_path, LATER)) as host:
        accepted = (await host.say(later)).accepted[0]
        assert await host.outcome(accepted.message_id) == "completed"
        assert await host.ask("hello") == "ok: hello"
        async with asyncio.timeout(60):
            await host.services.deliverer.close(drain_seconds=3600.0)


async def test_failure_15_what_is_to_be_sent_later_waits_with_a_clock_that_was_set_back_and_holds_up_nothing(
    tmp_path: Path,
) -> None:
    clock = JumpingClock()
    async with running(tmp_path, clock=clock, command=script(tmp_path, LATER)) as host:
        await host.ask("hello")
        later = f"later {to_text(clock.now() + timedelta(seconds=0.6))}"
        accepted = (await host.say(later)).accepted[0]
        assert await host.outcome(accepted.message_id) == "completed"
        clock.jump(-HOUR)
        for number in range(3):
            assert await host.ask(f"number {number}") == f"ok: number {number}"
        clock.jump(HOUR)
        await until(lambda: later in host.texts(), "it is sent when it is due")
        await host.settled()
        assert host.texts() == ["ok: hello", *(f"ok: number {number}" for number in range(3)), later]


@pytest.mark.full
async def test_failure_15_a_jump_makes_due_what_waits_within_half_a_minute(tmp_path: Path) -> None:
    clock = JumpingClock()
    later = f"later {to_text(clock.now() + timedelta(hours=1))}"
    async with running(tmp_path, clock=clock, command=script(tmp_path, LATER)) as host:
        accepted = (await host.say(later)).accepted[0]
        assert await host.outcome(accepted.message_id) == "completed"
        clock.jump(HOUR)
        assert await answers(host, "one", 1, LONGEST_WAIT + 5) == [later]


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["an hour on", "an hour back"])
async def test_failure_15_an_agent_whose_clock_jumps_in_mid_turn_answers_once_and_in_order(
    tmp_path: Path, jump: float
) -> None:
    session, clock = BareSession(tmp_path), JumpingClock()
    session.context(provider="scripted")
    async with agent_on(session, clock):
        session.say_all(["think 0.2", "second"])
        await until(lambda: session.turns() == ["running"], "the turn runs")
        session.say("third", timestamp=to_text(clock.now()))
        clock.jump(jump)
        fourth = session.say("fourth", timestamp=to_text(clock.now()))
        await until(lambda: session.acks().get(fourth) == "completed", "everything is answered")
        assert session.replies() == ["thought for 0.2 s", *(f"scripted: {n}" for n in ("second", "third", "fourth"))]
        assert session.turns() == ["completed", "completed"]


async def test_failure_15_an_agent_takes_what_is_to_be_done_later_once_its_clock_has_jumped_there(
    tmp_path: Path,
) -> None:
    session, clock = BareSession(tmp_path), JumpingClock()
    session.context(provider="scripted")
    async with agent_on(session, clock):
        session.say("later", process_after=to_text(clock.now() + timedelta(hours=1)))
        first = session.say("first")
        await until(lambda: session.acks().get(first) == "completed", "what is due is answered")
        clock.jump(-HOUR)
        second = session.say("second")
        await until(lambda: session.acks().get(second) == "completed", "the clock was set back")
        clock.jump(2 * HOUR)
        third = session.say("third")
        await until(lambda: session.acks().get(third) == "completed", "the clock was set forward")
        replies = ["scripted: first", "scripted: second", "scripted: later", "scripted: third"]
        assert session.replies() == replies


async def test_failure_15_a_row_of_a_leap_second_is_refused_told_and_holds_up_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, command=script(tmp_path, LATER)) as host:
        for word, name in (("stamped", "timestamp"), ("later", "deliver_after")):
            told = await host.ask(f"{word} 2028-12-31T23:59:60.000Z")
            assert told == f"An answer could not be sent: its {name} is not a time"
        assert await host.ask("hello") == "ok: hello"
        await host.settled()
        assert len(host.texts()) == 3


BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"  # POSIX form: needs no zone database
NEW_YORK = "EST5EDT,M3.2.0,M11.1.0"
LORD_HOWE = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"  # half an hour of summer time
KATHMANDU = "<+0545>-5:45"
KIRITIMATI = "<+14>-14"
MOMENTS = [
    pytest.param(BERLIN, "2026-03-29T01:00:00.000Z", 7200, id="summer time begins"),
    pytest.param(BERLIN, "2026-10-25T01:00:00.000Z", 3600, id="summer time ends"),
    pytest.param(KATHMANDU, "2028-02-29T00:00:00.000Z", 20700, id="a leap day begins"),
    pytest.param(KIRITIMATI, "2027-01-01T00:00:00.000Z", 50400, id="a year ends"),
    pytest.param(NEW_YORK, "2026-11-01T06:00:00.000Z", -18000, id="New York", marks=pytest.mark.full),
    pytest.param(LORD_HOWE, "2026-04-04T15:00:00.000Z", 37800, id="Lord Howe, autumn", marks=pytest.mark.full),
    pytest.param(LORD_HOWE, "2026-10-03T15:30:00.000Z", 39600, id="Lord Howe, spring", marks=pytest.mark.full),
    pytest.param(NEW_YORK, "2028-03-01T00:00:00.000Z", -18000, id="a leap day ends", marks=pytest.mark.full),
    pytest.param(BERLIN, "2100-03-01T00:00:00.000Z", 3600, id="no leap day", marks=pytest.mark.full),
    pytest.param(BERLIN, "1970-01-01T00:00:10.000Z", 3600, id="no battery", marks=pytest.mark.full),
    pytest.param(KIRITIMATI, "9999-12-31T23:00:00.000Z", None, id="the last hour", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("zone", "text", "offset"), MOMENTS)
async def test_failure_15_conversations_go_on_over_every_change_of_the_calendar_and_times_stay_utc(
    tmp_path: Path, zone: str, text: str, offset: int | None
) -> None:
    clock, change = JumpingClock(), from_text(text)
    with zone_of_the_host(zone):
        if offset is not None:
            assert time.localtime(change.timestamp()).tm_gmtoff == offset, "the zone is known here"
        clock.jump((change - clock.now()).total_seconds() - 5.0)
        begun = clock.now()
        async with running(tmp_path, clock=clock, poll_seconds=0.05) as host:
            assert await host.ask("number 0") == "scripted: number 0"
            clock.jump((change - clock.now()).total_seconds() - 0.1)
            count = 1
            while clock.now() < change or count < 4:
                assert await host.ask(f"number {count}") == f"scripted: number {count}"
                count += 1
            assert await host.ask("after") == "scripted: after"
            assert await host.do("session.list")
            await host.settled()
            assert host.texts() == [*(f"scripted: number {number}" for number in range(count)), "scripted: after"]
            accepted = [row["t"] for row in await host.central("SELECT accepted_at AS t FROM ingest ORDER BY position")]
            assert accepted == sorted(accepted)
            assert begun <= from_text(accepted[0]) < change <= from_text(accepted[-1]) <= clock.now()
            assert len(await stored_times(host)) > 6 * count


@pytest.fixture(params=["Asia/Tokyo", "America/Los_Angeles"])
def far_from_utc(request: pytest.FixtureRequest) -> Iterator[str]:
    """The host's process in another zone."""
    with zone_of_the_host(request.param):
        yield request.param


async def test_failure_15_times_are_utc_and_agents_live_in_utc_wherever_the_host_is(
    tmp_path: Path, far_from_utc: str
) -> None:
    async with running(tmp_path) as host:
        assert await host.ask("hello") == "scripted: hello"
        await host.settled()
        pid = agent_pid(host, await session_of(host, "one"))
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert b"TZ=UTC" in environment
        assert far_from_utc.encode() not in b"".join(environment)
        stored = await stored_times(host)
        assert len(stored) > 10
        now = datetime.now(UTC)
        assert all(abs((now - from_text(each)).total_seconds()) < 60 for each in stored)


@pytest.mark.parametrize(
    "zone",
    [
        KIRITIMATI,
        pytest.param(LORD_HOWE, marks=pytest.mark.full),
        pytest.param(KATHMANDU, marks=pytest.mark.full),
        pytest.param(NEW_YORK, marks=pytest.mark.full),
    ],
)
def test_failure_15_a_host_process_in_another_zone_says_and_stores_utc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    with daemon(tmp_path / "data") as host:
        assert host.run("chat", "-m", "hello").returncode == 0
        host.settle()
        (session,) = host.json("session", "list")
        said = [session["last_active"], *(json.loads(line)["time"] for line in host.log.read_text().splitlines())]
        said += [row["accepted_at"] for row in host.rows("SELECT accepted_at FROM ingest")]
        now = datetime.now(UTC)
        assert len(said) > 3
        assert all(abs((now - from_text(each)).total_seconds()) < 60 for each in said)


def test_failure_15_an_agent_process_in_another_zone_says_and_stores_utc(tmp_path: Path) -> None:
    session = BareSession(tmp_path)
    with agent(session, TZ=KIRITIMATI):
        message = session.say("hello")
        until_sync(lambda: session.acks().get(message) == "completed", "it is answered")
    (row,) = session.out("SELECT timestamp, started_at, finished_at FROM messages_out JOIN turns ON turns.id = turn_id")
    said = [*row.values(), *(line.split()[0] for line in session.log().splitlines())]
    now = datetime.now(UTC)
    assert len(said) > 3
    assert all(abs((now - from_text(each)).total_seconds()) < 60 for each in said)


def test_a_time_that_the_zone_has_no_words_for_is_shown_as_it_is() -> None:
    last = "9999-12-31T23:59:59.000Z"
    screen, terminal = os.openpty()
    with zone_of_the_host(KIRITIMATI), open(terminal, "w") as output, redirect_stdout(output):
        assert moment("2028-02-28T10:00:00.000Z") == "2028-02-29 00:00:00"
        assert moment(last) == last
    os.close(screen)


async def stored_times(host: Host) -> list[str]:
    """Everything in the files of a host and its one session that begins like a time: and so must be one of ours."""
    layout = await host.session()
    found: list[str] = []
    for path in (host.services.settings.layout.central, layout.inbound, layout.outbound):
        for table in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'"):
            kept = rows(path, f"SELECT * FROM {table['name']}")
            values = [
                value for row in kept for key, value in row.items() if not key.endswith("hour")
            ]  # that is counted in
            found += [value for value in values if isinstance(value, str) and _BEGINS_LIKE_A_TIME.match(value)]
    for each in found:
        assert to_text(from_text(each)) == each
    return found


@contextmanager
def zone_of_the_host(zone: str) -> Iterator[None]:
    """This process in another zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = zone
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


@asynccontextmanager
async def agent_on(session: BareSession, clock: Clock) -> AsyncIterator[None]:
    """An agent in this process, so that its clock can be handed to it."""
    with (
        closing(Outbox(session.layout, clock)) as outbox,
        closing(Waker(session.layout.inbound, poll_seconds=0.05, use_events=True)) as waker,
    ):
        loop = Loop(
            session.layout,
            session.workspace,
            outbox=outbox,
            waker=waker,
            load=providers.load,
            clock=clock,
            stop_seconds=0,
        )
        task = asyncio.create_task(loop.run())
        yield
        loop.stop()
        await task
