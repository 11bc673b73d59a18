"""The browser as a channel: the chats of the page (`host/web/`), one for each person who is signed in.

What was said in them stands in the ledger and in the files of their sessions, from where the page shows it. So there is
nothing to send: a message is delivered when it is in the ledger, and every window that looks on sees it there.
"""

from __future__ import annotations

from host.channels.protocol import BaseChannel, Capabilities, Ingest, Outgoing
from host.routing.event import Incoming, Receipt

CHANNEL_TYPE = "web"


class BrowserChannel(BaseChannel):
    """The way in for what people write in the page. Each conversation is a thread of their chat."""

    name = type = CHANNEL_TYPE
    capabilities = Capabilities(threads=True, idempotent=True)

    def __init__(self) -> None:
        self._ingest: Ingest | None = None

    async def start(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def hand_in(self, event: Incoming) -> Receipt:
        """Hand over what a person wrote or read. Raises what the router raises."""
        assert self._ingest is not None, "the channel has been started"
        return await self._ingest(event)

    async def deliver(self, message: Outgoing) -> str | None:
        return message.key

    async def close(self) -> None:
        self._ingest = None
