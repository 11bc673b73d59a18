"""The channel `slack`: connects, hands over what happens, and sends.

Its life: `start` asks who we are and opens the way in, `serve` reads until that is lost or deaf, `close` ends it. What
was written while we were away is caught up while it serves.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

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
from host.channels.slack.api import APP_PAGE, SlackApi, SlackError
from host.channels.slack.catch_up import messages_since
from host.channels.slack.emoji import to_name
from host.channels.slack.events import Ourselves, Reader
from host.channels.slack.http_events import EventsServer, Requests
from host.channels.slack.sending import Sender
from host.channels.slack.settings import SlackSettings
from host.channels.slack.socket import Envelope, Socket, Sockets, address_of
from host.routing.event import ChatMoved, Event, Incoming, RemoteFile
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.rows import Address

log = logging.getLogger(__name__)

T = TypeVar("T")

SCOPES = (
    "app_mentions:read", "channels:history", "channels:read", "chat:write", "commands", "files:read", "files:write",
    "groups:history", "groups:read", "im:history", "im:read", "im:write", "mpim:history", "mpim:read",
    "reactions:read", "reactions:write", "users:read",
)  # fmt: skip
"""The scopes of the bot token that the manifest in docs/channels/slack.md asks for."""

MAX_FILE_BYTES = 1_000_000_000
_MOMENT, _CLEAN = "heard_at", "ended_cleanly"
_NOTE_SECONDS = 60.0
_DATE_SECONDS = 2.0  # a `Date` is whole seconds, and some way old
_DOUBTFUL_SECONDS = 120.0
_NAMES = 10_000
_NAME_SECONDS = 2.0
_WHY_SECONDS = 10.0
_MAX_REDIRECTS = 3
_CHUNK = 64 * 1024
_END_OF_APP = {"tokens_revoked": "the app's tokens were revoked", "app_uninstalled": "the app was removed"}


class SlackChannel(BaseChannel):
    """One app in one workspace."""

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
        idempotent=True,  # by the keys that messages carry, see sending.py
        mentions_need_ids=True,
        typing_seconds=90.0,  # a status goes away after two minutes
        draft_seconds=(1.2, 3.0),  # chat.update: tier 3, 50 a minute and more
    )

    def __init__(self, settings: SlackSettings, context: Context) -> None:
        self.name = context.name
        self._settings = settings
        self._context = context
        self._session: aiohttp.ClientSession | None = None
        self._ingest: Ingest | None = None
        self._us: Ourselves | None = None
        self._sender = Sender(self._api, self._live_session, self._slack_now)
        self._sockets: Sockets | None = None
        self._server: EventsServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = _Turns()
        self._names: OrderedDict[str, str] = OrderedDict()
        self._said: OrderedDict[tuple[str, str], None] = OrderedDict()  # the last messages that are on the disk
        self._over: asyncio.Future[None] | None = None
        self._ahead = 0.0  # seconds by which Slack's clock is ahead of our monotonic one, which is never set
        self._missed = False  # an event could not be kept since the start: what was heard is not noted any more

    @property
    def port(self) -> int:
        """The port on which events over HTTP are received."""
        assert self._server is not None, "events come over HTTP, and it has been started"
        return self._server.port

    async def check(self) -> Identity:
        api = self._api()
        answer, head = await self._asked(api.call_with_head("auth.test"))
        missing = []
        granted = {scope.strip() for scope in head.get("x-oauth-scopes", "").split(",") if scope.strip()}
        if granted and (lacking := [scope for scope in SCOPES if scope not in granted]):
            what = ", ".join(lacking)
            missing.append(f"the app lacks the scopes {what}: add them at {APP_PAGE}, and install the app again")
        if self._settings.app_token is not None:
            try:
                await address_of(self._app_api())
            except ChannelRefused as error:
                missing.append(str(error))
        return Identity(str(answer.get("user_id")), str(answer.get("user")), tuple(missing))

    async def start(self, ingest: Ingest) -> None:
        self._ingest, self._missed = ingest, False
        api = self._api()
        answer, head = await self._asked(api.call_with_head("auth.test"))
        self._ahead = _moment_of(head, self._now()) - self._context.clock.monotonic()
        user_id, bot_id = answer.get("user_id"), answer.get("bot_id")
        if not isinstance(user_id, str):
            raise ChannelUnavailable("Slack does not say who we are")
        us = Ourselves(user_id, bot_id if isinstance(bot_id, str) else None)
        if self._us is None:
            before, clean = await self._context.state.get(_MOMENT), await self._context.state.get(_CLEAN)
            if before is not None and clean != "yes":  # the last host was killed, perhaps while it sent
                self._sender.doubtful_until = self._slack_now() + _DOUBTFUL_SECONDS
        self._us = us
        team_id = answer.get("team_id")
        self._sender.streams.team_id = team_id if isinstance(team_id, str) else None
        self._sender.own_ids = frozenset(each for each in (us.user_id, us.bot_id) if each is not None)
        await self._context.state.set(_CLEAN, "no")
        if await self._context.state.get(_MOMENT) is None:  # nothing before the first start is ours to answer
            await self._context.state.set(_MOMENT, f"{self._slack_now():.6f}")
        self._over = asyncio.get_running_loop().create_future()
        if self._settings.app_token is not None:
            self._sockets = Sockets(self._open_socket, self._received)
            await self._sockets.open()
        else:
            assert self._settings.signing_secret is not None, "the settings say one of the two"
            requests = Requests(self._settings.signing_secret.get_secret_value(), self._context.clock)
            self._server = EventsServer(self._settings.listen, requests, self._posted, self._context.health.heard)
            await self._server.start()
            self._context.health.heard()

    async def serve(self) -> None:
        assert self._over is not None, "it has been started"
        reading = self._sockets.serve() if self._sockets is not None else self._ask_regularly()
        tasks = [asyncio.create_task(each) for each in (reading, self._note_regularly())]
        try:
            await asyncio.wait([*tasks, self._over], return_when=asyncio.FIRST_COMPLETED)
            for ended in (self._over, *tasks):
                if ended.done():
                    await self._told_why(ended)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _told_why(self, ended: asyncio.Future[None]) -> None:
        """Raise what serving ended with; where a socket was lost, because we are not let in any more, that."""
        try:
            await ended
        except ChannelUnavailable as error:
            try:
                async with asyncio.timeout(_WHY_SECONDS):
                    await self._asked(self._api().call("auth.test"))
            except (ChannelUnavailable, TimeoutError):
                raise error from None
            raise

    async def deliver(self, message: Outgoing) -> str | None:
        return await self._asked(self._sender.send(message))

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: tuple[Button, ...]) -> None:
        await self._asked(self._sender.edit(address, platform_message_id, text, buttons))

    async def delete(self, address: Address, platform_message_id: str) -> None:
        try:
            await self._api().call("chat.delete", channel=address.platform_id, ts=platform_message_id)
        except SlackError as error:
            if error.code != "message_not_found":
                raise error.told() from None

    async def react(self, address: Address, platform_message_id: str, emoji: str | None) -> None:
        api, place = self._api(), {"channel": address.platform_id, "timestamp": platform_message_id}
        if emoji is None:
            await self._asked(self._take_away_reactions(api, place))
            return
        name = to_name(emoji)
        if name is None:
            raise DeliveryRefused(f"Slack has no reaction {emoji[:20]}")
        try:
            await api.call("reactions.add", name=name, **place)
        except SlackError as error:
            if error.code != "already_reacted":
                raise error.told() from None

    async def typing(self, address: Address) -> None:
        if address.thread_id is None:  # Slack has a sign for threads alone
            return
        try:
            await self._api().call(
                "assistant.threads.setStatus",
                channel_id=address.platform_id,
                thread_ts=address.thread_id,
                status="is working on an answer…",
            )
        except SlackError as error:  # a nicety: some chats have it not
            log.debug("the status of a thread cannot be set", extra={"error": error.code})

    async def download(self, file: RemoteFile, target: Path) -> None:
        answer = await self._asked(self._api().call("files.info", file=file.reference))
        found = answer.get("file")
        url = found.get("url_private_download") or found.get("url_private") if isinstance(found, Mapping) else None
        if not isinstance(url, str):
            raise DeliveryRefused("Slack gives no address for the file: it may lie in another service")
        is_page = isinstance(found, Mapping) and str(found.get("mimetype", "")).startswith("text/html")
        try:
            await self._fetch(url, target, is_page=is_page)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ChannelUnavailable(f"the file could not be fetched ({type(error).__name__})") from None

    async def open_direct(self, user_id: str) -> str:
        answer = await self._asked(self._api().call("conversations.open", users=user_id))
        channel = answer.get("channel")
        found = channel.get("id") if isinstance(channel, Mapping) else None
        if not isinstance(found, str):
            raise DeliveryRefused("Slack opens no direct chat with that person")
        return found

    async def person_name(self, user_id: str) -> str | None:
        answer = await self._asked(self._api().call("users.info", user=user_id))
        user = answer.get("user")
        if not isinstance(user, Mapping):
            return None
        profile = user.get("profile")
        tables = (profile, user) if isinstance(profile, Mapping) else (user,)
        for table, key in ((table, key) for key in ("display_name", "real_name", "name") for table in tables):
            if isinstance(name := table.get(key), str) and name.strip():
                return name.strip()[:300]
        return None

    async def chat_name(self, platform_id: str) -> str | None:
        answer = await self._asked(self._api().call("conversations.info", channel=platform_id))
        channel = answer.get("channel")
        name = channel.get("name") if isinstance(channel, Mapping) else None
        return f"#{name}"[:300] if isinstance(name, str) and name else None

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._sockets is not None:
            await self._sockets.close()
        if self._server is not None:
            await self._server.close()
        if self._ingest is not None and self._sender.is_sure:
            await self._context.state.set(_CLEAN, "yes")
        self._sockets = self._server = self._ingest = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    # What comes in

    async def _open_socket(self) -> Socket:
        silence = self._settings.deaf_seconds
        return await Socket.open(
            self._live_session(),
            await address_of(self._app_api()),
            self._context.health.heard,
            ping_seconds=silence / 3,
            deaf_seconds=silence,
        )

    def _received(self, socket: Socket, envelope: Envelope) -> None:
        """Take an envelope beside the others, and acknowledge it when it is on the disk."""
        self._spawn(self._take_and_acknowledge(socket, envelope))

    async def _take_and_acknowledge(self, socket: Socket, envelope: Envelope) -> None:
        payload = envelope.get("payload")
        try:
            await self._take(str(envelope.get("type")), payload if isinstance(payload, Mapping) else {})
        except InvalidValue as error:  # it will never be better
            log.warning("an event of Slack cannot be used", extra={"error": str(error)})
        except DumbwaiterError as error:
            log.error("an event of Slack could not be kept: it will come again", extra={"error": str(error)})
            self._missed = True
            return
        try:
            await socket.acknowledge(envelope)
        except ChannelUnavailable:
            log.info("an event could not be acknowledged: it will come again, and is known then")

    async def _posted(self, kind: str, payload: Mapping[str, Any]) -> None:
        try:
            await self._take(kind, payload)
        except InvalidValue:
            raise
        except DumbwaiterError:
            self._missed = True
            raise

    async def _take(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hand over what was sent. Raises what `ingest` raises, and `InvalidValue` for what cannot be read."""
        assert self._us is not None, "it has been started"
        reader = Reader(self.name, self._us, self._settings.reply_in_thread)
        match kind:
            case "events_api":
                event = payload.get("event")
                table = event if isinstance(event, Mapping) else {}
                if table.get("type") in _END_OF_APP and self._over is not None and not self._over.done():
                    hint = f"install it again at {APP_PAGE}"
                    self._over.set_exception(ChannelRefused(_END_OF_APP[str(table["type"])], hint=hint))
                await self._hand_over(reader.event(table))
            case "interactive":
                await self._hand_over(reader.interaction(payload))
            case "slash_commands":
                await self._hand_over(reader.command(payload))

    async def _hand_over(self, incoming: Incoming | None) -> None:
        if incoming is None or self._ingest is None:
            return
        chat = incoming.old_platform_id if isinstance(incoming, ChatMoved) else incoming.address.platform_id
        async with self._turns.of(chat):
            # Live events and those that are caught up overlap, and a mention comes as two events.
            said = (chat, incoming.platform_message_id) if isinstance(incoming, Event) else None
            if said in self._said:
                return
            if isinstance(incoming, Event) and incoming.sender_id is not None and incoming.sender_name is None:
                incoming = _named(incoming, await self._name_of(incoming.sender_id))
            await self._ingest(incoming)
            if said is not None:
                self._said[said] = None
                if len(self._said) > _NAMES:
                    self._said.popitem(last=False)

    async def _name_of(self, user_id: str) -> str | None:
        """How a person is called, as far as that is known soon: no message waits long for it."""
        if user_id not in self._names:
            try:
                async with asyncio.timeout(_NAME_SECONDS):
                    name = await self.person_name(user_id)
            except (DumbwaiterError, TimeoutError):
                return None
            self._names[user_id] = name or ""
            if len(self._names) > _NAMES:
                self._names.popitem(last=False)
        return self._names[user_id] or None

    async def _note_regularly(self) -> None:
        """Catch up, and then note again and again until when we heard."""
        await self._catch_up(float(await self._context.state.get(_MOMENT) or self._slack_now()))
        while True:
            until = self._slack_now()
            await asyncio.sleep(_NOTE_SECONDS)  # what came until then is kept by now, or could not be
            if not self._missed:
                await self._context.state.set(_MOMENT, f"{until:.6f}")

    async def _catch_up(self, moment: float) -> None:
        while True:
            try:
                async for message in messages_since(self._api(), moment):
                    try:
                        await self._take("events_api", {"event": message})
                    except InvalidValue as error:
                        log.warning("a message of Slack cannot be used", extra={"error": str(error)})
            except ChannelUnavailable as error:  # what was taken by now is known when it comes again
                await asyncio.sleep(error.retry_after or 5.0)
            except (ChannelRefused, DeliveryRefused):
                raise
            except DumbwaiterError as error:  # it cannot be kept now
                log.error("what was written meanwhile cannot be kept yet", extra={"error": str(error)})
                await asyncio.sleep(5.0)
            else:
                return

    async def _ask_regularly(self) -> None:
        """Where events are posted to us, nothing proves that we hear; that Slack answers is the next best."""
        while True:
            await asyncio.sleep(_NOTE_SECONDS)
            await self._asked(self._api().call("auth.test"))
            self._context.health.heard()

    # Calls

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

    async def _asked(self, call: Coroutine[Any, Any, T]) -> T:
        """What a call gives, with Slack's refusals as the errors of the protocol."""
        try:
            return await call
        except SlackError as error:
            raise error.told() from None

    async def _take_away_reactions(self, api: SlackApi, place: Mapping[str, str]) -> None:
        answer = await api.call("reactions.get", **place)
        message = answer.get("message")
        reactions = message.get("reactions") if isinstance(message, Mapping) else None
        for reaction in reactions if isinstance(reactions, list) else []:
            users = reaction.get("users") if isinstance(reaction, Mapping) else None
            if isinstance(users, list) and self._us is not None and self._us.user_id in users:
                try:
                    await api.call("reactions.remove", name=str(reaction.get("name")), **place)
                except SlackError as error:
                    if error.code != "no_reaction":
                        raise

    async def _fetch(self, url: str, target: Path, *, is_page: bool) -> None:
        """Fetch a file with our token, which is shown to Slack alone."""
        limit, written = self._context.file_limits.max_bytes, 0
        head = {"Authorization": f"Bearer {self._settings.token.get_secret_value()}"}
        for _ in range(_MAX_REDIRECTS):
            self._require_of_slack(url)
            async with self._live_session().get(url, headers=head, allow_redirects=False) as response:
                if response.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, response.headers.get("Location", ""))
                    continue
                if response.status != 200:
                    raise ChannelUnavailable(f"Slack does not give the file (status {response.status})")
                if response.content_type == "text/html" and not is_page:  # a page to log in, where a scope is missing
                    raise ChannelRefused("Slack shows a login in place of a file: the app lacks the scope files:read")
                with await asyncio.to_thread(target.open, "xb") as kept:
                    async for chunk in response.content.iter_chunked(_CHUNK):
                        written += len(chunk)
                        if written > limit:
                            raise DeliveryRefused(f"the file has more than {limit} bytes")
                        await asyncio.to_thread(kept.write, chunk)
                return
        raise DeliveryRefused("the file lies behind too many redirects")

    def _require_of_slack(self, url: str) -> None:
        parts, own = urlsplit(url), urlsplit(self._settings.base_url)
        host = parts.hostname or ""
        is_slack = parts.scheme == "https" and (host == "slack.com" or host.endswith(".slack.com"))
        if not is_slack and (parts.scheme, parts.netloc) != (own.scheme, own.netloc):
            raise DeliveryRefused("the file does not lie at Slack")

    def _now(self) -> float:
        return self._context.clock.now().timestamp()

    def _slack_now(self) -> float:
        """The time by Slack's clock, a little early: our own may be off by an hour, or be set meanwhile."""
        return self._context.clock.monotonic() + self._ahead - _DATE_SECONDS

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._missed = True
            log.error("an event of Slack could not be handled", extra={"error": type(error).__name__})


class _Turns:
    """One at a time for each chat, in the order of arrival."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    def of(self, chat: str) -> _Turn:
        """The turn of one event in a chat."""
        return _Turn(self, chat)

    def enter(self, chat: str) -> asyncio.Lock:
        self._users[chat] = self._users.get(chat, 0) + 1
        return self._locks.setdefault(chat, asyncio.Lock())

    def leave(self, chat: str) -> None:
        self._users[chat] -= 1
        if not self._users[chat]:
            del self._users[chat], self._locks[chat]


class _Turn:
    def __init__(self, turns: _Turns, chat: str) -> None:
        self._turns = turns
        self._chat = chat
        self._lock: asyncio.Lock | None = None

    async def __aenter__(self) -> None:
        lock = self._turns.enter(self._chat)
        try:
            await lock.acquire()
        except BaseException:
            self._turns.leave(self._chat)
            raise
        self._lock = lock

    async def __aexit__(self, *_: object) -> None:
        assert self._lock is not None, "it was entered"
        self._lock.release()
        self._turns.leave(self._chat)


def _moment_of(head: Mapping[str, str], otherwise: float) -> float:
    """When an answer was given, by the clock of who gave it."""
    try:
        return parsedate_to_datetime(head.get("Date", "")).timestamp()
    except (ValueError, TypeError):
        return otherwise


def _named(event: Event, name: str | None) -> Event:
    return event if name is None else dataclasses.replace(event, sender_name=name)
