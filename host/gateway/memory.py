"""How many bytes the gateway keeps for a session: what arrived and waits, and what waits to be sent.

Invariant: no session keeps more than its part of `ALL`, but for what one read of a connection brings. Who has its part
is not read from until it has less: the rest waits with the system, and its sender with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

ALL = 48 * 1024**2
"""Bytes of all sessions together."""
OF_ONE = 16 * 1024**2
FEWEST = 1024**2
"""That a session has in any case, however many there are."""
CONNECTION = 12 * 1024
"""What a connection takes before anything is said on it: objects of the loop, its task, its buffers."""
CALL = 48 * 1024
"""What a model call takes besides: its request and its answer, and the buffers of an encrypted connection."""


class Memory:
    """What all sessions keep."""

    def __init__(self, total: int = ALL) -> None:
        self._total = total
        self._accounts: set[MemoryAccount] = set()

    def new(self) -> MemoryAccount:
        """The account of one more session."""
        return MemoryAccount(self)

    @property
    def held(self) -> int:
        """Bytes that all sessions keep."""
        return sum(account.held for account in self._accounts)

    def part(self) -> int:
        """Bytes that each session may keep."""
        return max(FEWEST, min(OF_ONE, self._total // max(1, len(self._accounts))))

    def note(self, account: MemoryAccount) -> None:
        """A session keeps something, or nothing any more."""
        if account.held > 0:
            self._accounts.add(account)
        else:
            self._accounts.discard(account)


class MemoryAccount:
    """What one session keeps, in bytes."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._waiting: deque[Callable[[], None]] = deque()
        self._beginning: deque[asyncio.Future[None]] = deque()
        self._calls = 0
        self.held = 0

    @property
    def is_full(self) -> bool:
        """Whether the session may keep no more."""
        return self.held > self._memory.part()

    def take(self, number: int) -> None:
        """Count that so many bytes more are kept; fewer when it is below zero."""
        self.held += number
        self._memory.note(self)
        while self._waiting and not self.is_full:
            self._waiting.popleft()()
        while self._beginning and self._may_begin:
            if not (room := self._beginning.popleft()).done():
                room.set_result(None)  # who waits looks again, and waits on where another was faster

    def when_there_is_room(self, go_on: Callable[[], None]) -> None:
        """Call this once there is room, in the order of asking."""
        self._waiting.append(go_on)

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Room for a model call, once there is: a quarter stays free for what is on its way to those that began.

        One is always let begin: what fills the room may be the requests of those that wait for it.
        """
        while not self._may_begin:
            room = asyncio.get_running_loop().create_future()
            self._beginning.append(room)
            await room
        self._calls += 1
        self.take(CALL)
        try:
            yield
        finally:
            self._calls -= 1
            self.take(-CALL)

    @property
    def _may_begin(self) -> bool:
        return not self._calls or self.held + CALL <= self._memory.part() * 3 // 4
