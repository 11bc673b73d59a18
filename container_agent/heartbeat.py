"""The sign of life: the age of `.heartbeat`.

Invariant: it is touched from the event loop that also runs the turns, so that a loop that hangs stops it. It is the
present run's alone: one that was superseded leaves it as it is.

Its content changes with its time, for a host that looks through a mount on which a time is seconds late.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from container_agent.fence import Fence, Superseded, no_fence

log = logging.getLogger("container_agent")

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Heartbeat:
    """Touches one file every `seconds`."""

    def __init__(self, path: Path, seconds: float, fence: Fence | None = None) -> None:
        self._fence = fence or no_fence()
        self._path = path
        self._seconds = seconds
        self._in_trouble = False

    def touch(self) -> None:
        """Touch it now. A link in its place is not followed. Trouble is logged once and tried again next time."""
        try:
            self._fence.look()
        except Superseded:  # the loop finds it too, and ends
            return
        try:
            descriptor = os.open(self._path, _FLAGS, 0o660)
            try:
                with suppress(OSError):  # a disk that is full still takes the time
                    os.pwrite(descriptor, b"%020d %020d\n" % (self._fence.run or 0, time.monotonic_ns()), 0)
                os.utime(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._in_trouble:
                log.warning("the heartbeat cannot be written: %s", error)
            self._in_trouble = True
        else:
            self._in_trouble = False

    async def beat(self) -> None:
        """Touch it from time to time until cancelled; who calls this has touched it just now."""
        while True:
            await asyncio.sleep(self._seconds)
            self.touch()
