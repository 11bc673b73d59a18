"""Hints by the kernel itself, on Linux: no thread, no step to wait for, and nothing to do while nothing happens.

An agent's commit ends with the removal of its journal (`journal_mode=DELETE`), so that is what is listened for: one
event for each commit, when there is something to read and not before. An agent that closes its file is heard by that.

Each folder has a queue of its own in the kernel, so an agent that makes events without end overflows only its own, and
it is listened to only so often. This is the only module that imports inotify_simple.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from inotify_simple import Event, INotify, flags, parse_events

from shared_schema.layout import OUTBOUND

log = logging.getLogger(__name__)

_EVENTS = flags.DELETE | flags.CLOSE_WRITE | flags.MOVED_TO | flags.ONLYDIR | flags.DONT_FOLLOW
_JOURNAL = f"{OUTBOUND}-journal"
_READ_BYTES = 4096
_BURST = 100
_PER_SECOND = 1000.0
"""How often one agent is listened to: more than a commit takes, and little enough for the others."""


class InotifyWatcher:
    """Calls `hint(session id)` soon after the session's `outbound.db` has changed. Made in a running event loop."""

    def __init__(self, hint: Callable[[str], None]) -> None:
        self._hint = hint
        self._ears: dict[Path, _Ear] = {}

    def watch(self, folders: Mapping[Path, str]) -> None:
        """Watch these folders (folder → session id) from now on, and no others. Each new one is hinted once."""
        for folder in self._ears.keys() - folders.keys():
            self._ears.pop(folder).close()
        for folder in folders.keys() - self._ears.keys():
            try:
                self._ears[folder] = _Ear(folder, folders[folder], self._hint)
            except OSError as error:  # no such folder, or no more of the kernel's queues: polling goes on
                log.warning(
                    "file notifications do not work for a session",
                    extra={"session_id": folders[folder], "error": error.strerror},
                )
            else:
                self._hint(folders[folder])  # what changed before the watch began

    def poll_now(self) -> None:
        """Nothing to do: it always listens."""

    async def close(self) -> None:
        """Stop watching."""
        self.watch({})


class _Ear:
    """Listens at one folder."""

    def __init__(self, folder: Path, session_id: str, hint: Callable[[str], None]) -> None:
        self._session_id = session_id
        self._hint = hint
        self._loop = asyncio.get_running_loop()
        self._credit = float(_BURST)
        self._counted = self._loop.time()
        self._deaf: asyncio.TimerHandle | None = None
        self._queue = INotify(nonblocking=True)
        try:
            self._queue.add_watch(folder, _EVENTS)
        except OSError:
            self._queue.close()
            raise
        self._listen()

    def close(self) -> None:
        if self._deaf is not None:
            self._deaf.cancel()
        else:
            self._loop.remove_reader(self._queue)
        self._queue.close()

    def _listen(self) -> None:
        self._deaf = None
        self._loop.add_reader(self._queue, self._hear)

    def _hear(self) -> None:
        events = parse_events(os.read(self._queue.fileno(), _READ_BYTES))
        if any(_means_news(event) for event in events):
            self._hint(self._session_id)
        now = self._loop.time()
        self._credit = min(_BURST, self._credit + (now - self._counted) * _PER_SECOND) - 1
        self._counted = now
        if self._credit < 0:
            self._loop.remove_reader(self._queue)
            self._deaf = self._loop.call_later(_BURST / _PER_SECOND, self._listen)


def _means_news(event: Event) -> bool:
    if event.mask & flags.DELETE:
        return bool(event.name == _JOURNAL)
    return bool(event.name == OUTBOUND or event.mask & flags.Q_OVERFLOW)
