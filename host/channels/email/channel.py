"""The channel `email`. A person's address is a chat, and a thread in it is a conversation of mails.

Invariants: a mail is acknowledged (the position moves behind its UID) only when its event is on the disk, or it is one
that is never answered. One that comes again, because the position was lost with the host or the server has renumbered
the folder, is known by its message id.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import shutil
from datetime import date, timedelta
from pathlib import Path

from host.channels.attempts import Attempts
from host.channels.email import smtp
from host.channels.email.addresses import is_address, own_message_id
from host.channels.email.compose import mail as composed
from host.channels.email.imap import Fetched, Mailbox
from host.channels.email.mail import Mail, read, said
from host.channels.email.settings import EmailSettings
from host.channels.email.threads import Thread, Threads
from host.channels.protocol import (
    BaseChannel,
    Capabilities,
    ChannelRefused,
    ChannelUnavailable,
    Context,
    DeliveryRefused,
    Identity,
    Ingest,
    Outgoing,
)
from host.channels.unhurried import Unhurried
from host.routing.event import Event
from host.sessions.attachments import Attachment, AttachmentRefused
from host.sessions.filename import safe_name
from shared_schema import json_text
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 15 * 1024**2
"""Most servers take 25 MB, and base64 makes four bytes of three."""
_POSITION = "position"


class EmailChannel(BaseChannel):
    """One mailbox."""

    type = "email"
    capabilities = Capabilities(max_file_bytes=MAX_FILE_BYTES, threads=True, direct_messages=True, idempotent=True)

    def __init__(self, settings: EmailSettings, context: Context) -> None:
        self.name = context.name
        self._settings = settings
        self._context = context
        self._attempts = Attempts(context.state)
        self._threads = Threads(context.state)
        self._box: Mailbox | None = None
        self._ingest: Ingest | None = None
        self.refused = 0
        """Mails that could not be read, or that the host did not take, since the host was started."""

    async def check(self) -> Identity:
        box = await Mailbox.open(self._settings)
        await box.close()
        await smtp.check(self._settings)
        missing = []
        if self._settings.verify_senders and self._settings.authserv_id is None:
            missing.append(
                "no sender can be believed yet: look at the source of a mail that you have sent to this mailbox, and "
                f"set `authserv_id` under [channels.{self.name}] to the first word behind `Authentication-Results:`"
            )
        return Identity(self._settings.address, self._settings.display_name or self._settings.address, tuple(missing))

    async def start(self, ingest: Ingest) -> None:
        self._ingest = ingest
        if self._settings.verify_senders and self._settings.authserv_id is None:
            raise ChannelRefused(
                "no sender of a mail can be believed, because it is not set which server checks them",
                hint=f"`dumbwaiter channel check {self.name}` says how to find out `authserv_id`",
            )
        self._box = await Mailbox.open(self._settings)
        if await self._position() is None:  # a mailbox may be full of old mail, which must not be answered now
            await self._keep_position(self._box, self._box.next_uid - 1)
        self._context.health.heard()

    async def serve(self) -> None:
        assert self._box is not None, "the channel has been started"
        while True:
            question = Unhurried(self._settings.poll_seconds)
            has_news = await self._take_new(self._box)
            self._context.health.heard()
            # A mail that comes now is announced at the beginning of IDLE; and there is the poll.
            await self._box.wait_for_mail(self._settings.poll_seconds)
            if not has_news:
                await question.wait()

    async def close(self) -> None:
        box, self._box = self._box, None
        if box is not None:
            await box.close()

    async def deliver(self, message: Outgoing) -> str | None:
        recipient = message.address.platform_id
        if not is_address(recipient):
            raise DeliveryRefused(f"'{recipient[:80]}' is no mail address")
        message_id = own_message_id(message.key, self._settings.address)
        if await self._attempts.begin(message_id) is not None and await self._was_sent(message_id):
            return message_id
        thread = await self._thread_of(message)
        data = await asyncio.to_thread(
            composed,
            sender=self._settings.address,
            sender_name=self._settings.display_name,
            recipient=recipient,
            message_id=message_id,
            thread=thread,
            reply_to=message.reply_to if thread is not None else None,
            text=message.text,
            files=message.files,
            now=self._context.clock.now(),
        )
        await smtp.send(self._settings, recipient, data)
        await self._threads.keep(message_id, thread or Thread(message_id, message.text[:200]))
        return message_id

    async def open_direct(self, user_id: str) -> str:
        if not is_address(user_id):
            raise DeliveryRefused(f"'{user_id[:80]}' is no mail address")
        return user_id.lower()

    async def _thread_of(self, message: Outgoing) -> Thread | None:
        for message_id in (message.reply_to, message.address.thread_id):
            if message_id is not None and (thread := await self._threads.find(message_id)) is not None:
                return thread
        root = message.address.thread_id
        return None if root is None or not root.startswith("<") else Thread(root, "")

    async def _was_sent(self, message_id: str) -> bool:
        """Whether the copy of a mail of ours has come back. Raises `ChannelUnavailable` where that cannot be known."""
        for folder in (self._settings.folder, self._settings.sent_folder):
            if folder is None:
                continue
            try:
                box = await Mailbox.open(self._settings, folder)
            except ChannelRefused:  # there is no such folder
                continue
            try:
                if await box.with_message_id(message_id):
                    return True
            finally:
                await box.close()
        return False

    async def _take_new(self, box: Mailbox) -> bool:
        """Take every mail that came since the position, in order; whether there was any."""
        position = await self._position()
        assert position is not None, "it was set at the start"
        validity, last, day = position
        if validity != box.validity:
            # The server has numbered the folder anew: what came lately is read again, and what is known is known.
            log.warning("a mailbox was renumbered; its last mails are read again", extra={"channel": self.name})
            uids, last = await box.uids_since(day - timedelta(days=1)), 0
        else:
            uids = await box.uids_after(last)
        for uid in uids:
            await self._take(box, uid)
            last = max(last, uid)
            await self._keep_position(box, last)
        if validity != box.validity and not uids:
            await self._keep_position(box, box.next_uid - 1)
        return bool(uids)

    async def _take(self, box: Mailbox, uid: int) -> None:
        fetched = await box.fetch(uid, self._settings.max_bytes)
        if fetched is None:
            return
        mail = await self._read(fetched, uid)
        if mail is None:
            return
        if mail.is_own:
            if self._settings.sent_folder is None or not await box.move(uid, self._settings.sent_folder):
                await box.mark_seen(uid)
            return
        if mail.ignored is not None:
            log.info("a mail is not answered", extra={"channel": self.name, "uid": uid, "reason": mail.ignored})
        else:
            await self._hand_over(mail, fetched, uid)
        await box.mark_seen(uid)

    async def _read(self, fetched: Fetched, uid: int) -> Mail | None:
        try:
            return await asyncio.to_thread(
                read,
                fetched.data,
                own=self._settings.address,
                authserv_id=self._settings.authserv_id if self._settings.verify_senders else None,
                is_whole=len(fetched.data) >= fetched.size,
            )
        except InvalidValue as error:
            self._refuse(uid, error.what)
        except Exception:  # the boundary of one mail: a fault in reading it must not hold up the others
            log.exception("a mail cannot be read", extra={"channel": self.name, "uid": uid})
            self._refuse(uid, "the host failed over it")
        return None

    async def _hand_over(self, mail: Mail, fetched: Fetched, uid: int) -> None:
        assert self._ingest is not None, "the channel has been started"
        message_id = mail.message_id or f"<{hashlib.sha256(fetched.data).hexdigest()}@no.message.id>"
        thread = await self._threads.of(message_id, mail.ids, mail.subject)
        folder = self._context.downloads / new_id(Prefix.MESSAGE)
        try:
            files, notes = await asyncio.to_thread(self._keep_files, mail, folder)
            event = Event(
                address=Address(self.name, mail.sender, thread.root),
                platform_message_id=message_id,
                text="\n\n".join([said(mail), *notes]).strip(),
                sender_id=mail.sender,
                sender_name=mail.sender_name,
                is_mention=True,
                is_group=False,
                chat_name=mail.sender_name,
                reply_to=mail.ids[-1] if mail.ids else None,
                attachments=files,
            )
            await self._ingest(event)
        except (InvalidValue, AttachmentRefused) as error:  # it would be refused for ever
            self._refuse(uid, error.what)
        except DumbwaiterError as error:
            raise ChannelUnavailable(f"a mail cannot be kept: {error.what}") from error
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await self._threads.keep(message_id, thread)

    def _keep_files(self, mail: Mail, folder: Path) -> tuple[tuple[Attachment, ...], list[str]]:
        """Put the files of a mail where the host finds them. Blocks. What it may not take is named in a note."""
        limits = self._context.file_limits
        taken: list[Attachment] = []
        notes: list[str] = []
        for file in mail.files:
            name = safe_name(file.name, {attachment.source.name for attachment in taken})
            if len(file.data) > limits.max_bytes:
                size = f"{len(file.data)} bytes, {limits.max_bytes} are allowed"
                notes.append(f"[the file {name} is left out: it has {size}]")
            elif len(taken) >= limits.max_files:
                notes.append(f"[the file {name} is left out: a message may have {limits.max_files} files]")
            else:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(file.data)
                taken.append(Attachment(name, folder / name))
        return tuple(taken), notes[: limits.max_files]

    def _refuse(self, uid: int, reason: str) -> None:
        self.refused += 1
        extra = {"channel": self.name, "uid": uid, "reason": reason, "refused": self.refused}
        log.warning("a mail was refused", extra=extra)

    async def _position(self) -> tuple[int, int, date] | None:
        text = await self._context.state.get(_POSITION)
        if text is None:
            return None
        content = json_text.parse(text)
        return int(content["validity"]), int(content["uid"]), date.fromisoformat(content["day"])

    async def _keep_position(self, box: Mailbox, uid: int) -> None:
        content = {"validity": box.validity, "uid": uid, "day": self._context.clock.now().date().isoformat()}
        await self._context.state.set(_POSITION, json.dumps(content))
