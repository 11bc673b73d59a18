"""Handing in what a call says, with the files that stand in it: on the disk until the router has them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from host.central.tokens import Token
from host.http_api.openai_input import InlineFile
from host.operations import asking
from host.operations.asking import HandedIn
from host.services import Services
from host.sessions.attachments import Attachment, AttachmentRefused


async def handed_in(
    services: Services,
    token: Token,
    agent_group: str,
    thread: str,
    text: str,
    key: str,
    files: Sequence[InlineFile] = (),
    before: str | None = None,
    traceparent: str | None = None,
) -> HandedIn:
    """Hand a message in; `before` is another text with which it may have come before, `traceparent` the caller's.

    Raises `AttachmentRefused` for too many or too large files, and as `asking.hand_in`.
    """
    if not files:
        return await asking.hand_in(
            services,
            token,
            agent_group=agent_group,
            thread=thread,
            text=text,
            key=key,
            before=before,
            traceparent=traceparent,
        )
    settings = services.settings
    if len(files) > settings.max_files or any(len(each.data) > settings.max_file_bytes for each in files):
        raise AttachmentRefused(
            f"a call may bring {settings.max_files} files of {settings.max_file_bytes // 1024**2} MiB at most"
        )
    folder = await asyncio.to_thread(_kept, settings.layout.downloads / "api", files)
    try:
        attachments = [Attachment(each.name, folder / str(number)) for number, each in enumerate(files)]
        return await asking.hand_in(
            services,
            token,
            agent_group=agent_group,
            thread=thread,
            text=text,
            key=key,
            files=attachments,
            before=before,
            traceparent=traceparent,
        )
    finally:
        await asyncio.to_thread(partial(shutil.rmtree, folder, ignore_errors=True))


def _kept(parent: Path, files: Sequence[InlineFile]) -> Path:
    """A folder with the files under their numbers."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="call-", dir=parent))
    for number, each in enumerate(files):
        (folder / str(number)).write_bytes(each.data)
    return folder
