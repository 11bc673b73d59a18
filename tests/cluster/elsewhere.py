"""Agents that see the data folder through other mounts than the host, as those of another machine do."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from pathlib import Path

from host.runtime.process import ProcessRuntime
from host.runtime.protocol import AgentHandle, AgentSpecification
from shared_schema.layout import SessionLayout


class ElsewhereRuntime(ProcessRuntime):
    """Plain processes, for which the data folder is at each of `mounted` in turn."""

    def __init__(self, install_id: str, data: Path, *mounted: Path) -> None:
        super().__init__(install_id, data / "run")
        self._data, self._mounted = data, cycle(mounted)

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        mounted = next(self._mounted)
        folder = SessionLayout(mounted / specification.folder.folder.relative_to(self._data), shared=True)
        workspace = mounted / specification.workspace.relative_to(self._data)
        return await super().start(replace(specification, folder=folder, workspace=workspace))
