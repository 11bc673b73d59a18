"""Reading a mailbox over IMAP: the one module that imports aioimaplib.

Invariants: no call waits for ever (the library's own `idle_start` does, where the server leaves in between), and
nothing of what the library says gets into an error: it may have a password or a person's words in it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

from aioimaplib import IMAP4, IMAP4_SSL, AioImapException, Command, quoted

from host.channels.email.certificates import bad_certificate
from host.channels.email.settings import WHERE, EmailSettings
from host.channels.protocol import ChannelRefused, ChannelUnavailable, TokenRefused
from host.channels.unreachable import unreachable
from shared_schema.dataclass import dataclass

_SECONDS = 30.0
_VALIDITY = re.compile(rb"\[UIDVALIDITY ([0-9]{1,12})\]", re.IGNORECASE)
_NEXT = re.compile(rb"\[UIDNEXT ([0-9]{1,12})\]", re.IGNORECASE)
_SIZE = re.compile(rb"RFC822\.SIZE ([0-9]{1,12})", re.IGNORECASE)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

# At their finer levels the library logs every byte that comes and goes.
_LIBRARY = "aioimaplib"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A mail as far as it was asked for, and its whole size (bytes)."""

    data: bytes
    size: int


class Mailbox:
    """One connection with one folder. Its methods raise `ChannelUnavailable` when the connection is no good."""

    def __init__(self, client: IMAP4, place: str) -> None:
        self._client = client
        self._place = place
        self._lost = asyncio.Event()
        client.protocol.conn_lost_cb = lambda error: self._lost.set()
        self.validity = 0
        self.next_uid = 1

    @classmethod
    async def open(cls, settings: EmailSettings, folder: str | None = None) -> Mailbox:
        """Connect, log in and open a folder, the one of the settings by default.

        Raises `ChannelUnavailable`, and `ChannelRefused` for a password or folder that is not taken.
        """
        logging.getLogger(_LIBRARY).setLevel(logging.WARNING)
        kind = IMAP4_SSL if settings.imap_security == "tls" else IMAP4
        place = f"{settings.imap_host}:{settings.imap_port} (IMAP)"
        async with _told(place):
            client = kind(settings.imap_host, settings.imap_port, timeout=_SECONDS)
            box = cls(client, place)
        try:
            async with _told(place):
                # The library connects in a task of its own, and its `wait_hello` does not hear of a failure of that.
                async with asyncio.timeout(_SECONDS):
                    await client._client_task
                await client.wait_hello_from_server()
                if settings.imap_security == "starttls":
                    async with asyncio.timeout(_SECONDS):
                        await _start_tls(client, settings.imap_host)
                user = quoted(settings.user or settings.address)
                answer = await client.login(user, settings.password.get_secret_value())
            if answer.result != "OK":
                raise TokenRefused(
                    f"{settings.imap_host} does not let {settings.address} in",
                    setting="password",
                    hint="take the password of the mailbox, or one that the provider makes for programs",
                )
            await box._select(folder or settings.folder)
        except BaseException:
            await box.close()
            raise
        return box

    @property
    def is_encrypted(self) -> bool:
        """Whether others on the way cannot read it."""
        return self._client.protocol.transport.get_extra_info("sslcontext") is not None

    async def _select(self, folder: str) -> None:
        async with _told(self._place):
            answer = await self._client.select(quoted(folder))
        if answer.result != "OK":
            raise ChannelRefused(
                f"the mailbox on {self._place} has no folder '{folder}'", hint="make the folder, or set another one"
            )
        lines = b"\n".join(bytes(line) for line in answer.lines)
        validity, next_uid = _VALIDITY.search(lines), _NEXT.search(lines)
        self.validity = int(validity[1]) if validity is not None else 0
        self.next_uid = int(next_uid[1]) if next_uid is not None else await self._highest() + 1

    async def _highest(self) -> int:
        return max(await self.search("ALL"), default=0)

    async def uids_after(self, uid: int) -> list[int]:
        """The mails that came after one, oldest first."""
        # `n:*` also finds the last mail where that is older than n.
        return [each for each in await self.search("UID", f"{uid + 1}:*") if each > uid]

    async def uids_since(self, day: date) -> list[int]:
        """The mails that came on that day (as the server has it) or later."""
        return await self.search("SINCE", f"{day.day}-{_MONTHS[day.month - 1]}-{day.year}")

    async def with_message_id(self, message_id: str) -> list[int]:
        """The mails that have a message id."""
        return await self.search("HEADER", "Message-ID", quoted(message_id))

    async def search(self, *criteria: str) -> list[int]:
        """The UIDs that fit, in order."""
        async with _told(self._place):
            answer = await self._client.uid_search(*criteria, charset=None)
        self._require_ok(answer)
        words = b" ".join(bytes(line) for line in answer.lines[:-1]).split()
        return sorted({int(word) for word in words if word.isdigit() and len(word) < 12})

    async def fetch(self, uid: int, max_bytes: int) -> Fetched | None:
        """A mail, at most so many bytes of it; None if it is gone."""
        async with _told(self._place):
            answer = await self._client.uid("fetch", str(uid), f"(RFC822.SIZE BODY.PEEK[]<0.{max_bytes}>)")
        self._require_ok(answer)
        sizes = [found for line in answer.lines if isinstance(line, bytes) and (found := _SIZE.search(line))]
        bodies = [bytes(line) for line in answer.lines if isinstance(line, bytearray)]
        if not sizes or not bodies:
            return None
        return Fetched(bodies[0][:max_bytes], int(sizes[0][1]))

    async def mark_seen(self, uid: int) -> None:
        """Mark a mail as read."""
        async with _told(self._place):
            await self._client.uid("store", str(uid), "+FLAGS.SILENT", "(\\Seen)")

    async def move(self, uid: int, folder: str) -> bool:
        """Move a mail to another folder; false where there is none of that name, or the server cannot."""
        if not self._client.has_capability("MOVE"):
            return False
        async with _told(self._place):
            answer = await self._client.uid("move", str(uid), quoted(folder))
        return bool(answer.result == "OK")

    async def wait_for_mail(self, seconds: float) -> None:
        """Wait until the server announces something, so long at most. Without IDLE it is always so long."""
        if not self._client.has_capability("IDLE"):
            await self._until_lost(seconds)
            return
        async with _told(self._place):
            async with asyncio.timeout(_SECONDS):
                idle = await self._client.idle_start(timeout=seconds + 2 * _SECONDS)
            try:
                await self._announced(seconds)
            finally:
                if not self._lost.is_set():
                    self._client.idle_done()
            async with asyncio.timeout(_SECONDS):
                await idle

    async def close(self) -> None:
        """Log out, and never wait long for that."""
        try:
            if not self._lost.is_set():
                async with asyncio.timeout(2):
                    await self._client.logout()
        except (AioImapException, OSError, TimeoutError, AttributeError):
            pass
        finally:
            task = self._client._client_task
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            transport = self._client.protocol.transport
            if transport is not None:
                transport.close()

    async def _announced(self, seconds: float) -> None:
        lost = asyncio.ensure_future(self._lost.wait())
        pushed: asyncio.Future[Any] = asyncio.ensure_future(self._first_news())
        try:
            await asyncio.wait([lost, pushed], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (lost, pushed):
                task.cancel()
            await asyncio.gather(lost, pushed, return_exceptions=True)
        self._require_connected()

    async def _first_news(self) -> None:
        while True:
            # Not `wait_server_push`: it is a `wait_for`, which on Python 3.11 forgets that it was cancelled when news
            # come at that very moment, and then waits for the next ones for half an hour.
            lines: Sequence[bytes] = await self._client.protocol.idle_queue.get()
            if any(line.endswith((b"EXISTS", b"stop_wait_server_push")) or line.startswith(b"BYE") for line in lines):
                return

    async def _until_lost(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._lost.wait()
        except TimeoutError:
            return
        self._require_connected()

    def _require_connected(self) -> None:
        if self._lost.is_set():
            raise ChannelUnavailable(f"{self._place} has closed the connection")

    def _require_ok(self, answer: Any) -> None:
        self._require_connected()
        if answer.result != "OK":
            raise ChannelUnavailable(f"{self._place} does not do what IMAP asks for")


async def _start_tls(client: IMAP4, host: str) -> None:
    """Encrypt the connection, which the library cannot do. Before that nothing secret is said, behind it all is."""
    protocol = client.protocol
    answer = await protocol.execute(Command("STARTTLS", protocol.new_tag(), loop=protocol.loop))
    if answer.result != "OK":
        raise ChannelRefused(
            f"{host} does not encrypt a connection with STARTTLS",
            hint='use `imap_security = "tls"` with the port for that, which is mostly 993',
        )
    # What came in the clear behind the answer was put there by who can write into the connection (CVE-2011-0411): the
    # library would read the first encrypted line as the end of it. Nothing is awaited between this look and the next
    # call, which stops reading in the clear.
    if protocol.incomplete_line:
        raise ChannelUnavailable(f"{host} goes on in the clear behind STARTTLS")
    protocol.transport = await asyncio.get_running_loop().start_tls(
        protocol.transport, protocol, ssl.create_default_context(), server_hostname=host
    )
    await protocol.capability()  # what it could before may have been said by another


@asynccontextmanager
async def _told(place: str) -> AsyncIterator[None]:
    """What the library raises as a sentence of ours. Raises `ChannelUnavailable`."""
    try:
        yield
    except TimeoutError as error:
        raise ChannelUnavailable(f"{place} does not answer", hint=WHERE.format("imap")) from error
    except ssl.SSLCertVerificationError as error:
        raise bad_certificate(place.rpartition(":")[0], error, "imap_host") from None
    except (AioImapException, OSError, AttributeError, UnicodeError) as error:  # AttributeError: no connection any more
        raise unreachable(place, error, WHERE.format("imap")) from None
