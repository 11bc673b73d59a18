"""Waiting until `inbound.db` has changed.

Invariant: no wakeup is lost. `arm` comes before the read; each change after it ends the next `wait` at once. File
events only end a wait early; behind them the file itself is looked at every `poll_seconds`, and that alone is enough.

What is compared is the file's identity, size, time and SQLite's own change counter: two commits within one tick of the
file system's clock may leave size and time as they were.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import struct
import time
from pathlib import Path

from shared_schema.late_mount import sure_after

log = logging.getLogger("container_agent")

_IN_CLOSE_WRITE = 0x008
_IN_MOVED_TO = 0x080
_IN_DELETE = 0x200
_IN_Q_OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")  # wd, mask, cookie, length of the name that follows
_CHANGE_COUNTER = (4, 24)  # bytes and offset in the header of a database file

_QUICK_SECONDS = 0.05
_SHARE = 0.05
"""Of the time since something happened last: 5 s after it, four times a second."""
_COST = 10.0
"""How many times as long as a look took the next one is away: a slow mount, or a machine with too much to do, is looked
at less often."""
_AGAIN_SECONDS, _MOST_DOUBLED = 0.01, 10

Signature = tuple[int, int, int, bytes] | None


class Waker:
    """Watches one file. Made and used within a running event loop; `close` ends the watch.

    `adapts`: there are no events, so the file is looked at often just after something happened, and seldom at rest.
    """

    def __init__(self, path: Path, *, poll_seconds: float, use_events: bool, adapts: bool = False) -> None:
        self._path = path
        self._adapts = adapts
        self._active = time.monotonic()
        self._took = 0.0  # seconds of the last look
        self._names = (os.fsencode(path.name), os.fsencode(f"{path.name}-journal"))  # gone: a commit is done
        self.poll_seconds = poll_seconds
        self._told = False  # by `wake`
        self._news = asyncio.Event()  # something may have happened
        self._armed: Signature = None
        self._inotify = _inotify(path.parent) if use_events else None
        if self._inotify is not None:
            asyncio.get_running_loop().add_reader(self._inotify, self._take_events)

    def close(self) -> None:
        """End the watch."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = None

    def arm(self) -> None:
        """Remember how the file is now. Call it before reading."""
        self._told = False
        self._armed = _signature(self._path)

    @property
    def armed(self) -> Signature:
        """How the file was when `arm` was called last."""
        return self._armed

    def arm_as(self, signature: Signature) -> None:
        """Wait for a change of what was read earlier: `signature` is what `armed` said before that read."""
        self._armed = signature

    def wake(self) -> None:
        """End the present wait, or the next one."""
        self._told = True
        self._news.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until the file is not as it was when armed, until `wake`, or for `seconds`.

        On a mount that shows changes late it ends without any from time to time, so that the file is read again.
        """
        if self._adapts:
            longest = sure_after(self.poll_seconds, time.monotonic() - self._active)
            seconds = longest if seconds is None else min(seconds, longest)
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            self._news.clear()
            if self._told or self._has_changed():
                self._active = time.monotonic()
                return
            interval = self._interval()
            remaining = interval if deadline is None else deadline - time.monotonic()
            if remaining <= 0:
                return
            try:
                async with asyncio.timeout(min(remaining, interval)):
                    await self._news.wait()
            except TimeoutError:
                continue

    def again(self, attempts: int) -> float:
        """Seconds until a file that could not be read so many times in a row is read again.

        At first soon: a commit that is under way is over in milliseconds, and may have changed the file already that is
        waited for here.
        """
        return min(self.poll_seconds, _AGAIN_SECONDS * 2.0 ** min(attempts - 1, _MOST_DOUBLED))

    def _has_changed(self) -> bool:
        began = time.monotonic()
        has_changed = _signature(self._path) != self._armed
        self._took = time.monotonic() - began
        return has_changed

    def _interval(self) -> float:
        """Seconds until the file is looked at again. Without events: often just after something happened."""
        if not self._adapts:
            return self.poll_seconds
        since = time.monotonic() - self._active
        return min(self.poll_seconds, max(_QUICK_SECONDS, self._took * _COST, since * _SHARE))

    def _take_events(self) -> None:
        """Read what the kernel says; an event about our file, or events lost, mean that it may have changed."""
        assert self._inotify is not None
        try:
            data = os.read(self._inotify, 64 * 1024)
        except BlockingIOError:
            return
        while data:
            _, mask, _, length = _EVENT.unpack_from(data)
            if mask & _IN_Q_OVERFLOW or data[_EVENT.size : _EVENT.size + length].rstrip(b"\0") in self._names:
                self._news.set()
            data = data[_EVENT.size + length :]


def _signature(path: Path) -> Signature:
    """What changes with every commit; None while there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        return (status.st_ino, status.st_size, status.st_mtime_ns, os.pread(descriptor, *_CHANGE_COUNTER))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _inotify(folder: Path) -> int | None:
    """A descriptor that gets the events of a folder, or None where there is no such thing (macOS, some sandboxes)."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, AttributeError) as error:
        log.info("no file events here, polling instead: %s", error)
        return None
    if descriptor < 0:
        log.info("no file events here, polling instead: %s", os.strerror(ctypes.get_errno()))
        return None
    if libc.inotify_add_watch(descriptor, os.fsencode(folder), _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_DELETE) < 0:
        log.info("no file events here, polling instead: %s", os.strerror(ctypes.get_errno()))
        os.close(descriptor)
        return None
    return descriptor
