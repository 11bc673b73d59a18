"""The runtime of a command that runs without a host and starts nothing: there are no agents."""

from __future__ import annotations

from host.runtime.protocol import AgentHandle, AgentSpecification, AgentStatus, StartFailed


class AbsentRuntime:
    """No agents, and none to be had."""

    name = "none"

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        raise StartFailed("no host is running", hint="start it with `dumbwaiter run`")

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        """Nothing runs."""

    async def poll(self, handle: AgentHandle, max_age: float = 0.0) -> AgentStatus:
        return AgentStatus(alive=False)

    async def list(self) -> list[AgentHandle]:
        return []

    async def logs(self, handle: AgentHandle, max_bytes: int = 1_000_000) -> bytes:
        return b""

    async def remove(self, handle: AgentHandle) -> None:
        """Nothing is known."""

    async def close(self) -> None:
        """Nothing is open."""
