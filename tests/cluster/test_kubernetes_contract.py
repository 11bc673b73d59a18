"""What every runtime does, over a real Kubernetes; and what is Kubernetes' own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from host.runtime.kubernetes import KubernetesRuntime
from host.runtime.kubernetes_client import ClusterAccess, ClusterClient
from host.runtime.kubernetes_pod import PodOptions, SharedVolume, pod_name
from host.runtime.placement import NoRoom
from host.runtime.protocol import ResourceLimits, StartFailed
from tests.cluster.clusters import Cluster
from tests.runtime.agents import DEAF, LIVES, UID, eventually, session_folder, specification
from tests.runtime.test_contract import (
    Bench,
    is_gone,
    test_a_restarted_host_finds_polls_and_stops_what_the_first_one_started,
    test_agents_of_another_install_are_never_seen,
    test_an_agent_that_does_not_exist_any_more_is_no_error_anywhere,
    test_an_agent_that_ends_by_itself_shows_its_exit_code,
    test_listed_are_agents_alive_or_ended_until_they_are_removed,
    test_logs_hold_both_streams_and_outlive_the_agent_until_it_is_removed,
    test_removing_a_living_agent_ends_it,
    test_who_takes_an_answer_of_some_age_hears_of_new_agents_and_how_others_ended,
)

pytestmark = [pytest.mark.full, pytest.mark.docker]

__all__ = [
    "test_a_restarted_host_finds_polls_and_stops_what_the_first_one_started",
    "test_agents_of_another_install_are_never_seen",
    "test_an_agent_that_does_not_exist_any_more_is_no_error_anywhere",
    "test_an_agent_that_ends_by_itself_shows_its_exit_code",
    "test_listed_are_agents_alive_or_ended_until_they_are_removed",
    "test_logs_hold_both_streams_and_outlive_the_agent_until_it_is_removed",
    "test_removing_a_living_agent_ends_it",
    "test_who_takes_an_answer_of_some_age_hears_of_new_agents_and_how_others_ended",
]

HOG = """
    print("ready", flush=True)
    kept = bytearray(1024**3)
    for at in range(0, len(kept), 4096):
        kept[at] = 1
"""


def make(cluster: Cluster, install_id: str, pending_seconds: float = 20.0) -> KubernetesRuntime:
    access = ClusterAccess(cluster.namespace, cluster.kubeconfig)
    options = PodOptions(volumes=[SharedVolume(cluster.shared, host_path=str(cluster.shared))])
    return KubernetesRuntime(install_id, ClusterClient(access), options, pending_seconds=pending_seconds)


@pytest.fixture
async def bench(cluster: Cluster, shared_folder: Path) -> AsyncIterator[Bench]:
    bench = Bench(lambda install, _program: make(cluster, install), cluster.script_image, UID, shared_folder)
    yield bench
    for runtime in bench.made:
        for handle in await runtime.list():
            await runtime.remove(handle)
        await runtime.close()


async def test_an_agent_is_alive_until_it_is_stopped(bench: Bench) -> None:
    runtime = bench.runtime()
    handle = await bench.started(runtime)
    assert (await runtime.poll(handle)).alive
    assert handle.node
    await runtime.stop(handle, grace=10)
    status = await runtime.poll(handle)
    assert not status.alive
    assert status.exit_code in (0, None)  # None: a node of 1.20 loses it with the pod


async def test_an_agent_that_ignores_the_request_is_killed(bench: Bench) -> None:
    runtime = bench.runtime(DEAF)
    handle = await bench.started(runtime, DEAF)
    await runtime.stop(handle, grace=1)
    status = await runtime.poll(handle)
    assert not status.alive
    assert status.exit_code in (137, None)


async def test_an_agent_is_shut_in_as_its_specification_says(bench: Bench) -> None:
    runtime = bench.runtime()
    program = """
        import os, pathlib
        def may(path):
            try:
                pathlib.Path(path).write_text("x")
                return True
            except OSError:
                return False
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        print(os.getuid(), status["CapEff"].strip(), status["NoNewPrivs"].strip(), status["Seccomp"].strip())
        print(*(may(path) for path in ("/session/x", "/session/out/x", "/workspace/x", "/tmp/x", "/x")))
        print(os.environ["GREETING"], "KUBERNETES_SERVICE_PORT" in os.environ)
        print(os.path.exists("/var/run/secrets/kubernetes.io"))
    """
    handle = await runtime.start(bench.specification(program))
    await eventually(lambda: is_gone(runtime, handle))
    said = (await runtime.logs(handle)).decode().splitlines()
    assert said[0] == f"{UID} 0000000000000000 1 2"
    assert said[1] == "False True True True False"
    assert said[2].startswith("hello")
    assert said[3] == "False"


async def test_an_agent_that_takes_too_much_memory_is_said_to_have(bench: Bench) -> None:
    runtime = bench.runtime()
    wanted = replace(bench.specification(HOG), limits=ResourceLimits(memory_bytes=64 * 1024**2))
    handle = await runtime.start(wanted)
    await eventually(lambda: is_gone(runtime, handle))
    assert (await runtime.poll(handle)).reason == "out of memory"


async def test_a_second_start_of_one_run_makes_no_second_agent(bench: Bench) -> None:
    runtime = bench.runtime()
    wanted = bench.specification()
    first = await runtime.start(wanted)
    assert await runtime.start(wanted) == first
    assert await runtime.list() == [first]


async def test_an_image_that_cannot_be_had_ends_the_agent_with_that_sentence(bench: Bench) -> None:
    runtime = bench.runtime()
    handle = await runtime.start(replace(bench.specification(), image="dumbwaiter-test-none:0"))
    await eventually(lambda: is_gone(runtime, handle), 180)  # a node of 1.20 takes a minute to say so
    reason = (await runtime.poll(handle)).reason or ""
    assert reason.startswith("the image dumbwaiter-test-none:0 cannot be had on its node")
    await runtime.remove(handle)
    assert await runtime.list() == []


async def test_what_no_node_has_room_for_waits_and_leaves_nothing(cluster: Cluster, bench: Bench) -> None:
    runtime = make(cluster, bench.install_id, pending_seconds=1.0)
    bench.made.append(runtime)
    template = {"spec": {"containers": [{"name": "agent", "resources": {"requests": {"cpu": "900"}}}]}}
    runtime.options = replace(runtime.options, template=template)
    wanted = replace(bench.specification(), limits=ResourceLimits(cpus=1000.0))
    with pytest.raises(NoRoom, match="Insufficient cpu"):
        await runtime.start(wanted)
    assert await runtime.list() == []


async def test_labels_decide_where_an_agent_runs(cluster: Cluster, bench: Bench) -> None:
    runtime = make(cluster, bench.install_id)
    bench.made.append(runtime)
    labels = {"kubernetes.io/hostname": cluster.nodes[-1]}
    await runtime.place(labels)
    handle = await runtime.start(replace(bench.specification(), labels=labels))
    assert handle.node == cluster.nodes[-1]
    with pytest.raises(StartFailed, match="no node has gpu-kind=none"):
        await runtime.place({"gpu-kind": "none"})


async def test_a_pod_that_is_deleted_by_force_is_no_end_until_its_node_says_so(cluster: Cluster, bench: Bench) -> None:
    runtime = bench.runtime()
    handle = await bench.started(runtime)
    cluster.kubectl("delete", "pod", handle.reference, "--force", "--grace-period=0", "--wait=false")
    assert await runtime.list() == [handle]
    await eventually(lambda: is_gone(runtime, handle))
    await runtime.remove(handle)
    assert await runtime.list() == []


async def test_a_stop_is_seen_by_a_second_host_and_removed_pods_leave_no_object(cluster: Cluster, bench: Bench) -> None:
    runtime = bench.runtime()
    layout = session_folder(bench.folder, LIVES)
    wanted = specification(layout, bench.install_id, image=bench.image, uid=UID)
    handle = await runtime.start(wanted)
    await runtime.stop(handle, grace=1)
    await runtime.remove(handle)

    async def no_object() -> bool:
        names = cluster.kubectl("get", "pods", "-o", "name").split()
        return f"pod/{pod_name(handle.run_id)}" not in names

    await eventually(no_object)
