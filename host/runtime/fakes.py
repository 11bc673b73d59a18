"""Runtimes without agents, for tests of everything that sits on a runtime.

`FakeRuntime` keeps the contract of the real ones (the same suite runs over all three). The others break it in one way
each, by subclass: they are what a test takes to see how the host bears a runtime that fails.

A `FakeEngine` outlives the runtimes that use it, as docker outlives a host: hand one engine to two runtimes to play a
restart of the host, or two installs on one machine.
"""

from __future__ import annotations

import asyncio
from dataclasses import field

from host.runtime.exit_status import reason_of
from host.runtime.protocol import AgentHandle, AgentSpecification, AgentStatus, RuntimeUnavailable
from shared_schema.clock import Clock, SystemClock
from shared_schema.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How the life of a fake agent goes. `seconds` None: until it is stopped."""

    seconds: float | None = None
    exit_code: int = 0
    output: bytes = b""
    ignores_term: bool = False


@dataclass(slots=True)
class FakeAgent:
    """One started agent; `ended` is set once and for all."""

    specification: AgentSpecification
    lifetime: Lifetime
    started_at: float
    ended: AgentStatus | None = None


@dataclass(slots=True)
class FakeEngine:
    """What runs, of all installs. Keys are run ids."""

    agents: dict[str, FakeAgent] = field(default_factory=dict)

    def end(self, run_id: str, exit_code: int = 0, reason: str | None = None) -> None:
        """Let an agent end now, by itself, as a test's script says."""
        agent = self.agents[run_id]
        if agent.ended is None:
            agent.ended = AgentStatus(alive=False, exit_code=exit_code, reason=reason or reason_of(exit_code))


class FakeRuntime:
    """Agents that do nothing, in memory. `started` and `stopped` say what was asked for, in order."""

    name = "fake"

    def __init__(
        self,
        install_id: str,
        *,
        engine: FakeEngine | None = None,
        lifetime: Lifetime | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.install_id = install_id
        self.engine = engine or FakeEngine()
        self.lifetime = lifetime or Lifetime()
        self.clock = clock or SystemClock()
        self.started: list[AgentSpecification] = []
        self.stopped: list[AgentHandle] = []

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        self.started.append(specification)
        self.engine.agents[specification.run_id] = FakeAgent(specification, self.lifetime, self.clock.monotonic())
        return _handle(specification)

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        self.stopped.append(handle)
        agent = self._agent(handle)
        if agent is None or agent.ended is not None:
            return
        if agent.lifetime.ignores_term:
            await asyncio.sleep(grace)
            self.engine.end(handle.run_id, 137)
        else:
            self.engine.end(handle.run_id, agent.lifetime.exit_code)

    async def poll(self, handle: AgentHandle, max_age: float = 0.0) -> AgentStatus:
        agent = self._agent(handle)
        if agent is None:
            return AgentStatus(alive=False)
        return agent.ended or AgentStatus(alive=True)

    async def list(self) -> list[AgentHandle]:
        specifications = [agent.specification for agent in self.engine.agents.values()]
        return [_handle(each) for each in specifications if each.install_id == self.install_id]

    async def logs(self, handle: AgentHandle, max_bytes: int = 1_000_000) -> bytes:
        agent = self._agent(handle)
        return b"" if agent is None else agent.lifetime.output[-max_bytes:]

    async def remove(self, handle: AgentHandle) -> None:
        if self._agent(handle) is not None:
            del self.engine.agents[handle.run_id]

    async def close(self) -> None:
        """Nothing is held."""

    def _agent(self, handle: AgentHandle) -> FakeAgent | None:
        """The agent of a handle, after its life went on until now; None for one of another install."""
        agent = self.engine.agents.get(handle.run_id)
        if agent is None or agent.specification.install_id != self.install_id:
            return None
        lifetime = agent.lifetime
        if lifetime.seconds is not None and self.clock.monotonic() - agent.started_at >= lifetime.seconds:
            self.engine.end(handle.run_id, lifetime.exit_code)
        return agent


class NeverStartsRuntime(FakeRuntime):
    """An engine that hangs: every start ends after `limit` seconds with `RuntimeUnavailable`, and nothing runs."""

    limit = 0.05

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        self.started.append(specification)
        await asyncio.sleep(self.limit)
        raise RuntimeUnavailable(f"the engine did not answer within {self.limit:g} seconds")


class SlowStartRuntime(FakeRuntime):
    """An engine under load: every start takes `delay` seconds."""

    delay = 0.2

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        await asyncio.sleep(self.delay)
        return await super().start(specification)


class DiesAtOnceRuntime(FakeRuntime):
    """Agents that end with exit code 1 the moment they are started."""

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        handle = await super().start(specification)
        self.engine.end(handle.run_id, 1)
        return handle


class HangsOnStopRuntime(FakeRuntime):
    """Agents that nothing ends: every stop fails `limit` seconds after its grace, and the agent lives on."""

    limit = 0.05

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        self.stopped.append(handle)
        await asyncio.sleep(grace + self.limit)
        raise RuntimeUnavailable("the engine does not end a container", where=handle.session_id)


def _handle(specification: AgentSpecification) -> AgentHandle:
    return AgentHandle(specification.run_id, specification.session_id, f"fake-{specification.run_id}")
