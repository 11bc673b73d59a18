"""What stands in the workspace of an agent, for its heartbeat. It is the agent's: read without following a link."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from host.schedules.heartbeat import FILE, MOST_BYTES, HeartbeatFacts
from host.sessions.untrusted_files import entries_below, opened_file, opened_folder
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
    newest = 0.0
    with suppress(OSError, DumbwaiterError), opened_folder(workspace) as folder:
        below = entries_below(folder, max_depth=_MOST_DEPTH, passed_over=_PASSED_OVER)
        for entry in islice(below, _MOST_ENTRIES):
            if entry.is_file:
                newest = max(newest, entry.status.st_mtime)
    try:
        return datetime.fromtimestamp(newest, UTC) if newest else None
    except (OverflowError, ValueError, OSError):  # a time that the agent has made up
        return None
