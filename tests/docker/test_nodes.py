"""Agents on nodes that are real engines (one, by two addresses): a conversation, the relay, and what is left behind."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from host.runtime.engine_address import DEFAULT_URL, EngineAddress
from host.runtime.nodes import Node, NodesRuntime
from tests.conftest import AgentImage, docker_url
from tests.support.host import running
from tests.support.wait import until

pytestmark = pytest.mark.docker

ALIVE = """
import socket
s = socket.socket(socket.AF_UNIX)
s.connect("/way/gateway.sock")
s.sendall(b"GET /dumbwaiter/alive HTTP/1.1\\r\\nHost: gateway\\r\\nConnection: close\\r\\n\\r\\n")
print(s.recv(1000).split(b"\\r\\n")[0].decode())
"""


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


async def test_a_conversation_on_a_node_and_its_way_out(tmp_path: Path, agent_image: AgentImage) -> None:
    url = docker_url() or DEFAULT_URL
    made: list[NodesRuntime] = []

    def make(install_id: str) -> NodesRuntime:
        nodes = [Node("one", EngineAddress(url)), Node("two", EngineAddress(url), {"gpu": "yes"})]
        made.append(NodesRuntime(install_id, nodes, run_folder=tmp_path / "data" / "run"))
        return made[-1]

    settings = {
        "image": agent_image.name,
        "shared": True,
        "poll_seconds": 0.2,
        "gateway_address": "127.0.0.1:0",
        "silent_seconds": 60.0,
    }
    async with running(tmp_path / "data", make_runtime=make, provider="echo", **settings) as host:
        await host.do("agent_group.set", name="assistant", node_labels={"gpu": "yes"})
        assert (await host.ask("hello")).startswith("hello")
        (agent,) = (await host.do("status"))["agents"]
        assert agent["node"] == "two"
        (handle,) = await made[0].list()
        assert handle.node == "two"
        networks = "{{.HostConfig.NetworkMode}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}"
        assert docker("inspect", "-f", networks, handle.reference) == "none true [ALL]"
        relay = f"dumbwaiter-way-{handle.run_id.rpartition('_')[2]}"
        assert docker("inspect", "-f", networks, relay) == "host true [ALL]"
        answer = await asyncio.to_thread(docker, "exec", handle.reference, "python3", "-c", ALIVE)
        assert answer == "HTTP/1.1 200 OK"
        assert host.services.gateway.front is not None
        token = host.services.gateway.front.way_out(handle.run_id).token
        assert token not in docker("inspect", handle.reference)

    async def nothing_is_left() -> bool:
        labels = [f"label=dumbwaiter.relay={made[0].install_id}", f"label=dumbwaiter.install={made[0].install_id}"]
        left = [docker("ps", "-aq", "--filter", label) for label in labels]
        return left == ["", ""] and not docker("volume", "ls", "-q", "--filter", labels[0])

    await until(nothing_is_left, "agent, relay and their folder are gone")
