"""Waiting on a condition, with a limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

STEP = 0.01
LIMIT = 60.0
ENDS_WITHIN = 10.0  # two are promised for `/stop`; a busy machine takes more, and what is stopped takes a minute


async def until(condition: Callable[[], Awaitable[T] | T], what: str, limit: float = LIMIT) -> T:
    """The first true value of the condition. Fails with `what` after `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {limit:g} s: {what}"
        await asyncio.sleep(STEP)


def until_sync(condition: Callable[[], T], what: str, limit: float = LIMIT) -> T:
    """The same without an event loop."""
    return asyncio.run(until(condition, what, limit))
