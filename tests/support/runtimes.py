"""Runtimes for tests with a whole host: one that keeps count, one that is two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from host.runtime.process import ProcessRuntime
from host.runtime.protocol import AgentHandle, AgentSpecification, AgentStatus, Runtime
from host.sessions.folder import Owner, make_data_folder
from shared_schema.clock import SystemClock
from shared_schema.layout import DataLayout
from tests.support.registry import open_central


def install_id(data: Path) -> str:
    """The install id of a data folder, which is made if need be."""
    make_data_folder(DataLayout(data), Owner.of_agents(10001))
    central = open_central(DataLayout(data).central, SystemClock())
    central.close()
    return central.install_id


class CountingRuntime(ProcessRuntime):
    """Real processes. Knows every start, and how many agents lived just after each, in all and of that session."""

    def __init__(self, data: Path, *, command: Sequence[str] | None = None) -> None:
        super().__init__(install_id(data), DataLayout(data).run, command=command)
        self.started: list[AgentHandle] = []
        self.most_at_once = 0
        self.most_of_one_session = 0

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        handle = await super().start(specification)
        self.started.append(handle)
        living = await self.living()
        self.most_at_once = max(self.most_at_once, len(living))
        own = [other for other in living if other.session_id == handle.session_id]
        self.most_of_one_session = max(self.most_of_one_session, len(own))
        return handle

    async def living(self) -> list[AgentHandle]:
        """The agents that live now."""
        return [handle for handle in await self.list() if (await self.poll(handle)).alive]


class SplitRuntime:
    """Two runtimes behind one: `other` runs the agents that `chosen` says, `usual` the rest."""

    name = "process"

    def __init__(self, usual: Runtime, other: Runtime, chosen: Callable[[AgentSpecification], bool]) -> None:
        self._usual = usual
        self._other = other
        self._chosen = chosen
        self._elsewhere: set[str] = set()

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        if self._chosen(specification):
            self._elsewhere.add(specification.run_id)
        runtime = self._other if self._chosen(specification) else self._usual
        return await runtime.start(specification)

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        await self._of(handle).stop(handle, grace)

    async def poll(self, handle: AgentHandle, max_age: float = 0.0) -> AgentStatus:
        return await self._of(handle).poll(handle, max_age)

    async def list(self) -> list[AgentHandle]:
        return [*await self._usual.list(), *await self._other.list()]

    async def logs(self, handle: AgentHandle, max_bytes: int = 1_000_000) -> bytes:
        return await self._of(handle).logs(handle, max_bytes)

    async def remove(self, handle: AgentHandle) -> None:
        await self._of(handle).remove(handle)

    async def close(self) -> None:
        await self._usual.close()
        await self._other.close()

    def _of(self, handle: AgentHandle) -> Runtime:
        return self._other if handle.run_id in self._elsewhere else self._usual
