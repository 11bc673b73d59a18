"""The page's switch: a command or the start of the host turns it on, and the host serves the page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared_schema.errors import Conflict

Serve = Callable[[], Awaitable[str]]


class PageSwitch:
    """Serves the page once, however many ask for it. `provider` is set by the process that can serve one."""

    def __init__(self) -> None:
        self.provider: Serve | None = None
        self.address: str | None = None
        """Where the page is (`http://127.0.0.1:8384`), while it is served."""
        self._turning = asyncio.Lock()

    async def on(self) -> str:
        """Serve the page, unless it is served already; its address. Raises what serving it raises."""
        if self.provider is None:
            raise Conflict("no host runs that could serve the page")
        async with self._turning:
            if self.address is None:
                self.address = await self.provider()
            return self.address
