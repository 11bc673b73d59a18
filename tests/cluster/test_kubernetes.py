"""Conversations on a real Kubernetes; a node that is cut off; what the doctor says; and the way out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host.operations.cluster_checks import check_cluster
from host.runtime.kubernetes import KubernetesRuntime
from host.runtime.kubernetes_cluster import cluster_runtime, made_ready, require_closed
from host.runtime.protocol import RuntimeUnavailable
from host.services import cluster_of
from host.settings import Settings
from shared_schema.errors import Conflict
from shared_schema.ids import Prefix, new_id
from tests.cluster.clusters import Cluster
from tests.cluster.machines import Machine
from tests.support.host import running
from tests.support.wait import until

pytestmark = [pytest.mark.full, pytest.mark.docker]

LONG = 240.0
ALIVE = """
import socket
s = socket.socket(socket.AF_UNIX)
s.connect("/way/gateway.sock")
s.sendall(b"GET /dumbwaiter/alive HTTP/1.1\\r\\nHost: gateway\\r\\nConnection: close\\r\\n\\r\\n")
print(s.recv(1000).split(b"\\r\\n")[0].decode())
"""


def settings_of(cluster: Cluster, folder: Path, **more: Any) -> dict[str, Any]:
    """Those of a host whose agents run on the cluster."""
    return {
        "image": cluster.agent_image,
        "shared": True,
        "poll_seconds": 0.5,
        "silent_seconds": 20.0,
        "start_seconds": 120.0,
        "title_seconds": 3600.0,
        "stop_seconds": 2.0,
        "kubernetes": {
            "namespace": cluster.namespace,
            "kubeconfig": str(cluster.kubeconfig),
            "volumes": [{"folder": str(cluster.shared), "host_path": str(cluster.shared)}],
            "open_network": True,
        },
        **more,
    }


def runtime_of(settings: dict[str, Any], data: Path) -> Callable[[str], KubernetesRuntime]:
    plan = cluster_of(Settings(data=data, **settings))
    assert plan is not None
    return lambda install_id: cluster_runtime(install_id, plan)


async def test_a_conversation_on_a_cluster(cluster: Cluster, shared_folder: Path) -> None:
    data = shared_folder / "data"
    settings = settings_of(cluster, shared_folder)
    async with running(data, make_runtime=runtime_of(settings, data), provider="echo", **settings) as host:
        assert (await host.ask("hello")).startswith("hello")
        (agent,) = (await host.do("status"))["agents"]
        assert agent["node"] in cluster.nodes
        assert (await host.central("SELECT node FROM sessions")) == [{"node": agent["node"]}]
        for number in range(5):
            assert (await host.ask(f"message {number}")).startswith(f"message {number}")
        await host.settled()
        listed = {each["name"]: each for each in await host.do("node.list")}
        assert listed[agent["node"]]["state"] == "ready"
        assert listed[agent["node"]]["agents"] == 1
        with pytest.raises(Conflict, match="the cluster decides") as refused:
            await host.do("node.drain", name=agent["node"])
        assert refused.value.hint == f"type `kubectl cordon {agent['node']}`"

    def no_pod_is_left() -> bool:
        return cluster.kubectl("get", "pods", "-l", "dumbwaiter.run", "-o", "name") == ""

    await until(no_pod_is_left, "no object of a pod is left", LONG)


async def test_agents_reach_the_gateway_through_a_relay_with_their_token(cluster: Cluster, shared_folder: Path) -> None:
    own = cluster.own
    if own is None:
        pytest.skip("this machine's address in the cluster is known for a cluster of the tests' own")
    data = shared_folder / "data"
    settings = settings_of(cluster, shared_folder, gateway_address=f"{own.machines.host_address}:0")
    async with running(data, make_runtime=runtime_of(settings, data), provider="echo", **settings) as host:
        assert (await host.ask("hello")).startswith("hello")
        (agent,) = (await host.do("status"))["agents"]
        machine = next(each for each in own.machines.machines if each.name == agent["node"])
        container = container_of(machine, "agent")
        answer = await asyncio.to_thread(machine.docker, "exec", container, "python3", "-c", ALIVE)
        assert answer == "HTTP/1.1 200 OK"
        environment = machine.docker("inspect", "-f", "{{.Config.Env}}", container)
        assert "TOKEN" not in environment


async def test_a_session_waits_for_a_node_that_is_cut_off_and_people_are_told(
    cluster: Cluster, shared_folder: Path
) -> None:
    own = cluster.own
    if own is None:
        pytest.skip("nodes are cut off on a cluster of the tests' own")
    data = shared_folder / "data"
    settings = settings_of(cluster, shared_folder)
    async with running(data, make_runtime=runtime_of(settings, data), provider="echo", **settings) as host:
        # On the last machine: the first one has the API.
        last = own.machines.machines[-1]
        await host.do("agent_group.set", name="assistant", node_labels={"gpu": "yes"})
        assert (await host.ask("hello")).startswith("hello")
        (agent,) = (await host.do("status"))["agents"]
        assert agent["node"] == last.name
        last.cut_off()
        try:
            await until(lambda: last.name not in own.ready(), "the cluster misses its node", LONG)
            last.docker("kill", container_of(last, "agent"))  # nobody hears of that
            count = len(host.channel.sent)
            await host.say("are you there?")
            notice = (await host.channel.wait_for(count + 1, LONG))[count].text
            assert notice.startswith(f"This message waits: the machine {last.name}")
            status = await host.do("status")
            assert [each["node"] for each in status["waits_for_nodes"]] == [last.name]
            assert {each["name"]: each["state"] for each in status["nodes"]}[last.name] == "away"
            assert len(await host.services.runtime.list()) == 1, "a second agent was started"
        finally:
            last.bring_back()
        sent = await host.channel.wait_for(count + 2, LONG)
        assert sent[count + 1].text.startswith("are you there?")
        await host.settled()
        assert (await host.central("SELECT run_number FROM sessions")) == [{"run_number": 2}]


async def test_a_node_that_the_admin_deletes_is_gone_and_its_session_goes_on_elsewhere(
    cluster: Cluster, shared_folder: Path
) -> None:
    own = cluster.own
    if own is None:
        pytest.skip("nodes are deleted on a cluster of the tests' own")
    data = shared_folder / "data"
    settings = settings_of(cluster, shared_folder)
    last = own.machines.machines[-1]
    async with running(data, make_runtime=runtime_of(settings, data), provider="echo", **settings) as host:
        await host.do("agent_group.set", name="assistant", node_labels={"gpu": "yes"})
        assert (await host.ask("hello")).startswith("hello")
        container = container_of(last, "agent")
        last.docker("pause", container)  # it is frozen, and wakes when another one works
        last.cut_off()
        try:
            await until(lambda: last.name not in own.ready(), "the cluster misses its node", LONG)
            await host.say("go on")
            cluster.kubectl("label", "node", own.names[0], "gpu=yes")
            cluster.kubectl("delete", "node", last.name)
            await until(lambda: any(text.startswith("go on") for text in host.texts()), "it goes on", LONG)
            await host.settled()
            layout = await host.session()
            kept = [path.name for path in layout.folder.iterdir() if path.name.startswith(".out-lost-")]
            assert len(kept) == 1
            last.docker("unpause", container)
            answered = [text for text in host.texts() if text.startswith("go on")]
            assert len(answered) == 1
        finally:
            cluster.kubectl("label", "node", own.names[0], "gpu-")
            last.bring_back()
            own.register(last)


async def test_a_cluster_is_judged_by_what_a_pod_finds_and_reaches(cluster: Cluster, shared_folder: Path) -> None:
    data = shared_folder / "data"
    asked = settings_of(cluster, shared_folder)
    asked["kubernetes"] = asked["kubernetes"] | {"open_network": False}
    settings = Settings(data=data, **asked)
    plan = cluster_of(settings)
    assert plan is not None
    checks = {check.name: check for check in await check_cluster(settings)}
    assert checks["cluster"].ok
    assert checks["rights"].ok
    assert checks["volume"].ok
    if cluster.own is None:
        return
    assert checks["network"].ok is False  # this cluster has no plugin that enforces anything
    assert checks["network"].what.startswith("the cluster does not enforce its network policies: a pod reaches")
    with pytest.raises(RuntimeUnavailable, match="does not enforce"):
        await made_ready(new_id(Prefix.INSTALL), plan, cluster.agent_image, settings.layout.run)


async def test_a_network_that_lets_agents_reach_the_gateway_alone_is_found_closed(
    cluster: Cluster, shared_folder: Path
) -> None:
    own = cluster.own
    if own is None:
        pytest.skip("the tests close the network of a cluster of their own")
    data = shared_folder / "data"
    host = own.machines.host_address
    asked = settings_of(cluster, shared_folder, gateway_address=f"{host}:18443")
    asked["kubernetes"] = asked["kubernetes"] | {"open_network": False}
    settings = Settings(data=data, **asked)
    plan = cluster_of(settings)
    assert plan is not None
    with own.machines.closed_but_for(host, 18443):  # what a network plugin makes of the policy
        runtime, stands = await made_ready(new_id(Prefix.INSTALL), plan, cluster.agent_image, settings.layout.run)
        await runtime.close()
        assert "its network is closed to agents" in stands
        from host.runtime.kubernetes_cluster import look_around

        again = cluster_runtime(new_id(Prefix.INSTALL), plan)
        found = await look_around(again, plan, cluster.agent_image, settings.layout.run)
        await again.close()
        require_closed(found)
        assert found.reaches_gateway
        assert found.sees_folder


def container_of(machine: Machine, name: str) -> str:
    """The living container of that name in a pod of an agent."""
    label = f"label=io.kubernetes.container.name={name}"
    return machine.docker("ps", "-q", "--filter", label).split()[0]
