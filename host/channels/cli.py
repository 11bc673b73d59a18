"""The terminal as a channel. What is delivered lies in a mailbox in central.db until a person reads it with `chat`.

So a reply waits for the terminal to be opened again, and lies there once: the mailbox knows the key of each message. It
counts as read when it is handed to the command; `session transcript` has it for good.
"""

from __future__ import annotations

import asyncio

from host.central import mailbox, unread
from host.central.database import Central, Transaction
from host.central.mailbox import Letter
from host.channels.protocol import BaseChannel, Capabilities, Ingest, Outgoing
from host.routing.event import Event, Receipt
from shared_schema.clock import Clock
from shared_schema.rows import encode

CHANNEL_TYPE = "cli"
PLATFORM_ID = "terminal"


class TerminalChannel(BaseChannel):
    """The mailbox, its readers, and the way in for what a person types."""

    name = type = CHANNEL_TYPE
    capabilities = Capabilities(idempotent=True)

    def __init__(self, central: Central, clock: Clock) -> None:
        self._central = central
        self._clock = clock
        self._ingest: Ingest | None = None
        self._arrived = asyncio.Event()

    async def start(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def send(self, event: Event) -> Receipt:
        """Hand over what a person typed."""
        assert self._ingest is not None, "the channel has been started"
        return await self._ingest(event)

    async def deliver(self, message: Outgoing) -> str | None:
        content = encode(
            {
                "text": message.text,
                "files": [str(path) for path in message.files],
                "from_host": message.from_host,
                "kind": message.kind,
            }
        )
        position = await self._central.write(
            mailbox.put,
            message_out_id=message.key,
            platform_id=message.address.platform_id,
            thread_id=message.address.thread_id,
            in_reply_to=message.in_reply_to,
            content=content,
        )
        self.notice()
        return str(position)

    def notice(self) -> None:
        """Wake every reader that waits for a change."""
        self._arrived.set()
        self._arrived = asyncio.Event()

    def change(self) -> asyncio.Event:
        """An event that is set at the next change. Ask for it before looking, so that nothing falls in between."""
        return self._arrived

    async def collect(self, platform_id: str) -> list[Letter]:
        """Returns the unread letters of a chat, oldest first, and marks them read."""
        return await self._central.write(lambda c: self._read(c, mailbox.unread(c, platform_id)))

    async def behind(self, platform_id: str, position: int, in_reply_to: str | None = None) -> list[Letter]:
        """The letters of a chat behind a position, oldest first; all, or the answers to one message. They are read now.

        What another terminal has read is among them: the terminal that asked a question gets the answer, and every
        terminal that shows a conversation shows all of it.
        """
        letters = await self._central.read(mailbox.behind, platform_id, position, in_reply_to)
        return await self.read(letters)

    async def read(self, letters: list[Letter]) -> list[Letter]:
        """Note that a terminal shows these now."""
        if letters:
            await self._central.write(self._read, letters)
        return letters

    def _read(self, tx: Transaction, letters: list[Letter]) -> list[Letter]:
        mailbox.mark_read(tx, [letter.position for letter in letters])
        unread.mark_read(tx, *{letter.session_id for letter in letters})
        return letters

    async def close(self) -> None:
        self.notice()
