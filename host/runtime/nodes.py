"""Agents on several docker engines: one node each, behind the one `Runtime`.

Everything that docker can do on one machine stays: each node is a `DockerRuntime`. What is added: where a new agent is
placed (`placement.py`), and what a node that does not answer means. It means that nothing is known: its agents are
taken to live, no other is started in their place, and what asks for them gets `RuntimeUnavailable` with the node's
name. Only the engine itself, or the admin's word that the node is lost, ends that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field, replace
from pathlib import Path

from host.runtime.agent_count import KEPT_SECONDS, AgentCount
from host.runtime.docker import DockerRuntime
from host.runtime.engine_address import EngineAddress
from host.runtime.engine_facts import EngineFacts, require_suitable
from host.runtime.placement import NodeFacts, has_labels, place
from host.runtime.protocol import AgentHandle, AgentSpecification, AgentStatus, RuntimeUnavailable, StartFailed
from shared_schema.dataclass import dataclass

log = logging.getLogger(__name__)

_PROBE = "import sys; sys.stdout.write(open('/mnt/' + sys.argv[1]).read())"


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the settings. `slots`: how many agents may run there."""

    name: str
    address: EngineAddress
    labels: Mapping[str, str] = field(default_factory=dict)
    slots: int = 10


class NodesRuntime:
    """Runs each agent on one of several engines. Nothing is connected before the first call."""

    name = "nodes"

    def __init__(
        self,
        install_id: str,
        nodes: Sequence[Node],
        *,
        run_folder: Path | None = None,
        image: str = "",
        oci_runtime: str | None = None,
        make: Callable[[Node], DockerRuntime] | None = None,
    ) -> None:
        self.install_id = install_id
        self._run_folder = run_folder
        self._image = image
        self._oci_runtime = oci_runtime
        self._make = make or self._docker
        self._nodes: dict[str, Node] = {}
        self._engines: dict[str, DockerRuntime] = {}
        self._made: dict[tuple[str, EngineAddress], DockerRuntime] = {}
        self._counts: dict[str, AgentCount] = {}
        self._drained: frozenset[str] = frozenset()
        self._lost: frozenset[str] = frozenset()
        self.away: dict[str, str] = {}
        """What was said by nodes that did not answer the last time they were asked, by name."""
        for node in nodes:
            self.add(node)

    # The seam

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        if specification.node:
            return await self._start(specification, specification.node)
        node = await self.place({})
        try:
            return await self._start(specification, node)
        finally:
            self.start_ended(node)

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        if not self.is_lost(handle.node):
            async with self._asking(handle.node) as engine:
                await engine.stop(handle, grace)

    async def poll(self, handle: AgentHandle, max_age: float = 0.0) -> AgentStatus:
        if self.is_lost(handle.node):
            return AgentStatus(alive=False, reason=f"its node {handle.node} was given up for lost")
        async with self._asking(handle.node) as engine:
            return await engine.poll(handle, max_age)

    async def list(self) -> list[AgentHandle]:
        """Of all nodes that answer. What must be sure of one session asks its node (`list_on`)."""
        found: list[AgentHandle] = []
        for answer in await asyncio.gather(*map(self._list_or_nothing, self._nodes)):
            found += answer
        return found

    async def logs(self, handle: AgentHandle, max_bytes: int = 1_000_000) -> bytes:
        if self.is_lost(handle.node):
            return b""
        async with self._asking(handle.node) as engine:
            return await engine.logs(handle, max_bytes)

    async def remove(self, handle: AgentHandle) -> None:
        if not self.is_lost(handle.node):
            async with self._asking(handle.node) as engine:
                await engine.remove(handle)
            self._counts[handle.node].forget()  # who waits for a place gets it

    async def close(self) -> None:
        for count in self._counts.values():
            count.close()
        for engine in self._made.values():
            await engine.close()

    async def require_gpus(self, count: int, image: str, labels: Mapping[str, str]) -> None:
        """One of the nodes with these labels must have them; one that is away may."""
        refusal: StartFailed | None = None
        for node in self._nodes.values():
            if self.is_lost(node.name) or not has_labels(node.labels, labels):
                continue
            try:
                async with self._asking(node.name) as engine:
                    return await engine.require_gpus(count, image, labels)
            except StartFailed as error:
                refusal = StartFailed(
                    f"no node gives {count} GPUs; {node.name}: {error.what}",
                    hint=error.own_hint,
                )
        if refusal is not None:
            raise refusal

    # What runs on several machines

    async def place(self, labels: Mapping[str, str]) -> str:
        node = place(await self._facts_of_all(labels, KEPT_SECONDS), labels)
        self._counts[node].placed()
        return node

    def start_ended(self, node: str) -> None:
        self._counts[node].start_ended()

    async def list_on(self, node: str) -> Sequence[AgentHandle]:
        if self.is_lost(node):
            return []
        return await self.found_on(node)

    def is_lost(self, node: str) -> bool:
        return node in self._lost

    async def found_on(self, node: str) -> Sequence[AgentHandle]:
        """The same, also of one that is lost and answers again."""
        async with self._asking(node) as engine:
            # Two nodes may be one engine, by two addresses.
            return [handle for handle in await engine.list() if handle.node == node]

    async def facts(self) -> Sequence[NodeFacts]:
        """Every node as it is now, by name."""
        return await self._facts_of_all({}, 0.0)

    async def _facts_of_all(self, labels: Mapping[str, str], max_age: float) -> Sequence[NodeFacts]:
        """Every node by name; those that have the labels as they were `max_age` seconds ago at the earliest."""
        asked = [
            node
            for node in self._nodes.values()
            if not self.is_lost(node.name)  # which would have every start wait for it
            and has_labels(node.labels, labels)
        ]
        answers = await asyncio.gather(*(self._answers(node.name, max_age) for node in asked))
        answering = {node.name for node, answer in zip(asked, answers, strict=True) if answer}
        # Only now: others that waited for the same answers were placed meanwhile.
        return [self._facts(self._nodes[name], name in answering) for name in sorted(self._nodes)]

    def engine(self, node: str) -> DockerRuntime:
        """The engine of a node. Raises `RuntimeUnavailable` for one that is in no settings."""
        if node not in self._engines:
            raise RuntimeUnavailable(
                f"the node {node} is not in the settings any more",
                hint=f"add it again with `dumbwaiter node add {node} ADDRESS`, or, if it is gone for good, say so with "
                f"`dumbwaiter node lost {node}`",
            )
        return self._engines[node]

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes of the settings, by name."""
        return self._nodes

    def add(self, node: Node) -> Node | None:
        """Take a node from now on, or put another address or other labels in its place; what it was before.

        The engine of an address is kept until `close`: calls of it may be under way.
        """
        name, before = node.name, self._nodes.get(node.name)
        if (name, node.address) not in self._made:
            self._made[name, node.address] = self._make(node)
        self._nodes[name], self._engines[name] = node, self._made[name, node.address]
        if before is None:
            self._counts[name] = AgentCount(lambda: self._engines[name].living())
        elif before.address != node.address:
            self._counts[name].forget()
            self.away.pop(name, None)
        return before

    def take_out(self, name: str) -> None:
        """Know a node no more that was just added."""
        del self._nodes[name], self._engines[name]
        self._counts.pop(name).close()
        self.away.pop(name, None)

    def close_nodes(self, *, drained: frozenset[str], lost: frozenset[str]) -> None:
        """Which nodes take no more agents, and which are gone for good."""
        self._drained, self._lost = drained, lost

    async def addresses(self) -> Mapping[str, str]:
        return {name: node.address.url for name, node in self._nodes.items()}

    async def end(self, handle: AgentHandle, grace: float) -> None:
        engine = self.engine(handle.node)
        await engine.stop(handle, grace)
        await engine.remove(handle)

    async def ask(self, node: str) -> str:
        return (await self.engine_facts(node)).version

    async def check(self, node: str) -> str:
        facts = await self.engine_facts(node)
        require_suitable(facts, self._oci_runtime)
        assert self._run_folder is not None, "a runtime that is asked for this has one"
        folder, token = self._run_folder, secrets.token_hex(8)
        file = folder / f"node-check-{token}"
        try:
            await asyncio.to_thread(_write, file, token)
            output = await self.run_once(node, self._image, folder, ["-c", _PROBE, file.name])
        finally:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(file.unlink, missing_ok=True)
        if output.decode("utf-8", "replace").strip() != token:
            raise StartFailed(
                f"it has another folder at {folder.parent} than this host",
                hint="mount the same shared folder there, at the same path",
            )
        return facts.version

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
        async with self._asking(node) as engine:
            return await engine.run_once(image, folder, arguments, seconds=seconds, writable=writable)

    async def engine_facts(self, node: str) -> EngineFacts:
        """What the engine of a node says of itself. Raises `RuntimeUnavailable`."""
        async with self._asking(node) as engine:
            return await engine.facts()

    async def _start(self, specification: AgentSpecification, node: str) -> AgentHandle:
        async with self._asking(node) as engine:
            return await engine.start(replace(specification, node=node))

    def _docker(self, node: Node) -> DockerRuntime:
        return DockerRuntime(self.install_id, node.address, run_folder=self._run_folder)

    def _facts(self, node: Node, answers: bool) -> NodeFacts:
        return NodeFacts(
            name=node.name,
            slots=node.slots,
            agents=self._counts[node.name].agents if answers else 0,
            labels=node.labels,
            answers=answers,
            drained=node.name in self._drained,
            lost=node.name in self._lost,
        )

    async def _answers(self, node: str, max_age: float) -> bool:
        """Whether a node says how many agents it has."""
        try:
            await self._counts[node].ask(max_age)
        except RuntimeUnavailable as error:
            self.away[node] = error.what
            return False
        self.away.pop(node, None)
        return True

    async def _list_or_nothing(self, node: str) -> Sequence[AgentHandle]:
        try:
            return await self.list_on(node)
        except RuntimeUnavailable as error:  # its sessions wait until it answers: `Runs.clear` asks it alone
            log.warning("a node does not answer", extra={"node": node, "error": str(error)})
            return []

    @asynccontextmanager
    async def _asking(self, node: str) -> AsyncIterator[DockerRuntime]:
        """The engine of a node for one call, whose trouble gets the node's name."""
        engine = self.engine(node)
        try:
            yield engine
        except RuntimeUnavailable as error:
            self.away[node] = error.what
            self._counts[node].forget()
            raise RuntimeUnavailable(
                f"the node {node} does not answer: {error.what}",
                hint=f"its sessions wait for it; if it is gone for good, type `dumbwaiter node lost {node}`",
            ) from error
        with contextlib.suppress(KeyError):
            del self.away[node]


def _write(file: Path, token: str) -> None:
    file.write_text(token)
    file.chmod(0o644)
