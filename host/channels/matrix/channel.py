"""The channel `matrix`. A room is a chat; the first event of a thread is the thread.

Invariant: the sync token is kept only when everything that came with it is on the disk. What comes again after that was
interrupted is known by its event id.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import mimetypes
import random
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from host.channels.matrix.client import MatrixClient
from host.channels.matrix.content import MAX_BYTES, edited, file_content, related, text_content, transaction_id
from host.channels.matrix.events import EventRoom, incoming, readers, replied_to
from host.channels.matrix.settings import MatrixSettings
from host.channels.protocol import (
    BaseChannel,
    Button,
    Capabilities,
    ChannelUnavailable,
    Context,
    DeliveryRefused,
    Identity,
    Ingest,
    Outgoing,
)
from host.channels.unhurried import Unhurried
from host.routing.event import ChatGone, ChatMoved, Event, Incoming, Joined, Reacted, ReadReceipt, RemoteFile
from shared_schema import json_text
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.rows import Address

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 50 * 1024**2
"""What homeservers take unless they are told otherwise."""
_SYNC = "sync"
_MOST_CAUGHT_UP = 2_000
"""Events of one room that are fetched after an outage; older ones are left out, and the log says so."""
_TYPING_SECONDS = 20.0
_MOST_NAMES = 5_000
_MOST_REACTIONS = 5_000
_QUESTIONS, _BETWEEN_SECONDS = 3, 1.0
ENCRYPTED = "This room is encrypted, and I cannot read it. Open a room without encryption, and invite me there."
UNREADABLE = (
    "I could not read a message here: your program has not given me its key, because it was written before I came or "
    "because my account was logged in anew. Please write it again."
)


class MatrixChannel(BaseChannel):
    """One account."""

    type = "matrix"
    capabilities = Capabilities(
        formats=True,
        max_text=MAX_BYTES,
        text_unit="bytes",
        max_file_bytes=MAX_FILE_BYTES,
        threads=True,
        edits=True,
        deletes=True,
        reactions=True,
        direct_messages=True,
        receipts=True,
        idempotent=True,
        mentions_need_ids=True,
        typing_seconds=_TYPING_SECONDS,
        draft_seconds=(2.0, 3.0),
    )

    def __init__(self, settings: MatrixSettings, context: Context) -> None:
        self.name = context.name
        self._settings = settings
        self._context = context
        self._client: MatrixClient | None = None
        self._ingest: Ingest | None = None
        self._my_name: str | None = None
        self._is_first = True
        self._names: dict[str, str | None] = {}
        self._reactions: dict[str, Reacted] = {}
        self.refused = 0
        """Events that the host did not take, since it was started."""

    async def check(self) -> Identity:
        client = MatrixClient(self._settings)
        try:
            return Identity(*await client.who())
        finally:
            await client.close()

    async def start(self, ingest: Ingest) -> None:
        self._ingest = ingest
        await self.close()
        self._client = MatrixClient(self._settings, self._context.folder)
        _, self._my_name = await self._client.who()
        self._is_first = True
        self._context.health.heard()

    async def serve(self) -> None:
        while True:
            question = Unhurried(self._settings.sync_seconds)
            has_news = await self._sync_once(self._connected())
            self._context.health.heard()
            if not has_news:
                await question.wait()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def deliver(self, message: Outgoing) -> str | None:
        client, address = self._connected(), message.address
        sent: str | None = None
        if message.text:
            content = text_content(message.text, is_notice=message.from_host)
            if message.draft_id is not None:
                sent = message.draft_id
                content = edited(content, message.draft_id)
            else:
                content = related(content, address.thread_id, message.reply_to)
            event_id = await client.send(address.platform_id, "m.room.message", content, transaction_id(message.key))
            sent = sent or event_id
        for number, path in enumerate(message.files, 1):
            content = await self._uploaded(client, address.platform_id, path)
            content = related(content, address.thread_id, None if sent else message.reply_to)
            key = transaction_id(message.key, number)
            event_id = await client.send(address.platform_id, "m.room.message", content, key)
            sent = sent or event_id
        return sent

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: tuple[Button, ...]) -> None:
        content = edited(text_content(text, is_notice=False), platform_message_id)
        # Each edit is an event of its own: the same text may come back later.
        key = transaction_id(f"{platform_message_id}/{random.getrandbits(64)}")
        await self._connected().send(address.platform_id, "m.room.message", content, key)

    async def delete(self, address: Address, platform_message_id: str) -> None:
        key = transaction_id(f"redact/{platform_message_id}")
        await self._connected().redact(address.platform_id, platform_message_id, key)

    async def react(self, address: Address, platform_message_id: str, emoji: str | None) -> None:
        client, room_id = self._connected(), address.platform_id
        for event_id in await client.reactions_of_mine(room_id, platform_message_id):
            await client.redact(room_id, event_id, transaction_id(f"redact/{event_id}"))
        if emoji is not None:
            relation = {"rel_type": "m.annotation", "event_id": platform_message_id, "key": emoji}
            key = transaction_id(f"react/{platform_message_id}/{random.getrandbits(64)}")
            await client.send(room_id, "m.reaction", {"m.relates_to": relation}, key)

    async def typing(self, address: Address) -> None:
        await self._connected().typing(address.platform_id, _TYPING_SECONDS + 10)

    async def download(self, file: RemoteFile, target: Path) -> None:
        reference = json_text.parse(file.reference)
        client = self._connected()
        await client.download(reference["url"], target, self._context.file_limits.max_bytes)
        if "key" in reference:
            await asyncio.to_thread(client.decrypt, target, reference["key"], reference["sha256"], reference["iv"])

    async def open_direct(self, user_id: str) -> str:
        known = await self._context.state.get(f"direct-{user_id}")
        if known is not None and self._connected().room(known) is not None:
            return known
        room_id = await self._connected().open_direct(user_id)
        await self._context.state.set(f"direct-{user_id}", room_id)
        return room_id

    async def person_name(self, user_id: str) -> str | None:
        if user_id not in self._names:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            self._names[user_id] = await self._connected().name_of(user_id)
        return self._names[user_id]

    async def chat_name(self, platform_id: str) -> str | None:
        room = self._connected().room(platform_id)
        return None if room is None else room.display_name

    async def _sync_once(self, client: MatrixClient) -> bool:
        """Take what is new; whether there was anything."""
        since = await self._context.state.get(_SYNC)
        answer = await client.sync(since, is_first=self._is_first)
        self._is_first = False
        for room_id, invited in answer.rooms.invite.items():
            await self._invited(client, room_id, client.invitation(invited))
        for room_id, info in answer.rooms.join.items():
            if since is not None:
                await self._take_room(client, room_id, info, since)
        for room_id in answer.rooms.leave:
            await self._tell(ChatGone(Address(self.name, room_id), "the bot is not in this room any more"))
        # Last of all: a host that is interrupted before this gets the same events again.
        await self._context.state.set(_SYNC, answer.next_batch)
        return bool(answer.rooms.invite or answer.rooms.join or answer.rooms.leave)

    async def _take_room(self, client: MatrixClient, room_id: str, info: Any, since: str) -> None:
        events = [event.source for event in info.timeline.events]
        if info.timeline.limited and info.timeline.prev_batch is not None:
            # More has happened than the server hands over at once. The rest lies between that and our last token.
            missed = await client.history(room_id, info.timeline.prev_batch, since, _MOST_CAUGHT_UP)
            if len(missed) == _MOST_CAUGHT_UP:
                where = {"channel": self.name, "room": room_id}
                log.warning("a room has had more events than are caught up", extra=where)
            events = [*missed, *events]
        last: str | None = None
        for source in events:
            if await self._take(client, room_id, source):
                last = str(source["event_id"])
        for thread in readers(client.receipts(info), client.me):
            await self._tell(ReadReceipt(Address(self.name, room_id, thread)))
        if last is not None:
            try:
                await client.mark_read(room_id, last)
            except (ChannelUnavailable, DeliveryRefused) as error:  # only a courtesy to people
                log.info("a room cannot be marked as read", extra={"channel": self.name, "error": error.what})

    async def _take(self, client: MatrixClient, room_id: str, source: Mapping[str, Any]) -> bool:
        """Hand over one event; whether it was a message."""
        kind = source.get("type")
        if kind == "m.room.encrypted" and source.get("sender") != client.me:
            await self._tell_of_encryption(client, room_id)
            return False
        if kind == "m.room.tombstone":
            await self._moved(client, room_id, source)
            return False
        sender = source.get("sender")
        name = await self._name(sender) if kind in ("m.room.message", "m.reaction") else None
        event = incoming(source, self._room(client, room_id), name)
        if event is None:
            return False
        if isinstance(event, Event):
            event = await self._with_mention(client, event, source)
        elif isinstance(event, Reacted):
            if len(self._reactions) >= _MOST_REACTIONS:
                self._reactions.clear()
            self._reactions[str(source["event_id"])] = event
        elif (reaction := self._reactions.pop(getattr(event, "platform_message_id", ""), None)) is not None:
            event = Reacted(  # what was taken back is a reaction
                reaction.address, reaction.platform_message_id, None, reaction.sender_id, reaction.sender_name,
                reaction.emoji,
            )  # fmt: skip
        await self._tell(event)
        return isinstance(event, Event)

    async def _with_mention(self, client: MatrixClient, event: Event, source: Mapping[str, Any]) -> Event:
        """A reply to the bot means the bot."""
        target = replied_to(source)
        if event.is_mention or target is None:
            return event
        sender = await self._learnt(client, lambda: client.sender_of(event.address.platform_id, target))
        if sender != client.me:
            return event
        return dataclasses.replace(event, is_mention=True)

    async def _tell(self, event: Incoming) -> None:
        """Hand something over. What the host will never take is counted, and holds up nothing."""
        assert self._ingest is not None, "the channel has been started"
        try:
            await self._ingest(event)
        except InvalidValue as error:
            self.refused += 1
            extra = {"channel": self.name, "reason": error.what, "refused": self.refused}
            log.warning("an event was refused", extra=extra)
        except DumbwaiterError as error:
            raise ChannelUnavailable(f"an event cannot be kept: {error.what}") from error

    async def _invited(self, client: MatrixClient, room_id: str, state: list[Mapping[str, Any]]) -> None:
        if not self._settings.join:
            return
        inviter, name, is_direct = None, None, False
        for event in state:
            content = event.get("content")
            if not isinstance(content, dict):
                continue
            if event.get("type") == "m.room.member" and event.get("state_key") == client.me:
                inviter = event.get("sender") if isinstance(event.get("sender"), str) else None
                is_direct = content.get("is_direct") is True
            elif event.get("type") == "m.room.name" and isinstance(content.get("name"), str):
                name = content["name"][:200]
        try:
            await client.join(room_id)
        except DeliveryRefused as error:
            log.warning("a room cannot be entered", extra={"channel": self.name, "room": room_id, "error": error.what})
            return
        sender_name = await self._name(inviter)
        await self._tell(Joined(Address(self.name, room_id), name, not is_direct, inviter, sender_name))

    async def _moved(self, client: MatrixClient, room_id: str, source: Mapping[str, Any]) -> None:
        """A room was upgraded: it goes on under another id."""
        content = source.get("content")
        replacement = content.get("replacement_room") if isinstance(content, dict) else None
        if isinstance(replacement, str) and 0 < len(replacement) <= 255 and replacement.isprintable():
            try:
                await client.join(replacement)
            except DeliveryRefused as error:
                log.warning("a room cannot be followed", extra={"channel": self.name, "error": error.what})
                return
            # The moderators of a room may point anywhere: a room of others would get the agents of theirs.
            if await self._learnt(client, lambda: client.predecessor(replacement)) != room_id:
                where = {"channel": self.name, "room": room_id}
                log.warning("a room points to another one that does not go on from it", extra=where)
                return
            await self._tell(ChatMoved(self.name, room_id, replacement))

    async def _tell_of_encryption(self, client: MatrixClient, room_id: str) -> None:
        """Say once in a room that it cannot be read."""
        key = f"{'unread' if client.reads_encrypted else 'encrypted'}-{room_id}"
        if await self._context.state.get(key) is not None:
            return
        log.warning("a room is encrypted and cannot be read", extra={"channel": self.name, "room": room_id})
        try:
            text = UNREADABLE if client.reads_encrypted else ENCRYPTED
            content = text_content(text, is_notice=True)
            await client.send(room_id, "m.room.message", content, transaction_id(key))
        except DeliveryRefused as error:
            log.warning("a room cannot be written to", extra={"channel": self.name, "error": error.what})
        await self._context.state.set(key, "told")

    async def _learnt(self, client: MatrixClient, ask: Callable[[], Awaitable[str | None]]) -> str | None:
        """What has to be known about an event before it is handed over.

        Where the server does not answer at all, all of it comes again; what it fails over by itself, again and again,
        is taken as not known, so that one event holds up no other.
        """
        for _ in range(_QUESTIONS):
            try:
                return await ask()
            except ChannelUnavailable as error:
                reason = error.what
                await asyncio.sleep(_BETWEEN_SECONDS)
        await client.who()
        log.warning("an event cannot be looked up", extra={"channel": self.name, "error": reason})
        return None

    def _room(self, client: MatrixClient, room_id: str) -> EventRoom:
        known = client.room(room_id)
        if known is None:
            return EventRoom(self.name, room_id, client.me, self._my_name)
        return EventRoom(
            self.name, room_id, client.me, self._my_name, known.display_name, is_group=known.member_count > 2
        )

    async def _name(self, user_id: object) -> str | None:
        if not isinstance(user_id, str):
            return None
        try:
            return await self.person_name(user_id)
        except (ChannelUnavailable, DeliveryRefused):
            return None

    async def _uploaded(self, client: MatrixClient, room_id: str, path: Path) -> dict[str, Any]:
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        size = (await asyncio.to_thread(path.stat)).st_size
        return file_content(path.name, size, kind, await client.upload(room_id, path, kind))

    def _connected(self) -> MatrixClient:
        if self._client is None:
            raise ChannelUnavailable("it is not connected to its homeserver")
        return self._client
