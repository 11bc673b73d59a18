"""What stands in the workspace of an agent, for its heartbeat. It is the agent's: read without following a link."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from host.schedules.heartbeat import FILE, MOST_BYTES, HeartbeatFacts
from host.sessions.untrusted_files import opened_file, opened_folder
from shared_schema.errors import DumbwaiterError

_MOST_ENTRIES = 5_000
_MOST_DEPTH = 8
_PASSED_OVER = frozenset({".git", "node_modules", "__pycache__", ".venv"})


def look(workspace: Path) -> HeartbeatFacts:
    """The text of `HEARTBEAT.md`, and when a file of the workspace changed last (of the first thousands). Blocks."""
    return HeartbeatFacts(_text(workspace), _changed_at(workspace))


def _text(workspace: Path) -> str | None:
    try:
        with (
            opened_folder(workspace) as folder,
            opened_file(folder, FILE, max_bytes=MOST_BYTES) as descriptor,
        ):
            return os.read(descriptor, MOST_BYTES).decode("utf-8", "replace").replace("\0", "\ufffd")
    except (OSError, DumbwaiterError):
        return None


def _changed_at(workspace: Path) -> datetime | None:
    """The newest change of a regular file, in UTC."""
    newest, left = 0.0, _MOST_ENTRIES
    folders: list[tuple[str, int]] = [(str(workspace), 0)]
    while folders and left > 0:
        path, depth = folders.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    left -= 1
                    if left <= 0:
                        break
                    if entry.is_dir(follow_symlinks=False):
                        if depth < _MOST_DEPTH and entry.name not in _PASSED_OVER:
                            folders.append((entry.path, depth + 1))
                    elif entry.is_file(follow_symlinks=False):
                        newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
        except OSError:  # the agent takes it away at this moment
            continue
    try:
        return datetime.fromtimestamp(newest, UTC) if newest else None
    except (OverflowError, ValueError, OSError):  # a time that the agent has made up
        return None
