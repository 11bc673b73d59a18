"""Engines that are played: one on each node, which a host calls over a network that loses and delays calls.

A call that has left the host arrives, whatever becomes of the host meanwhile; its answer may never come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from host.runtime.living import LivingAgents
from host.runtime.protocol import AgentHandle, AgentSpecification, AgentStatus, RuntimeUnavailable
from tests.simulation.agents import PlayedAgent
from tests.simulation.timeline import Machine

if TYPE_CHECKING:
    from tests.simulation.hosts import PlayedHost
    from tests.simulation.world import World

T = TypeVar("T")

_LIMIT = 5.0
_ASK_SECONDS = 0.2


class Node:
    """A machine with an engine. `agents` are its containers by run id, ended ones included."""

    def __init__(self, machine: Machine, slots: int) -> None:
        self.machine = machine
        self.slots = slots
        self.agents: dict[str, PlayedAgent] = {}
        self.is_up = True
        self.had_fault = False

    @property
    def name(self) -> str:
        return self.machine.name

    def crash(self) -> None:
        """The machine goes down with all that runs there."""
        self.is_up = False
        for agent in self.agents.values():
            agent.end(137, "its machine went down")


class EngineClient:
    """One node's engine, as one host calls it: what `NodesRuntime` asks of a `DockerRuntime`."""

    def __init__(self, world: World, host: PlayedHost, node: Node) -> None:
        self._world = world
        self._host = host
        self._node = node
        self._living_agents = LivingAgents(lambda: self._call(lambda _: self._running()))

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        return await self._call(lambda is_late: self._started(specification, is_late), quick=False)

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        await self._call(lambda _: self._term(handle, grace))
        while await self._call(lambda _: self._is_alive(handle)):
            await asyncio.sleep(_ASK_SECONDS)

    async def poll(self, handle: AgentHandle, max_age: float = 0.0) -> AgentStatus:
        if await self._living_agents.have(handle.reference, max_age):
            return AgentStatus(alive=True)
        return await self._call(lambda _: self._status(handle))

    async def list(self) -> list[AgentHandle]:
        return await self._call(lambda _: [self._handle(agent) for agent in self._node.agents.values()])

    async def living(self) -> int:
        return await self._call(lambda _: sum(agent.is_alive for agent in self._node.agents.values()))

    async def logs(self, handle: AgentHandle, max_bytes: int = 0) -> bytes:
        return b""

    async def remove(self, handle: AgentHandle) -> None:
        await self._call(lambda _: self._removed(handle))

    async def close(self) -> None:
        """Nothing is held."""

    def _started(self, specification: AgentSpecification, is_late: bool) -> AgentHandle:
        agent = PlayedAgent(self._world, self._node, specification, is_late=is_late)
        self._world.started(agent)
        self._node.agents[specification.run_id] = agent
        return self._handle(agent)

    def _term(self, handle: AgentHandle, grace: float) -> None:
        agent = self._node.agents.get(handle.run_id)
        if agent is not None and agent.is_alive:
            agent.term()
            timeline = self._world.timeline
            timeline.at(timeline.now + grace, lambda: agent.end(137))

    def _is_alive(self, handle: AgentHandle) -> bool:
        agent = self._node.agents.get(handle.run_id)
        return agent is not None and agent.is_alive

    def _status(self, handle: AgentHandle) -> AgentStatus:
        agent = self._node.agents.get(handle.run_id)
        if agent is None:
            return AgentStatus(alive=False)
        return agent.ended or AgentStatus(alive=True)

    def _running(self) -> set[str]:
        return {self._handle(agent).reference for agent in self._node.agents.values() if agent.is_alive}

    def _removed(self, handle: AgentHandle) -> None:
        agent = self._node.agents.pop(handle.run_id, None)
        if agent is not None:
            agent.end(137)

    def _handle(self, agent: PlayedAgent) -> AgentHandle:
        return AgentHandle(agent.run_id, agent.session_id, agent.run_id, self._node.name)

    def _is_reached(self) -> bool:
        return self._node.is_up and self._node.machine.has_network and self._host.machine.has_network

    async def _call(self, what: Callable[[bool], T], *, quick: bool = True) -> T:
        """Have something done by the engine. Raises `RuntimeUnavailable` where no answer comes."""
        if not self._host.process.is_alive:
            raise RuntimeUnavailable("the host is dead")
        world, timeline = self._world, self._world.timeline
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def arrive() -> None:
            if self._is_reached():
                result = what(answer.done() or not self._host.is_waiting())
                timeline.at(timeline.now + world.latency(), lambda: reply(result), self._host.process)

        def reply(result: T) -> None:
            if self._is_reached() and not answer.done():
                answer.set_result(result)

        timeline.at(timeline.now + (world.latency() if quick else world.start_latency()), arrive)
        try:
            async with asyncio.timeout(_LIMIT):
                return await answer
        except TimeoutError:
            raise RuntimeUnavailable(f"the engine did not answer within {_LIMIT:g} seconds") from None
