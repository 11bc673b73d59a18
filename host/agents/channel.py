"""The channel between agents: what one writes to another is delivered like any message, into that one's conversation.

So it has what every delivery has: its order, its outcome in the agent's file, its place in the history. It can be
called twice with one key, and the message is there once.
"""

from __future__ import annotations

import asyncio
import shutil

from host.agents.handover import AgentMessage, NotHandedOver, hand_over, tell_of_limit
from host.central import sessions
from host.central.agent_links import AGENT_CHANNEL
from host.central.database import Central
from host.central.rate_limits import Act
from host.channels.protocol import BaseChannel, Capabilities, DeliveryRefused, Ingest, Outgoing
from host.sessions.attachments import Attachment, AttachmentRefused, FileLimits, spool
from shared_schema.clock import Clock, to_text
from shared_schema.errors import InvalidValue
from shared_schema.ids import Prefix, is_id, new_id
from shared_schema.layout import DataLayout


class AgentChannel(BaseChannel):
    """Hands messages over."""

    name = AGENT_CHANNEL
    type = AGENT_CHANNEL
    capabilities = Capabilities(idempotent=True)

    def __init__(
        self,
        central: Central,
        clock: Clock,
        layout: DataLayout,
        file_limits: FileLimits,
    ) -> None:
        self._central = central
        self._clock = clock
        self._layout = layout
        self._file_limits = file_limits

    async def start(self, ingest: Ingest) -> None:
        """There is nothing to connect to."""

    async def close(self) -> None:
        """There is nothing to disconnect from."""

    async def deliver(self, message: Outgoing) -> str | None:
        """Hand it over. Raises `DeliveryRefused` for what is refused for good."""
        to = message.address.platform_id
        if message.from_host and not is_id(to, Prefix.SESSION):
            return None  # the host's own words about a message to an agent: who wrote it finds them in its file
        session_id, _, _ = message.key.partition("/")
        folder = new_id(Prefix.MESSAGE) if message.files else None
        names: list[str] = []
        if folder is not None:
            try:
                files = [Attachment(path.name, path) for path in message.files]
                names = await asyncio.to_thread(spool, files, self._layout.spool / folder, self._file_limits)
            except (AttachmentRefused, InvalidValue) as error:
                raise DeliveryRefused(error.what) from error
        said = AgentMessage(
            session_id, message.key, to, message.text, message.in_reply_to, message.from_host, folder, tuple(names)
        )
        now = to_text(self._clock.now())
        listener = None
        try:
            listener = await self._central.write(hand_over, said, now)
        except NotHandedOver as error:
            if error.is_limit:
                speaker = await self._central.read(sessions.lookup, session_id)
                await self._central.write(tell_of_limit, speaker, Act.AGENT_LIMITS, error.what)
            raise DeliveryRefused(error.what) from error
        finally:
            if listener is None and folder is not None:
                await asyncio.to_thread(shutil.rmtree, self._layout.spool / folder, ignore_errors=True)
        return None
