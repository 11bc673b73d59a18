"""Nodes without engines: each a process runtime of its own, which can stop to answer while its agents live on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from host.runtime.docker import DockerRuntime
from host.runtime.engine_address import EngineAddress
from host.runtime.engine_facts import EngineFacts
from host.runtime.nodes import Node, NodesRuntime
from host.runtime.process import ProcessRuntime
from host.runtime.protocol import AgentHandle, AgentSpecification, AgentStatus, RuntimeUnavailable


class ProcessNode(ProcessRuntime):
    """One machine. With `answers` false it is cut off: nothing is heard of it, and what runs there goes on."""

    def __init__(self, node: str, install_id: str, run_folder: Path) -> None:
        super().__init__(install_id, run_folder)
        self.node = node
        self.answers = True
        self.is_closed = False

    async def close(self) -> None:
        self.is_closed = True

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        self._require()
        return await super().start(specification)

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        self._require()
        await super().stop(handle, grace)

    async def poll(self, handle: AgentHandle, max_age: float = 0.0) -> AgentStatus:
        self._require()
        return await super().poll(handle, max_age)

    async def list(self) -> list[AgentHandle]:
        self._require()
        return [replace(handle, node=self.node) for handle in await super().list()]

    async def logs(self, handle: AgentHandle, max_bytes: int = 1_000_000) -> bytes:
        self._require()
        return await super().logs(handle, max_bytes)

    async def remove(self, handle: AgentHandle) -> None:
        self._require()
        await super().remove(handle)

    async def living(self) -> int:
        """How many agents run there."""
        return sum([(await self.poll(handle)).alive for handle in await self.list()])

    async def facts(self) -> EngineFacts:
        """That of an engine that suits."""
        self._require()
        return EngineFacts("20.10")

    def _require(self) -> None:
        if not self.answers:
            raise RuntimeUnavailable("no engine answers: no route to host")


class Machines:
    """Several of them, which outlive the hosts that use them, as engines do."""

    def __init__(self, folder: Path, labels: Mapping[str, Mapping[str, str]], *, slots: int = 10) -> None:
        self._folder = folder
        self._nodes = [Node(name, EngineAddress(f"unix:///{name}"), labels[name], slots) for name in labels]
        self.machines: dict[str, ProcessNode] = {}
        self._away: set[str] = set()

    def runtime(self, install_id: str) -> NodesRuntime:
        """The runtime of a host, as after a restart: the machines are as they were."""

        def make(node: Node) -> DockerRuntime:
            made = ProcessNode(node.name, install_id, self._folder / node.name)
            made.answers = node.name not in self._away and not node.address.url.endswith("/nothing")
            self.machines[node.name] = made
            return cast(DockerRuntime, cast(Any, made))

        return NodesRuntime(install_id, self._nodes, make=make)

    def cut_off(self, *names: str) -> None:
        """These machines are heard of no more; their agents go on."""
        self._away.update(names)
        for name in names:
            self.machines[name].answers = False

    def bring_back(self, *names: str) -> None:
        """They answer again."""
        self._away.difference_update(names)
        for name in names:
            self.machines[name].answers = True

    async def agents(self) -> dict[str, Sequence[AgentHandle]]:
        """What lives on each machine, cut off or not."""
        found: dict[str, Sequence[AgentHandle]] = {}
        for name, machine in self.machines.items():
            handles = await ProcessRuntime.list(machine)
            found[name] = [each for each in handles if (await ProcessRuntime.poll(machine, each)).alive]
        return found
