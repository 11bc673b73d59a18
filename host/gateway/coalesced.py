"""Asking for the same thing once for all who want to know it at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Coalesced(Generic[_T]):
    """Asks `ask` once at a time. An answer is never older than the question: who comes while it is being asked waits
    for the next one, together with all others who do.
    """

    def __init__(self, ask: Callable[[], Awaitable[_T]]) -> None:
        self._ask = ask
        self._current: asyncio.Future[_T] | None = None
        self._next: asyncio.Future[_T] | None = None

    async def get(self) -> _T:
        """An answer to a question that is asked from now on. Raises what `ask` does."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._after(self._current))
            # Its exception counts as retrieved also when no caller waits.
            self._next.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._next)

    async def _after(self, previous: asyncio.Future[_T] | None) -> _T:
        if previous is not None:
            await asyncio.wait([previous])
        self._current, self._next = self._next, None
        return await self._ask()
