"""A whole host with agents in real containers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from host.runtime.docker import DockerRuntime
from tests.conftest import AgentImage
from tests.support.host import Host, running
from tests.support.wait import until

pytestmark = pytest.mark.docker


async def test_a_message_is_answered_by_an_agent_in_a_container(tmp_path: Path, agent_image: AgentImage) -> None:
    async with running(tmp_path, make_runtime=DockerRuntime, image=agent_image.name) as host:
        assert await host.ask("good morning") == "scripted: good morning"
        await host.settled()
        (session,) = await host.do("session.list")
        assert session["agent"] == "running"
        (handle,) = await host.services.runtime.list()
        assert handle.session_id == session["id"]


async def test_without_notifications_containers_are_reached_by_polling(tmp_path: Path, agent_image: AgentImage) -> None:
    options = {"notify": "off", "poll_seconds": 0.2}
    async with running(tmp_path, make_runtime=DockerRuntime, image=agent_image.name, **options) as host:
        assert await host.ask("one") == "scripted: one"
        assert await host.ask("two") == "scripted: two"


async def test_a_file_that_an_agent_sends_arrives(tmp_path: Path, agent_image: AgentImage) -> None:
    async with running(tmp_path, make_runtime=DockerRuntime, image=agent_image.name) as host:
        await host.ask("attach report.txt 1000")
        (path,) = host.channel.sent[0].files
        assert path.name == "report.txt"
        assert path.stat().st_size == 1000


async def test_a_container_removed_by_hand_is_noticed_and_the_message_answered(
    tmp_path: Path, agent_image: AgentImage
) -> None:
    async with running(tmp_path, make_runtime=DockerRuntime, image=agent_image.name) as host:
        await host.ask("one")
        accepted = (await host.say("think 1")).accepted[0]
        await until(lambda: _is_processing(host), "the turn runs")
        (handle,) = await host.services.runtime.list()
        subprocess.run(["docker", "rm", "-f", handle.reference], check=True, capture_output=True)
        assert await host.outcome(accepted.message_id) == "completed"
        await host.settled()
        assert host.texts() == ["scripted: one", "thought for 1 s"]


async def test_an_agent_without_enough_memory_dies_and_the_person_is_told(
    tmp_path: Path, agent_image: AgentImage
) -> None:
    options = {"max_retries": 0, "agent_memory_bytes": 32 * 1024**2}
    async with running(tmp_path, make_runtime=DockerRuntime, image=agent_image.name, **options) as host:
        said = await host.ask("attach huge.bin 200000000")
        assert "out of memory" in said


def _is_processing(host: Host) -> bool:
    return any(agent.busy_since is not None for agent in host.services.supervisor.agents.values())
