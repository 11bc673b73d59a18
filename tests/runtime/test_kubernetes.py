"""What the runtime makes of the answers of an API, over real HTTP: of a server that keeps pods."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from host.runtime.kubernetes import KubernetesRuntime
from host.runtime.kubernetes_client import ClusterAccess, ClusterClient
from host.runtime.kubernetes_pod import FINALIZER, PodOptions, SharedVolume, pod_name
from host.runtime.kubernetes_probe import probe
from host.runtime.placement import NoRoom
from host.runtime.protocol import AgentHandle, AgentSpecification, RuntimeUnavailable, StartFailed
from tests.runtime.agents import UID, session_folder, specification

READY = {"metadata": {"name": "one"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
AWAY = {"metadata": {"name": "one"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
RUNNING = {"phase": "Running", "containerStatuses": [{"name": "agent", "state": {"running": {}}}]}


class Api:
    """An API server with one node. What is created is placed there at once, unless `unplaced` says why not."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.node: dict[str, Any] | None = READY
        self.unplaced: str | None = None
        self.refuses: tuple[int, str] | None = None
        self.kubelet_answers = True
        self.kubelet_is_silent = False
        self.answers_creations = True
        self.closing = asyncio.Event()
        self.deleted: list[tuple[str, int]] = []
        self.asked: list[str] = []
        self.app = web.Application()
        self.app.router.add_route("*", "/{path:.*}", self.answer)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        parts = request.path.strip("/").split("/")
        if parts[:3] == ["api", "v1", "nodes"]:
            return web.json_response(self.node) if self.node else self.error(404, "no such node")
        name = parts[5] if len(parts) > 5 else ""
        if request.method == "POST":
            created = self.create(await request.json())
            if not self.answers_creations and request.transport is not None:
                request.transport.close()
            return created
        if not name:
            return web.json_response({"items": list(self.pods.values())})
        pod = self.pods.get(name)
        if pod is None:
            return self.error(404, f"pods {name} not found")
        if parts[-1] == "log" and self.kubelet_is_silent:
            await self.closing.wait()
        if parts[-1] == "log":
            return (
                web.Response(text="ready\n") if self.kubelet_answers else self.error(500, "dial tcp: no route to host")
            )
        if request.method == "DELETE":
            self.delete(pod, (await request.json())["gracePeriodSeconds"])
        if request.method == "PATCH":
            self.patch(name, pod, json.loads(await request.text()))
        return web.json_response(pod)

    def create(self, manifest: dict[str, Any]) -> web.Response:
        if self.refuses is not None:
            return self.error(*self.refuses)
        name = manifest["metadata"]["name"]
        if name in self.pods:
            return self.error(409, f'pods "{name}" already exists')
        if self.unplaced is None:
            manifest["spec"]["nodeName"] = "one"
            manifest["status"] = dict(RUNNING)
        else:
            condition = {"type": "PodScheduled", "status": "False", "message": self.unplaced}
            manifest["status"] = {"phase": "Pending", "conditions": [condition]}
        self.pods[name] = manifest
        return web.json_response(manifest, status=201)

    def delete(self, pod: dict[str, Any], grace: int) -> None:
        self.deleted.append((pod["metadata"]["name"], grace))
        pod["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
        if "nodeName" in pod["spec"] and self.node == READY:
            terminated = {"exitCode": 0, "reason": "Completed", "finishedAt": "2026-01-01T00:00:00Z"}
            pod["status"] = {
                "phase": "Succeeded",
                "containerStatuses": [{"name": "agent", "state": {"terminated": terminated}}],
            }

    def patch(self, name: str, pod: dict[str, Any], change: dict[str, Any]) -> None:
        pod["metadata"] |= change["metadata"]
        if not pod["metadata"]["finalizers"] and "deletionTimestamp" in pod["metadata"]:
            del self.pods[name]

    @staticmethod
    def error(status: int, message: str) -> web.Response:
        return web.json_response({"kind": "Status", "message": message}, status=status)


@pytest.fixture
async def api() -> Api:
    return Api()


@pytest.fixture
async def runtime(api: Api, tmp_path: Path) -> AsyncIterator[KubernetesRuntime]:
    runner = web.AppRunner(api.app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    made = KubernetesRuntime(
        "ins_1",
        ClusterClient(ClusterAccess("agents", kubeconfig(tmp_path, port))),
        PodOptions(volumes=[SharedVolume(tmp_path, claim="agents")]),
        pending_seconds=0.3,
        node_seconds=0.0,
        log_seconds=2.0,
    )
    yield made
    api.closing.set()
    await made.close()
    await runner.cleanup()


def kubeconfig(folder: Path, port: int) -> Path:
    path = folder / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    users = [{"name": "u", "user": {"token": "t"}}]
    document = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context], "users": users}
    path.write_text(json.dumps(document | {"current-context": "c"}))
    return path


def wanted(folder: Path) -> AgentSpecification:
    return specification(session_folder(folder, ""), "ins_1", image="agent:1", uid=UID)


async def started(runtime: KubernetesRuntime, folder: Path) -> AgentHandle:
    return await runtime.start(wanted(folder))


async def test_an_agent_is_started_stopped_and_forgotten(api: Api, runtime: KubernetesRuntime, tmp_path: Path) -> None:
    handle = await started(runtime, tmp_path)
    assert handle.node == "one"
    assert handle.reference == pod_name(handle.run_id)
    assert (await runtime.poll(handle)).alive
    await runtime.stop(handle, 3.2)
    assert api.deleted == [(handle.reference, 4)]
    status = await runtime.poll(handle)
    assert (status.alive, status.exit_code) == (False, 0)
    assert await runtime.logs(handle) == b"ready\n"
    assert await runtime.list() == [handle]
    await runtime.remove(handle)
    assert await runtime.list() == []
    assert api.pods == {}


async def test_a_node_that_is_away_leaves_its_agents_unknown_and_none_is_deleted(
    api: Api, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    handle = await started(runtime, tmp_path)
    api.node = AWAY
    with pytest.raises(RuntimeUnavailable, match="the node one does not answer the cluster"):
        await runtime.poll(handle)
    with pytest.raises(RuntimeUnavailable, match="does not answer"):
        await runtime.stop(handle, 1)
    assert api.deleted == []
    api.node = None  # the admin has deleted it
    status = await runtime.poll(handle)
    assert status.reason == "its node one was taken from the cluster"
    assert runtime.is_lost("one")
    await runtime.remove(handle)
    assert api.pods == {}


async def test_a_node_that_the_cluster_has_not_missed_yet_is_asked_before_a_pod_is_deleted(
    api: Api, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    handle = await started(runtime, tmp_path)
    api.kubelet_answers = False
    with pytest.raises(RuntimeUnavailable, match="the node one does not answer the cluster"):
        await runtime.stop(handle, 1)
    assert api.deleted == []


async def test_a_node_that_is_silent_when_it_is_asked_for_a_log_holds_up_no_stop_for_ever(
    api: Api, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    handle = await started(runtime, tmp_path)
    api.kubelet_is_silent = True
    with pytest.raises(RuntimeUnavailable, match="the node one does not answer"):
        await asyncio.wait_for(runtime.stop(handle, 1.0), 30)
    assert api.deleted == []


async def test_a_probe_whose_creation_was_not_answered_leaves_no_pod(
    api: Api, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    api.answers_creations = False
    with pytest.raises(RuntimeUnavailable, match="does not answer"):
        await probe(runtime.client, runtime.options, image="agent:1", uid=UID, gid=UID, folder=tmp_path)
    assert [name for name, _ in api.deleted] == list(api.pods) != []


async def test_one_question_is_enough_for_all_pods_and_says_of_none_that_it_ended(
    api: Api, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    handles = [await started(runtime, tmp_path) for _ in range(5)]
    api.asked.clear()
    for handle in handles:
        assert (await runtime.poll(handle, max_age=60)).alive
    assert [path for path in api.asked if "/pods" in path] == ["/api/v1/namespaces/agents/pods"]
    api.pods[handles[0].reference]["status"] = {
        "phase": "Failed",
        "containerStatuses": [{"name": "agent", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}],
    }
    await asyncio.sleep(0.02)
    status = await runtime.poll(handles[0], max_age=0.01)
    assert (status.alive, status.exit_code, status.reason) == (False, 137, "out of memory")
    assert (await runtime.poll(handles[1], max_age=0.01)).alive
    api.node = AWAY
    await asyncio.sleep(0.02)
    with pytest.raises(RuntimeUnavailable, match="the node one does not answer the cluster"):
        await runtime.poll(handles[1], max_age=0.01)


async def test_the_word_that_a_node_is_lost_ends_its_agents(
    api: Api, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    handle = await started(runtime, tmp_path)
    api.node = AWAY
    runtime.close_nodes(drained=frozenset(), lost=frozenset({"one"}))
    assert (await runtime.poll(handle)).reason == "its node one was given up for lost"
    await runtime.remove(handle)
    assert api.deleted[-1] == (handle.reference, 0)
    assert api.pods == {}


async def test_what_no_node_takes_is_taken_back(api: Api, runtime: KubernetesRuntime, tmp_path: Path) -> None:
    api.unplaced = "0/1 nodes are available: 1 Insufficient memory."
    with pytest.raises(NoRoom, match="Insufficient memory"):
        await started(runtime, tmp_path)
    assert api.pods == {}


async def test_a_second_create_of_one_run_finds_the_first(api: Api, runtime: KubernetesRuntime, tmp_path: Path) -> None:
    asked = wanted(tmp_path)
    first = await runtime.start(asked)
    assert await runtime.start(asked) == first
    assert [FINALIZER in each["metadata"]["finalizers"] for each in api.pods.values()] == [True]


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (403, 'pods is forbidden: User "x" cannot create resource "pods"', StartFailed),
        (422, "Pod is invalid: spec.containers[0].image: Required value", StartFailed),
        (403, "exceeded quota: compute", NoRoom),
        (500, "etcdserver: request timed out", RuntimeUnavailable),
    ],
)
async def test_a_refusal_is_told_as_what_it_is(
    api: Api, runtime: KubernetesRuntime, tmp_path: Path, status: int, said: str, expected: type[Exception]
) -> None:
    api.refuses = (status, said)
    with pytest.raises(expected) as raised:
        await started(runtime, tmp_path)
    assert type(raised.value) is expected or expected is RuntimeUnavailable
    assert said in str(raised.value)


async def test_an_api_that_does_not_answer_is_away(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    client = ClusterClient(ClusterAccess("agents", kubeconfig(tmp_path, port)))
    with pytest.raises(RuntimeUnavailable, match="the Kubernetes API does not answer"):
        await client.version()
    await client.close()


async def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    for text in ("", "{", "clusters: 7", "current-context: none\nclusters: []\ncontexts: []\nusers: []\n"):
        path = tmp_path / "kubeconfig"
        path.write_text(text)
        client = ClusterClient(ClusterAccess("agents", path))
        with pytest.raises(RuntimeUnavailable, match="what says how the cluster is reached cannot be used"):
            await client.version()
        await client.close()
