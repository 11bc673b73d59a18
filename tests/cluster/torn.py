"""A mount that shows a new header beside old pages for a while, and then the pages, with nothing else that changes.

No mount that was tried does it; it is what a network file system with a cache of pages is allowed to do. It is made of
two folders, between which a thread carries what each side has written.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from host.runtime.protocol import AgentHandle, AgentSpecification
from shared_schema.errors import FileBusy
from shared_schema.late_mount import unchanged
from shared_schema.layout import HEARTBEAT, OUTBOUND
from tests.cluster.elsewhere import ElsewhereRuntime

_HEADER = 100  # bytes, sqlite.org/fileformat2.html#the_database_header
_HIDDEN_SECONDS = 0.5
_STEP_SECONDS = 0.01


class TornMount:
    """Carries the files of sessions between `data`, the host's, and `seen`, the agents'. `torn` is the name of the file
    whose pages come late."""

    def __init__(self, data: Path, seen: Path, torn: str) -> None:
        self._data, self._seen, self._torn = data, seen, torn
        self._sessions: list[Path] = []
        self._shown: dict[Path, bytes] = {}
        self._pages_at: dict[Path, float] = {}
        self._is_over = threading.Event()

    def begin(self, folder: Path) -> None:
        """Show the agent of a session its folder, whole, and carry its files from then on."""
        for each in (folder, self._data / "agents"):
            target = self._seen / each.relative_to(self._data)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "-a", str(each), str(target)], check=True, timeout=60)
        if (session := folder.relative_to(self._data)) not in self._sessions:
            self._sessions.append(session)

    @contextmanager
    def carrying(self) -> Iterator[None]:
        """Carry during the block."""
        thread = threading.Thread(target=self._carry)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _carry(self) -> None:
        while not self._is_over.wait(_STEP_SECONDS):
            for session in list(self._sessions):
                here, there = self._data / session, self._seen / session
                self._show(here, there, "inbound.db")
                self._show(there / "out", here / "out", OUTBOUND)
                with suppress(OSError):
                    (here / "out" / HEARTBEAT).write_bytes((there / "out" / HEARTBEAT).read_bytes())

    def _show(self, source: Path, target: Path, name: str) -> None:
        try:
            with unchanged(source, name):
                state = (source / name).read_bytes()
        except FileBusy:
            return
        shown = target / name
        now = time.monotonic()
        if self._shown.get(shown) != state:
            self._shown[shown] = state
            self._pages_at[shown] = now + (_HIDDEN_SECONDS if name == self._torn else 0.0)
            _write(shown, state, _HEADER)
        if now >= self._pages_at.get(shown, float("inf")):
            del self._pages_at[shown]
            _write(shown, state, len(state))


def _write(path: Path, state: bytes, size: int) -> None:
    """The first `size` bytes of a state; the file is as long as the whole one, and its time is always the same."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, len(state))
        os.pwrite(descriptor, state[:size], 0)
        os.utime(descriptor, ns=(0, 0))
    finally:
        os.close(descriptor)


class TornRuntime(ElsewhereRuntime):
    """Agents that see the data folder through such a mount."""

    def __init__(self, install_id: str, mount: TornMount, data: Path, seen: Path) -> None:
        super().__init__(install_id, data, seen)
        self._mount = mount

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        self._mount.begin(specification.folder.folder)
        return await super().start(specification)
