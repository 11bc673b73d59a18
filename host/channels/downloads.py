"""Files of an event that still lie on its platform: fetched once it is known that an agent takes the event.

A file that cannot be had does not keep the message from its agent: the text says which one is missing, and why.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from host.channels.protocol import Channel, ChannelUnavailable
from host.routing.event import Event, RemoteFile
from host.sessions.attachments import Attachment, FileLimits
from shared_schema.errors import DumbwaiterError, FileTrouble
from shared_schema.ids import Prefix, new_id
from shared_schema.system_errors import words_of
from shared_schema.text import one_line

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_BETWEEN_SECONDS = 1.0
_LONGEST_NAME = 100


Transcribe = Callable[[Path], Awaitable[str | None]]
"""What is said in a file; None where no transcriber is set. Raises `DumbwaiterError`."""

_AUDIO = frozenset({".ogg", ".oga", ".opus", ".mp3", ".m4a", ".wav", ".webm", ".flac", ".aac", ".amr"})


async def no_transcriber(path: Path) -> str | None:
    """The transcriber of a host that has none set."""
    return None


def audio_suffix(name: str) -> str:
    """The ending of a file's name, where it is one of audio; empty for any other."""
    suffix = Path(name).suffix.lower() if "\0" not in name else ""
    return suffix if suffix in _AUDIO else ""


class Downloads:
    """Fetches through the channels into a folder of the host's, which is emptied behind each event."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        folder: Path,
        limits: FileLimits,
        *,
        seconds: float,
        transcribe: Transcribe = no_transcriber,
        hide: Callable[[str], str] = lambda text: text,
    ) -> None:
        """`transcribe` writes down what is said in a file, `hide` takes secrets out of what a channel says."""
        self._channels = channels
        self._folder = folder
        self._limits = limits
        self._seconds = seconds
        self._transcribe = transcribe
        self._hide = hide

    @asynccontextmanager
    async def fetched(self, event: Event) -> AsyncIterator[Event]:
        """The event with its files as attachments, which are there until the block ends.

        Raises `FileTrouble` when the host cannot keep them: then the event must come again.
        """
        if not event.remote_files:
            yield event
            return
        folder = self._folder / event.address.channel_type / new_id(Prefix.MESSAGE)
        try:
            await asyncio.to_thread(folder.mkdir, 0o700, parents=True)
            yield await self._with_files(event, folder)
        except OSError as error:
            raise FileTrouble(f"the files cannot be kept: {words_of(error)}", where=folder) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _with_files(self, event: Event, folder: Path) -> Event:
        attachments, text = list(event.attachments), event.text
        for number, file in enumerate(event.remote_files):
            target = folder / f"{number}{audio_suffix(file.name)}"
            if number >= self._limits.max_files:
                reason: str | None = f"{self._limits.max_files} files are allowed with one message"
            elif file.size is not None and file.size > self._limits.max_bytes:
                reason = f"it has {file.size} bytes, and {self._limits.max_bytes} are allowed"
            else:
                reason = await self._fetch(event.address.channel_type, file, target)
            if reason is None:
                attachments.append(Attachment(file.name, target))
                if target.suffix and (said := await self._written_down(target)) is not None:
                    note = f"[in {one_line(file.name, _LONGEST_NAME)} is said: {said}]"
                    text = f"{text}\n{note}" if text else note
            else:
                log.warning("a file could not be fetched", extra={"channel": event.address.channel_type})
                note = f"[the file {one_line(file.name, _LONGEST_NAME)} is not here: {self._hide(reason)}]"
                text = f"{text}\n{note}" if text else note
        return dataclasses.replace(event, attachments=tuple(attachments), remote_files=(), text=text)

    async def _written_down(self, path: Path) -> str | None:
        """What is said in a file of audio; the message comes without it where it cannot be written down."""
        try:
            return await self._transcribe(path)
        except DumbwaiterError as error:
            log.warning("an audio file could not be written down", extra={"error": str(error)})
            return None

    async def _fetch(self, name: str, file: RemoteFile, target: Path) -> str | None:
        """Fetch one file; why not, as a sentence."""
        channel = self._channels.get(name)
        if channel is None:
            return "its channel is not connected"
        reason = "its platform did not answer in time"
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_BETWEEN_SECONDS * attempt)
            try:
                async with asyncio.timeout(self._seconds):
                    await channel.download(file, target)
                return None
            except FileTrouble:
                raise
            except ChannelUnavailable as error:
                reason = error.what
            except DumbwaiterError as error:
                return error.what
            except TimeoutError:
                pass
            except Exception as error:  # the boundary of one channel
                log.exception("a channel failed over a file", extra={"channel": name})
                reason = f"the channel failed: {type(error).__name__}"
            await asyncio.to_thread(target.unlink, missing_ok=True)
        return reason
