"""Hints by watchfiles, on every system it knows.

Its watcher sleeps in steps, so the step is short only while a person waits for an answer, and changes are collected for
a moment only, so that an agent that writes without end does not hold up the others' hints. This is the only module that
imports watchfiles.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from watchfiles._rust_notify import (  # documented: watchfiles.helpmanual.io/api/rust_backend
    RustNotify,
    WatchfilesRustInternalError,
)

from shared_schema.layout import OUTBOUND

log = logging.getLogger(__name__)

BUSY_STEP_MS = 1
IDLE_STEP_MS = 5
_DEBOUNCE_MS = 3
_BUSY_TIMEOUT_MS = 500
_IDLE_TIMEOUT_MS = 60_000


class WatchfilesWatcher:
    """Calls `hint(session id)` in the event loop soon after the session's `outbound.db` has changed.

    `is_busy` says whether a person waits for an answer; `poll_now` that this may have changed.
    """

    def __init__(self, hint: Callable[[str], None], is_busy: Callable[[], bool]) -> None:
        self._hint = hint
        self._is_busy = is_busy
        self._loop = asyncio.get_running_loop()
        self._folders: dict[str, str] = {}
        self._version = 0
        self._interrupt = threading.Event()
        self._is_slow = True
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def watch(self, folders: Mapping[Path, str]) -> None:
        """Watch these folders (folder → session id) from now on, and no others."""
        self._folders = {str(folder): session_id for folder, session_id in folders.items()}
        self._version += 1
        self._interrupt.set()

    def poll_now(self) -> None:
        """A person has begun to wait: shorten the step, if it is not short already."""
        if self._is_slow:
            self._interrupt.set()

    async def close(self) -> None:
        """Stop watching."""
        self._closing = True
        self._interrupt.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while not self._closing:
            version, folders = self._version, self._folders
            if not folders:
                self._interrupt.wait()
                self._interrupt.clear()
                continue
            try:
                self._watch(version, folders)
            except (
                OSError,
                WatchfilesRustInternalError,
            ) as error:  # a folder went away, or the system's watches are used up: polling goes on
                log.warning("file notifications do not work at the moment", extra={"error": str(error)})
                self._interrupt.wait(5.0)
                self._interrupt.clear()

    def _watch(self, version: int, folders: Mapping[str, str]) -> None:
        present = [folder for folder in folders if Path(folder).is_dir()]
        with RustNotify(present, False, False, 0, False, False) as notify:
            self._tell_each(folders)  # what changed before the watch began
            while not self._closing and version == self._version:
                busy = self._is_busy()
                self._is_slow = not busy
                changes = notify.watch(
                    _DEBOUNCE_MS,
                    BUSY_STEP_MS if busy else IDLE_STEP_MS,
                    _BUSY_TIMEOUT_MS if busy else _IDLE_TIMEOUT_MS,
                    self._interrupt,
                )
                if isinstance(changes, set):
                    self._tell_changed(changes, folders)
                elif changes == "stop":
                    self._interrupt.clear()
                    self._tell_each(folders)  # an interrupted watch forgets what it has seen

    def _tell_each(self, folders: Mapping[str, str]) -> None:
        for session_id in folders.values():
            self._tell(session_id)

    def _tell_changed(self, changes: set[tuple[int, str]], folders: Mapping[str, str]) -> None:
        for path in {path for _, path in changes}:
            folder, _, name = path.rpartition("/")
            if name == OUTBOUND and (session_id := folders.get(folder)) is not None:
                self._tell(session_id)

    def _tell(self, session_id: str) -> None:
        if not self._closing:
            self._loop.call_soon_threadsafe(self._hint, session_id)
