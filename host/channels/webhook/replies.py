"""Replies that a caller waits for, or asks for again: the last ones, kept over a restart.

A caller whose connection broke sends the same request once more, and gets the reply that was made meanwhile. So a reply
is kept before a waiting client is told. The number of places is fixed: a new reply takes the place of an old one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from host.channels.protocol import ChannelState
from shared_schema import json_text

PLACES = 256
MOST_REPLIES = 16
"""Messages that are kept of the answer to one request."""
MAX_BYTES = 256 * 1024
"""Of one kept answer; files that do not fit are named without their content."""

Reply = dict[str, Any]


class Replies:
    """The replies to the last requests, by the id of the message that they answer."""

    def __init__(self, state: ChannelState) -> None:
        self._state = state
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._fresh: dict[str, list[Reply]] = {}  # whole, with their files, for those who wait at the moment
        self._lock = asyncio.Lock()

    def is_awaited(self, message_id: str) -> bool:
        """Whether a caller waits for the reply to a message."""
        return message_id in self._waiting

    async def put(self, message_id: str, reply: Reply) -> None:
        """Keep a reply, once however often it comes, and tell who waits for it."""
        async with self._lock:  # reading and writing a place are two steps
            kept = [each for each in await self._kept(message_id) if each["id"] != reply["id"]]
            kept = [*kept, reply][-MOST_REPLIES:]
            await self._state.set(_place(message_id), _encoded(message_id, kept))
        if message_id in self._waiting:
            self._fresh.setdefault(message_id, []).append(reply)
            for event in self._waiting[message_id]:
                event.set()

    async def wait(self, message_ids: Sequence[str], seconds: float) -> list[Reply]:
        """The replies to these messages, as soon as each has one; those that are there after so many seconds."""
        event = asyncio.Event()
        # First in line, then the look at what is kept: a reply that comes in between is seen either way.
        for message_id in message_ids:
            self._waiting.setdefault(message_id, set()).add(event)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    event.clear()
                    found = [await self._found(message_id) for message_id in message_ids]
                    if all(found):
                        return [reply for replies in found for reply in replies]
                    await event.wait()
        except TimeoutError:
            return [reply for message_id in message_ids for reply in await self._found(message_id)]
        finally:
            for message_id in message_ids:
                self._waiting[message_id].discard(event)
                if not self._waiting[message_id]:
                    del self._waiting[message_id]
                    self._fresh.pop(message_id, None)

    async def _found(self, message_id: str) -> list[Reply]:
        fresh = {reply["id"]: reply for reply in self._fresh.get(message_id, [])}
        return [fresh.get(reply["id"], reply) for reply in await self._kept(message_id)]

    async def _kept(self, message_id: str) -> list[Reply]:
        text = await self._state.get(_place(message_id))
        content = None if text is None else json_text.parse(text)
        return content["replies"] if content is not None and content["message_id"] == message_id else []


def _place(message_id: str) -> str:
    return f"reply-{int.from_bytes(hashlib.sha256(message_id.encode()).digest()[:4]) % PLACES}"


def _encoded(message_id: str, replies: list[Reply]) -> str:
    """What is kept. Files go first, then the oldest messages, until it fits."""
    text = json.dumps({"message_id": message_id, "replies": replies})
    if len(text) <= MAX_BYTES:
        return text
    bare = [{**reply, "files": [{**file, "content": None} for file in reply["files"]]} for reply in replies]
    while len(text := json.dumps({"message_id": message_id, "replies": bare})) > MAX_BYTES and len(bare) > 1:
        bare.pop(0)
    return text
