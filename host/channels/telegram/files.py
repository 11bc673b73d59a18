"""Files, both ways: those of people are fetched, those of agents become the SDK's calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from telegram import Bot, InputMediaDocument, InputMediaPhoto, Message, ReplyParameters

from host.channels.file_body import save
from host.channels.protocol import ChannelUnavailable, DeliveryRefused
from host.channels.telegram.client import Client
from host.routing.event import RemoteFile
from shared_schema.dataclass import dataclass

MAX_FILE = 50 * 1024**2
MAX_DOWNLOAD = 20 * 1024**2
MAX_PHOTO = 10 * 1024**2
_GROUP_OF_FILES = 10
_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_DOWNLOAD_SECONDS = 300.0
_CHUNK = 256 * 1024


async def download(client: Client, file: RemoteFile, target: Path, limit: int, timeout: float) -> None:
    """Fetch a file of a person's. Raises the errors of the protocol, and `FileTrouble`."""
    limit = min(MAX_DOWNLOAD, limit)
    if file.size is not None and file.size > limit:
        raise DeliveryRefused(f"the file has {file.size} bytes, and {limit} are allowed")
    found = await client.ask(lambda: client.bot.get_file(file.reference))
    if not found.file_path or not found.file_path.startswith(("http://", "https://")):
        raise DeliveryRefused("Telegram does not say where the file is")
    try:
        async with asyncio.timeout(_DOWNLOAD_SECONDS):
            await _fetch(found.file_path, target, limit, timeout)
    except (aiohttp.ClientError, TimeoutError) as error:
        what = f"the file could not be fetched from Telegram: {type(error).__name__}"
        raise ChannelUnavailable(what) from None  # its text has the address, and that the token


def require_sendable(files: Sequence[Path]) -> None:
    """Raises `DeliveryRefused` for a file that Telegram takes from no bot."""
    for file in files:
        size = file.stat().st_size
        if size > MAX_FILE:
            megabytes = size / 1024**2
            raise DeliveryRefused(f"{file.name} has {megabytes:.0f} MB, and Telegram takes 50 MB from a bot")
        if size == 0:
            raise DeliveryRefused(f"{file.name} is empty, and Telegram takes no empty file")


def groups_of(files: Sequence[Path]) -> list[Sequence[Path]]:
    """The files of a message as groups, each for one call."""
    return [files[at : at + _GROUP_OF_FILES] for at in range(0, len(files), _GROUP_OF_FILES)]


def has_pictures(files: Sequence[Path]) -> bool:
    """Whether some of them would be sent as pictures."""
    return any(map(_is_picture, files))


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Files that are sent by one call, to where, and as the answer to what."""

    files: Sequence[Path]
    chat: int
    thread: int | None
    reply: ReplyParameters | None

    async def send(self, bot: Bot, caption: str, mode: str | None, *, as_pictures: bool = True) -> Message:
        """Send them with the SDK. Pictures are shown, or with `as_pictures` false are files like any other."""
        # Read as a whole: the SDK sends bytes. At most `MAX_FILE` each, checked before.
        contents = [await asyncio.to_thread(file.read_bytes) for file in self.files]
        said, thread, reply = caption or None, self.thread, self.reply
        if len(self.files) == 1:
            file, content = self.files[0], contents[0]
            if as_pictures and _is_picture(file):
                return await bot.send_photo(
                    self.chat, content, said, filename=file.name, parse_mode=mode, message_thread_id=thread,
                    reply_parameters=reply,
                )  # fmt: skip
            return await bot.send_document(
                self.chat, content, said, filename=file.name, parse_mode=mode, message_thread_id=thread,
                reply_parameters=reply,
            )  # fmt: skip
        kind = InputMediaPhoto if as_pictures and all(map(_is_picture, self.files)) else InputMediaDocument
        media = [kind(content, filename=file.name) for content, file in zip(contents, self.files, strict=True)]
        sent = await bot.send_media_group(
            self.chat, media, caption=said, parse_mode=mode, message_thread_id=thread, reply_parameters=reply
        )
        return sent[0]


async def _fetch(url: str, target: Path, limit: int, seconds: float) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(url) as response:
        if response.status != 200:
            if response.status >= 500 or response.status == 429:
                raise ChannelUnavailable(f"Telegram has trouble of its own (status {response.status})")
            raise DeliveryRefused(f"Telegram does not give the file (status {response.status})")
        await save(response.content.iter_chunked(_CHUNK), target, limit)


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in _PICTURES and file.stat().st_size <= MAX_PHOTO
