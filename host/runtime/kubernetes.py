"""Agents on a Kubernetes cluster: a pod for each run, behind the one `Runtime`.

The cluster decides on which node a pod runs. The end of a pod is believed when its node has said it
(`kubernetes_state.py`); a node that is away leaves its agents unknown, and their sessions wait. A finalizer keeps the
object of a pod until its end was seen here, also when it is deleted by force: so no end is missed, and no name is used
twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import math
import socket
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from host.runtime.kubernetes_client import (
    BAD_REQUEST,
    CONFLICT,
    FORBIDDEN,
    UNPROCESSABLE,
    ClusterClient,
    ClusterRefusal,
)
from host.runtime.kubernetes_pod import AGENT, FINALIZER, PodOptions, pod_manifest, pod_name
from host.runtime.kubernetes_state import (
    REASON,
    NodeStanding,
    PodStanding,
    last_events,
    node_of,
    node_standing,
    standing,
)
from host.runtime.living import LivingAgents
from host.runtime.placement import NoRoom
from host.runtime.protocol import (
    AgentHandle,
    AgentSpecification,
    AgentStatus,
    RelayTarget,
    RuntimeUnavailable,
    StartFailed,
)
from host.runtime.specification import INSTALL_LABEL, RUN_LABEL, SESSION_LABEL
from shared_schema.dataclass import dataclass
from shared_schema.system_errors import words_of

log = logging.getLogger(__name__)

UNPLACED = "kubernetes"
"""The node of a run in the ledger until the cluster has decided: the cluster as a whole."""
_HOPELESS_SECONDS = 10.0
_KILL_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_LAST_LOG_SECONDS = 5.0
_MOST_LOG = 10 * 1024**2
_MOST_KEPT_LOGS = 200


@dataclass(slots=True)
class _Capture:
    """What a pod prints that is being ended: afterwards its node keeps nothing of it."""

    task: asyncio.Task[None]
    printed: bytearray


class KubernetesRuntime:
    """Runs each agent in a pod. Nothing is connected before the first call.

    `pending_seconds` is how long a pod may wait for a node, before it is taken back and its session waits; what was
    heard of a node holds for `node_seconds`. A node that does not begin with a log within `log_seconds` is away.
    """

    name = "kubernetes"

    def __init__(
        self,
        install_id: str,
        client: ClusterClient,
        options: PodOptions,
        *,
        pending_seconds: float = 20.0,
        node_seconds: float = 2.0,
        log_seconds: float = 15.0,
    ) -> None:
        self.install_id = install_id
        self.client = client
        self.options = options
        self._pending_seconds = pending_seconds
        self._node_seconds = node_seconds
        self._log_seconds = log_seconds
        self._living_agents = LivingAgents(self._running)
        self._nodes: dict[str, tuple[float, NodeStanding]] = {}
        self._first_seen: dict[str, float] = {}  # of trouble that may pass, by the pod's name
        self._captures: dict[str, _Capture] = {}
        self._lost: frozenset[str] = frozenset()
        self._gone: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # The seam

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        if specification.way is not None:
            specification = replace(specification, way=await _resolved(specification.way))
        manifest = pod_manifest(specification, self.options)
        name = pod_name(specification.run_id)
        try:
            await self._create(manifest, specification)
            node = await self._placed(name)
        except (RuntimeUnavailable, asyncio.CancelledError):
            self._soon(self._discard(name))
            raise
        return AgentHandle(specification.run_id, specification.session_id, name, node)

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        name = handle.reference
        pod, state = await self._look(name)
        if pod is None or state.ended is not None:
            return
        await self._require_node(state)
        await self._capture(name, state.node)
        await self.client.delete_pod(name, max(1, math.ceil(grace)))
        await self._until_ended(name, grace + _KILL_SECONDS)
        if (capture := self._captures.get(name)) is not None:
            await asyncio.wait([capture.task], timeout=_LAST_LOG_SECONDS)
            capture.task.cancel()

    async def poll(self, handle: AgentHandle, max_age: float = 0.0) -> AgentStatus:
        if not self.is_lost(handle.node) and await self._living_agents.have(handle.reference, max_age):
            return AgentStatus(alive=True)
        pod, state = await self._look(handle.reference)
        if pod is None:
            return AgentStatus(alive=False)
        if state.ended is not None:
            return state.ended
        await self._require_node(state)
        if state.hopeless is not None and self._lasts(handle.reference, _HOPELESS_SECONDS):
            await self._give_up(handle.reference, await self._why(handle.reference, state.hopeless))
        return AgentStatus(alive=True)

    async def list(self) -> list[AgentHandle]:
        found = []
        for pod in await self._pods():
            labels = pod["metadata"].get("labels") or {}
            if labels.keys() >= {RUN_LABEL, SESSION_LABEL} and FINALIZER in _finalizers(pod):
                name = str(pod["metadata"]["name"])
                found.append(AgentHandle(labels[RUN_LABEL], labels[SESSION_LABEL], name, node_of(pod) or UNPLACED))
        return found

    async def logs(self, handle: AgentHandle, max_bytes: int = 1_000_000) -> bytes:
        if (capture := self._captures.get(handle.reference)) is not None:
            return bytes(capture.printed[-max_bytes:])
        if self.is_lost(handle.node):
            return b""
        return (await self.client.log(handle.reference, AGENT))[-max_bytes:]

    async def remove(self, handle: AgentHandle) -> None:
        name = handle.reference
        pod, state = await self._look(name)
        if pod is not None:
            if state.ended is None:
                await self.stop(handle, 1.0)
            is_lost = self.is_lost(state.node)
            await self.client.delete_pod(name, 0 if is_lost else 1)  # its node, should it come back, ends what it finds
            await self._let_go(name)
        self._first_seen.pop(name, None)
        if (capture := self._captures.pop(name, None)) is not None:
            capture.task.cancel()

    async def close(self) -> None:
        self._living_agents.close()
        running = [*self._tasks, *(each.task for each in self._captures.values())]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self.client.close()

    # What runs on several machines

    async def place(self, labels: Mapping[str, str]) -> str:
        """The cluster places the pod; here it is seen whether a node has the labels at all. Raises `StartFailed`."""
        if labels and not any(_has(node, labels) for node in await self.client.nodes()):
            wanted = " and ".join(f"{name}={value}" for name, value in sorted(labels.items()))
            raise StartFailed(f"no node has {wanted}", hint="`kubectl get nodes --show-labels` shows what each has")
        return UNPLACED

    def start_ended(self, node: str) -> None:
        """Nothing was taken."""

    async def list_on(self, node: str) -> Sequence[AgentHandle]:
        """The agents of a node. The API knows them, whether the node answers or not: `poll` tells."""
        if self.is_lost(node):
            return []
        return [handle for handle in await self.list() if node in (handle.node, UNPLACED)]

    def is_lost(self, node: str) -> bool:
        return node in self._lost or node in self._gone

    def close_nodes(self, *, drained: frozenset[str], lost: frozenset[str]) -> None:
        """Which nodes the admin has given up for lost. Drained ones are the cluster's business (`kubectl cordon`)."""
        self._lost = lost

    # Inside

    async def _create(self, manifest: dict[str, Any], specification: AgentSpecification) -> None:
        try:
            await self.client.create_pod(manifest)
        except ClusterRefusal as refusal:
            if refusal.status == CONFLICT:  # this very run was created before, and its answer was lost
                pod = await self.client.pod(pod_name(specification.run_id))
                if pod is not None and _is_of(pod, specification):
                    return
            if refusal.status == FORBIDDEN and "exceeded quota" in refusal.reason:
                raise NoRoom(f"the quota of the namespace is used up: {refusal.reason}") from refusal
            if refusal.status in (BAD_REQUEST, FORBIDDEN, CONFLICT, UNPROCESSABLE):
                raise StartFailed(
                    f"the cluster refuses the agent: {refusal.reason}",
                    hint=refusal.hint or "`dumbwaiter doctor` checks the cluster and the template",
                ) from refusal
            raise

    async def _placed(self, name: str) -> str:
        """The node of a new pod. Raises `NoRoom` when none takes it in time; then it is gone again."""
        deadline = _now() + self._pending_seconds
        async for _ in _pauses():
            pod, state = await self._look(name)
            if pod is None:
                raise RuntimeUnavailable("the pod of an agent was removed before it was started", where=name)
            if state.node or state.ended is not None:
                return state.node or UNPLACED
            if _now() >= deadline:
                break
        why = state.unplaced or "no node takes it"
        await self.client.delete_pod(name, 1)
        pod, state = await self._look(name)
        if pod is not None and state.ended is None:  # at the last moment a node was found
            return state.node
        await self._let_go(name)
        raise NoRoom(f"the cluster has no room for an agent: {why}")

    async def _look(self, name: str) -> tuple[dict[str, Any] | None, PodStanding]:
        pod = await self.client.pod(name)
        if pod is None:
            return None, PodStanding(AgentStatus(alive=False), "", is_deleted=True)
        return pod, await self._standing(name, pod)

    async def _standing(self, name: str, pod: Mapping[str, Any]) -> PodStanding:
        state = standing(pod, await self._node(node_of(pod)))
        if state.node in self._lost and state.ended is None:
            given_up = AgentStatus(alive=False, reason=f"its node {state.node} was given up for lost")
            state = replace(state, ended=given_up)
        if state.hopeless is None and state.is_over is None:
            self._first_seen.pop(name, None)
        # A node may say that a pod is over just before it ends the containers (evictions, before Kubernetes 1.22).
        if state.is_over is not None and self._lasts(name, self.options.grace_seconds + 5.0):
            state = replace(state, ended=state.is_over)
        return state

    async def _pods(self) -> Sequence[dict[str, Any]]:
        return await self.client.pods(f"{INSTALL_LABEL}={self.install_id}")

    async def _running(self) -> Set[str]:
        """The names of pods that run, on nodes that are ready. Others are asked about alone: each has its story."""
        found = set()
        for pod in await self._pods():
            name = str(pod["metadata"]["name"])
            state = await self._standing(name, pod)
            is_settled = state.ended is None and state.hopeless is None and state.is_over is None
            if is_settled and await self._node(state.node) is NodeStanding.READY:
                found.add(name)
        return found

    async def _node(self, name: str) -> NodeStanding | None:
        if not name:
            return None
        at, found = self._nodes.get(name, (-math.inf, NodeStanding.AWAY))
        if _now() - at >= self._node_seconds:
            found = node_standing(await self.client.node(name))
            self._nodes[name] = (_now(), found)
            (self._gone.add if found is NodeStanding.GONE else self._gone.discard)(name)
        return found

    async def _require_node(self, state: PodStanding) -> None:
        """Raises `RuntimeUnavailable` where a pod's node is away: then nothing is known of the pod."""
        if await self._node(state.node) is NodeStanding.AWAY:
            raise _away(state.node)

    async def _until_ended(self, name: str, seconds: float) -> None:
        deadline = _now() + seconds
        async for _ in _pauses():
            pod, state = await self._look(name)
            if pod is None or state.ended is not None:
                return
            if _now() >= deadline:
                break
        await self._require_node(state)
        raise RuntimeUnavailable(
            "the cluster does not end a pod",
            where=f"{name} on {state.node or 'no node'}",
            hint=f"`kubectl -n {self.client.access.namespace} describe pod {name}` says what holds it up",
        )

    async def _give_up(self, name: str, reason: str) -> None:
        """End a pod that cannot start. Its reason is kept with it, for a host that is restarted meanwhile."""
        log.warning("giving up a pod that cannot start", extra={"pod": name, "reason": reason})
        await self.client.change_metadata(name, {"annotations": {REASON: reason}})
        await self.client.delete_pod(name, 1)

    async def _let_go(self, name: str) -> None:
        """Take the finalizer off: the object goes as soon as its node has said that all of it is ended."""
        pod = await self.client.pod(name)
        if pod is not None and FINALIZER in _finalizers(pod):
            left = [each for each in _finalizers(pod) if each != FINALIZER]
            await self.client.change_metadata(name, {"finalizers": left or None})

    async def _discard(self, name: str) -> None:
        """End a pod whose start was given up. What cannot be reached now is found by `list`."""
        with contextlib.suppress(RuntimeUnavailable):
            pod, state = await self._look(name)
            if pod is not None and not state.is_deleted:
                await self.client.delete_pod(name, 1)
                if not state.node:
                    await self._let_go(name)

    async def _capture(self, name: str, node: str) -> None:
        """Begin to keep what a pod prints. That asks its node: one that does not answer gets no pod deleted."""
        if name in self._captures or not node:
            return
        opened = asyncio.Event()
        printed = bytearray()
        trouble: list[RuntimeUnavailable] = []

        async def follow() -> None:
            try:
                async with self.client.following(name, AGENT) as chunks:
                    opened.set()
                    async for chunk in chunks:
                        printed.extend(chunk)
                        del printed[:-_MOST_LOG]
            except RuntimeUnavailable as error:
                trouble.append(error)
            finally:
                opened.set()

        capture = _Capture(asyncio.create_task(follow(), name=f"log of {name}"), printed)
        self._captures[name] = capture
        while len(self._captures) > _MOST_KEPT_LOGS:
            self._captures.pop(next(iter(self._captures))).task.cancel()
        try:
            async with asyncio.timeout(self._log_seconds):
                await opened.wait()
        except TimeoutError as error:
            self._captures.pop(name, None)
            capture.task.cancel()
            raise _away(node) from error
        if not trouble:
            return
        self._captures.pop(name, None)
        refused = isinstance(trouble[0], ClusterRefusal) and trouble[0].status < 500
        if not refused:  # below 500: the container has not started, or is gone
            raise _away(node) from trouble[0]

    async def _why(self, name: str, otherwise: str) -> str:
        with contextlib.suppress(RuntimeUnavailable):
            for said in last_events(await self.client.events(name))[:1]:
                return otherwise if said in otherwise else f"{otherwise} ({said})"
        return otherwise

    def _lasts(self, name: str, seconds: float) -> bool:
        return _now() - self._first_seen.setdefault(name, _now()) >= seconds

    def _soon(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _away(node: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"the node {node} does not answer the cluster",
        hint=f"its sessions wait for it; if it is gone for good, type `kubectl delete node {node}`, or "
        f"`dumbwaiter node lost {node}`",
    )


def _has(node: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    there = node["metadata"].get("labels") or {}
    return all(there.get(name) == value for name, value in labels.items())


def _is_of(pod: Mapping[str, Any], specification: AgentSpecification) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return (labels.get(INSTALL_LABEL), labels.get(RUN_LABEL)) == (specification.install_id, specification.run_id)


def _finalizers(pod: Mapping[str, Any]) -> Sequence[str]:
    return pod["metadata"].get("finalizers") or ()


async def _resolved(way: RelayTarget) -> RelayTarget:
    """The same with a number for the name: pods look no names up. Raises `StartFailed`."""
    host, _, port = way.address.rpartition(":")
    bare = host.strip("[]")
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(bare)
        return way
    try:
        found = await asyncio.get_running_loop().getaddrinfo(bare, int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartFailed(
            f"the gateway's name {bare} cannot be looked up: {words_of(error)}",
            hint="set gateway_address to the address of the gateway's Service",
        ) from error
    address = str(found[0][4][0])
    return replace(way, address=f"[{address}]:{port}" if ":" in address else f"{address}:{port}")


async def _pauses() -> AsyncIterator[None]:
    """Longer and longer pauses, the first one after the first round."""
    pause = _FIRST_PAUSE
    while True:
        yield
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _now() -> float:
    return asyncio.get_running_loop().time()
