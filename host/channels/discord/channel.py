"""The channel `discord`: connects, hands over what happens, and sends.

Its life: `start` says who we are and waits for the gateway, `serve` reads until that is lost or deaf, `close` ends it.
Discord's gateway knows no acknowledgement: what could not be kept is tried again here, and what a killed host had not
kept is asked for at the next start, from the last message that surely was (`catch_up`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from host.channels.discord.catch_up import messages_since
from host.channels.discord.client import DiscordClient, asked, may_read_messages, missing_intent
from host.channels.discord.directory import Directory, snowflake, tables, text
from host.channels.discord.events import Reader
from host.channels.discord.settings import DiscordSettings
from host.channels.discord.text import MAX_TEXT, to_discord
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
from host.routing.commands import COMMANDS
from host.routing.event import ChatMoved, Event, Incoming, RemoteFile
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.rows import Address

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 10 * 1024**2
_FILES_A_MESSAGE = 10
_READY_SECONDS = 60.0
_GUILDS_SECONDS = 5.0
_NOTE_SECONDS = 30.0
_ANSWER_SECONDS = 2.0  # Discord shows a click as failed after three
_REMEMBERED = 10_000
_MAX_DIRECT = 100
_NONCE_SECONDS = 60.0  # Discord knows a nonce for "a few minutes"
_DOUBTFUL_SECONDS = 120.0
_MARGIN_SECONDS = 2 * 3600.0
_CHUNK = 64 * 1024
_EPOCH = 1_420_070_400.0
_RIGHTS = 1 << 6 | 1 << 10 | 1 << 11 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 38
"""Add reactions, view channels, send messages, embed links, attach files, read history, send in threads."""

_NEWEST, _DIRECT, _CLEAN, _COMMANDS = "newest", "direct", "ended_cleanly", "commands"


class DiscordChannel(BaseChannel):
    """One bot."""

    type = "discord"
    capabilities = Capabilities(
        formats=True,
        max_text=MAX_TEXT,
        max_file_bytes=MAX_FILE_BYTES,
        threads=True,
        edits=True,
        deletes=True,
        reactions=True,
        buttons=True,
        direct_messages=True,
        idempotent=True,  # by the nonce, and where that is forgotten by a look at the chat
        mentions_need_ids=True,
        typing_seconds=8.0,
        draft_seconds=(1.5, 3.0),
    )

    def __init__(self, settings: DiscordSettings, context: Context) -> None:
        self.name = context.name
        self._settings = settings
        self._context = context
        self._client: DiscordClient | None = None
        self._ingest: Ingest | None = None
        self._directory = Directory()
        self._reader = Reader(self.name, "", self._directory)
        self._listening: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._expected: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._chains: dict[str, asyncio.Task[None]] = {}
        self._said: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._open = 0  # events that are not on the disk yet
        self._newest = 0
        self._direct: list[str] = []
        self._done: OrderedDict[str, str] = OrderedDict()
        self._unsure: dict[str, float] = {}
        self._doubtful_until = 0.0
        self._is_first = False  # nothing was noted before this run
        self._is_caught_up = False

    async def check(self) -> Identity:
        client = self._make_client()
        try:
            me = await client.log_in(self._settings.token.get_secret_value())
            application = await client.about_us()
            missing = []
            if not may_read_messages(application):
                missing.append(str(missing_intent()))
            if not await client.call("GET", "/users/@me/guilds"):
                missing.append(f"the bot is in no server: invite it with {invitation(str(application.get('id')))}")
            return Identity(str(me["id"]), str(me.get("global_name") or me["username"]), tuple(missing))
        finally:
            await client.close()

    async def start(self, ingest: Ingest) -> None:
        self._ingest, self._is_caught_up = ingest, False
        client = self._client = self._make_client()
        me = await client.log_in(self._settings.token.get_secret_value())
        application = await client.about_us()
        if not may_read_messages(application):
            raise missing_intent()
        await self._remember()
        own_id = str(me["id"])
        self._directory = Directory(own_id)
        self._reader = Reader(self.name, own_id, self._directory)
        self._ready, self._expected = asyncio.Event(), set()
        self._listening = asyncio.create_task(client.listen(await client.gateway()))
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait([ready, self._listening], timeout=_READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._listening.done():
            await self._listening
        if not self._ready.is_set():
            raise ChannelUnavailable("the gateway of Discord does not greet")
        if self._settings.slash_commands:
            await self._offer_commands(client, str(application.get("id")))

    async def serve(self) -> None:
        assert self._listening is not None, "it has been started"
        noting = asyncio.create_task(self._note_regularly())
        try:
            await asyncio.wait([self._listening, noting], return_when=asyncio.FIRST_COMPLETED)
            for ended in (self._listening, noting):
                if ended.done():
                    await ended
        finally:
            noting.cancel()
            await asyncio.gather(noting, return_exceptions=True)

    async def deliver(self, message: Outgoing) -> str | None:
        if (done := self._done.get(message.key)) is not None:
            return done
        client, where = self._live(), _place(message.address)
        if message.draft_id is not None:
            await self.edit(message.address, message.draft_id, message.text, message.buttons)
            if message.files:
                await self._send_files(client, where, message)
            return self._sent(message.key, message.draft_id)
        found = await self._find(client, where, message)
        if found is not None:
            return self._sent(message.key, found)
        self._unsure.setdefault(message.key, asyncio.get_running_loop().time())
        written, files = to_discord(message.text), message.files[:_FILES_A_MESSAGE]
        try:
            message_id = await client.send(
                where,
                written,
                nonce=nonce_of(message.key),
                reply_to=_id(message.reply_to) if message.reply_to is not None else None,
                buttons=message.buttons,
                files=files,
            )
            if len(message.files) > _FILES_A_MESSAGE:
                await self._send_files(client, where, message, first=_FILES_A_MESSAGE)
        except DeliveryRefused:
            self._unsure.pop(message.key, None)
            raise
        return self._sent(message.key, message_id)

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: tuple[Button, ...]) -> None:
        await self._live().edit(_place(address), _id(platform_message_id), to_discord(text), buttons)

    async def delete(self, address: Address, platform_message_id: str) -> None:
        await self._live().delete(_place(address), _id(platform_message_id))

    async def react(self, address: Address, platform_message_id: str, emoji: str | None) -> None:
        client, where, message_id = self._live(), _place(address), _id(platform_message_id)
        if emoji is not None:
            await asked(client.calls.add_reaction(where, message_id, emoji))
            return
        message = await asked(client.calls.get_message(where, message_id))
        for reaction in tables(message.get("reactions")):
            name = text(_mapping(reaction.get("emoji")), "name")
            if reaction.get("me") and name is not None:
                await asked(client.calls.remove_own_reaction(where, message_id, name))

    async def typing(self, address: Address) -> None:
        await asked(self._live().calls.send_typing(_place(address)))

    async def download(self, file: RemoteFile, target: Path) -> None:
        channel_id, message_id, file_id = [*file.reference.split("/"), "", ""][:3]
        message = await asked(self._live().calls.get_message(_id(channel_id), _id(message_id)))
        found = [each for each in tables(message.get("attachments")) if each.get("id") == file_id]
        url = text(found[0], "url") if found else None
        if url is None:
            raise DeliveryRefused("the file is gone")
        try:
            await self._fetch(url, target)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ChannelUnavailable(f"the file could not be fetched ({type(error).__name__})") from None

    async def open_direct(self, user_id: str) -> str:
        answer = await asked(self._live().calls.start_private_message(_id(user_id)))
        found = str(answer["id"])
        await self._know_direct(found)
        return found

    async def person_name(self, user_id: str) -> str | None:
        answer = _mapping(await asked(self._live().calls.get_user(_id(user_id))))
        return text(answer, "global_name") or text(answer, "username")

    async def chat_name(self, platform_id: str) -> str | None:
        name = text(_mapping(await asked(self._live().calls.get_channel(_id(platform_id)))), "name")
        return None if name is None else f"#{name}"[:300]

    async def close(self) -> None:
        tasks = [task for task in (self._listening, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()
        if self._ingest is not None and self._is_caught_up:
            await self._note()
            if not self._unsure:
                await self._context.state.set(_CLEAN, "yes")
        self._client = self._listening = self._ingest = None
        self._chains.clear()
        self._open = 0

    # What comes in

    def _received(self, event: str, data: Mapping[str, Any]) -> None:
        """Take an event of the gateway. Called in the order in which they come."""
        guild_id = text(data, "id")
        if event == "READY":
            self._expected = {str(each.get("id")) for each in tables(data.get("guilds"))}
            self._ready.set()
        is_new_guild = event == "GUILD_CREATE" and self._ready.is_set() and guild_id not in self._expected
        try:
            incoming = self._reader.read(event, data)
            incoming += self._reader.joined(data) if is_new_guild and guild_id not in self._directory.guilds else []
        except InvalidValue as error:
            log.warning("an event of Discord cannot be used", extra={"kind": event[:50], "error": str(error)})
            return
        finally:
            self._directory.learn(event, data)
        for each in incoming:
            self._queue(each, data if event == "INTERACTION_CREATE" else None)

    def _queue(self, incoming: Incoming, interaction: Mapping[str, Any] | None = None) -> asyncio.Task[None]:
        """Hand it over behind what came before in its chat."""
        chat = incoming.old_platform_id if isinstance(incoming, ChatMoved) else incoming.address.platform_id
        before = self._chains.get(chat)
        task = asyncio.create_task(self._hand_over(incoming, before))
        self._chains[chat] = task
        self._open += 1
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if self._chains.get(chat) is task:
                del self._chains[chat]
            if not task.cancelled() and task.exception() is None:
                self._open -= 1

        task.add_done_callback(ended)
        if interaction is not None:
            answering = asyncio.create_task(self._answer(interaction, task))
            self._tasks.add(answering)
            answering.add_done_callback(self._tasks.discard)
        return task

    async def _hand_over(self, incoming: Incoming, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        said = (incoming.address.platform_id, incoming.platform_message_id) if isinstance(incoming, Event) else None
        if said in self._said or self._ingest is None:  # what is caught up and what comes live overlap
            return
        if isinstance(incoming, Event) and incoming.is_group is False:
            await self._know_direct(incoming.address.platform_id)
        wait = 1.0
        while True:
            try:
                await self._ingest(incoming)
                break
            except InvalidValue as error:  # it will never be better
                log.warning("an event of Discord cannot be used", extra={"error": str(error)})
                break
            except DumbwaiterError as error:
                log.error("an event of Discord cannot be kept yet", extra={"error": str(error), "wait": wait})
            except Exception:  # the boundary of one event
                log.exception("an event of Discord could not be handled")
                break
            await asyncio.sleep(wait)
            wait = min(30.0, wait * 2)
        if said is not None:
            self._said[said] = None
            self._newest = max(self._newest, snowflake(said[1]))
            if len(self._said) > _REMEMBERED:
                self._said.popitem(last=False)

    async def _answer(self, interaction: Mapping[str, Any], handing_over: asyncio.Task[None]) -> None:
        """Tell Discord within its three seconds that a click or a command has come."""
        await asyncio.wait([handing_over], timeout=_ANSWER_SECONDS)
        client, token = self._client, text(interaction, "token")
        if client is None or token is None:
            return
        reply: dict[str, Any] = {"type": 6}
        if interaction.get("type") == 2:
            name = text(_mapping(interaction.get("data")), "name") or "?"
            reply = {"type": 4, "data": {"content": f"`/{name[:32]}`", "flags": 64, "allowed_mentions": {"parse": []}}}
        try:
            await client.call(
                "POST", f"/interactions/{_id(str(interaction.get('id')))}/{_token(token)}/callback", json=reply
            )
        except DumbwaiterError as error:
            log.warning("an interaction of Discord could not be answered", extra={"error": str(error)})

    async def _remember(self) -> None:
        """Take up what the last host has noted."""
        state = self._context.state
        newest = await state.get(_NEWEST)
        self._is_first = newest is None
        if newest is None:
            # Two hours early: our clock may be wrong. Nothing older is asked for before this run has noted more.
            self._newest = int((self._context.clock.now().timestamp() - _MARGIN_SECONDS - _EPOCH) * 1000) << 22
            await state.set(_NEWEST, str(self._newest))
        elif not self._newest:
            self._newest = int(newest)
            if await state.get(_CLEAN) != "yes":
                self._doubtful_until = asyncio.get_running_loop().time() + _DOUBTFUL_SECONDS
        await state.set(_CLEAN, "no")
        self._direct = json.loads(await state.get(_DIRECT) or "[]")

    async def _note_regularly(self) -> None:
        """Catch up, and then note again and again up to which message all is on the disk."""
        if not self._is_first:
            await self._all_guilds()
            await self._catch_up()
        self._is_caught_up = True
        while True:
            await asyncio.sleep(_NOTE_SECONDS)
            await self._note()

    async def _note(self) -> None:
        if self._open == 0:
            newest = max([self._newest, *(place.last_message_id for place in self._directory.places())])
            await self._context.state.set(_NEWEST, str(newest))

    async def _all_guilds(self) -> None:
        """Wait until the gateway has told of all servers, or does not."""
        ends = asyncio.get_running_loop().time() + _GUILDS_SECONDS
        while not self._expected <= self._directory.guilds and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.05)

    async def _catch_up(self) -> None:
        since = self._newest
        places = [place.id for place in self._directory.places() if place.last_message_id > since]
        while True:
            try:
                async for data in messages_since(self._live(), [*places, *self._direct], since):
                    place = self._directory.place(str(data.get("channel_id")))
                    guild = {"guild_id": place.guild_id} if place is not None and place.guild_id is not None else {}
                    try:
                        event = self._reader.message({**data, **guild})
                    except InvalidValue as error:
                        log.warning("a message of Discord cannot be used", extra={"error": str(error)})
                        continue
                    if event is not None:
                        await asyncio.wait([self._queue(event)])
            except ChannelUnavailable as error:
                await asyncio.sleep(error.retry_after or 5.0)
            else:
                return

    async def _know_direct(self, channel_id: str) -> None:
        """Remember a direct chat: the gateway does not tell of those at the next start."""
        if channel_id in self._direct[-1:]:
            return
        self._direct = [*(each for each in self._direct if each != channel_id), channel_id][-_MAX_DIRECT:]
        await self._context.state.set(_DIRECT, json.dumps(self._direct))

    async def _offer_commands(self, client: DiscordClient, application_id: str) -> None:
        """Offer our commands while people type. Discord allows few changes a day: only when something is new."""
        commands = [
            {
                "name": entry.word,
                "type": 1,
                "description": f"{entry.help[0].upper()}{entry.help[1:]}",
                "options": [{"type": 3, "name": "text", "description": "what belongs to it", "required": False}],
            }
            for entry in COMMANDS.values()
        ]
        mark = f"{application_id}/{hashlib.sha256(json.dumps(commands).encode()).hexdigest()}"
        if await self._context.state.get(_COMMANDS) == mark:
            return
        try:
            await asked(client.calls.bulk_upsert_global_commands(_id(application_id), commands))
        except DeliveryRefused as error:
            log.warning("the commands could not be offered on Discord", extra={"error": str(error)})
            return
        await self._context.state.set(_COMMANDS, mark)

    # What goes out

    def _make_client(self) -> DiscordClient:
        return DiscordClient(
            self._settings.base_url,
            self._received,
            self._context.health.heard,
            deaf_seconds=self._settings.deaf_seconds,
        )

    def _live(self) -> DiscordClient:
        if self._client is None:
            raise ChannelUnavailable("the channel is not connected")
        return self._client

    def _sent(self, key: str, message_id: str) -> str:
        self._unsure.pop(key, None)
        self._done[key] = message_id
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
        return message_id

    async def _send_files(self, client: DiscordClient, where: str, message: Outgoing, *, first: int = 0) -> None:
        for at in range(first, len(message.files), _FILES_A_MESSAGE):
            files = message.files[at : at + _FILES_A_MESSAGE]
            nonce = nonce_of(f"{message.key}/{at}")
            await client.send(where, "", nonce=nonce, reply_to=None, buttons=(), files=files)

    async def _find(self, client: DiscordClient, where: str, message: Outgoing) -> str | None:
        """A message that may have arrived earlier than Discord remembers its nonce; None: it is not there."""
        now, began = asyncio.get_running_loop().time(), self._unsure.get(message.key)
        is_late = began is not None and now - began > _NONCE_SECONDS
        # Of an earlier host nothing is known but what it answered: without that, equal texts may be two messages.
        is_doubtful = began is None and now < self._doubtful_until and message.reply_to is not None
        if not (is_late or is_doubtful):
            return None
        for each in tables(await asked(client.calls.logs_from(where, 50))):
            author, reference = _mapping(each.get("author")), _mapping(each.get("message_reference"))
            found = text(each, "id")
            if (
                author.get("id") == self._reader.own_id
                and found is not None
                and found not in self._done.values()
                and each.get("content") == to_discord(message.text)
                and reference.get("message_id") == message.reply_to
            ):
                return found
        return None

    async def _fetch(self, url: str, target: Path) -> None:
        """Fetch a file from where Discord keeps files. Our token is not shown there."""
        parts, own = urlsplit(url), urlsplit(self._settings.base_url)
        is_discords = parts.scheme == "https" and parts.hostname in ("cdn.discordapp.com", "media.discordapp.net")
        if not is_discords and (parts.scheme, parts.netloc) != (own.scheme, own.netloc):
            raise DeliveryRefused("the file does not lie at Discord")
        limit, written = self._context.file_limits.max_bytes, 0
        patience = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
        async with (
            aiohttp.ClientSession(timeout=patience) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise ChannelUnavailable(f"Discord does not give the file (status {response.status})")
            with await asyncio.to_thread(target.open, "xb") as kept:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    written += len(chunk)
                    if written > limit:
                        raise DeliveryRefused(f"the file has more than {limit} bytes")
                    await asyncio.to_thread(kept.write, chunk)


def invitation(application_id: str) -> str:
    """The address with which a person lets the bot into a server."""
    scopes = "bot+applications.commands"
    return f"https://discord.com/oauth2/authorize?client_id={application_id}&scope={scopes}&permissions={_RIGHTS}"


def nonce_of(key: str) -> str:
    """The nonce of a message: the same for the same key, and at most 25 characters."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _place(address: Address) -> str:
    """The channel or thread of an address."""
    return _id(address.thread_id or address.platform_id)


def _id(value: str) -> str:
    """An id as Discord has them: it stands in the path of a call."""
    if not snowflake(value):
        raise DeliveryRefused(f"'{value[:40]}' is no id of Discord")
    return value


def _token(value: str) -> str:
    if not value.isascii() or not all(character.isalnum() or character in "-_." for character in value):
        raise DeliveryRefused("the interaction has no usable token")
    return value


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
