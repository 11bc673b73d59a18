"""The channel `telegram`: connects by polling or a webhook, and hands each call to the module whose it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from host.channels.protocol import (
    BaseChannel,
    Button,
    Capabilities,
    ChannelRefused,
    ChannelUnavailable,
    Context,
    DeliveryRefused,
    Identity,
    Ingest,
    Outgoing,
    TokenRefused,
)
from host.channels.telegram.check import check, host_of
from host.channels.telegram.client import NEW_TOKEN, Client
from host.channels.telegram.events import TelegramBot
from host.channels.telegram.files import MAX_FILE, download
from host.channels.telegram.polling import Polling
from host.channels.telegram.receiver import TelegramReceiver
from host.channels.telegram.sender import MAX_TEXT, TelegramSender, number
from host.channels.telegram.settings import TelegramSettings
from host.channels.telegram.webhook import Webhook, call_us, watch
from host.routing.event import ChatGone, ChatMoved, RemoteFile
from shared_schema.errors import DumbwaiterError
from shared_schema.rows import Address


class TelegramChannel(BaseChannel):
    """One bot. See `Channel` for what each method does and raises."""

    type = "telegram"
    capabilities = Capabilities(
        formats=True,
        max_text=MAX_TEXT,
        text_unit="utf16",
        max_file_bytes=MAX_FILE,
        threads=True,
        edits=True,
        deletes=True,
        reactions=True,
        buttons=True,
        direct_messages=True,
        typing_seconds=4.0,
        draft_seconds=(1.0, 3.0),
    )

    def __init__(self, settings: TelegramSettings, context: Context) -> None:
        self.name = context.name
        self._settings = settings
        self._context = context
        self._token = settings.token.get_secret_value().strip()
        self._ingest: Ingest | None = None
        self._client: Client | None = None
        self._receiver: TelegramReceiver | None = None
        self._polling: Polling | None = None
        self._webhook: Webhook | None = None
        self.webhook_port: int | None = None
        self._listening: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._sender = TelegramSender(self.name, context.clock, self._connected, self._tell)

    # --- connecting ---

    async def check(self) -> Identity:
        client = self._client or self._new_client()
        try:
            return await check(client, self._settings)
        finally:
            if client is not self._client:
                await client.close()

    async def start(self, ingest: Ingest) -> None:
        await self.close()
        client = self._client = self._new_client()
        self._ingest = ingest
        user = await client.ask(client.bot.get_me)
        self._receiver = TelegramReceiver(
            self._forward,
            TelegramBot(self.name, user.id, user.username or ""),
            album_seconds=self._settings.album_seconds,
            clicked=self._answer_click,
            alive=self._sender.is_back,
        )
        if self._settings.mode == "webhook":
            await self._start_webhook(client, self._receiver)
        else:
            await self._start_polling(client, self._receiver)
        self._context.health.heard()

    async def serve(self) -> None:
        assert self._listening is not None, "the channel has been started"
        await self._listening

    async def close(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        if self._webhook is not None:
            await self._webhook.close()
        if self._receiver is not None:
            await self._receiver.close()
        if self._polling is not None:  # behind the receiver: what it has kept by now is confirmed
            with suppress(DumbwaiterError):
                await self._polling.confirm()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        client, self._client = self._client, None
        self._webhook = self._receiver = self._polling = None
        if client is not None:
            await client.close()

    def _new_client(self) -> Client:
        if not self._token or any(character in self._token for character in "/?# \n\r\t") or not self._token.isascii():
            raise TokenRefused("what is set as token is none of Telegram's", hint=NEW_TOKEN)
        return Client(self._token, self._settings.api_url, self._settings.timeout_seconds)

    async def _start_polling(self, client: Client, receiver: TelegramReceiver) -> None:
        hook = await client.ask(client.bot.get_webhook_info)
        if hook.url:
            if not self._settings.remove_webhook:
                raise ChannelRefused(
                    f"a webhook is set for this bot, at {host_of(hook.url)}: Telegram sends everything there",
                    hint="stop what runs there and set `remove_webhook = true`, or use a bot of its own",
                )
            await client.ask(client.bot.delete_webhook)
        self._polling = Polling(
            client,
            receiver,
            poll_seconds=self._settings.poll_seconds,
            probe_seconds=self._settings.probe_seconds,
            timeout_seconds=self._settings.timeout_seconds,
            heard=self._context.health.heard,
        )
        self._listen(self._polling.run())

    async def _start_webhook(self, client: Client, receiver: TelegramReceiver) -> None:
        url = self._settings.webhook_url
        if not url:
            raise ChannelRefused(
                "`webhook_url` is not set", hint="set it to the https address under which Telegram reaches the host"
            )
        self._webhook = Webhook(receiver, self._token, self._settings.webhook_host, self._settings.webhook_port)
        self.webhook_port = await self._webhook.start()
        await call_us(client, url, self._token)
        self._listen(watch(client, url, self._context.health, self._settings.probe_seconds))

    def _listen(self, loop: Coroutine[Any, Any, None]) -> None:
        self._listening = asyncio.create_task(loop, name=f"listen {self.name}")
        # A failure before `serve` is called is not lost either: it is raised when `serve` is called.
        self._listening.add_done_callback(lambda task: None if task.cancelled() else task.exception())

    def _connected(self) -> Client:
        if self._client is None:
            raise ChannelUnavailable("the channel is not connected")
        return self._client

    # --- what comes in ---

    async def _forward(self, incoming: Any) -> Any:
        assert self._ingest is not None, "the channel has been started"
        if isinstance(incoming, ChatGone):
            self._sender.is_gone(incoming.address.platform_id)
        return await self._ingest(incoming)

    async def _tell(self, incoming: ChatMoved | ChatGone) -> None:
        if self._ingest is not None:
            await self._ingest(incoming)

    def _answer_click(self, click_id: str) -> None:
        """Take the little clock off the button. A click is answered once it is kept; late ones Telegram refuses."""
        client = self._client
        if client is not None:
            self._soon(client.ask(lambda: client.bot.answer_callback_query(click_id)))

    def _soon(self, call: Awaitable[object]) -> None:
        """Do something that nothing depends on."""

        async def quietly() -> None:
            with suppress(DumbwaiterError, TimeoutError):
                await call

        task = asyncio.create_task(quietly())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

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
        limit, timeout = self._context.file_limits.max_bytes, self._settings.timeout_seconds
        await download(self._connected(), file, target, limit, timeout)

    async def open_direct(self, user_id: str) -> str:
        """The chat with a person has the person's id. Telegram lets no bot begin it."""
        return str(number(user_id))

    async def person_name(self, user_id: str) -> str | None:
        return await self.chat_name(user_id)

    async def chat_name(self, platform_id: str) -> str | None:
        client = self._connected()
        try:
            chat = await client.ask(lambda: client.bot.get_chat(number(platform_id)))
        except DeliveryRefused:
            return None
        return chat.effective_name or chat.username
