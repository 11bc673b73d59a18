"""Agents that see the data folder through another mount than the host, as those of another machine do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from host.runtime.process import ProcessRuntime
from host.runtime.protocol import AgentHandle, AgentSpecification
from shared_schema.layout import SessionLayout


class ElsewhereRuntime(ProcessRuntime):
    """Plain processes, for which the data folder is at `mounted`."""

    def __init__(self, install_id: str, data: Path, mounted: Path) -> None:
        super().__init__(install_id, data / "run")
        self._data, self._mounted = data, mounted

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        folder = SessionLayout(self._there(specification.folder.folder), shared=True)
        workspace = self._there(specification.workspace)
        return await super().start(replace(specification, folder=folder, workspace=workspace))

    def _there(self, path: Path) -> Path:
        return self._mounted / path.relative_to(self._data)
