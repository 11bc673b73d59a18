"""A chat platform that looks at the clock the moment it is handed a message."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

from host.channels.memory import MemoryChannel
from host.channels.protocol import Outgoing


class Platform(MemoryChannel):
    """Takes everything. Each message is kept with the time at which `deliver` was called, before anybody is woken."""

    clock = staticmethod(time.perf_counter)

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[tuple[Outgoing, float]] = []
        self._by_chat: defaultdict[str, asyncio.Queue[tuple[Outgoing, float]]] = defaultdict(asyncio.Queue)

    async def deliver(self, message: Outgoing) -> str | None:
        arrival = (message, self.clock())
        self.arrivals.append(arrival)
        self._by_chat[message.address.platform_id].put_nowait(arrival)
        return f"bench-{len(self.arrivals)}"

    async def next_in(self, chat: str, seconds: float = 120.0) -> tuple[Outgoing, float]:
        """The next message of a chat, and when it came. Raises `TimeoutError`.

        That long because a first message may wait a minute for a processor where ten agents start at a load of 18.
        """
        async with asyncio.timeout(seconds):
            return await self._by_chat[chat].get()
