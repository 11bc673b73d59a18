"""What was written while we were away: asked for from the last message that surely was on the disk.

Which one that is, is noted again and again. A connection that was lost for a moment is resumed, and needs none of this.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from host.channels.discord.client import DiscordClient, asked
from host.channels.discord.directory import snowflake, tables
from host.channels.discord.receiver import DiscordReceiver
from host.channels.protocol import ChannelState, ChannelUnavailable, DeliveryRefused
from shared_schema import json_text
from shared_schema.clock import Clock

log = logging.getLogger(__name__)

_MAX_CHANNELS = 300
_MAX_PAGES = 10
_PAGE = 100
_GUILDS_SECONDS = 5.0
_NOTE_SECONDS = 30.0
_AGAIN_SECONDS = 5.0
_MARGIN_SECONDS = 2 * 3600.0
_MAX_DIRECT = 100
_EPOCH = 1_420_070_400.0
_NEWEST, _DIRECT, _CLEAN = "newest", "direct", "ended_cleanly"


class DiscordCatchUp:
    """Up to which message all is on the disk, and which direct chats there are, over restarts."""

    def __init__(self, state: ChannelState, clock: Clock, client: Callable[[], DiscordClient]) -> None:
        self._state = state
        self._clock = clock
        self._client = client
        self._direct: list[str] = []
        self._is_first = False  # nothing was noted before this run
        self._is_caught_up = False

    async def begin(self, receiver: DiscordReceiver) -> bool:
        """Take up what the last host has noted; whether that was killed, perhaps while it sent."""
        newest, was_killed = await self._state.get(_NEWEST), False
        self._is_first, self._is_caught_up = newest is None, False
        if newest is None:
            # Two hours early: our clock may be wrong. Nothing older is asked for before this run has noted more.
            receiver.newest = int((self._clock.now().timestamp() - _MARGIN_SECONDS - _EPOCH) * 1000) << 22
            await self._state.set(_NEWEST, str(receiver.newest))
        elif not receiver.newest:
            receiver.newest = int(newest)
            was_killed = await self._state.get(_CLEAN) != "yes"
        await self._state.set(_CLEAN, "no")
        self._direct = json_text.parse(await self._state.get(_DIRECT) or "[]")
        return was_killed

    async def run(self, receiver: DiscordReceiver) -> None:
        """Catch up, and then note again and again up to which message all is on the disk."""
        if not self._is_first:
            await _all_guilds(receiver)
            await self._ask(receiver)
        self._is_caught_up = True
        while True:
            await asyncio.sleep(_NOTE_SECONDS)
            await self._note(receiver)

    async def end(self, receiver: DiscordReceiver, *, is_sure: bool) -> None:
        """The connection ends in good order; `is_sure`: it is known of every message whether it was sent."""
        if self._is_caught_up:
            await self._note(receiver)
            if is_sure:
                await self._state.set(_CLEAN, "yes")

    async def know_direct(self, channel_id: str) -> None:
        """Remember a direct chat: the gateway does not tell of those at the next start."""
        if channel_id in self._direct[-1:]:
            return
        self._direct = [*(each for each in self._direct if each != channel_id), channel_id][-_MAX_DIRECT:]
        await self._state.set(_DIRECT, json.dumps(self._direct))

    async def _note(self, receiver: DiscordReceiver) -> None:
        if receiver.has_all:
            newest = max([receiver.newest, *(entry.last_message_id for entry in receiver.directory.entries())])
            await self._state.set(_NEWEST, str(newest))

    async def _ask(self, receiver: DiscordReceiver) -> None:
        since = receiver.newest
        channels = [entry.id for entry in receiver.directory.entries() if entry.last_message_id > since]
        while True:
            try:
                async for message in messages_since(self._client(), [*channels, *self._direct], since):
                    await receiver.take_missed(message)
            except ChannelUnavailable as error:
                await asyncio.sleep(error.retry_after or _AGAIN_SECONDS)
            else:
                return


async def messages_since(
    client: DiscordClient, channel_ids: Sequence[str], newest: int
) -> AsyncIterator[Mapping[str, Any]]:
    """The messages of these channels behind `newest`, oldest first in each. Raises `ChannelUnavailable`."""
    for channel_id in channel_ids[-_MAX_CHANNELS:]:
        after = newest
        for _ in range(_MAX_PAGES):
            try:
                page = tables(await asked(client.calls.logs_from(channel_id, _PAGE, after=after)))
            except DeliveryRefused as error:
                log.warning("a chat cannot be caught up", extra={"chat": channel_id, "error": str(error)})
                break
            asked_from = after
            for message in sorted(page, key=lambda each: snowflake(each.get("id"))):
                after = max(after, snowflake(message.get("id")))
                yield {**message, "channel_id": channel_id}
            if len(page) < _PAGE or after == asked_from:
                break


async def _all_guilds(receiver: DiscordReceiver) -> None:
    """Wait until the gateway has told of all servers, or does not."""
    ends = asyncio.get_running_loop().time() + _GUILDS_SECONDS
    while not receiver.knows_all_guilds and asyncio.get_running_loop().time() < ends:
        await asyncio.sleep(0.05)
