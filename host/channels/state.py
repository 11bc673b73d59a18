"""What one channel remembers, in central.db."""

from __future__ import annotations

from host.central import channel_state
from host.central.database import Central
from shared_schema.clock import Clock


class CentralState:
    """The `ChannelState` of the channel of that name."""

    def __init__(self, central: Central, clock: Clock, name: str) -> None:
        self._central = central
        self._clock = clock
        self._name = name

    async def get(self, key: str) -> str | None:
        return await self._central.read(channel_state.get, self._name, key)

    async def set(self, key: str, value: str) -> None:
        await self._central.write(channel_state.put, self._name, key, value)
