"""The limit of running agents, and agents that have nothing to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.chats import add_chats, agent_pid, ask_in, is_working_on, session_of
from tests.support.host import running
from tests.support.runtimes import CountingRuntime
from tests.support.script import script
from tests.support.wait import until

CHATS = ("two", "three", "four")


async def test_with_one_place_all_sessions_are_served_and_the_longest_waiting_first(tmp_path: Path) -> None:
    runtime = CountingRuntime(tmp_path)
    async with running(tmp_path, runtime=runtime, max_agents=1, poll_seconds=0.1) as host:
        await add_chats(host, *CHATS)
        first = (await host.say("think 0.5", chat="one")).accepted[0]
        await is_working_on(await host.session(), first.message_id)
        places = host.services.supervisor.slots
        for waiting, chat in enumerate(CHATS):
            session_id = (await host.say("hello", chat=chat)).accepted[0].session_id
            await until(lambda last=session_id: last in places.waiting, f"{chat} waits for a place")
            assert places.waiting.index(session_id) == waiting
        await host.channel.wait_for(4)
        assert [message.address.platform_id for message in host.channel.sent] == ["one", *CHATS]
        assert runtime.most_at_once == 1
        assert await host.central("SELECT DISTINCT status, tries FROM ingest") == [{"status": "completed", "tries": 0}]


async def test_a_session_that_waits_gets_the_place_of_the_agent_that_was_idle_longest(tmp_path: Path) -> None:
    runtime = CountingRuntime(tmp_path, command=script(tmp_path))
    async with running(tmp_path, runtime=runtime, max_agents=2, poll_seconds=0.1) as host:
        await add_chats(host, "two", "three")
        for chat in ("one", "two", "one"):
            await ask_in(host, chat, "hello")
        one, two = await session_of(host, "one"), await session_of(host, "two")
        stays = agent_pid(host, one)
        assert await ask_in(host, "three", "hello") == "ok: hello"
        agents = host.services.supervisor.agents
        assert set(agents) == {one, await session_of(host, "three")}
        assert two not in agents
        assert agent_pid(host, one) == stays
        assert runtime.most_at_once == 2


async def test_with_one_place_many_sessions_at_once_are_all_served(tmp_path: Path) -> None:
    runtime = CountingRuntime(tmp_path, command=script(tmp_path))
    async with running(tmp_path, runtime=runtime, max_agents=1, poll_seconds=0.05) as host:
        await add_chats(host, *CHATS)
        chats = ("one", *CHATS)
        await asyncio.gather(*(host.say(f"number {number}", chat=chat) for number in range(3) for chat in chats))
        await host.channel.wait_for(12)
        await host.settled()
        assert runtime.most_at_once == 1
        for chat in chats:
            texts = [message.text for message in host.channel.sent if message.address.platform_id == chat]
            assert texts == [f"ok: number {number}" for number in range(3)]


async def test_an_agent_that_works_longer_than_agents_may_be_idle_is_not_stopped(tmp_path: Path) -> None:
    runtime = CountingRuntime(tmp_path)
    async with running(tmp_path, runtime=runtime, idle_seconds=0.1, poll_seconds=0.05) as host:
        assert await host.ask("think 0.5") == "thought for 0.5 s"
        await until(lambda: not host.services.supervisor.agents, "the idle agent was stopped")
        assert len(runtime.started) == 1

        async def is_forgotten() -> bool:
            return await runtime.list() == []

        await until(is_forgotten, "nothing of it is left")


async def test_agents_that_leave_at_once_leave_no_message_behind(tmp_path: Path) -> None:
    runtime = CountingRuntime(tmp_path, command=script(tmp_path))
    async with running(tmp_path, runtime=runtime, idle_seconds=0, poll_seconds=0.05) as host:
        for number in range(15):
            assert await host.ask(f"number {number}") == f"ok: number {number}"
        await host.settled()
        assert len(host.channel.sent) == 15
        assert runtime.most_of_one_session == 1
        assert await host.central("SELECT DISTINCT tries FROM ingest") == [{"tries": 0}]
