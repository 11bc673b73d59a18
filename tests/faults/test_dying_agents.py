"""FAILURES 6, 7, 9 and their kin: agents that die, hang, lie about living, or will not go."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from host.runtime.protocol import AgentHandle, AgentSpecification, RuntimeUnavailable
from shared_schema.layout import DataLayout
from tests.support.chats import add_chats, agent_pid, ask_in, folder_of, hears, session_of
from tests.support.clocks import FastClock
from tests.support.host import running
from tests.support.runtimes import CountingRuntime
from tests.support.script import script
from tests.support.wait import until

SORRY = "This message could not be answered: "
FAST = {"poll_seconds": 0.05}
WEEK = 7 * 24 * 3600


async def test_failure_6_a_message_that_crashes_the_agent_fails_once_after_its_retries(tmp_path: Path) -> None:
    runtime = CountingRuntime(tmp_path)
    async with running(tmp_path, runtime=runtime, clock=FastClock(), max_retries=2, **FAST) as host:
        fatal = (await host.say("crash")).accepted[0]
        assert await host.outcome(fatal.message_id) == "failed"
        assert len(runtime.started) == 3
        await host.channel.wait_for(1)
        assert await host.ask("hello") == "scripted: hello"
        await host.settled()
        assert host.texts() == [f"{SORRY}the agent died with exit status 70", "scripted: hello"]
        assert len(runtime.started) == 4
        assert await host.central("SELECT tries FROM ingest WHERE status = 'failed'") == [{"tries": 3}]


async def test_failure_6_what_was_said_around_a_fatal_message_is_answered_once(tmp_path: Path) -> None:
    async with running(tmp_path, clock=FastClock(), max_retries=1, **FAST) as host:
        for text in ("before", "crash", "after"):
            await host.say(text)
        await host.channel.wait_for(3)
        await host.settled()
        assert sorted(host.texts()) == sorted(
            ["scripted: before", "scripted: after", f"{SORRY}the agent died with exit status 70"]
        )


async def test_an_agent_that_dies_at_every_start_fails_what_waits_visibly_and_once(tmp_path: Path) -> None:
    command = script(tmp_path, "import sys; sys.exit(3)", bare=True)
    runtime = CountingRuntime(tmp_path, command=command)
    async with running(tmp_path, runtime=runtime, clock=FastClock(), max_retries=2, **FAST) as host:
        first, second = [(await host.say(text)).accepted[0] for text in ("one", "two")]
        assert await host.outcome(first.message_id) == "failed"
        assert await host.outcome(second.message_id) == "failed"
        await host.settled()
        assert host.texts() == [f"{SORRY}the agent died with exit status 3"] * 2
        assert [message.in_reply_to for message in host.channel.sent] == [first.message_id, second.message_id]
        assert len(runtime.started) == 3


class UncertainRuntime(CountingRuntime):
    """An engine that starts the first agent, and whose answer to that gets lost."""

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        handle = await super().start(specification)
        if len(self.started) == 1:
            raise RuntimeUnavailable("the engine did not answer in time")
        return handle


class DyingRuntime(CountingRuntime):
    """The agents that a host finds at its start are dead a moment later, and their folders go on changing."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._sessions = DataLayout(data).sessions
        self.stirring: asyncio.Task[None] | None = None

    async def list(self) -> list[AgentHandle]:
        handles = await super().list()
        if self.stirring is None:
            for handle in handles:
                await self.stop(handle, 0)
            self.stirring = asyncio.create_task(self._stir())
        return handles

    async def _stir(self) -> None:
        while True:
            for out in self._sessions.glob("*/*/out"):
                out.joinpath("note").touch()
            await asyncio.sleep(0)


@pytest.mark.full
async def test_agents_that_die_while_a_host_takes_them_over_do_not_keep_it_from_starting(tmp_path: Path) -> None:
    chats = [f"chat-{number}" for number in range(10)]
    async with running(tmp_path, stop_agents=False, **FAST) as host:
        await add_chats(host, *chats)
        for chat in chats:
            await ask_in(host, chat, "hello")
    runtime = DyingRuntime(tmp_path)
    async with running(tmp_path, runtime=runtime, **FAST) as host:
        assert runtime.stirring is not None
        runtime.stirring.cancel()
        assert host.services.adopted == len(chats)
        for chat in chats:
            assert await ask_in(host, chat, "again") == "scripted: again"


async def test_failure_7_after_an_uncertain_start_there_is_never_a_second_agent(tmp_path: Path) -> None:
    runtime = UncertainRuntime(tmp_path)
    async with running(tmp_path, runtime=runtime, clock=FastClock(), **FAST) as host:
        assert await host.ask("hello") == "scripted: hello"
        assert await host.ask("again") == "scripted: again"
        await host.settled()
        assert host.texts() == ["scripted: hello", "scripted: again"]
        assert len(runtime.started) == 2
        assert runtime.most_of_one_session == 1
        assert [handle.run_id for handle in await runtime.living()] == [runtime.started[1].run_id]


async def test_failure_7_after_an_uncertain_start_that_was_given_up_there_is_never_a_second_agent(
    tmp_path: Path,
) -> None:
    lines = """
def answer(message, text):
    if text != "silence":
        reply(message, "ok: " + text)
"""
    runtime = UncertainRuntime(tmp_path, command=script(tmp_path, lines))
    async with running(tmp_path, runtime=runtime, engine_seconds=0.05) as host:
        first = (await host.say("silence")).accepted[0]
        assert await host.outcome(first.message_id) == "failed"
        await host.say("hello")
        await until(lambda: len(runtime.started) == 2, "an agent was started again")
        await until(lambda: "ok: hello" in host.texts(), "it answers")
        try:
            assert runtime.most_of_one_session == 1
        finally:
            for handle in await runtime.living():
                await runtime.stop(handle, 0)


@pytest.mark.parametrize("operation", ["delete", "new", "stop"])
async def test_failure_34_an_agent_of_an_uncertain_start_does_not_outlive_its_session(
    tmp_path: Path, operation: str
) -> None:
    runtime = UncertainRuntime(tmp_path, command=script(tmp_path, "beat(); time.sleep(3600)"))
    async with running(tmp_path, runtime=runtime) as host:
        await host.say("hello")
        await until(lambda: runtime.started, "the agent was started, and nobody was told")
        layout = await host.session()
        await until(layout.heartbeat.exists, "it lives")
        await host.do(f"session.{operation}", session=await session_of(host, "one"))
        try:
            assert await runtime.living() == []
        finally:
            for handle in await runtime.living():
                await runtime.stop(handle, 0)


async def test_failure_9_a_fresh_agent_is_not_judged_by_last_weeks_heartbeat(tmp_path: Path) -> None:
    command = script(tmp_path, "time.sleep(2.5)  # before the first heartbeat")
    runtime = CountingRuntime(tmp_path, command=command)
    async with running(tmp_path, runtime=runtime, start_seconds=60, silent_seconds=2, **FAST) as host:
        assert await host.ask("one") == "ok: one"
        await host.do("session.stop", session=await session_of(host, "one"))
        old = time.time() - WEEK
        os.utime((await host.session()).heartbeat, (old, old))
        assert await host.ask("two") == "ok: two"
        assert len(runtime.started) == 2
        assert await host.central("SELECT DISTINCT tries FROM ingest") == [{"tries": 0}]


@pytest.mark.parametrize("age", [0, WEEK, -WEEK], ids=["fresh", "old", "of next week"])
async def test_failure_9_an_agent_without_a_sign_of_life_is_stopped_whatever_an_old_heartbeat_says(
    tmp_path: Path, age: int
) -> None:
    lines = f"""
if not os.path.exists(OUT + "/.heartbeat"):
    open(OUT + "/.heartbeat", "w").close()
    os.utime(OUT + "/.heartbeat", (time.time() - {age}, time.time() - {age}))
    sys.exit(0)
time.sleep(3600)
"""
    command = script(tmp_path, lines)
    async with running(tmp_path, command=command, clock=FastClock(), max_retries=1, start_seconds=10, **FAST) as host:
        await host.say("hello")
        await host.channel.wait_for(1)
        assert host.texts() == [f"{SORRY}the agent was stopped because it showed no sign of life after its start"]


@pytest.mark.parametrize("stamp", ["2**33", "0", "time.time() + 3600"], ids=["far future", "1970", "in an hour"])
async def test_a_heartbeat_with_a_false_time_does_not_keep_a_hanging_agent_alive(tmp_path: Path, stamp: str) -> None:
    lines = f"""
def answer(message, text):
    os.utime(OUT + "/.heartbeat", ({stamp}, {stamp}))
    time.sleep(3600)
"""
    command = script(tmp_path, lines)
    async with running(tmp_path, command=command, clock=FastClock(), max_retries=0, silent_seconds=10, **FAST) as host:
        await host.say("hello")
        await host.channel.wait_for(1)
        assert host.texts() == [f"{SORRY}the agent was stopped because its heartbeat stopped"]


async def test_a_real_agent_that_hangs_is_stopped_and_its_message_fails_visibly(tmp_path: Path) -> None:
    async with running(
        tmp_path, max_retries=0, silent_seconds=2, heartbeat_seconds=0.05, stop_seconds=0.1, **FAST
    ) as host:
        assert await host.ask("hello") == "scripted: hello"
        assert await host.ask("hang") == f"{SORRY}the agent was stopped because its heartbeat stopped"
        assert await host.ask("hello") == "scripted: hello"


async def test_with_no_time_to_stop_agents_still_start(tmp_path: Path) -> None:
    async with running(tmp_path, clock=FastClock(), max_retries=0, stop_seconds=0, **FAST) as host:
        assert await host.ask("hello") == "scripted: hello"


async def test_an_agent_that_never_answers_is_stopped_at_the_limit_and_the_person_is_told(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    if text == "nothing":
        hold()
    reply(message, "ok: " + text)
"""
    command = script(tmp_path, lines)
    async with running(tmp_path, command=command, clock=FastClock(), max_retries=0, turn_seconds=5, **FAST) as host:
        assert await host.ask("nothing") == f"{SORRY}the agent was stopped because it did not answer in time"
        assert await host.ask("hello") == "ok: hello"


async def test_a_turn_that_stalls_is_failed_by_the_agent_itself_which_lives_on(tmp_path: Path) -> None:
    async with running(tmp_path, turn_seconds=2) as host:
        assert await host.ask("stall") == f"{SORRY}the turn took longer than 2 seconds"
        pid = agent_pid(host, await session_of(host, "one"))
        assert await host.ask("hello") == "scripted: hello"
        assert agent_pid(host, await session_of(host, "one")) == pid


async def test_an_agent_that_ignores_sigterm_is_killed_and_the_next_message_is_answered(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    reply(message, "ok: " + text)
    if text == "be deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""
    async with running(tmp_path, command=script(tmp_path, lines), stop_seconds=0.1) as host:
        assert await host.ask("be deaf") == "ok: be deaf"
        session_id = await session_of(host, "one")
        pid = agent_pid(host, session_id)
        await until(lambda: _ignores_sigterm(pid), "the agent is deaf")
        assert (await host.do("session.stop", session=session_id))["stopped"]
        assert not Path(f"/proc/{pid}").exists()
        assert await host.ask("two") == "ok: two"


async def test_an_agent_that_fills_its_folder_is_stopped_and_the_person_is_told(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    if text == "fill":
        with open(OUT + "/rubbish", "wb") as file:
            file.write(bytes(3_000_000))
        hold()
    reply(message, "ok: " + text)
"""
    command = script(tmp_path, lines)
    async with running(tmp_path, command=command, clock=FastClock(), max_retries=0, out_bytes=1024**2, **FAST) as host:
        assert await host.ask("before") == "ok: before"
        assert await host.ask("fill") == f"{SORRY}the agent was stopped because it wrote more than its folder may hold"
        assert ((await folder_of(host, "one")).out / "rubbish").exists()
        assert await host.ask("after") == "ok: after"


async def test_an_agent_that_makes_files_without_end_is_stopped(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    os.mkdir(OUT + "/many")
    for number in range(20_001):
        os.mknod(f"{OUT}/many/{number}")
    hold()
"""
    command = script(tmp_path, lines)
    clock = FastClock()
    async with running(tmp_path, command=command, clock=clock, max_retries=0, silent_seconds=3600, **FAST) as host:
        assert await host.ask("fill") == f"{SORRY}the agent was stopped because it wrote more than its folder may hold"


def _ignores_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (ignored,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
    return bool(int(ignored, 16) >> (signal.SIGTERM - 1) & 1)


async def test_an_agent_that_keeps_the_hosts_file_locked_is_stopped_and_the_person_is_told(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    reply(message, "ok: " + text)
    if text == "lock":
        held = sqlite3.connect("file:" + SESSION + "/inbound.db?mode=ro", uri=True, isolation_level=None)
        held.execute("BEGIN")
        held.execute("SELECT count(*) FROM messages_in").fetchone()
        hold()
"""
    limits = {"silent_seconds": 1.5, "poll_seconds": 0.1, "max_retries": 0, "stop_seconds": 0.1}
    async with running(tmp_path, command=script(tmp_path, lines), **limits) as host:
        await add_chats(host, "two")
        await host.say("lock")
        await hears(host, "ok: lock")
        asked = (await host.say("are you there")).accepted[0]
        assert await ask_in(host, "two", "hello") == "ok: hello"
        assert await host.outcome(asked.message_id) == "completed"
        await hears(host, "ok: are you there")
