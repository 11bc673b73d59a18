"""Background processes in a real host: they hold their agent, their end wakes it, and it is told when they are gone."""

from __future__ import annotations

import json
from pathlib import Path

from host.central import rate_limits
from host.central.database import Transaction
from host.central.rate_limits import Act
from tests.support.host import AGENT, Host, rows, running
from tests.support.wait import until

AGENTS = "SELECT run_id, run_settled FROM sessions"


def start(command: str, **options: object) -> str:
    return f"call start_process {json.dumps({'command': command, **options})}"


async def said(host: Host, beginning: str) -> str:
    texts = await until(lambda: [text for text in host.texts() if text.startswith(beginning)], f"'{beginning}' is said")
    return texts[0]


async def is_stopped(host: Host) -> bool:
    return all(row["run_settled"] for row in await host.central(AGENTS))


async def heard(host: Host) -> list[dict[str, object]]:
    """What the host has told the agent."""
    found = await host.central("SELECT trigger, content FROM ingest WHERE sender_name = 'Dumbwaiter' ORDER BY rowid")
    return [{"wakes": bool(row["trigger"]), "text": json.loads(row["content"])["text"]} for row in found]


async def test_an_end_wakes_the_agent_with_how_and_the_last_words(tmp_path: Path) -> None:
    async with running(tmp_path, poll_seconds=0.1) as host:
        workspace = Path((await host.do("agent_group.show", name=AGENT))["workspace"])
        await host.say(start("while [ ! -e go ]; do sleep 0.05; done; echo all built; exit 3", name="build"))
        await said(host, "build: has run for")
        (workspace / "go").touch()
        text = await said(host, "scripted: The background process 'build' has ended with exit status 3")
        assert "while [ ! -e go ]" in text
        await said(host, "scripted: all built")
        await host.settled()
        assert [each["wakes"] for each in await heard(host)] == [True]


async def test_one_that_is_stopped_or_not_to_wake_says_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, poll_seconds=0.1) as host:
        await host.say(f"{start('exit 1', wake=False)}\n{start('sleep 600', name='long')}")
        await said(host, "long: has run for")
        await host.say('call stop_process {"name": "long"}')
        await said(host, "long: stopped")
        await host.say("call list_processes")
        listed = await said(host, "long: stopped (0 bytes of output): sleep 600\n")
        assert "p1: ended with exit status 1" in listed
        await host.settled()
        assert await heard(host) == []


async def test_an_agent_with_a_process_is_not_stopped_as_idle_and_then_it_is_and_hears_of_it(tmp_path: Path) -> None:
    async with running(tmp_path, idle_seconds=0.2, background_seconds=86_400, poll_seconds=0.05) as host:
        await host.ask(start("sleep 600", name="server"))
        first = await host.central(AGENTS)
        for _ in range(3):  # reads of the file that would stop an agent with nothing behind it
            await host.ask("hello")
        assert await host.central(AGENTS) == first
        (session,) = await host.do("session.list")
        assert host.services.supervisor.is_working(session["id"])  # so no reset comes in between
    async with running(tmp_path, idle_seconds=0.2, background_seconds=0.2, poll_seconds=0.05) as host:
        await said(
            host, "scripted: Your background process is gone, because the agent was stopped because the host stops"
        )
        await host.ask(start("sleep 600", name="again"))
        await until(lambda: is_stopped(host), "the agent is stopped")
        last = (await heard(host))[-1]
        assert last["wakes"] is False  # it was to be stopped: it is told with the next message
        assert "the agent was stopped because it had nothing to do: 'again' (`sleep 600`)" in str(last["text"])


async def test_an_agent_that_dies_is_started_again_and_told_what_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path, poll_seconds=0.1) as host:
        await host.ask(f"{start('sleep 600', name='one')}\n{start('sleep 600', name='two')}")
        await host.say("crash-once")
        text = await said(
            host, "scripted: Your background processes are gone, because the agent died with exit status 70"
        )
        assert "'one' (`sleep 600`), 'two' (`sleep 600`)" in text
        await host.settled()
        assert len(await heard(host)) == 1


async def test_ends_that_wake_are_bounded_and_the_rest_waits_for_the_next_message(tmp_path: Path) -> None:
    async with running(tmp_path, poll_seconds=0.1) as host:

        def use_up(tx: Transaction) -> None:
            for _ in range(rate_limits.PER_HOUR[Act.PROCESSES]):
                rate_limits.take(tx, Act.PROCESSES, AGENT)

        await host.services.central.write(use_up)
        await host.ask(start("exit 1"))
        found = await until(lambda: heard(host), "it is told")
        assert [each["wakes"] for each in found] == [False]
        await host.ask("hello")
        layout = await host.session()
        told = "SELECT status FROM messages_in WHERE kind = 'agent'"
        await until(
            lambda: rows(layout.inbound, told) == [{"status": "completed"}], "it was read with the next message"
        )


async def test_a_host_that_comes_back_to_a_living_agent_hears_of_an_end_once(tmp_path: Path) -> None:
    async with running(tmp_path, poll_seconds=0.1, stop_agents=False) as host:
        workspace = Path((await host.do("agent_group.show", name=AGENT))["workspace"])
        await host.ask(start("while [ ! -e go ]; do sleep 0.05; done", name="build"))
        await host.settled()
    (workspace / "go").touch()
    async with running(tmp_path, poll_seconds=0.1) as host:
        await said(host, "scripted: The background process 'build' has ended with exit status 0")
        await host.settled()
    async with running(tmp_path, poll_seconds=0.1) as host:
        await host.settled()
        assert len(await heard(host)) == 1
