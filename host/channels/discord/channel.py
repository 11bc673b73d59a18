"""The channel `discord`: connects to the gateway, and hands each call to the module whose it is.

Its life: `start` says who we are and waits for the gateway, `serve` reads until that is lost or deaf, `close` ends it.
What a killed host had not kept is asked for at the next start.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from host.channels.discord.catch_up import DiscordCatchUp
from host.channels.discord.check import check
from host.channels.discord.client import DiscordClient, asked, may_read_messages, missing_intent
from host.channels.discord.commands import offer_commands
from host.channels.discord.directory import table, text
from host.channels.discord.files import MAX_FILE_BYTES, download
from host.channels.discord.ids import require_id
from host.channels.discord.receiver import DiscordReceiver
from host.channels.discord.sender import DiscordSender
from host.channels.discord.settings import DiscordSettings
from host.channels.discord.text import MAX_TEXT
from host.channels.protocol import (
    BaseChannel,
    Button,
    Capabilities,
    ChannelUnavailable,
    Context,
    Identity,
    Ingest,
    Outgoing,
)
from host.routing.event import RemoteFile
from shared_schema.rows import Address

_READY_SECONDS = 60.0


class DiscordChannel(BaseChannel):
    """One bot. See `Channel` for what each method does and raises."""

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
        self._token = settings.token.get_secret_value()
        self._client: DiscordClient | None = None
        self._is_started = False
        self._listening: asyncio.Task[None] | None = None
        self._catch_up = DiscordCatchUp(context.state, context.clock, self._connected)
        self._receiver = DiscordReceiver(self.name, self._catch_up.know_direct)
        self._sender = DiscordSender(self._connected)

    # --- connecting ---

    async def check(self) -> Identity:
        client = self._new_client()
        try:
            return await check(client, self._token)
        finally:
            await client.close()

    async def start(self, ingest: Ingest) -> None:
        client = self._client = self._new_client()
        me = await client.log_in(self._token)
        application = await client.about_us()
        if not may_read_messages(application):
            raise missing_intent()
        if await self._catch_up.begin(self._receiver):
            self._sender.doubt()
        self._is_started = True
        self._sender.own_id = str(me["id"])
        self._receiver.start(ingest, client, str(me["id"]))
        self._listening = asyncio.create_task(client.listen(await client.gateway()))
        ready = asyncio.create_task(self._receiver.is_ready.wait())
        await asyncio.wait([ready, self._listening], timeout=_READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._listening.done():
            await self._listening
        if not self._receiver.is_ready.is_set():
            raise ChannelUnavailable("the gateway of Discord does not greet")
        if self._settings.slash_commands:
            await offer_commands(client, self._context.state, str(application.get("id")))

    async def serve(self) -> None:
        assert self._listening is not None, "it has been started"
        noting = asyncio.create_task(self._catch_up.run(self._receiver))
        try:
            await asyncio.wait([self._listening, noting], return_when=asyncio.FIRST_COMPLETED)
            for ended in (self._listening, noting):
                if ended.done():
                    await ended
        finally:
            noting.cancel()
            await asyncio.gather(noting, return_exceptions=True)

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._receiver.close()
        if self._client is not None:
            await self._client.close()
        if self._is_started:
            await self._catch_up.end(self._receiver, is_sure=self._sender.is_sure)
        self._receiver.forget()
        self._client = self._listening = None
        self._is_started = False

    def _new_client(self) -> DiscordClient:
        return DiscordClient(
            self._settings.base_url,
            self._receiver.received,
            self._context.health.heard,
            deaf_seconds=self._settings.deaf_seconds,
        )

    def _connected(self) -> DiscordClient:
        if self._client is None:
            raise ChannelUnavailable("the channel is not connected")
        return self._client

    # --- what goes out ---

    async def deliver(self, message: Outgoing) -> str | None:
        return await self._sender.send(message)

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: tuple[Button, ...]) -> None:
        await self._sender.edit(address, platform_message_id, text, buttons)

    async def delete(self, address: Address, platform_message_id: str) -> None:
        await self._sender.delete(address, platform_message_id)

    async def react(self, address: Address, platform_message_id: str, emoji: str | None) -> None:
        await self._sender.react(address, platform_message_id, emoji)

    async def typing(self, address: Address) -> None:
        await self._sender.typing(address)

    # --- files, people and chats ---

    async def download(self, file: RemoteFile, target: Path) -> None:
        limit = self._context.file_limits.max_bytes
        await download(self._connected(), self._settings.base_url, file, target, limit)

    async def open_direct(self, user_id: str) -> str:
        answer = await asked(self._connected().calls.start_private_message(require_id(user_id)))
        found = str(answer["id"])
        await self._catch_up.know_direct(found)
        return found

    async def person_name(self, user_id: str) -> str | None:
        answer = table(await asked(self._connected().calls.get_user(require_id(user_id))))
        return text(answer, "global_name") or text(answer, "username")

    async def chat_name(self, platform_id: str) -> str | None:
        name = text(table(await asked(self._connected().calls.get_channel(require_id(platform_id)))), "name")
        return None if name is None else f"#{name}"[:300]
