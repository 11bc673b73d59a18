"""New files in a folder of an agent's workspace. It is the agent's: no link is followed, and the number is bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from host.sessions.untrusted_files import opened_folder
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.text import is_all_shown

_MOST_FILES = 2_000
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".swp", "~")


def valid_folder(text: str) -> str:
    """A folder below the workspace, as it is stored. Raises `InvalidValue`."""
    path = PurePosixPath(text.removeprefix("/workspace/"))
    is_good = bool(path.parts) and not path.is_absolute() and ".." not in path.parts and len(text) <= 200
    if not is_good or not is_all_shown(text):
        raise InvalidValue(f"'{text[:80]}' is not a folder of the workspace", hint="write it as inbox, or mail/new")
    return str(path)


def files(workspace: Path, folder: str, pattern: str | None) -> dict[str, str]:
    """The regular files of a folder that fit a pattern: their keys (name, time and size), and their paths. Blocks."""
    return dict(_files(workspace, folder, pattern))


def _files(workspace: Path, folder: str, pattern: str | None) -> Iterator[tuple[str, str]]:
    try:
        with opened_folder(workspace, *PurePosixPath(folder).parts) as descriptor, os.scandir(descriptor) as entries:
            for number, entry in enumerate(entries):
                if number >= _MOST_FILES:
                    return
                if entry.name.startswith(".") or entry.name.endswith(_UNFINISHED):
                    continue
                if not entry.is_file(follow_symlinks=False) or not is_all_shown(entry.name):
                    continue
                if pattern is not None and not fnmatchcase(entry.name, pattern):
                    continue
                status = entry.stat(follow_symlinks=False)
                yield f"{entry.name}/{status.st_mtime_ns}/{status.st_size}", f"{folder}/{entry.name}"
    except (OSError, DumbwaiterError):  # it is not there, or not a folder
        return
