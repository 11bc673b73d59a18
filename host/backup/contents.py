"""What a backup holds: every file of the data folder that cannot be made again, and no secret unless that is wanted.

Workspaces and `out/` are filled by agents at any moment. They are walked by descriptors, no link is followed, nothing
but folders, regular files and links themselves is taken, and what cannot be taken is named.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from shared_schema.dataclass import dataclass
from shared_schema.layout import DataLayout

DEEPEST = 64
"""Folders within folders; an agent can make more than a process has descriptors for."""
SETTINGS = ".toml"
SECRET_FILES = frozenset({".env"})
WHOLE_FILES = frozenset({"install.json", "chat-history"})
DATABASES = frozenset({"inbound.db", "outbound.db"})
JOURNALS = frozenset({f"{name}-journal" for name in DATABASES})
_MADE_AGAIN = frozenset({".reading", "gateway.sock", "gateway.json"})
_OF_A_RUN = frozenset({".heartbeat", ".lock"})
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(slots=True)
class FoundFile:
    """One entry. `descriptor` is of an open regular file and closed by the walk; `link` is where a link leads."""

    name: str
    status: os.stat_result
    descriptor: int | None = None
    link: str | None = None
    folder: int | None = None  # the descriptor of the folder it lies in


@dataclass(slots=True)
class Walk:
    """Walks folders beneath one folder, and remembers what it could not take."""

    top: Path
    left_out: list[str] = field(default_factory=list)

    def below(self, *components: str) -> Iterator[FoundFile]:
        """Everything below a folder, folders before what is in them. One that is not there has nothing."""
        opened: list[int] = []
        try:
            descriptor = os.open(self.top, _FOLDER)
            opened.append(descriptor)
            for name in components:
                descriptor = os.open(name, _FOLDER, dir_fd=descriptor)
                opened.append(descriptor)
        except OSError as error:
            for each in opened:
                os.close(each)
            if not isinstance(error, FileNotFoundError):
                self.left_out.append("/".join(components))
            return
        try:
            yield FoundFile("/".join(components), os.fstat(descriptor))
            yield from self._entries(descriptor, "/".join(components), 0)
        finally:
            for each in opened:
                os.close(each)

    def _entries(self, folder: int, path: str, depth: int) -> Iterator[FoundFile]:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            here = f"{path}/{name}"
            if _is_skipped(name, path):
                continue
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    yield FoundFile(here, status, link=os.readlink(name, dir_fd=folder), folder=folder)
                elif stat.S_ISDIR(status.st_mode) and depth < DEEPEST:
                    child = os.open(name, _FOLDER, dir_fd=folder)
                    try:
                        yield FoundFile(here, status, folder=folder)
                        yield from self._entries(child, here, depth + 1)
                    finally:
                        os.close(child)
                elif stat.S_ISREG(status.st_mode):
                    file = os.open(name, FILE_FLAGS, dir_fd=folder)
                    try:
                        yield FoundFile(here, os.fstat(file), descriptor=file, folder=folder)
                    finally:
                        with suppress(OSError):
                            os.close(file)
                else:
                    self.left_out.append(here)
            except FileNotFoundError:
                continue  # it went away meanwhile
            except OSError:
                self.left_out.append(here)


def _is_skipped(name: str, path: str) -> bool:
    """What is made again, or belongs to a moment: a journal goes with its database or not at all."""
    if not path.startswith("sessions/"):
        return False
    return name in _MADE_AGAIN | JOURNALS or (name in _OF_A_RUN and path.endswith("/out"))


def is_agents(name: str) -> bool:
    """Whether what has this name in a backup is an agent's own: a workspace, or what lies in `out/`."""
    parts = name.split("/")
    return (parts[0] == "agents" and len(parts) > 1) or (parts[0] == "sessions" and "out" in parts[3:4])


def is_shared(name: str) -> bool:
    """Whether the agents' group may read it: a session folder and what the host keeps in it."""
    parts = name.split("/")
    return parts[0] == "sessions" and len(parts) > 2 and not is_agents(name)


def root_files(layout: DataLayout) -> list[Path]:
    """The files of the data folder itself that are taken as they are, and the settings."""
    return sorted(
        path
        for path in layout.data.iterdir()
        if path.is_file()
        and not path.is_symlink()
        and (path.name in WHOLE_FILES or path.name in SECRET_FILES or path.suffix == SETTINGS)
    )
