"""Keeping history up to date, off the way of the messages.

Code that changes a session's files calls `touched`; one thread reads them once they have been quiet for a moment, many
sessions in one transaction. Code that reads a session's history calls `catch_up` first. With every call lost, the
comparison at the start of a host still finds what is new.

A session is on the list (`_dirty`) or under way (`_under_way`) until what is new in it is stored: a search meanwhile
waits for it, or says that something may be missing. What cannot be read this time goes back on the list.

An agent may write faster than it is read, and as much as its disk holds. So everything has a deadline at which the work
itself ends, a session brings at most `reading.MAX_BYTES` at a time, and all that is read and not yet stored has at most
`_BATCH_BYTES`. Of each session one thing is done at a time (host/fair_threads.py).
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import TypeVar

from host.fair_threads import FairThreads
from host.history import reading, store
from host.history.intake import HourlyIntake, size_of
from host.history.record import Record
from host.history.store import State, StoredStep
from shared_schema.errors import DumbwaiterError, FileBusy, FileTrouble
from shared_schema.ids import Prefix, is_id
from shared_schema.layout import DataLayout
from shared_schema.system_errors import words_of

log = logging.getLogger(__name__)

T = TypeVar("T")

_HOUR_ROWS, _HOUR_BYTES = 100_000, 256 * 1024**2
_ROWS, _BYTES = 1_000_000, 2 * 1024**3

QUIET_SECONDS = 0.3
LONGEST_WAIT_SECONDS = 1.0
_RETRY_SECONDS = 2.0
_BATCH = 50
_BATCH_BYTES = 16_000_000
_BATCH_SECONDS = 0.3
CATCH_UP_SECONDS = 2.0
"""How long a reader waits for what is new. One session's agent can make it as long."""
_BUSY_SECONDS = 0.05


class History:
    """The searchable record of a data folder. Made anywhere; `start` sets the feeding going."""

    def __init__(
        self,
        layout: DataLayout,
        *,
        hour_rows: int = _HOUR_ROWS,
        hour_bytes: int = _HOUR_BYTES,
        rows: int = _ROWS,
        bytes: int = _BYTES,
    ) -> None:
        self._layout = layout
        self.intake = HourlyIntake(hour_rows, hour_bytes, rows, bytes)
        self._record = Record(layout.history, self._all_is_lost)
        self._threads = FairThreads(2, "history-read")
        self._feeder: threading.Thread | None = None
        self._changed = threading.Condition()
        self._dirty: dict[str, _Dirty] = {}
        self._under_way: Counter[str] = Counter()
        self._group_under_way: dict[str, str] = {}
        self._compare = True
        self._comparing = False
        self._closing = False
        self.rebuilding = asyncio.Lock()
        self.skipped = 0
        self.unreadable = 0

    def start(self) -> None:
        """Begin to feed; first of all with what changed while no host ran."""
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

    async def catch_up(self, session_id: str, agent_group_id: str) -> bool:
        """Bring one session up to date, as far as its files can be read in two seconds; whether that was all.

        Raises `FileTrouble` of history's own file.
        """
        return await self._threads.run(session_id, lambda: self.catch_up_here(session_id, agent_group_id))

    async def catch_up_all(self, agent_groups: Collection[str] | None = None, *, owner: Hashable = None) -> bool:
        """Bring up to date what is known to have changed; without a feeder, everything that has changed at all.

        `agent_groups` are the ids of those whose sessions matter; None: all. `owner` is the agent that asks, which has
        one thread at a time; None: a person. False when something may be missing: it could not be read in two seconds,
        or not at all at the moment.
        """
        return await self._threads.run(owner, lambda: self.catch_up_all_here(agent_groups))

    async def read(self, run: Callable[[sqlite3.Connection], T], *, owner: Hashable = None) -> T:
        """Run a function on one snapshot of history. Raises what it raises, or `FileTrouble`."""
        return await self._threads.run(owner, lambda: self.read_here(run))

    async def forget(self, session_id: str) -> None:
        """Remove all that is known of a session."""
        await self._threads.run(session_id, lambda: self.forget_here(session_id))

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
        self.intake.forget(session_id)
        self._record.write(lambda c: store.forget(c, session_id))

    def catch_up_here(self, session_id: str, agent_group_id: str, seconds: float = CATCH_UP_SECONDS) -> bool:
        """The same as `catch_up`, in this thread."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            step, is_busy = self._read(session_id, agent_group_id, deadline)
            if step is None:
                return not is_busy
            self._record.write(lambda c, step=step: store.add(c, [step]))  # type: ignore[misc]
            if step.after.signature is not None:
                return True
            if not _goes_on(step):
                return False
        return False

    def catch_up_all_here(self, agent_groups: Collection[str] | None = None, seconds: float = CATCH_UP_SECONDS) -> bool:
        """The same as `catch_up_all`, in this thread."""
        deadline = time.monotonic() + seconds
        if self._feeder is None:
            self._record.read(lambda _: None)
            self._compare = False
            self._find_changed(agent_groups, deadline)
        wanted = self._changed_of(agent_groups)
        busy: Counter[str] = Counter()
        missed: set[str] = set()
        while wanted and time.monotonic() < deadline and not self._closing:
            with self._changed:
                names = [name for name in wanted if name in self._dirty][:_BATCH]
                due = {name: self._dirty[name].agent_group_id for name in names}
                self._begin(due)
            if not due:
                wanted = self._waited_for(wanted, deadline)
                continue
            found = self._take(due, deadline)
            wanted -= {name for name, progress in found.items() if progress is Progress.DONE}
            busy.update(name for name, progress in found.items() if progress is Progress.BUSY)
            missed |= {name for name, tries in busy.items() if tries > 1}
            wanted -= missed
            if Progress.BUSY in found.values():
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, _BUSY_SECONDS)  # as long as a commit may take
        with self._changed:
            return not wanted and not missed and not self._compare and not self._comparing

    def _waited_for(self, wanted: set[str], deadline: float) -> set[str]:
        """Wait until one of the sessions, which are all under way in other threads, is not any more; what is left."""
        with self._changed:
            left = max(0.0, deadline - time.monotonic())
            self._changed.wait_for(lambda: self._closing or self._is_settled(wanted), left)
            return {name for name in wanted if name in self._dirty or name in self._under_way}

    def _changed_of(self, agent_groups: Collection[str] | None) -> set[str]:
        """The sessions in which something may be new: on the list, or under way."""
        with self._changed:
            changed = {name: dirty.agent_group_id for name, dirty in self._dirty.items()} | self._group_under_way
        return {name for name, group in changed.items() if agent_groups is None or group in agent_groups}

    def _is_settled(self, wanted: set[str]) -> bool:
        """Whether one of these sessions is not under way any more."""
        return any(name in self._dirty or name not in self._under_way for name in wanted)

    def _begin(self, due: Mapping[str, str]) -> None:
        """Take sessions off the list that are read now; the lock is held. `_take` ends that."""
        for name, group in due.items():
            del self._dirty[name]
            self._under_way[name] += 1
            self._group_under_way[name] = group

    def _read(self, session_id: str, agent_group_id: str, deadline: float) -> tuple[StoredStep | None, bool]:
        """What is new in a session; None when nothing is, or it cannot be read. And whether it can be read later."""
        if not self.intake.has_room(session_id, time.monotonic()):
            return None, True
        layout = self._layout.session(agent_group_id, session_id)
        before = self._record.read(lambda c: store.state(c, session_id))
        taken = (0, 0) if before is None else before.taken
        if self.intake.is_filled(session_id, taken):
            return None, True
        try:
            signature: str | None = reading.signature(layout)
            if before is not None and before.signature == signature:
                return None, False
            cursors = reading.Cursors() if before is None else before.cursors
            found = reading.read(layout, session_id, cursors, deadline=deadline)
        except (FileTrouble, OSError) as error:
            self.unreadable += 1
            log.debug("a session cannot be read for history", extra={"session_id": session_id, "error": str(error)})
            return None, isinstance(error, FileBusy)
        except Exception:  # the boundary of one session: history goes on with the others
            self.unreadable += 1
            log.exception("a session cannot be read for history", extra={"session_id": session_id})
            return None, False
        self.skipped += found.skipped
        self.intake.took(session_id, found.entries, time.monotonic())
        if found.trouble is not None:
            self.unreadable += 1
        if found.more or isinstance(found.trouble, FileBusy):
            signature = None
        taken = (taken[0] + len(found.entries), taken[1] + size_of(found.entries))
        after = State(agent_group_id, signature, found.cursors, taken)
        return StoredStep(session_id, before, after, found.entries, found.steps_begin_anew, found.bytes), False

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
        self._threads.close()
        self._record.close()

    def _feed(self) -> None:
        """The feeding thread, until `close`."""
        while not self._closing:
            try:
                if self._compare:
                    with self._changed:
                        self._compare, self._comparing = False, True
                    self._find_changed()
                    self._comparing = False
                due = self._due()
                if due:
                    began = time.monotonic()
                    self._take(due)
                    self._leave_to_others(time.monotonic() - began)
            except Exception as error:  # history's own file: a full disk, for instance. Without this thread it ends
                foreseen = isinstance(error, DumbwaiterError | OSError)
                log.warning(
                    "history cannot be written", extra={"error": str(error)}, exc_info=None if foreseen else error
                )
                with self._changed:
                    self._compare, self._comparing = True, False
                    self._changed.wait_for(lambda: self._closing, _RETRY_SECONDS)

    def _due(self) -> dict[str, str]:
        """Sessions that have been quiet for long enough, with their agent groups; waits for the first."""
        with self._changed:
            while not self._closing and not self._compare:
                now = time.monotonic()
                names = [session_id for session_id, dirty in self._dirty.items() if dirty.due <= now][:_BATCH]
                if names:
                    due = {session_id: self._dirty[session_id].agent_group_id for session_id in names}
                    self._begin(due)
                    return due
                following = min((dirty.due for dirty in self._dirty.values()), default=None)
                self._changed.wait(None if following is None else following - now)
        return {}

    def _take(self, due: Mapping[str, str], deadline: float | None = None) -> dict[str, Progress]:
        """Read some sessions and store what is new in one transaction; how far each is of those that were read.

        They are under way until then. What was not stored, for whichever reason, goes back on the list.
        """
        began = time.monotonic()
        latest = min(began + _BATCH_SECONDS, deadline or math.inf)
        left = dict(due)
        steps: list[StoredStep] = []
        found: dict[str, Progress] = {}
        try:
            for session_id, agent_group_id in due.items():
                if sum(step.bytes for step in steps) > _BATCH_BYTES or (found and time.monotonic() > latest):
                    break
                step, is_busy = self._read(session_id, agent_group_id, deadline or began + CATCH_UP_SECONDS)
                steps += [] if step is None else [step]
                if step is not None and step.after.signature is None:  # there is more, or its agent is in mid-commit
                    found[session_id] = Progress.MORE if _goes_on(step) else Progress.BUSY
                else:
                    found[session_id] = Progress.BUSY if is_busy else Progress.DONE
            if steps:
                self._record.write(lambda c: store.add(c, steps))
            for session_id, progress in found.items():
                self._settled(session_id, left.pop(session_id), progress)
        finally:
            for session_id, agent_group_id in left.items():
                self._settled(session_id, agent_group_id, Progress.MORE)
        return found

    def _settled(self, session_id: str, agent_group_id: str, progress: Progress) -> None:
        """A session is not under way any more, and back on the list where it is not done.

        In one step: at no moment is a session with something new neither on the list nor under way.
        """
        with self._changed:
            if progress is not Progress.DONE:
                due = time.monotonic() + (_RETRY_SECONDS if progress is Progress.BUSY else 0.0)
                self._dirty.setdefault(session_id, _Dirty(agent_group_id, due, due))
            self._under_way[session_id] -= 1
            if not self._under_way[session_id]:
                del self._under_way[session_id], self._group_under_way[session_id]
            self._changed.notify_all()

    def _leave_to_others(self, seconds: float) -> None:
        """Rest for as long as the last sessions took, so that much reading does not slow down the rest of the host."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing, min(seconds, LONGEST_WAIT_SECONDS))

    def _find_changed(self, agent_groups: Collection[str] | None = None, deadline: float | None = None) -> None:
        """Compare sessions with what is known of them; forget those whose folder is gone.

        What is not compared before the deadline is compared the next time. Raises `FileTrouble`.
        """
        known = self._record.read(store.signatures)
        failures: list[FileTrouble] = []
        for agent_group_id, session_id in session_folders(self._layout, failures.append):
            if self._closing:
                return
            if deadline is not None and time.monotonic() > deadline:
                self._compare = True
                return
            before = known.pop(session_id, "")
            if agent_groups is not None and agent_group_id not in agent_groups:
                continue
            try:
                same = before == reading.signature(self._layout.session(agent_group_id, session_id))
            except FileTrouble:
                same = False
            if not same:
                self.touched(session_id, agent_group_id)
        if failures:  # what could not be seen need not be gone
            self.unreadable += len(failures)
            log.warning("folders of sessions cannot be looked into", extra={"error": str(failures[0])})
            return
        for session_id in known:
            self._record.write(lambda c, session_id=session_id: store.forget(c, session_id))  # type: ignore[misc]


class Progress(Enum):
    """How far a session was read: to its end; not to its end; not at all, because its agent is in mid-commit."""

    DONE = auto()
    MORE = auto()
    BUSY = auto()


class _Dirty:
    """A session to be read: when, and at the latest when, on the monotonic clock."""

    __slots__ = ("agent_group_id", "due", "latest")

    def __init__(self, agent_group_id: str, due: float, latest: float) -> None:
        self.agent_group_id = agent_group_id
        self.due = due
        self.latest = latest


def session_folders(layout: DataLayout, failed: Callable[[FileTrouble], object]) -> Iterator[tuple[str, str]]:
    """The sessions that have a folder: agent group and session id.

    `failed` is told of an agent group's folder that cannot be looked into. Raises `FileTrouble` for that of them all.
    """
    for agent_group in _names(layout.sessions):
        if is_id(agent_group, Prefix.AGENT_GROUP):
            try:
                names = _names(layout.sessions / agent_group)
            except FileTrouble as error:
                failed(error)
                continue
            for session in names:
                if is_id(session, Prefix.SESSION):
                    yield agent_group, session


def _names(folder: Path) -> list[str]:
    """What lies in a folder; nothing where it is not there. Raises `FileTrouble`."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise FileTrouble(f"the folder cannot be looked into: {words_of(error)}", where=folder) from error


def _goes_on(step: StoredStep) -> bool:
    """Whether a pass that did not come to the end got anywhere."""
    return bool(step.before is None or step.before.cursors != step.after.cursors)
