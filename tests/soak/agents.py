"""The agents that live, whatever host started them: found, killed, frozen. Only those of one data folder."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from host.runtime.specification import INSTALL_LABEL, SESSION_LABEL


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent: a process id or a container's, and its session."""

    reference: str
    session_id: str


class Agents(Protocol):
    """Finds and troubles agents; one that ended meanwhile is no error."""

    async def living(self) -> list[Agent]:
        """All that live, known to a host or not."""

    async def kill(self, agent: Agent) -> None:
        """SIGKILL."""

    async def freeze(self, agent: Agent) -> None:
        """Stop it in its tracks."""

    async def thaw(self, agent: Agent) -> None:
        """Let it go on."""


class AgentProcesses:
    """Agents of the runtime `process`, found by their environment: no record of a host's is believed."""

    def __init__(self, data: Path) -> None:
        self._prefix = f"{data}/"

    async def living(self) -> list[Agent]:
        return await asyncio.to_thread(self._living)

    async def kill(self, agent: Agent) -> None:
        if (process := self._process(agent)) is not None:
            process.kill()

    async def freeze(self, agent: Agent) -> None:
        if (process := self._process(agent)) is not None:
            process.suspend()

    async def thaw(self, agent: Agent) -> None:
        if (process := self._process(agent)) is not None:
            process.resume()

    def _living(self) -> list[Agent]:
        found = []
        for process in psutil.process_iter():
            session = self._session(process)
            if session is not None:
                found.append(Agent(str(process.pid), session))
        return found

    def _process(self, agent: Agent) -> psutil.Process | None:
        try:
            process = psutil.Process(int(agent.reference))
        except psutil.NoSuchProcess:
            return None
        return process if self._session(process) == agent.session_id else None

    def _session(self, process: psutil.Process) -> str | None:
        """The session that a process serves, if it is one of these agents and lives."""
        try:
            if "container_agent" not in process.cmdline():
                return None
            folder = process.environ().get("DUMBWAITER_SESSION", "")
        except psutil.Error:
            return None
        return Path(folder).name if folder.startswith(self._prefix) else None


class AgentContainers:
    """Agents of the runtime `docker`, by the label of their install."""

    def __init__(self, install_id: str) -> None:
        self._filter = f"label={INSTALL_LABEL}={install_id}"

    async def living(self) -> list[Agent]:
        form = f'{{{{.ID}}}} {{{{.Label "{SESSION_LABEL}"}}}}'
        listed = await _docker("ps", "--filter", self._filter, "--format", form)
        return [Agent(*row.split()) for row in listed.splitlines()]

    async def kill(self, agent: Agent) -> None:
        await _docker("kill", agent.reference)

    async def freeze(self, agent: Agent) -> None:
        await _docker("pause", agent.reference)

    async def thaw(self, agent: Agent) -> None:
        await _docker("unpause", agent.reference)


async def _docker(*arguments: str) -> str:
    """What a docker command prints; nothing where it fails, because the container is gone."""
    done = await asyncio.to_thread(
        subprocess.run, ["docker", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout if done.returncode == 0 else ""
