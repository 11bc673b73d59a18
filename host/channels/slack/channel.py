"""The channel `slack`: connects by a socket or over HTTP, and hands each call to the module whose it is.

Its life: `start` asks who we are and opens the way in, `serve` reads until that is lost or deaf, `close` ends it. What
was written while we were away is caught up while it serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

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
)
from host.channels.slack.catch_up import SlackCatchUp
from host.channels.slack.check import check
from host.channels.slack.client import SlackApi, asked
from host.channels.slack.events import SlackBot, SlackReader
from host.channels.slack.files import MAX_FILE_BYTES, download
from host.channels.slack.http_events import EventsServer, Requests
from host.channels.slack.receiver import SlackReceiver
from host.channels.slack.sender import SlackSender
from host.channels.slack.settings import SlackSettings
from host.channels.slack.socket import Socket, Sockets, address_of
from host.routing.event import RemoteFile
from shared_schema.rows import Address

_ASK_SECONDS = 60.0
_WHY_SECONDS = 10.0


class SlackChannel(BaseChannel):
    """One app in one workspace. See `Channel` for what each method does and raises."""

    type = "slack"
    capabilities = Capabilities(
        formats=True,
        max_text=3_500,  # Slack takes 4,000 characters in an edit, and `&` becomes five of them
        max_file_bytes=MAX_FILE_BYTES,
        threads=True,
        edits=True,
        deletes=True,
        reactions=True,
        buttons=True,
        direct_messages=True,
        idempotent=True,  # by the keys that messages carry, see sender.py
        mentions_need_ids=True,
        typing_seconds=90.0,  # a status goes away after two minutes
        draft_seconds=(1.2, 3.0),  # chat.update: tier 3, 50 a minute and more
    )

    def __init__(self, settings: SlackSettings, context: Context) -> None:
        self.name = context.name
        self._settings = settings
        self._context = context
        self._session: aiohttp.ClientSession | None = None
        self._is_known = False  # it was asked who we are
        self._sockets: Sockets | None = None
        self._server: EventsServer | None = None
        self._ended: asyncio.Future[None] | None = None
        self._receiver = SlackReceiver(self.person_name, self._end)
        self._catch_up = SlackCatchUp(
            context.state,
            context.clock,
            self._api,
            lambda message: self._receiver.take("events_api", {"event": message}),
            self._receiver.missed,
        )
        self._sender = SlackSender(self._api, self._live_session, self._catch_up.now)

    @property
    def port(self) -> int:
        """The port on which events over HTTP are received."""
        assert self._server is not None, "events come over HTTP, and it has been started"
        return self._server.port

    # --- connecting ---

    async def check(self) -> Identity:
        return await check(self._api(), None if self._settings.app_token is None else self._app_api())

    async def start(self, ingest: Ingest) -> None:
        answer, head = await asked(self._api().call_with_head("auth.test"))
        self._catch_up.read_clock(head)
        user_id, bot_id, team_id = (answer.get(key) for key in ("user_id", "bot_id", "team_id"))
        if not isinstance(user_id, str):
            raise ChannelUnavailable("Slack does not say who we are")
        bot = SlackBot(user_id, bot_id if isinstance(bot_id, str) else None)
        if not self._is_known and await self._catch_up.was_killed():
            self._sender.doubt()
        self._is_known = True
        self._sender.streams.team_id = team_id if isinstance(team_id, str) else None
        self._sender.own_ids = frozenset(each for each in (bot.user_id, bot.bot_id) if each is not None)
        await self._catch_up.begin()
        self._receiver.start(ingest, SlackReader(self.name, bot, self._settings.reply_in_thread))
        self._ended = asyncio.get_running_loop().create_future()
        if self._settings.app_token is not None:
            self._sockets = Sockets(self._open_socket, self._receiver.received)
            await self._sockets.open()
        else:
            assert self._settings.signing_secret is not None, "the settings say one of the two"
            requests = Requests(self._settings.signing_secret.get_secret_value(), self._context.clock)
            heard = self._context.health.heard
            self._server = EventsServer(self._settings.listen, requests, self._receiver.posted, heard)
            await self._server.start()
            heard()

    async def serve(self) -> None:
        assert self._ended is not None, "it has been started"
        reading = self._sockets.serve() if self._sockets is not None else self._ask_regularly()
        tasks = [asyncio.create_task(each) for each in (reading, self._catch_up.run())]
        try:
            await asyncio.wait([*tasks, self._ended], return_when=asyncio.FIRST_COMPLETED)
            for ended in (self._ended, *tasks):
                if ended.done():
                    await self._told_why(ended)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        was_started = self._ended is not None
        await self._receiver.close()
        if self._sockets is not None:
            await self._sockets.close()
        if self._server is not None:
            await self._server.close()
        if was_started and self._sender.is_sure:
            await self._catch_up.end_cleanly()
        self._sockets = self._server = self._ended = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _open_socket(self) -> Socket:
        silence = self._settings.deaf_seconds
        return await Socket.open(
            self._live_session(),
            await address_of(self._app_api()),
            self._context.health.heard,
            ping_seconds=silence / 3,
            deaf_seconds=silence,
        )

    async def _ask_regularly(self) -> None:
        """Where events are posted to us, nothing proves that we hear; that Slack answers is the next best."""
        while True:
            await asyncio.sleep(_ASK_SECONDS)
            await asked(self._api().call("auth.test"))
            self._context.health.heard()

    def _end(self, why: ChannelRefused) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(why)

    async def _told_why(self, ended: asyncio.Future[None]) -> None:
        """Raise what serving ended with; where a socket was lost, because we are not let in any more, that."""
        try:
            await ended
        except ChannelUnavailable as error:
            try:
                async with asyncio.timeout(_WHY_SECONDS):
                    await asked(self._api().call("auth.test"))
            except (ChannelUnavailable, TimeoutError):
                raise error from None
            raise

    def _live_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
            )
        return self._session

    def _api(self) -> SlackApi:
        return SlackApi(self._settings.token.get_secret_value(), self._settings.base_url, self._live_session())

    def _app_api(self) -> SlackApi:
        assert self._settings.app_token is not None, "Socket Mode"
        return SlackApi(self._settings.app_token.get_secret_value(), self._settings.base_url, self._live_session())

    # --- what goes out ---

    async def deliver(self, message: Outgoing) -> str | None:
        return await asked(self._sender.send(message))

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: tuple[Button, ...]) -> None:
        await asked(self._sender.edit(address, platform_message_id, text, buttons))

    async def delete(self, address: Address, platform_message_id: str) -> None:
        await asked(self._sender.delete(address, platform_message_id))

    async def react(self, address: Address, platform_message_id: str, emoji: str | None) -> None:
        await asked(self._sender.react(address, platform_message_id, emoji))

    async def typing(self, address: Address) -> None:
        await self._sender.typing(address)

    # --- files, people and chats ---

    async def download(self, file: RemoteFile, target: Path) -> None:
        limit = self._context.file_limits.max_bytes
        await download(self._api(), self._live_session(), self._settings.base_url, file, target, limit)

    async def open_direct(self, user_id: str) -> str:
        answer = await asked(self._api().call("conversations.open", users=user_id))
        found = _table(answer.get("channel")).get("id")
        if not isinstance(found, str):
            raise DeliveryRefused("Slack opens no direct chat with that person")
        return found

    async def person_name(self, user_id: str) -> str | None:
        answer = await asked(self._api().call("users.info", user=user_id))
        user = _table(answer.get("user"))
        tables = (_table(user.get("profile")), user)
        for table, key in ((table, key) for key in ("display_name", "real_name", "name") for table in tables):
            if isinstance(name := table.get(key), str) and name.strip():
                return name.strip()[:300]
        return None

    async def chat_name(self, platform_id: str) -> str | None:
        answer = await asked(self._api().call("conversations.info", channel=platform_id))
        name = _table(answer.get("channel")).get("name")
        return f"#{name}"[:300] if isinstance(name, str) and name else None


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
