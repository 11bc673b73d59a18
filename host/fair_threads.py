"""Threads for work that foreign data makes long: of every owner one piece at a time.

`asyncio.to_thread` serves first come, first served; one session with many requests would have every thread. Here an
owner (a session, or the person at the command line) has one thread at most, and its other work waits in its own line.
Work that is cancelled while it waits is taken out of the line. What runs in a thread is not ended by that: it has its
own deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class FairThreads:
    """A pool of `threads`. Used from one event loop at a time, but for `close`."""

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, name)
        self._lines: dict[Hashable, _Line] = {}

    async def run(self, owner: Hashable, work: Callable[[], T]) -> T:
        """The result of `work`, done in a thread when what the owner asked before is done. None owns nothing."""
        owner = object() if owner is None else owner
        line = self._lines.setdefault(owner, _Line())
        line.length += 1
        try:
            async with line.turn:
                running = asyncio.get_running_loop().run_in_executor(self._executor, work)
                try:
                    return await asyncio.shield(running)
                except asyncio.CancelledError:
                    # The thread goes on: its owner has no other until it is done.
                    await asyncio.wait([running])
                    running.exception()  # retrieved here, since the caller has left
                    raise
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[owner]

    def close(self) -> None:
        """Wait for what runs. Blocks."""
        self._executor.shutdown()


class _Line:
    """Those who wait for one owner's turn."""

    __slots__ = ("length", "turn")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.length = 0
