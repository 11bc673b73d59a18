"""What every channel must do, over a real Dovecot and an SMTP server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from email.utils import make_msgid
from typing import Any

import pytest

from host.channels.email import TYPE
from tests.channels.contract import Ability, Arrived, ChannelContract, Fault, Subject
from tests.platforms.mail_server import Dovecot, MailServer


class Door:
    """A port in front of another, which can be closed with all who went through it."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._through, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._open |= {writer, there_writer}
        for source, target in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(self._pass(source, target))
            self._tasks.add(task)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        target.transport.abort()


class EmailPlatform(MailServer):
    """A mailbox, as the contract plays it."""

    chat = person = "ann@people.test"
    _door: Door | None = None

    async def start(self) -> None:
        await super().start()
        self._door = self._door or Door(self.dovecot.port)
        await self._door.open()

    async def stop(self) -> None:
        await super().stop()
        if self._door is not None:
            await self._door.close()

    def settings(self, **more: Any) -> dict[str, Any]:
        assert self._door is not None
        return super().settings(imap_port=self._door.port, **more)

    async def write(  # type: ignore[override]
        self,
        text: str,
        *,
        thread: str | None = None,
        reply_to: str | None = None,
        mention: bool = False,
        files: tuple[tuple[str, bytes], ...] = (),
    ) -> str:
        headers = {} if thread is None else {"References": thread}
        return super().write(text, files=dict(files), **headers)

    async def edit(self, message_id: str, text: str) -> None:
        raise NotImplementedError("mails are not edited")

    async def delete(self, message_id: str) -> None:
        raise NotImplementedError("nobody is told")

    async def click(self, message_id: str, value: str) -> None:
        raise NotImplementedError("there are no buttons")

    async def react(self, message_id: str, emoji: str | None) -> None:
        raise NotImplementedError("there are no reactions")

    async def new_thread(self) -> str:
        return make_msgid(domain="people.test")

    async def arrived(self) -> list[Arrived]:
        found = []
        for sent in self.to_people():
            files = [(str(part.get_filename()), part.get_content()) for part in sent.message.iter_attachments()]
            found.append(
                Arrived(
                    str(sent.message["Message-ID"]),
                    sent.text.replace("\r\n", "\n"),
                    self.chat,
                    str(sent.message["References"] or "").partition(" ")[0] or None,
                    files=tuple((name, data if isinstance(data, bytes) else data.encode()) for name, data in files),
                )
            )
        return found

    async def fault(self, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
        match fault:
            case Fault.SLOW:
                self.slow = seconds
            case Fault.FAILS:
                self.answers = ["451 4.3.0 later"] * times
            case Fault.DROPS_AFTER:
                self.drops_after = times
            case Fault.CHAT_GONE:
                self.refuses.add(self.chat)
            case _:
                raise NotImplementedError(fault)

    async def typing_count(self) -> int:
        return 0


@pytest.mark.full  # the mailbox's own tests are in test_email.py
class TestEmail(ChannelContract):
    @pytest.fixture
    def subject(self, imap: Dovecot) -> Subject:
        return Subject(
            platform=EmailPlatform.new(imap),
            kind=TYPE,
            faults=frozenset({Fault.SLOW, Fault.FAILS, Fault.DROPS_AFTER, Fault.CHAT_GONE}),
            abilities=frozenset({Ability.THREADS, Ability.AWAY}),  # files are gone when they were taken
        )
