"""Files of people, fetched. Those of agents go with their message (sender.py)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from host.channels.discord.client import DiscordClient, asked
from host.channels.discord.directory import tables, text
from host.channels.discord.ids import require_id
from host.channels.file_body import save
from host.channels.protocol import ChannelUnavailable, DeliveryRefused
from host.routing.event import RemoteFile

MAX_FILE_BYTES = 10 * 1024**2
_CHUNK = 64 * 1024


async def download(client: DiscordClient, base_url: str, file: RemoteFile, target: Path, limit: int) -> None:
    """Fetch a file of a person's; `base_url` is where the API is. Raises the errors of the protocol."""
    channel_id, message_id, file_id = [*file.reference.split("/"), "", ""][:3]
    message = await asked(client.calls.get_message(require_id(channel_id), require_id(message_id)))
    found = [each for each in tables(message.get("attachments")) if each.get("id") == file_id]
    url = text(found[0], "url") if found else None
    if url is None:
        raise DeliveryRefused("the file is gone")
    try:
        await _fetch(url, base_url, target, limit)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ChannelUnavailable(f"the file could not be fetched ({type(error).__name__})") from None


async def _fetch(url: str, base_url: str, target: Path, limit: int) -> None:
    """Fetch from where Discord keeps files. Our token is not shown there."""
    parts, own = urlsplit(url), urlsplit(base_url)
    is_discords = parts.scheme == "https" and parts.hostname in ("cdn.discordapp.com", "media.discordapp.net")
    if not is_discords and (parts.scheme, parts.netloc) != (own.scheme, own.netloc):
        raise DeliveryRefused("the file does not lie at Discord")
    patience = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
    async with (
        aiohttp.ClientSession(timeout=patience) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise ChannelUnavailable(f"Discord does not give the file (status {response.status})")
        await save(response.content.iter_chunked(_CHUNK), target, limit)
