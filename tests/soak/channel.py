"""The adapter for a platform of `platforms.py`, in the host: one connection for all events, one for each message."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from host.channels.protocol import BaseChannel, Capabilities, ChannelUnavailable, DeliveryRefused, Ingest, Outgoing
from host.routing.event import Event, Receipt
from host.sessions.attachments import Attachment
from shared_schema.errors import DumbwaiterError
from shared_schema.rows import Address
from tests.soak import wire

_AGAIN_SECONDS = 0.1


class PlatformFailed(Exception):
    """The platform's answer leaves it open whether the message arrived."""


class SocketChannel(BaseChannel):
    """One platform behind a Unix socket. `idempotent` says whether it knows a key that comes twice."""

    def __init__(self, channel_type: str, socket: Path, *, idempotent: bool) -> None:
        self.name = self.type = channel_type
        self.capabilities = Capabilities(idempotent=idempotent)
        self._socket = str(socket)
        self._listening: asyncio.Task[None] | None = None

    async def start(self, ingest: Ingest) -> None:
        self._listening = asyncio.create_task(self._listen(ingest), name=f"events of {self.name}")

    async def deliver(self, message: Outgoing) -> str | None:
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
        except OSError as error:
            raise ChannelUnavailable("the platform cannot be reached") from error
        try:
            await wire.put(writer, {"send": _sent(message)})
            answer = await wire.take(reader)
        except OSError as error:
            raise PlatformFailed("it hung up") from error
        finally:
            writer.close()
        match answer:
            case {"taken": str(platform_message_id)}:
                return platform_message_id
            case {"later": float(seconds)}:
                raise ChannelUnavailable("the platform says: later", retry_after=seconds)
            case {"never": str(reason)}:
                raise DeliveryRefused(reason)
        raise PlatformFailed("it hung up" if answer is None else "it answered with an error")

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self, ingest: Ingest) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket, limit=wire.LINE_BYTES)
                try:
                    await self._take_events(ingest, reader, writer)
                finally:
                    writer.close()
            except OSError:
                pass  # it is down, or went down
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _take_events(self, ingest: Ingest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.put(writer, {"events": True})
        async with asyncio.TaskGroup() as group:
            while (event := await wire.take(reader)) is not None:
                group.create_task(self._accept(ingest, event, writer))

    async def _accept(self, ingest: Ingest, sent: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        """Acknowledge an event once the host has it. What is not acknowledged comes again."""
        try:
            receipt = await self._hand_over(ingest, sent)
        except DumbwaiterError:
            return
        messages = [accepted.message_id for accepted in receipt.accepted]
        with suppress(OSError):  # a platform that went away does not know it: the event comes again
            await wire.put(writer, {"acknowledged": sent["id"], "messages": messages})

    async def _hand_over(self, ingest: Ingest, sent: dict[str, Any]) -> Receipt:
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for name, text in sent["files"].items():
                path = Path(folder) / name
                await asyncio.to_thread(path.write_text, text)
                files.append(Attachment(name, path))
            return await ingest(
                Event(
                    address=Address(self.name, sent["chat"], sent["thread"]),
                    platform_message_id=sent["id"],
                    text=sent["text"],
                    sender_id=sent["sender"],
                    sender_name=sent["sender"],
                    attachments=tuple(files),
                )
            )


def _sent(message: Outgoing) -> dict[str, Any]:
    return {
        "key": message.key,
        "chat": message.address.platform_id,
        "text": message.text,
        "in_reply_to": message.in_reply_to,
        "from_host": message.from_host,
        "files": {path.name: path.stat().st_size for path in message.files},
    }
