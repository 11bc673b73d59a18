"""Keeping history up to date, off the way of the messages.

Whoever changes a session's files says `touched`; one thread reads them once they have been quiet for a
moment, many sessions in one transaction. Whoever wants to read a session says `catch_up` first. With every call lost,
the comparison at the start of a host still finds what is new.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from host.history import reading, store
from host.history.record import Record
from host.history.store import State, Step
from shared_schema.errors import DumbwaiterError, FileBusy, FileTrouble
from shared_schema.ids import Prefix, is_id
from shared_schema.layout import DataLayout

log = logging.getLogger(__name__)

T = TypeVar("T")

QUIET_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 1.0
_RETRY_SECONDS = 2.0
_BATCH = 50
_CATCH_UP_SECONDS = 10.0


class History:
    """The searchable record of a data folder. Made anywhere; `start` sets the feeding going."""

    def __init__(self, layout: DataLayout) -> None:
        self._layout = layout
        self._record = Record(layout.history, self._all_is_lost)
        self._threads = ThreadPoolExecutor(2, "history-read")
        self._feeder: threading.Thread | None = None
        self._changed = threading.Condition()
        self._dirty: dict[str, _Dirty] = {}
        self._compare = True
        self._closing = False
        self.rebuilding = asyncio.Lock()
        self.skipped = 0
        self.unreadable = 0

    def start(self) -> None:
        """Begin to feed; first of all with what changed while nobody looked."""
        self._feeder = threading.Thread(target=self._feed, name="history-feed", daemon=True)
        self._feeder.start()

    def touched(self, session_id: str, agent_group_id: str) -> None:
        """Note that a session's files changed. Does not block; callable from anywhere."""
        now = time.monotonic()
        with self._changed:
            known = self._dirty.get(session_id)
            latest = now + LONGEST_WAIT_SECONDS if known is None else known.latest
            self._dirty[session_id] = _Dirty(agent_group_id, min(now + QUIET_SECONDS, latest), latest)
            if known is None:
                self._changed.notify()

    async def catch_up(self, session_id: str, agent_group_id: str) -> None:
        """Bring one session up to date, as far as its files can be read. Raises `FileTrouble` of history's own file."""
        await self._run(lambda: self.catch_up_here(session_id, agent_group_id))

    async def catch_up_all(self) -> None:
        """Bring up to date whatever is known to have changed; without a feeder, whatever has changed at all."""
        await self._run(self._catch_up_all)

    async def read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function on one snapshot of history. Raises what it raises, or `FileTrouble`."""
        return await self._run(lambda: self.read_here(run))

    async def forget(self, session_id: str) -> None:
        """Remove all that is known of a session."""
        await self._run(lambda: self.forget_here(session_id))

    async def close(self) -> None:
        """Stop feeding. What is left is found by the next host."""
        await asyncio.to_thread(self.close_here)

    def replace(self, draft: Path) -> None:
        """Take a file that was made anew; what changed meanwhile is read into it."""
        self._record.replace(draft)
        self._all_is_lost()

    def read_here(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """The same as `read`, in this thread."""
        return self._record.read(run)

    def forget_here(self, session_id: str) -> None:
        """The same as `forget`, in this thread."""
        with self._changed:
            self._dirty.pop(session_id, None)
        self._record.write(lambda c: store.forget(c, session_id))

    def catch_up_here(self, session_id: str, agent_group_id: str) -> None:
        """The same as `catch_up`, in this thread."""
        deadline = time.monotonic() + _CATCH_UP_SECONDS
        while time.monotonic() < deadline:
            step = self._read(session_id, agent_group_id)
            if step is None:
                return
            self._record.write(lambda c, step=step: store.add(c, [step]))  # type: ignore[misc]
            if step.after.signature is not None or not _goes_on(step):
                return

    def _catch_up_all(self) -> None:
        if self._feeder is None:
            self._record.read(lambda _: None)
            self._compare = False
            self._find_changed()
        with self._changed:
            left = list(self._dirty)
        while left:
            with self._changed:
                due = {name: self._dirty.pop(name).agent_group_id for name in left[:_BATCH] if name in self._dirty}
            self._take(due)
            left = left[_BATCH:]

    async def _run(self, run: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    def _read(self, session_id: str, agent_group_id: str) -> Step | None:
        """What is new in a session; None when nothing is, or it cannot be read."""
        layout = self._layout.session(agent_group_id, session_id)
        before = self._record.read(lambda c: store.state(c, session_id))
        try:
            signature: str | None = reading.signature(layout)
            if before is not None and before.signature == signature:
                return None
            cursors = reading.Cursors() if before is None else before.cursors
            found = reading.read(layout, session_id, cursors)
        except (FileTrouble, OSError) as error:
            self.unreadable += 1
            log.debug("a session cannot be read for history", extra={"session": session_id, "error": str(error)})
            return None
        self.skipped += found.skipped
        if found.trouble is not None:
            self.unreadable += 1
        if found.more or isinstance(found.trouble, FileBusy):
            signature = None
        after = State(agent_group_id, signature, found.cursors)
        return Step(session_id, before, after, found.entries, found.steps_begin_anew)

    def _all_is_lost(self) -> None:
        with self._changed:
            self._compare = True
            self._changed.notify()

    def close_here(self) -> None:
        """The same as `close`, in this thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._feeder is not None:
            self._feeder.join()
        self._threads.shutdown()
        self._record.close()

    def _feed(self) -> None:
        """The feeding thread, until `close`."""
        while not self._closing:
            try:
                if self._compare:
                    self._compare = False
                    self._find_changed()
                due = self._due()
                if due:
                    began = time.monotonic()
                    self._take(due)
                    self._leave_to_others(time.monotonic() - began)
            except (DumbwaiterError, OSError) as error:  # history's own file: a full disk, for instance
                log.warning("history cannot be written", extra={"error": str(error)})
                with self._changed:
                    self._compare = True
                    self._changed.wait_for(lambda: self._closing, _RETRY_SECONDS)

    def _due(self) -> dict[str, str]:
        """Sessions that have been quiet for long enough, with their agent groups; waits for the first."""
        with self._changed:
            while not self._closing and not self._compare:
                now = time.monotonic()
                due = [session_id for session_id, dirty in self._dirty.items() if dirty.due <= now][:_BATCH]
                if due:
                    return {session_id: self._dirty.pop(session_id).agent_group_id for session_id in due}
                following = min((dirty.due for dirty in self._dirty.values()), default=None)
                self._changed.wait(None if following is None else following - now)
        return {}

    def _take(self, due: dict[str, str]) -> None:
        """Read some sessions and store what is new in one transaction."""
        steps = [step for item in due.items() if (step := self._read(*item)) is not None]
        if steps:
            self._record.write(lambda c: store.add(c, steps))
        for step in steps:
            if step.after.signature is None:  # there is more, or its agent is in mid-commit
                self._again(step, 0.0 if _goes_on(step) else _RETRY_SECONDS)

    def _leave_to_others(self, seconds: float) -> None:
        """Rest for as long as the last sessions took: where there is much to read, nobody else is to notice."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing, min(seconds, LONGEST_WAIT_SECONDS))

    def _again(self, step: Step, seconds: float) -> None:
        due = time.monotonic() + seconds
        with self._changed:
            self._dirty.setdefault(step.session_id, _Dirty(step.after.agent_group_id, due, due))

    def _find_changed(self) -> None:
        """Compare all sessions with what is known of them; forget those whose folder is gone."""
        known = self._record.read(store.signatures)
        for agent_group_id, session_id in session_folders(self._layout):
            if self._closing:
                return
            try:
                same = known.pop(session_id, "") == reading.signature(self._layout.session(agent_group_id, session_id))
            except FileTrouble:
                same = False
            if not same:
                self.touched(session_id, agent_group_id)
        for session_id in known:
            self._record.write(lambda c, session_id=session_id: store.forget(c, session_id))  # type: ignore[misc]


class _Dirty:
    """A session to be read: when, and at the latest when, on the monotonic clock."""

    __slots__ = ("agent_group_id", "due", "latest")

    def __init__(self, agent_group_id: str, due: float, latest: float) -> None:
        self.agent_group_id = agent_group_id
        self.due = due
        self.latest = latest


def session_folders(layout: DataLayout) -> Iterator[tuple[str, str]]:
    """The sessions that have a folder: agent group and session id."""
    for agent_group in _names(layout.sessions):
        if is_id(agent_group, Prefix.AGENT_GROUP):
            for session in _names(layout.sessions / agent_group):
                if is_id(session, Prefix.SESSION):
                    yield agent_group, session


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _goes_on(step: Step) -> bool:
    """Whether a pass that did not come to the end got anywhere."""
    return bool(step.before is None or step.before.cursors != step.after.cursors)
