"""Commands on their way: what is written in a chat after one waits until it is done, for a while.

Otherwise a message that comes right behind `/new` would still belong to the conversation which that ends, and be
cancelled with it. Platforms hand over at once what was written while the host was away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import field

from host.central.deliveries import Chat
from shared_schema.dataclass import dataclass


@dataclass(slots=True, eq=False)
class Arrival:
    """One command in one chat; `left` are the ids of its messages, one for each agent group, that are not done."""

    chat: Chat
    over: asyncio.Event = field(default_factory=asyncio.Event)
    left: set[str] = field(default_factory=set)


class OpenCommands:
    """All commands on their way. Messages wait for them only while an executor carries them out (`is_served`).

    A platform waits no longer than `patience` (seconds) for the receipt of a message because a command takes long.
    """

    def __init__(self, patience: float = 2.0) -> None:
        self.is_served = False
        self._patience = patience
        self._arrivals: dict[Arrival, None] = {}
        self._of_message: dict[str, Arrival] = {}

    def arrive(self, chat: Chat) -> Arrival:
        """A command is about to be accepted."""
        arrival = Arrival(chat)
        self._arrivals[arrival] = None
        return arrival

    def accepted(self, arrival: Arrival, message_ids: Collection[str]) -> None:
        """It was, under these ids; with none it is over."""
        if self.is_served:
            arrival.left.update(message_ids)
            self._of_message.update(dict.fromkeys(message_ids, arrival))
        self._end_if_done(arrival)

    def done(self, message_id: str) -> None:
        """What a command decides is decided. Saying it again has no effect."""
        arrival = self._of_message.pop(message_id, None)
        if arrival is not None:
            arrival.left.discard(message_id)
            self._end_if_done(arrival)

    async def passed(self, chat: Chat) -> None:
        """Wait for the commands that are on their way in a chat, but not for long."""
        before = [arrival.over for arrival in self._arrivals if arrival.chat == chat]
        if not before or not self.is_served:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                for over in before:
                    await over.wait()

    def _end_if_done(self, arrival: Arrival) -> None:
        if not arrival.left:
            self._arrivals.pop(arrival, None)
            arrival.over.set()
