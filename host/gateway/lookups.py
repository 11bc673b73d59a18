"""Looking up names in threads. The system's own way cannot be broken off: a look-up goes on after its deadline.

Invariant: no session has more than `OF_ONE` under way, also those that it does not wait for any more, and no pool is
shared: a session whose name servers hang takes no thread from another. The threads end with the process, which waits
for none of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias
from weakref import WeakValueDictionary

from host.gateway.policy import Address
from host.gateway.refusal import Reason, Refused

Find: TypeAlias = Callable[[str, int], list[Address]]
"""The addresses of a host at a port. May block; raises `OSError`."""

OF_ONE = 2
MOST = 128
"""Threads of all sessions together: more hang only when very many sessions do it."""


class Turns:
    """By session: how many names it may look up at a time. A session that begins anew has what its look-ups left."""

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, session_id: str) -> asyncio.Semaphore:
        """The turns of a session; kept for as long as one of its look-ups goes on."""
        return self._turns.setdefault(session_id, asyncio.Semaphore(OF_ONE))


class Lookups:
    """Looks up names with `find`."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._under_way = 0

    async def look_up(self, host: str, port: int, turn: asyncio.Semaphore) -> list[Address]:
        """The addresses of a host. The turn is over when the thread is. Raises what `find` does, and `Refused`."""
        await turn.acquire()
        if self._under_way >= MOST:
            turn.release()
            raise Refused(Reason.UNREACHABLE, "The host looks up too many names already.")
        self._under_way += 1
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Address]] = loop.create_future()

        def done(addresses: list[Address], error: Exception | None) -> None:
            self._under_way -= 1
            turn.release()
            if found.cancelled():
                return
            if error is None:
                found.set_result(addresses)
            else:
                found.set_exception(error)

        def work() -> None:
            addresses: list[Address] = []
            failed: Exception | None = None
            try:
                addresses = self._find(host, port)
            except Exception as error:  # told to who waits for it
                failed = error
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(done, addresses, failed)

        try:
            threading.Thread(target=work, name="gateway-name", daemon=True).start()
        except RuntimeError:  # the system has none left
            done([], Refused(Reason.UNREACHABLE, "The host has no thread left to look up a name."))
        return await found
