"""The bytes of a file of a conversation, read without following any link: its folder is an agent's."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from host.central import browser_chats, session_lookup
from host.central.database import Queryable
from host.central.sessions import Session
from host.services import Services
from host.sessions.untrusted_files import opened_file, opened_folder
from shared_schema.errors import NotFound

_CHUNK = 64 * 1024


async def content_of(services: Services, session_id: str, message_id: str, number: int) -> tuple[str, bytes]:
    """The name and the bytes of a file of a message, the first being 0. Raises `NotFound`, `FileTrouble`."""

    def load(connection: Queryable) -> tuple[Session, list[str]]:
        found = session_lookup.find(connection, session_id)
        return found, browser_chats.files_of(connection, found.id, message_id)

    found, files = await services.central.read(load)
    if not 0 <= number < len(files):
        raise NotFound("there is no such file in this conversation")
    folder = services.inbox_sync.folder(found).folder
    most = max(services.settings.max_file_bytes, 1)
    return Path(files[number]).name, await asyncio.to_thread(_content, folder, files[number], most)


def _content(folder: Path, path: str, most: int) -> bytes:
    with opened_folder(folder) as opened, opened_file(opened, *path.split("/"), max_bytes=most) as descriptor:
        content = bytearray()
        while len(content) <= most and (chunk := os.read(descriptor, _CHUNK)):
            content += chunk
        return bytes(content)
