"""Between the operations on hooks and what posts to them: the one says that there is something new, the other sends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Attempt = Callable[[str], Awaitable[str | None]]


class HookSwitch:
    """`changed` is set when hooks are added or removed; `attempt` is set by the process that can post to them.

    It posts a test to the hook with an id, and returns why it was not taken; None: it was.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.attempt: Attempt | None = None
