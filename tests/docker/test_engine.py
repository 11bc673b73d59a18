"""An engine under a running host that is restarted, away, hanging, or has things done to it by hand.

Every message is answered once or fails visibly, no container is left behind, and the host goes on. All on an engine of
the test's own (see `tests.support.engine`).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from host.runtime.docker import DockerRuntime
from shared_schema.errors import Conflict
from tests.conftest import AgentImage
from tests.support.chats import add_chats, answers, ask_in, folder_of, is_working_on, session_of, texts_to
from tests.support.engine import Engine, private_engine
from tests.support.host import AGENT, Host, running
from tests.support.wait import until

pytestmark = [pytest.mark.docker, pytest.mark.alone]

ENDS: tuple[str, ...] = ()
LIVES_ON = ("--live-restore",)
PROMPT = 30.0  # seconds; what is in the way takes for ever, and an answer a few hundredths


@pytest.fixture(scope="module")
def shared_engine(agent_image: AgentImage) -> Iterator[Engine]:
    with private_engine(agent_image.name) as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """An engine of the test's own that runs, and has no container when the test is over."""
    shared_engine.make_sure()
    yield shared_engine
    assert shared_engine.containers() == []


@asynccontextmanager
async def host_on(engine: Engine, data: Path, image: str, **settings: Any) -> AsyncIterator[Host]:
    """A host whose agents run there."""
    make_runtime = partial(DockerRuntime, engine=engine.url)
    async with running(data, make_runtime=make_runtime, image=image, poll_seconds=0.2, **settings) as host:
        yield host


async def container_of(host: Host, chat: str) -> str:
    """The container of a chat's agent."""
    return host.services.supervisor.agents[await session_of(host, chat)].handle.reference


async def says(host: Host, text: str, chat: str = "one") -> str:
    """Somebody writes, and the agent has taken it into a turn; the message's id."""
    accepted = (await host.say(text, chat=chat)).accepted[0]
    await is_working_on(await folder_of(host, chat), accepted.message_id)
    return accepted.message_id


async def tries(host: Host, message_id: str) -> int:
    (row,) = await host.central("SELECT tries FROM ingest WHERE message_id = ?", message_id)
    return int(row["tries"])


@pytest.mark.parametrize(
    ("number", "options"),
    [
        pytest.param(signal.SIGKILL, ENDS, id="killed, its containers end"),
        pytest.param(signal.SIGTERM, LIVES_ON, id="stopped, its containers live on"),
        pytest.param(signal.SIGTERM, ENDS, id="stopped, its containers end", marks=pytest.mark.full),
        pytest.param(signal.SIGKILL, LIVES_ON, id="killed, its containers live on", marks=pytest.mark.full),
    ],
)
async def test_an_engine_that_is_restarted_in_mid_turn_costs_no_message(
    tmp_path: Path, engine: Engine, agent_image: AgentImage, number: signal.Signals, options: tuple[str, ...]
) -> None:
    await asyncio.to_thread(engine.end, signal.SIGTERM)
    await asyncio.to_thread(engine.start, *options)
    async with host_on(engine, tmp_path, agent_image.name) as host:
        assert await host.ask("before") == "scripted: before"
        working = await says(host, "think 1")
        await asyncio.to_thread(engine.end, number)
        await host.say("meanwhile")
        await asyncio.to_thread(engine.start, *options)
        await answers(host, "one", 3, 60)
        await host.settled()
        assert host.texts() == ["scripted: before", "thought for 1 s", "scripted: meanwhile"]
        assert await tries(host, working) <= (0 if options == LIVES_ON else 1)
        assert len(engine.containers()) == 1


async def test_an_engine_that_is_away_when_a_message_comes_is_waited_for(
    tmp_path: Path, engine: Engine, agent_image: AgentImage, caplog: pytest.LogCaptureFixture
) -> None:
    async with host_on(engine, tmp_path, agent_image.name) as host:
        await asyncio.to_thread(engine.end, signal.SIGKILL)
        await host.say("hello")
        await until(lambda: "the container engine does not respond" in caplog.text, "the engine was missed")
        await asyncio.to_thread(engine.start)
        await answers(host, "one")
        await host.settled()
        assert host.texts() == ["scripted: hello"]


async def test_while_the_engine_hangs_agents_that_run_answer(
    tmp_path: Path, engine: Engine, agent_image: AgentImage
) -> None:
    async with host_on(engine, tmp_path, agent_image.name) as host:
        await host.ask("before")
        with engine.hanging():
            for number in range(5):
                assert await ask_in(host, "one", f"number {number}", PROMPT) == f"scripted: number {number}"
        await host.settled()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("kill",), id="killed"),
        pytest.param(("rm", "--force"), id="removed", marks=pytest.mark.full),
        pytest.param(("stop",), id="stopped", marks=pytest.mark.full),
    ],
)
async def test_a_container_ended_by_hand_in_mid_turn_is_noticed_and_its_message_answered(
    tmp_path: Path, engine: Engine, agent_image: AgentImage, command: tuple[str, ...]
) -> None:
    async with host_on(engine, tmp_path, agent_image.name, stop_seconds=0.1) as host:
        await host.ask("before")
        working = await says(host, "think 0.8")
        await asyncio.to_thread(engine.docker, *command, await container_of(host, "one"))
        await answers(host, "one", 2)
        await host.settled()
        assert host.texts() == ["scripted: before", "thought for 0.8 s"]
        assert await tries(host, working) <= 1


async def test_a_paused_container_is_taken_for_hanging_and_its_message_answered(
    tmp_path: Path, engine: Engine, agent_image: AgentImage, caplog: pytest.LogCaptureFixture
) -> None:
    async with host_on(engine, tmp_path, agent_image.name, silent_seconds=1.0, stop_seconds=0.1) as host:
        await add_chats(host, "two")
        await ask_in(host, "one", "before")
        await says(host, "think 0.5")
        paused = await container_of(host, "one")
        engine.docker("pause", paused)
        assert await ask_in(host, "two", "hello") == "scripted: hello"
        await answers(host, "one", 2)
        await host.settled()
        assert texts_to(host, "one") == ["scripted: before", "thought for 0.5 s"]
        assert "its heartbeat stopped" in {getattr(record, "reason", None) for record in caplog.records}
        assert paused not in engine.containers()


async def test_when_the_image_is_gone_the_person_is_told_and_with_it_back_all_goes_on(
    tmp_path: Path, engine: Engine, agent_image: AgentImage
) -> None:
    tag = "dumbwaiter-agent:for-a-while"
    engine.docker("tag", agent_image.name, tag)
    async with host_on(engine, tmp_path, tag, max_retries=1) as host:
        assert await host.ask("before") == "scripted: before"
        engine.docker("image", "rm", "--force", tag)
        assert await host.ask("with an agent that runs") == "scripted: with an agent that runs"
        await host.do("session.stop", session=await session_of(host, "one"))
        asked = (await host.say("with none")).accepted[0]
        assert await host.outcome(asked.message_id) == "failed"
        told = (await answers(host, "one", 3))[2]
        assert f"the image '{tag}' is missing" in told
        engine.docker("tag", agent_image.name, tag)
        assert await host.ask("after") == "scripted: after"
        await host.settled()
        assert len(host.texts()) == 4
    engine.docker("image", "rm", tag)


async def test_when_the_image_is_gone_the_person_is_told_what_to_do(
    tmp_path: Path, engine: Engine, agent_image: AgentImage
) -> None:
    async with host_on(engine, tmp_path, "dumbwaiter-agent:gone", max_retries=0) as host:
        assert "make image" in await host.ask("hello")


async def test_an_agent_that_runs_out_of_memory_is_named_so_and_holds_up_nobody(
    tmp_path: Path, engine: Engine, agent_image: AgentImage
) -> None:
    async with host_on(engine, tmp_path, agent_image.name, agent_memory_bytes=48 * 1024**2, max_retries=0) as host:
        await add_chats(host, "two")
        await ask_in(host, "two", "before")
        await host.say("attach huge.bin 200000000", chat="one")
        for number in range(5):
            assert await ask_in(host, "two", f"number {number}", PROMPT) == f"scripted: number {number}"
        assert await answers(host, "one") == ["This message could not be answered: the agent died: out of memory"]
        assert await ask_in(host, "one", "after") == "scripted: after"
        await host.settled()
        assert await host.central("SELECT tries FROM ingest WHERE status = 'failed'") == [{"tries": 1}]


async def test_gpus_that_an_engine_does_not_have_are_refused_when_they_are_set(
    tmp_path: Path, engine: Engine, agent_image: AgentImage
) -> None:
    async with host_on(engine, tmp_path, agent_image.name) as host:
        with pytest.raises(Conflict, match=f"has no GPUs to give.*agent-group set {AGENT} --unset gpus"):
            await host.do("agent_group.set", name=AGENT, gpus=1)
        assert (await host.do("agent_group.show", name=AGENT))["gpus"] is None
        await host.services.central.write(lambda tx: tx.execute("UPDATE agent_groups SET gpus = 1"))  # it had them once
        assert "the container engine has no GPUs to give" in await host.ask("hello")
        await host.do("agent_group.set", name=AGENT, unset=["gpus"])
        assert await host.ask("and now?") == "scripted: and now?"


FORK_BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


async def test_a_fork_bomb_meets_its_containers_limit_and_no_other_agent_notices(
    tmp_path: Path, engine: Engine, agent_image: AgentImage
) -> None:
    limits = {"agent_pids": 40, "agent_cpus": 0.5, "stop_seconds": 0.1}
    async with host_on(engine, tmp_path, agent_image.name, **limits) as host:
        await add_chats(host, "two")
        for chat in ("one", "two"):
            await ask_in(host, chat, "before")
        container = await container_of(host, "one")
        engine.docker("exec", "--detach", container, "python3", "-c", FORK_BOMB)
        await until(lambda: processes(engine, container) >= 39, "the limit was met")
        assert max(processes(engine, container) for _ in range(5)) <= 40
        for number in range(5):
            assert await ask_in(host, "two", f"number {number}", PROMPT) == f"scripted: number {number}"
        await host.do("session.stop", session=await session_of(host, "one"))
        assert await ask_in(host, "one", "after") == "scripted: after"
        await host.settled()
        assert container not in engine.containers()


def processes(engine: Engine, container: str) -> int:
    """How many processes a container has."""
    return len(engine.docker("top", container, "-o", "pid").splitlines()) - 1


@pytest.mark.full
async def test_an_engine_that_stays_away_is_given_up_and_the_person_is_told(
    tmp_path: Path, engine: Engine, agent_image: AgentImage
) -> None:
    async with host_on(engine, tmp_path, agent_image.name, engine_seconds=2) as host:
        await asyncio.to_thread(engine.end, signal.SIGKILL)
        asked = (await host.say("hello")).accepted[0]
        assert await host.outcome(asked.message_id) == "failed"
        told = "the agent cannot be started, because the container engine does not respond"
        assert await answers(host, "one") == [f"This message could not be answered: {told}"]
        await asyncio.to_thread(engine.start)
        assert await host.ask("after") == "scripted: after"


@pytest.mark.full
async def test_host_and_engine_restarted_at_the_same_time_answer_everything_once(
    tmp_path: Path, engine: Engine, agent_image: AgentImage
) -> None:
    async with host_on(engine, tmp_path, agent_image.name, stop_agents=False) as host:
        await host.ask("before")
        await says(host, "think 1")
    await asyncio.to_thread(engine.end, signal.SIGKILL)
    await asyncio.to_thread(engine.start)
    async with host_on(engine, tmp_path, agent_image.name) as host:
        await answers(host, "one")
        await host.settled()
        assert host.texts() == ["thought for 1 s"]
