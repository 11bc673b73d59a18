"""Agents on the nodes of a Docker Swarm, through one of its managers: a service for each run, which is never restarted.

Swarm knows more than one engine does, and less. It says on which node a task is, and how it ended. Of a node that it
calls down it knows nothing: the container there lives on, and no other is started for it (`RestartPolicy` none). So
`poll`, `stop` and `remove` of such an agent raise `RuntimeUnavailable` with the node's name, its service stays, and
its session waits until the node reports, or the admin gives it up for lost.

A task is ended by an update that no node satisfies: Swarm stops it, keeps how it ended and what it printed, and starts
no other. (A service without replicas, or none, would lose both.) What Swarm does not take is the node's configuration:
a node gets agents only after a probe with the same words found it locked down, and again every `PROBED_SECONDS`.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypeVar

from host.runtime.docker import DockerRuntime, TimeLimits
from host.runtime.engine_address import EngineAddress
from host.runtime.engine_client import EngineClient, EngineRefusal
from host.runtime.engine_images import id_of
from host.runtime.image_names import how_to_build
from host.runtime.living import LivingAgents
from host.runtime.placement import NodeFacts, place
from host.runtime.protocol import AgentHandle, AgentSpecification, AgentStatus, RuntimeUnavailable, StartFailed
from host.runtime.specification import (
    INSTALL_LABEL,
    NODE_LABEL,
    RELAY_LABEL,
    RUN_LABEL,
    SESSION_LABEL,
    container_arguments,
    relay_arguments,
    way_name,
)
from host.runtime.swarm_client import SwarmClient
from host.runtime.swarm_specification import (
    PROBE,
    PROBE_LABEL,
    agent_service,
    is_ended,
    probe_service,
    relay_service,
)
from host.runtime.swarm_state import (
    SwarmNode,
    facts_of,
    has_begun,
    is_over,
    placed_task,
    problem_of,
    refusal_of,
    status_of,
)
from host.runtime.waiting import BoundedThreads, ended_within

_Result = TypeVar("_Result")

PROBED_SECONDS = 600.0
_STEP_SECONDS = 0.1
_PROBE_LIMIT = 60.0
_AGAIN_SECONDS = 30.0  # before a node is asked anew that did not start the probe in time
_PENDING_SECONDS = 3.0  # without a node that has room: then Swarm is not waited for


class SwarmRuntime:
    """Runs each agent as a service. `manager` is the engine of a manager; `probed_folder` is a folder that all nodes
    must see at the same path, in which the host can write; `image` is what probes run.

    `grace` is seconds between SIGTERM and SIGKILL of an agent, which Swarm wants to know at the start.
    """

    name = "swarm"

    def __init__(
        self,
        install_id: str,
        manager: EngineAddress,
        *,
        image: str,
        probed_folder: Path,
        grace: float = 7.0,
        limits: TimeLimits | None = None,
        threads: int = 8,
    ) -> None:
        self.install_id = install_id
        self.manager = DockerRuntime(install_id, manager)
        self._image = image
        self._probed_folder = probed_folder
        self._grace = grace
        self._limits = limits or TimeLimits()
        self._threads = BoundedThreads(threads, "swarm")
        self._engine = EngineClient(manager, self._limits.probe, self._limits.start)
        self._swarm = SwarmClient(self._engine, install_id)
        self._living_agents = LivingAgents(lambda: self._call(self._running))
        self._drained: frozenset[str] = frozenset()
        self._lost: frozenset[str] = frozenset()
        self._starting: dict[str, int] = {}  # placed, and not started yet
        self._probed: dict[str, tuple[float, str, tuple[str, str] | None]] = {}  # when, where and what, by node id
        self.away: dict[str, str] = {}
        """What is wrong with nodes, as it was said the last time they were asked, by name."""

    # The seam

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        if specification.node:
            return await self._started(specification, specification.node)
        node = await self.place({})
        try:
            return await self._started(specification, node)
        finally:
            self.start_ended(node)

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        if self.is_lost(handle.node):
            return
        if not await self._call(lambda: self._end(handle)):
            return
        if not await ended_within(self, handle, max(grace, self._grace) + self._limits.kill):
            raise RuntimeUnavailable(
                "Swarm does not end a container",
                where=handle.session_id,
                hint=f"`docker service rm {handle.reference[:12]}` ends it, or a restart of docker on {handle.node}",
            )

    async def poll(self, handle: AgentHandle, max_age: float = 0.0) -> AgentStatus:
        if self.is_lost(handle.node):
            return AgentStatus(alive=False, reason=f"its node {handle.node} was given up for lost")
        if await self._living_agents.have(handle.reference, max_age):
            return AgentStatus(alive=True)
        return await self._call(lambda: self._status(handle))

    async def list(self) -> list[AgentHandle]:
        return [handle for handle in await self._call(self._handles) if not self.is_lost(handle.node)]

    async def logs(self, handle: AgentHandle, max_bytes: int = 1_000_000) -> bytes:
        if self.is_lost(handle.node):
            return b""
        return await self._call(lambda: self._swarm.logs(handle.reference, max_bytes))

    async def remove(self, handle: AgentHandle) -> None:
        if self.is_lost(handle.node):
            return  # its service stays, so that the node, should it be back, is told that it is over
        await self.stop(handle, 0.0)
        await self._call(lambda: self._remove(handle))

    async def close(self) -> None:
        self._living_agents.close()
        self._threads.close()
        self._engine.close()
        await self.manager.close()

    # What runs on several machines

    async def place(self, labels: Mapping[str, str]) -> str:
        while True:
            name = place(await self.facts(labels), labels)
            self._starting[name] = self._starting.get(name, 0) + 1  # before the probe: others are placed meanwhile
            try:
                found = await self._call(lambda name=name: self._probe(name), _PROBE_LIMIT)  # type: ignore[misc]
            except BaseException:
                self.start_ended(name)
                raise
            if found is None:
                return name
            self.start_ended(name)

    def start_ended(self, node: str) -> None:
        self._starting[node] -= 1

    async def list_on(self, node: str) -> Sequence[AgentHandle]:
        return [] if self.is_lost(node) else await self.found_on(node)

    def is_lost(self, node: str) -> bool:
        return node in self._lost

    def close_nodes(self, *, drained: frozenset[str], lost: frozenset[str]) -> None:
        self._drained, self._lost = drained, lost

    async def found_on(self, node: str) -> Sequence[AgentHandle]:
        await self.ask(node)
        return [handle for handle in await self._call(self._handles) if handle.node == node]

    async def facts(self, labels: Mapping[str, str] | None = None) -> Sequence[NodeFacts]:
        nodes, agents = await self._call(lambda: (self._swarm.nodes(), self._swarm.living()))
        self.away = {node.name: self._down(node) for node in nodes if not node.answers}
        found = []
        for node in nodes:
            problem = self._known_problem(node)
            if problem is not None and node.answers:
                self.away[node.name] = problem[0]
            found.append(
                facts_of(
                    node,
                    agents=agents.get(node.name, 0) + self._starting.get(node.name, 0),
                    drained=node.name in self._drained,
                    lost=node.name in self._lost,
                    problem=None if problem is None else problem[0],
                )
            )
        return found

    async def addresses(self) -> Mapping[str, str]:
        return {node.name: node.address for node in await self._call(self._swarm.nodes)}

    async def end(self, handle: AgentHandle, grace: float) -> None:
        if await self._call(lambda: self._end(handle)) and not await self._call(
            lambda: self._wait_over(handle, self._grace + self._limits.kill), self._grace + 2 * self._limits.kill
        ):
            raise RuntimeUnavailable("Swarm does not end a container", where=handle.session_id)
        await self._call(lambda: self._remove(handle))

    async def remove_strays(self) -> None:
        """Remove what a host that was killed left: relays beside no agent, and probes. Nothing may be starting."""
        await self._call(self._remove_strays)

    async def ask(self, node: str) -> str:
        return (await self._call(lambda: self._ready(node))).version

    async def check(self, node: str) -> str:
        version = await self.ask(node)
        found = await self._call(lambda: self._probe(node, afresh=True), _PROBE_LIMIT)
        if found is not None:
            raise StartFailed(found[0], hint=found[1])
        return version

    async def run_once(
        self,
        node: str,
        image: str,
        folder: Path,
        arguments: Sequence[str],
        *,
        seconds: float = 30.0,
        writable: bool = False,
    ) -> bytes:
        def run() -> bytes:
            service = self._once(self._ready(node), image, arguments, [_bind(folder, writable=writable)])
            try:
                task = self._swarm.wait(service, is_over, seconds)
                if not (task["Status"].get("ContainerStatus") or {}).get("ContainerID"):
                    raise StartFailed(refusal_of(task["Status"].get("Err", ""), node))
                return self._swarm.logs_of_ended(service)
            finally:
                self._swarm.remove(service)

        return await self._call(run, seconds + self._limits.call)

    async def _started(self, specification: AgentSpecification, node: str) -> AgentHandle:
        return await self._call(lambda: self._start(specification, node), self._limits.start + _PROBE_LIMIT)

    async def _call(self, function: Callable[[], _Result], limit: float | None = None) -> _Result:
        return await self._threads.call(function, self._limits.call if limit is None else limit)

    # In the threads

    def _start(self, specification: AgentSpecification, node_name: str) -> AgentHandle:
        node = self._ready(node_name)
        image = self._image_id(specification.image)
        arguments = {**container_arguments(specification), "image": image}
        arguments["labels"] = {**arguments["labels"], NODE_LABEL: node_name}
        relay = None
        if specification.way is not None:  # first: an agent that finds no way out works on without
            words = {**relay_arguments(specification, specification.way), "image": image}
            relay = self._swarm.create(relay_service(words, node_id=node.id, node=node_name))
        service = None
        try:
            service = self._swarm.create(agent_service(arguments, node_id=node.id, grace=self._grace))
            self._begun(service, node_name)
        except BaseException as error:
            # What a node may have begun stays: only its report says how it is, and the supervisor asks for it.
            if service is None or isinstance(error, StartFailed):
                for each in (service, relay):
                    if each is not None:
                        with contextlib.suppress(RuntimeUnavailable):
                            self._swarm.remove(each)
            if isinstance(error, EngineRefusal):
                raise StartFailed(f"Swarm refuses the agent: {error.reason}", hint=_DOCTOR) from error
            raise
        return AgentHandle(specification.run_id, specification.session_id, service, node_name)

    def _begun(self, service: str, node: str) -> None:
        """Wait until its container was started. Raises `StartFailed`, `RuntimeUnavailable`."""
        end = time.monotonic() + self._limits.start
        pending_until = time.monotonic() + _PENDING_SECONDS
        while True:
            tasks = self._swarm.tasks(service)
            task = placed_task(tasks)
            if task is not None and has_begun(task):
                if task["Status"]["State"] == "rejected":
                    problem = problem_of(None, task["Status"].get("Err", ""), node)
                    assert problem is not None
                    raise StartFailed(problem[0], hint=problem[1])
                return
            said = next((each["Status"].get("Err", "") for each in tasks), "")
            if task is None and said and time.monotonic() > pending_until:
                raise StartFailed(refusal_of(said, node), hint="`dumbwaiter node list` shows how each is")
            if time.monotonic() > end:
                raise RuntimeUnavailable(f"the node {node} did not start a container in time", hint=_lost(node))
            time.sleep(_STEP_SECONDS)

    def _end(self, handle: AgentHandle) -> bool:
        """Ask Swarm to end a task; False when there is nothing that lives."""
        service = self._swarm.service(handle.reference)
        if service is None:
            return False
        task = placed_task(self._swarm.tasks(handle.reference))
        if task is not None and is_over(task):
            return False
        self._ready(handle.node)
        if not is_ended(service):
            self._swarm.end(handle.reference)
        return True

    def _wait_over(self, handle: AgentHandle, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self._status(handle).alive:
            if time.monotonic() > end:
                return False
            time.sleep(_STEP_SECONDS)
        return True

    def _status(self, handle: AgentHandle) -> AgentStatus:
        service = self._swarm.service(handle.reference)
        if service is None:
            return AgentStatus(alive=False)
        task = placed_task(self._swarm.tasks(handle.reference))
        if task is None:
            if is_ended(service):
                return AgentStatus(alive=False, reason="never started")
            return AgentStatus(alive=True)  # it may still be placed
        if is_over(task):
            return status_of(task, was_asked=is_ended(service))
        self._ready(handle.node)  # of a node that is down nothing is known
        return AgentStatus(alive=True)

    def _running(self) -> Set[str]:
        """The ids of services whose task runs, on nodes that report. Others are asked about alone: some are ending."""
        answering = {node.id for node in self._swarm.nodes() if node.answers}
        return {task["ServiceID"] for task in self._swarm.running() if task["NodeID"] in answering}

    def _handles(self) -> Sequence[AgentHandle]:
        return [
            AgentHandle(labels[RUN_LABEL], labels[SESSION_LABEL], service["ID"], labels.get(NODE_LABEL, ""))
            for service in self._swarm.services(INSTALL_LABEL)
            if (labels := service["Spec"]["Labels"]).keys() >= {RUN_LABEL, SESSION_LABEL}
        ]

    def _remove(self, handle: AgentHandle) -> None:
        self._swarm.remove(handle.reference)
        self._swarm.remove(way_name(handle.run_id))

    def _remove_strays(self) -> None:
        kept = {way_name(handle.run_id) for handle in self._handles()}
        for label in (RELAY_LABEL, PROBE_LABEL):
            for service in self._swarm.services(label):
                if service["Spec"]["Name"] not in kept:
                    self._swarm.remove(service["ID"])

    def _ready(self, name: str) -> SwarmNode:
        """A node that reports to its manager. Raises `RuntimeUnavailable`."""
        found = next((node for node in self._swarm.nodes() if node.name == name), None)
        if found is None:
            raise RuntimeUnavailable(f"the node {name} is not in the Swarm any more", hint=_lost(name))
        if not found.answers:
            self._probed.pop(found.id, None)
            self.away[name] = self._down(found)
            raise RuntimeUnavailable(f"the node {name} does not answer: {self._down(found)}", hint=_lost(name))
        self.away.pop(name, None)
        return found

    def _down(self, node: SwarmNode) -> str:
        return f"Swarm calls it {node.state}{f': {node.said}' if node.said else ''}"

    def _image_id(self, image: str) -> str:
        """The id of an image: by name each node would ask a registry first."""
        found = id_of(self._engine, image)
        if found is None:
            raise StartFailed(f"the image '{image}' is missing on the manager", hint=how_to_build(image))
        return found

    def _known_problem(self, node: SwarmNode) -> tuple[str, str] | None:
        known = self._probed.get(node.id)
        fresh = known is not None and known[1] == node.address and time.monotonic() - known[0] < PROBED_SECONDS
        return known[2] if known is not None and fresh else None

    def _probe(self, name: str, *, afresh: bool = False) -> tuple[str, str] | None:
        """What keeps agents from a node, and what to do about it; asks a container there where it is not known."""
        node = self._ready(name)
        known = self._probed.get(node.id)
        is_known = known is not None and known[1] == node.address and time.monotonic() - known[0] < PROBED_SECONDS
        if known is not None and is_known and not afresh:
            return known[2]
        token = secrets.token_hex(8)
        file = self._probed_folder / f"node-check-{token}"
        try:
            file.write_text(token)
            file.chmod(0o644)
            mounts = [_bind(self._probed_folder)]
            service = self._once(node, self._image, ["-c", PROBE, file.name, token], mounts)
            try:
                task = self._swarm.wait(service, is_over, _PROBE_LIMIT / 2)
            except RuntimeUnavailable as error:
                problem = (error.what, f"see the log of docker on {name}")
                self._probed[node.id] = (time.monotonic() - PROBED_SECONDS + _AGAIN_SECONDS, node.address, problem)
                return problem
            finally:
                self._swarm.remove(service)
        finally:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
        status = task["Status"]
        container = status.get("ContainerStatus") or {}
        code = int(container.get("ExitCode", 0)) if container.get("ContainerID") else None
        found = problem_of(code, status.get("Err", ""), name)
        self._probed[node.id] = (time.monotonic(), node.address, found)
        return found

    def _once(self, node: SwarmNode, image: str, command: Sequence[str], mounts: Sequence[Mapping[str, Any]]) -> str:
        name = f"dumbwaiter-probe-{secrets.token_hex(8)}"
        try:
            return self._swarm.create(
                probe_service(name, self._image_id(image), self.install_id, node.id, command, mounts)
            )
        except EngineRefusal as error:
            raise StartFailed(f"Swarm refuses a container: {error.reason}", hint=_DOCTOR) from error


_DOCTOR = "`dumbwaiter doctor` checks engine and image"


def _lost(node: str) -> str:
    return f"its sessions wait for it; if it is gone for good, type `dumbwaiter node lost {node}`"


def _bind(folder: Path, *, writable: bool = False) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(folder), "Target": "/mnt", "ReadOnly": not writable}
