"""A channel that keeps what it is given: the shipped fake, for tests and benchmarks of everything around channels.

It can be down, refuse, be slow, or break; it never needs to be patched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import field

from host.channels.protocol import (
    BaseChannel,
    Button,
    Capabilities,
    ChannelUnavailable,
    DeliveryRefused,
    Ingest,
    Outgoing,
)
from host.routing.event import Incoming, ReadReceipt, Receipt
from shared_schema.dataclass import dataclass
from shared_schema.rows import Address


@dataclass(slots=False)
class MemoryChannel(BaseChannel):
    """A platform in memory. `sent` has every message in the order of arrival; an idempotent one has each key once."""

    name: str = "memory"
    type: str = "memory"
    idempotent: bool = True
    sent: list[Outgoing] = field(default_factory=list)
    attempts: int = 0
    is_down: bool = False
    refuses: Callable[[Outgoing], str | None] = lambda message: None
    delay: float = 0.0
    mentions_need_ids: bool = False
    edits: bool = True
    max_text: int | None = None
    formats: bool = False
    changed: list[tuple[str, str]] = field(default_factory=list)
    """Messages of ours that were changed: the platform's id of each, and its text now."""
    on_sent: Callable[[Outgoing], None] = lambda message: None
    _keys: set[str] = field(default_factory=set)
    _ingest: Ingest | None = None
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """As the fields say."""
        return Capabilities(
            idempotent=self.idempotent,
            mentions_need_ids=self.mentions_need_ids,
            edits=self.edits,
            max_text=self.max_text,
            formats=self.formats,
            buttons=True,
            direct_messages=True,
        )

    async def start(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def receive(self, event: Incoming) -> Receipt:
        """As if the platform had sent this."""
        assert self._ingest is not None, "the channel has been started"
        return await self._ingest(event)

    async def read(self, address: Address) -> None:
        """As if a person had read what is in a chat, or in a thread of it."""
        assert self._ingest is not None, "the channel has been started"
        await self._ingest(ReadReceipt(address))

    async def deliver(self, message: Outgoing) -> str | None:
        self.attempts += 1
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.is_down:
            raise ChannelUnavailable("the platform is down")
        if (reason := self.refuses(message)) is not None:
            raise DeliveryRefused(reason)
        if not (self.idempotent and message.key in self._keys):
            self._keys.add(message.key)
            self.sent.append(message)
            self.on_sent(message)
        async with self._arrived:
            self._arrived.notify_all()
        return f"mem-{len(self.sent)}"

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: tuple[Button, ...]) -> None:
        if self.is_down:
            raise ChannelUnavailable("the platform is down")
        self.changed.append((platform_message_id, text))
        async with self._arrived:
            self._arrived.notify_all()

    async def open_direct(self, user_id: str) -> str:
        return f"direct-{user_id}"

    async def wait_for(self, count: int, seconds: float = 120.0) -> list[Outgoing]:
        """Wait until that many messages have arrived. Raises `TimeoutError` with what there is."""
        try:
            async with asyncio.timeout(seconds), self._arrived:
                await self._arrived.wait_for(lambda: len(self.sent) >= count)
        except TimeoutError:
            raise TimeoutError(f"{len(self.sent)} of {count} arrived: {[m.text for m in self.sent]}") from None
        return self.sent

    async def close(self) -> None:
        self._ingest = None
