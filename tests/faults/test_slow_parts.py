"""FAILURES 10, 17, 18: an engine or a platform that hangs, is down, or is not there at all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from host.channels.memory import MemoryChannel
from host.channels.protocol import ChannelUnavailable, Outgoing
from host.runtime.fakes import FakeRuntime, NeverStartsRuntime
from host.runtime.process import ProcessRuntime
from host.runtime.protocol import AgentHandle, AgentSpecification, AgentStatus, RuntimeUnavailable
from tests.support.chats import add_chats, answers, ask_in, session_of, texts_to
from tests.support.clocks import FastClock
from tests.support.host import rows, running
from tests.support.runtimes import SplitRuntime, install_id
from tests.support.script import script
from tests.support.wait import until

PROMPT = 30.0  # seconds; what is in the way takes for ever, and an answer a few hundredths


class HangsOnStart(FakeRuntime):
    """An engine that takes a start and does not answer until it is `released`."""

    def __init__(self, install_id: str) -> None:
        super().__init__(install_id)
        self.asked = self.answered = 0
        self.released = asyncio.Event()

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        self.asked += 1
        await self.released.wait()
        self.answered += 1
        raise RuntimeUnavailable("the engine did not answer in time")


class HangsOnStop(FakeRuntime):
    """The same with a stop."""

    def __init__(self, install_id: str) -> None:
        super().__init__(install_id)
        self.asked = self.answered = 0
        self.released = asyncio.Event()

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        self.asked += 1
        await self.released.wait()
        self.answered += 1
        await super().stop(handle, grace)


class HangsOnPoll(ProcessRuntime):
    """An engine that does not say whether an agent lives until it is `released`."""

    def __init__(self, install_id: str, run: Path, command: list[str]) -> None:
        super().__init__(install_id, run, command=command)
        self.asked = 0
        self.released = asyncio.Event()

    async def poll(self, handle: AgentHandle, max_age: float = 0.0) -> AgentStatus:
        self.asked += 1
        await self.released.wait()
        return await super().poll(handle)


async def test_an_answer_does_not_wait_for_an_engine_that_hangs(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    lines = f"""
    def answer(message, text):
        while not os.path.exists({str(asked)!r}):
            beat()
            time.sleep(0.01)
        reply(message, "ok: " + text)
    """
    runtime = HangsOnPoll(install_id(tmp_path), tmp_path / "run", script(tmp_path, lines))
    async with running(tmp_path, runtime=runtime, poll_seconds=0.1) as host:
        await host.say("hello")
        await until(lambda: runtime.asked, "the engine hangs")
        asked.touch()
        try:
            assert await answers(host, "one") == ["ok: hello"]
            assert runtime.asked == 1
        finally:
            runtime.released.set()


async def test_an_agent_that_was_never_started_has_no_gateway(tmp_path: Path) -> None:
    runtime = NeverStartsRuntime(install_id(tmp_path))
    async with running(tmp_path, runtime=runtime) as host:
        await host.say("hello")
        await until(lambda: runtime.started, "a start was tried")
        gateway = runtime.started[0].folder.gateway
        await until(lambda: not gateway.exists(), "the gateway is closed")


@pytest.mark.parametrize("kind", [HangsOnStart, HangsOnStop])
async def test_failure_10_an_engine_that_hangs_delays_no_other_session(
    tmp_path: Path, kind: type[HangsOnStart] | type[HangsOnStop]
) -> None:
    install = install_id(tmp_path)
    processes, engine = ProcessRuntime(install, tmp_path / "run", command=script(tmp_path)), kind(install)
    runtime = SplitRuntime(processes, engine, lambda specification: specification.workspace.name == "stuck")
    async with running(tmp_path, runtime=runtime, start_seconds=0.5, poll_seconds=0.1) as host:
        await host.do("agent_group.add", name="stuck", provider="echo")
        await add_chats(host, "slow", agent_group="stuck")
        await host.say("hello", chat="slow")
        await until(lambda: engine.asked, "the engine hangs")
        try:
            for number in range(10):
                assert await ask_in(host, "one", f"number {number}", PROMPT) == f"ok: number {number}"
            assert (engine.asked, engine.answered) == (1, 0)
        finally:
            engine.released.set()


async def test_an_engine_that_never_answers_is_given_up_and_the_person_is_told(tmp_path: Path) -> None:
    runtime = NeverStartsRuntime(install_id(tmp_path))
    async with running(tmp_path, runtime=runtime, clock=FastClock(), engine_seconds=5) as host:
        asked = (await host.say("hello")).accepted[0]
        await host.channel.wait_for(1)
        assert await host.outcome(asked.message_id) == "failed"
        assert host.texts() == [
            "This message could not be answered: the agent cannot be started, "
            "because the container engine does not respond"
        ]


@dataclass
class TroubledChannel(MemoryChannel):
    """A platform on which single chats have trouble: down for that many attempts, or never answering."""

    down_for: dict[str, int] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    never: ClassVar[float] = 3600.0

    async def deliver(self, message: Outgoing) -> str | None:
        chat = message.address.platform_id
        if chat in self.silent:
            await asyncio.sleep(self.never)
        if self.down_for.get(chat, 0) > 0:
            self.down_for[chat] -= 1
            raise ChannelUnavailable("the platform is down")
        return await super().deliver(message)


async def test_failure_10_a_platform_that_never_answers_for_one_chat_delays_no_other(tmp_path: Path) -> None:
    channel = TroubledChannel(silent={"two"})
    async with running(tmp_path, channel=channel, command=script(tmp_path)) as host:
        await add_chats(host, "two")
        silent = (await host.say("hello", chat="two")).accepted[0]
        assert await host.outcome(silent.message_id) == "completed"
        for number in range(10):
            assert await ask_in(host, "one", f"number {number}", PROMPT) == f"ok: number {number}"
        assert texts_to(host, "two") == []


async def test_an_attempt_that_takes_too_long_is_made_again(tmp_path: Path) -> None:
    channel = TroubledChannel(silent={"one"})
    async with running(tmp_path, channel=channel, command=script(tmp_path), delivery_seconds=0.2) as host:
        await host.say("hello")
        query = "SELECT 1 FROM deliveries WHERE error = 'the platform did not answer in time'"
        await until(lambda: host.central(query), "an attempt was given up")
        channel.silent.clear()
        assert await answers(host, "one") == ["ok: hello"]


async def test_failure_17_a_platform_that_was_down_gets_every_message_once_and_in_order(tmp_path: Path) -> None:
    channel = TroubledChannel(down_for={"one": 5})
    async with running(tmp_path, channel=channel, command=script(tmp_path), delivery_retry_seconds=0.02) as host:
        await add_chats(host, "two")
        for number in range(3):
            await host.say(f"number {number}", chat="one")
        assert await ask_in(host, "two", "hello", PROMPT) == "ok: hello"
        await answers(host, "one", 3)
        await host.settled()
        assert texts_to(host, "one") == [f"ok: number {number}" for number in range(3)]
        assert texts_to(host, "two") == ["ok: hello"]
        layout = await host.session(await session_of(host, "one"))
        told = rows(layout.inbound, "SELECT status, attempts FROM delivered")
        # What gets through in the other chat may bring one attempt forward, which counts for nothing when it fails.
        assert sorted(row["attempts"] for row in told) in ([1, 1, 5], [1, 1, 6])
        assert {row["status"] for row in told} == {"delivered"}


@dataclass
class HangsUp(MemoryChannel):
    """A platform that is down for some attempts, and then takes each message and hangs up so many times."""

    down_for: int = 0
    hang_ups: int = 0

    async def deliver(self, message: Outgoing) -> str | None:
        if message.from_host:
            return await super().deliver(message)
        if self.down_for > 0:
            self.down_for -= 1
            raise ChannelUnavailable("the platform is down")
        taken = await super().deliver(message)
        if self.hang_ups > 0:
            self.hang_ups -= 1
            raise EOFError("it hung up")
        return taken


async def test_what_is_given_up_without_an_answer_is_uncertain_and_not_failed(tmp_path: Path) -> None:
    channel = HangsUp(hang_ups=1_000)
    async with running(tmp_path, channel=channel, delivery_retry_seconds=0.001) as host:
        await host.say("hello")
        await host.channel.wait_for(2)
        await host.settled()
        notice = "A reply may not have been delivered here: the channel failed: EOFError"
        assert host.texts() == ["scripted: hello", notice]
        assert rows((await host.session()).inbound, "SELECT status FROM delivered") == [{"status": "uncertain"}]


async def test_a_platform_that_hangs_up_once_after_an_outage_is_asked_again(tmp_path: Path) -> None:
    channel = HangsUp(down_for=6, hang_ups=1)
    async with running(tmp_path, channel=channel, delivery_retry_seconds=0.001) as host:
        assert await host.ask("hello") == "scripted: hello"
        await host.settled()
        told = rows((await host.session()).inbound, "SELECT status, attempts FROM delivered")
        assert told == [{"status": "delivered", "attempts": 8}]


async def test_failure_17_the_wait_for_a_platform_survives_a_restart_of_the_host(tmp_path: Path) -> None:
    channel = MemoryChannel(is_down=True)
    async with running(tmp_path, channel=channel) as host:
        await host.say("hello")
        await until(lambda: channel.attempts, "sending was tried")
        (layout,) = (tmp_path / "sessions").glob("*/*")
        assert rows(layout / "inbound.db", "SELECT * FROM delivered") == []
    async with running(tmp_path) as host:
        await host.channel.wait_for(1)
        await host.settled()
        assert host.texts() == ["scripted: hello"]


async def test_failure_18_without_its_channel_a_message_waits_and_is_sent_when_the_channel_is_back(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, channel=MemoryChannel(is_down=True)) as host:
        await host.say("one")
        await host.say("two")
        await until(lambda: host.channel.attempts, "sending was tried")
    async with running(tmp_path, channel=MemoryChannel(name="another")) as host:
        query = "SELECT 1 FROM deliveries WHERE status = 'pending' AND error = 'the channel memory is not set up'"
        await until(lambda: host.central(query), "sending was tried without the channel")
        layout = await host.session()
        assert rows(layout.inbound, "SELECT * FROM delivered") == []
        assert host.channel.sent == []
    async with running(tmp_path) as host:
        await answers(host, "one", 2)
        await host.settled()
        assert host.texts() == ["scripted: one", "scripted: two"]
        layout = await host.session()
        assert [row["status"] for row in rows(layout.inbound, "SELECT status FROM delivered")] == ["delivered"] * 2


async def test_a_message_that_the_platform_refuses_is_told_to_the_person_and_holds_up_nothing(tmp_path: Path) -> None:
    def refuses(message: Outgoing) -> str | None:
        return "it is too rude" if "rude" in message.text and not message.from_host else None

    async with running(tmp_path, channel=MemoryChannel(refuses=refuses), command=script(tmp_path)) as host:
        await host.say("something rude")
        await host.say("hello")
        await host.channel.wait_for(2)
        await host.settled()
        assert sorted(host.texts()) == ["A reply could not be delivered here: it is too rude", "ok: hello"]
        layout = await host.session()
        told = rows(layout.inbound, "SELECT status, error FROM delivered ORDER BY delivered_at")
        assert {"status": "failed", "error": "it is too rude"} in told
