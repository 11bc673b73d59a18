"""What was written while we were away: asked for from the last message that surely was on the disk.

A connection that was lost for a moment is resumed, and needs none of this.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from host.channels.discord.client import DiscordClient, asked
from host.channels.discord.directory import snowflake, tables
from host.channels.protocol import DeliveryRefused

log = logging.getLogger(__name__)

_MAX_CHANNELS = 300
_MAX_PAGES = 10
_PAGE = 100


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
            for message in sorted(page, key=lambda each: snowflake(each.get("id"))):
                after = max(after, snowflake(message.get("id")))
                yield {**message, "channel_id": channel_id}
            if len(page) < _PAGE:
                break
