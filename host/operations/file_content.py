"""The bytes of a file of a conversation, read without following any link: its folder is an agent's."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from host.central import browser_chats, session_lookup
from host.central.database import Queryable
from host.central.sessions import Session
from host.operations.conversations import visible
from host.services import Services
from host.sessions.untrusted_files import opened_file, opened_folder
from shared_schema.errors import FileDamaged, NotFound

_CHUNK = 64 * 1024
_AHEAD_SECONDS = 10.0


async def content_of(
    services: Services, session_id: str, message_id: str, number: int, *, user: str | None = None
) -> tuple[str, bytes]:
    """The name and the bytes of a file of a message, the first being 0. With a `user`, of what that one may see.

    Raises `NotFound`, `FileTrouble`.
    """
    session, files, spool = await _known(services, session_id, message_id, user)
    if not 0 <= number < len(files):
        raise NotFound("there is no such file in this conversation")
    path = files[number]
    name = Path(path).name
    places = [(services.inbox_sync.folder(session).folder, path)]
    if spool is not None:  # whole from the beginning, and removed only when the session has it
        places.insert(0, (services.settings.layout.spool / spool, name))
    most = max(services.settings.max_file_bytes, 1)
    for folder, below in places:
        try:
            return name, await asyncio.to_thread(_content, folder, below, most)
        except FileDamaged:
            continue
    raise NotFound("this file is not kept any more")


async def _known(
    services: Services, session_id: str, message_id: str, user: str | None
) -> tuple[Session, list[str], str | None]:
    """A session, and the files of its message. What its agent has just written is shown before the ledger has it."""

    def load(connection: Queryable) -> tuple[Session, tuple[list[str], str | None] | None]:
        known = session_lookup.find(connection, session_id) if user is None else visible(connection, user, session_id)
        return known, browser_chats.files_of(connection, known.id, message_id)

    with services.dispatcher.following() as news, suppress(TimeoutError):
        async with asyncio.timeout(_AHEAD_SECONDS):
            while True:
                news.clear()
                session, found = await services.central.read(load)
                if found is not None:
                    return session, *found
                if session.id not in services.supervisor.agents:
                    break
                await news.wait()
    raise NotFound("there is no such file in this conversation")


def _content(folder: Path, path: str, most: int) -> bytes:
    with opened_folder(folder) as opened, opened_file(opened, *path.split("/"), max_bytes=most) as descriptor:
        content = bytearray()
        while len(content) <= most and (chunk := os.read(descriptor, _CHUNK)):
            content += chunk
        return bytes(content)
