"""Conversations whose agents run on a Swarm, over a mount as between machines; a machine is cut off, and comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from host.runtime.swarm import SwarmRuntime
from tests.cluster.swarm import HOST, Machine, Swarm, run
from tests.conftest import AgentImage
from tests.support.daemon import Daemon
from tests.support.host import Host, running
from tests.support.wait import until

pytestmark = [pytest.mark.full, pytest.mark.docker]

SETTINGS = {
    "shared": True,
    "poll_seconds": 0.5,
    "heartbeat_seconds": 1.0,
    "silent_seconds": 15.0,
    "gateway_address": f"{HOST}:0",
}
ALIVE = """
import socket
s = socket.socket(socket.AF_UNIX)
s.connect("/way/gateway.sock")
s.sendall(b"GET /dumbwaiter/alive HTTP/1.1\\r\\nHost: gateway\\r\\nConnection: close\\r\\n\\r\\n")
print(s.recv(1000).split(b"\\r\\n")[0].decode())
"""
CACHES = "attr_timeout=3,entry_timeout=3,negative_timeout=3"


@pytest.fixture
def data(swarm: Swarm, tmp_path: Path) -> Iterator[Path]:
    """A data folder that each machine sees at the same path, through caches of its own and without locks."""
    folder = tmp_path / "data"
    folder.mkdir()
    tmp_path.chmod(0o755)
    for machine in swarm.machines:
        run(*inside(machine), "bindfs", "-o", f"{CACHES},fsname=data", str(folder), str(folder))
    yield folder
    swarm.until_ready()
    for machine in swarm.machines:
        run(*inside(machine), "umount", "-l", str(folder))


def inside(machine: Machine) -> list[str]:
    assert machine.engine is not None
    return ["nsenter", f"--mount=/proc/{machine.engine.pid}/ns/mnt"]


@asynccontextmanager
async def conversing(data: Path, swarm: Swarm, image: AgentImage) -> AsyncIterator[Host]:
    def make(install_id: str) -> SwarmRuntime:
        return SwarmRuntime(install_id, swarm.manager, image=image.name, probed_folder=data / "run")

    settings = SETTINGS | {"image": image.name}
    async with running(data, make_runtime=make, provider="echo", **settings) as host:
        yield host


async def node_of_agent(host: Host) -> str:
    (agent,) = (await host.do("status"))["agents"]
    return str(agent["node"])


async def test_a_conversation_and_its_way_out(data: Path, swarm: Swarm, agent_image: AgentImage) -> None:
    async with conversing(data, swarm, agent_image) as host:
        assert (await host.ask("hello")).startswith("hello")
        for number in range(5):
            assert (await host.ask(f"message {number}")).startswith(f"message {number}")
        node = await node_of_agent(host)
        machine = swarm.machine(node)
        listed = {each["name"]: (each["state"], each["agents"]) for each in await host.do("node.list")}
        assert listed[node] == ("ready", 1)
        assert all(each["is_good"] for each in await host.do("node.check"))
        (agent,) = machine.docker("ps", "-q", "--filter", "label=dumbwaiter.run").split()
        answer = await asyncio.to_thread(machine.docker, "exec", agent, "python3", "-c", ALIVE)
        assert answer == "HTTP/1.1 200 OK"
        assert machine.docker("exec", agent, "ls", "/sys/class/net") == "lo"

    async def nothing_is_left() -> bool:
        return swarm.machines[0].docker("service", "ls", "-q") == ""

    await until(nothing_is_left, "agent and relay are gone")


async def test_a_machine_that_is_cut_off_is_waited_for_and_people_are_told(
    data: Path, swarm: Swarm, agent_image: AgentImage
) -> None:
    async with conversing(data, swarm, agent_image) as host:
        await host.do("node.drain", name=swarm.machines[0].name)  # the manager is not cut off here
        assert (await host.ask("hello")).startswith("hello")
        node = await node_of_agent(host)
        machine = swarm.machine(node)
        (agent,) = machine.docker("ps", "-q", "--filter", "label=dumbwaiter.run").split()
        machine.cut_off()
        machine.docker("pause", agent)  # the mount of this test is not cut off with it
        try:
            await host.say("are you there?")
            await until(lambda: len(host.texts()) > 1, "people are told", 180)
            assert host.texts()[1].startswith(f"This message waits: the machine {node}")
            status = await host.do("status")
            assert [each["node"] for each in status["waits_for_nodes"]] == [node]
            assert {each["name"]: each["state"] for each in status["nodes"]}[node] == "away"
            others = [each for each in swarm.machines if each is not machine]
            label = "label=dumbwaiter.run"
            assert [each.docker("ps", "-q", "--filter", label) for each in others] == ["", ""]  # no second agent
            assert machine.docker("ps", "-q", "--filter", label) == agent
        finally:
            machine.docker("unpause", agent)
            machine.bring_back()
        await until(lambda: len(host.texts()) > 2, "the conversation goes on", 180)
        await host.settled()
        assert (await host.ask("after it")).startswith("after it")
        answers = [text for text in host.texts() if text.startswith("are you there?")]
        assert len(answers) == 1
        await host.do("node.add", name=swarm.machines[0].name)


def test_the_way_of_the_documents(data: Path, swarm: Swarm, agent_image: AgentImage) -> None:
    """What docs/cluster.md tells an admin to type, with the real command."""
    first, second, third = swarm.machines
    host = Daemon(
        data,
        RUNTIME="swarm",
        SHARED="true",
        GATEWAY_ADDRESS=f"{HOST}:8443",
        DOCKER_HOST=f"unix://{first.socket}",
        IMAGE=agent_image.name,
    )
    host.start()
    try:
        listed = json.loads(host.run("node", "list", "--json").stdout)
        assert [(each["name"], each["state"]) for each in listed] == [(each.name, "ready") for each in swarm.machines]
        checked = json.loads(host.run("node", "check", "--json").stdout)
        assert [each["problem"] for each in checked] == [None, None, None]
        first.docker("node", "update", "--label-add", "gpu=yes", third.name)
        first.docker("node", "update", "--label-add", "dumbwaiter.max_agents=20", third.name)
        assert host.run("agent-group", "set", "assistant", "--node-label", "gpu=yes").returncode == 0
        assert host.run("chat", "-m", "hello").stdout.startswith("hello")
        status = json.loads(host.run("status", "--json").stdout)
        assert [agent["node"] for agent in status["agents"]] == [third.name]
        (node,) = [each for each in status["nodes"] if each["name"] == third.name]
        assert (node["agents"], node["max_agents"]) == (1, 20)
        doctor = host.run("doctor").stdout
        assert f"{second.name}: docker " in doctor
        assert f"1 on {third.name}" in doctor
        assert "Swarm does not tell out of memory from a kill" in doctor
        refused = host.run("node", "lost", third.name, "--yes")
        assert "answers, so it is not lost" in refused.stderr
        assert host.run("node", "drain", third.name).returncode == 0
        assert host.run("node", "add", third.name).returncode == 0
        refused = host.run("node", "add", "four", "ssh://four")
        assert "joins and gets labels by docker's own commands" in refused.stderr
    finally:
        assert host.stop() == 0
    assert third.docker("ps", "-q", "--filter", "label=dumbwaiter.run") == ""
