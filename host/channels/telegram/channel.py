"""Telegram as a channel."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaDocument,
    InputMediaPhoto,
    LinkPreviewOptions,
    Message,
    ReactionTypeEmoji,
    ReplyParameters,
    User,
)
from telegram.constants import ReactionEmoji

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
from host.channels.telegram import TelegramSettings
from host.channels.telegram.client import (
    NEW_TOKEN,
    SECOND_POLLER,
    Client,
    Gone,
    Moved,
    NoSuchMessage,
    NotParsed,
    Unchanged,
)
from host.channels.telegram.format import to_html, to_plain, utf16_units
from host.channels.telegram.intake import Intake
from host.channels.telegram.pace import Pace
from host.channels.telegram.polling import Polling
from host.channels.telegram.translate import Me
from host.channels.telegram.webhook import Webhook, secret_of
from host.channels.telegram.wire import KINDS
from host.routing.event import ChatGone, ChatMoved, RemoteFile
from shared_schema.errors import DumbwaiterError, FileTrouble
from shared_schema.rows import Address

log = logging.getLogger(__name__)

MAX_TEXT = 4096
MAX_CAPTION = 1024
MAX_FILE = 50 * 1024**2
MAX_DOWNLOAD = 20 * 1024**2
MAX_PHOTO = 10 * 1024**2
_GROUP_OF_FILES = 10
_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_LONGEST_WAIT = 5.0
_DOWNLOAD_SECONDS = 300.0
"""Seconds that a message waits here for its place; where it takes longer the host waits, and can do so for hours."""
_REMEMBERED = 1_000

_REACTIONS = {"✅": "👍", "☑️": "👍", "❌": "👎", "⏳": "👀", "⌛": "👀", "🚀": "⚡", "❤️": "❤", "⚠️": "🤔"}
"""Telegram has some seventy reactions; these stand for what others call the same."""

_LOOK_SECONDS = 3.0

_POLLED_HERE: dict[str, str | None] = {}
"""The bots that this process polls, and the sentence on another program that does so too, while there is one."""

T = TypeVar("T")


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
        self._intake: Intake | None = None
        self._polling: Polling | None = None
        self._webhook: Webhook | None = None
        self.webhook_port: int | None = None
        self._listening: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._pace = Pace()
        self._gone: OrderedDict[str, None] = OrderedDict()  # chats of which the host was told that they are gone
        self._sent: OrderedDict[str, list[str]] = OrderedDict()  # ids of what went out of a message that is not whole

    # --- connecting ---

    async def check(self) -> Identity:
        client = self._client or self._new_client()
        try:
            me = await _whole(client, client.bot.get_me)
            missing = list(_missing_rights(me))
            hook = await _whole(client, client.bot.get_webhook_info)
            if self._settings.mode == "polling":
                if hook.url and not self._settings.remove_webhook:
                    missing.append(_hook_elsewhere(hook.url))
                else:
                    missing += await self._second_poller(client)
            elif not self._settings.webhook_url:
                missing.append(
                    "`webhook_url` is not set: it is the https address under which Telegram reaches the host"
                )
            elif hook.last_error_message and hook.url == self._settings.webhook_url:
                said = hook.last_error_message[:200]
                missing.append(f"Telegram could not reach {hook.url}: {said}")
            return Identity(str(me.id), f"@{me.username}", tuple(missing))
        finally:
            if client is not self._client:
                await client.close()

    async def start(self, ingest: Ingest) -> None:
        await self.close()
        client = self._client = self._new_client()
        self._ingest = ingest
        user = await _whole(client, client.bot.get_me)
        me = Me(self.name, user.id, user.username or "")
        self._intake = Intake(
            self._forward,
            me,
            album_seconds=self._settings.album_seconds,
            clicked=self._answer_click,
            alive=self._forget_gone,
        )
        if self._settings.mode == "webhook":
            await self._start_webhook(client, self._intake)
        else:
            await self._start_polling(client, self._intake)
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
        if self._intake is not None:
            await self._intake.close()
        if self._polling is not None:
            with suppress(DumbwaiterError):
                await self._polling.confirm()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        client, self._client = self._client, None
        self._webhook = self._intake = self._polling = None
        if client is not None:
            await client.close()

    def _new_client(self) -> Client:
        if not self._token or any(character in self._token for character in "/?# \n\r\t") or not self._token.isascii():
            raise ChannelRefused("what is set as token is none of Telegram's", hint=NEW_TOKEN)
        return Client(self._token, self._settings.api_url, self._settings.timeout_seconds)

    async def _start_polling(self, client: Client, intake: Intake) -> None:
        hook = await _whole(client, client.bot.get_webhook_info)
        if hook.url:
            if not self._settings.remove_webhook:
                raise ChannelRefused(
                    f"a webhook is set for this bot, at {_host_of(hook.url)}: Telegram sends everything there",
                    hint="stop what runs there and set `remove_webhook = true`, or use a bot of its own",
                )
            await _whole(client, client.bot.delete_webhook)
        self._polling = Polling(
            client,
            intake,
            poll_seconds=self._settings.poll_seconds,
            timeout_seconds=self._settings.timeout_seconds,
            heard=self._context.health.heard,
        )
        polling = self._polling
        self._listen(lambda: self._poll(polling), lambda: self._ask_me(client))

    async def _poll(self, polling: Polling) -> None:
        _POLLED_HERE.setdefault(self._token, None)
        try:
            await polling.run()
        except ChannelUnavailable as error:
            _POLLED_HERE[self._token] = f"{error.what}: {error.hint}" if error.what == SECOND_POLLER else None
            raise
        except asyncio.CancelledError:
            _POLLED_HERE.pop(self._token, None)
            raise

    async def _start_webhook(self, client: Client, intake: Intake) -> None:
        url = self._settings.webhook_url
        if not url:
            raise ChannelRefused(
                "`webhook_url` is not set", hint="set it to the https address under which Telegram reaches the host"
            )
        self._webhook = Webhook(intake, self._token, self._settings.webhook_host, self._settings.webhook_port)
        self.webhook_port = await self._webhook.start()
        await _whole(
            client,
            lambda: client.bot.set_webhook(url, secret_token=secret_of(self._token), allowed_updates=list(KINDS)),
        )
        self._listen(lambda: self._watch_webhook(client, url))

    def _listen(self, *loops: Callable[[], Awaitable[None]]) -> None:
        self._listening = asyncio.create_task(_until_one_ends(*loops), name=f"listen {self.name}")
        # A failure before `serve` is called is not lost either: it is raised when `serve` is called.
        self._listening.add_done_callback(lambda task: None if task.cancelled() else task.exception())

    async def _ask_me(self, client: Client) -> None:
        """The proof beside the long poll, over a connection of its own."""
        while True:
            await asyncio.sleep(self._settings.probe_seconds)
            await _whole(client, client.bot.get_me)

    async def _watch_webhook(self, client: Client, url: str) -> None:
        """Whether Telegram still calls us: the webhook is ours, and nothing piles up that it cannot bring."""
        while True:
            await asyncio.sleep(self._settings.probe_seconds)
            hook = await _whole(client, client.bot.get_webhook_info)
            if hook.url != url:
                raise ChannelUnavailable("the webhook of this bot was set elsewhere, or taken away")
            if hook.last_error_message and hook.pending_update_count:
                self._context.health.reason = f"Telegram cannot reach the webhook: {hook.last_error_message[:200]}"
                log.warning("Telegram cannot reach the webhook", extra={"pending": hook.pending_update_count})
            else:
                self._context.health.heard()

    async def _second_poller(self, client: Client) -> list[str]:
        """A sentence where another program polls. A poll to find out would disturb one of this process: it knows."""
        if self._token in _POLLED_HERE:
            said = _POLLED_HERE[self._token]
            return [] if said is None else [said]
        try:
            await client.updates(None, _LOOK_SECONDS, json.dumps(KINDS), 1)
        except ChannelUnavailable as error:
            return [f"{error.what}: {error.hint}" if error.hint else error.what]
        except TimeoutError:
            return ["Telegram gives no updates in time"]
        return []

    # --- what comes in ---

    async def _forward(self, incoming: Any) -> Any:
        assert self._ingest is not None, "the channel has been started"
        if isinstance(incoming, ChatGone):
            self._remember_gone(incoming.address.platform_id)
        return await self._ingest(incoming)

    def _answer_click(self, click_id: str) -> None:
        """Take the little clock off the button. A click is answered once it is kept; late ones Telegram refuses."""
        client = self._client
        if client is not None:
            self._soon(_whole(client, lambda: client.bot.answer_callback_query(click_id)))

    def _soon(self, call: Awaitable[object]) -> None:
        """Do something that nothing depends on."""

        async def quietly() -> None:
            with suppress(DumbwaiterError, TimeoutError):
                await call

        task = asyncio.create_task(quietly())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _remember_gone(self, chat: str) -> None:
        self._gone[chat] = None
        _bound(self._gone)

    def _forget_gone(self, chat: str) -> None:
        self._gone.pop(chat, None)

    # --- what goes out ---

    async def deliver(self, message: Outgoing) -> str | None:
        _require_sendable(message)
        sent = self._sent.setdefault(message.key, [])
        _bound(self._sent)
        # What an attempt before this one has sent is not sent again.
        for number, step in enumerate(self._steps(message)):
            if number >= len(sent):
                sent.append(await self._paced(message.address, step))
        self._sent.pop(message.key, None)
        return sent[0] if sent else None

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: tuple[Button, ...]) -> None:
        await self._paced(address, lambda bot, chat: self._edit(bot, chat, platform_message_id, text, buttons))

    async def delete(self, address: Address, platform_message_id: str) -> None:
        with suppress(NoSuchMessage):
            await self._call(address, lambda bot, chat: bot.delete_message(chat, _number(platform_message_id)))

    async def react(self, address: Address, platform_message_id: str, emoji: str | None) -> None:
        chosen = None if emoji is None else _REACTIONS.get(emoji, emoji)
        if chosen is not None and chosen not in set(ReactionEmoji):
            raise DeliveryRefused(f"Telegram has no reaction {emoji}")
        reaction = [] if chosen is None else [ReactionTypeEmoji(chosen)]
        await self._call(
            address, lambda bot, chat: bot.set_message_reaction(chat, _number(platform_message_id), reaction)
        )

    async def typing(self, address: Address) -> None:
        await self._call(
            address, lambda bot, chat: bot.send_chat_action(chat, "typing", message_thread_id=_thread(address))
        )

    async def download(self, file: RemoteFile, target: Path) -> None:
        limit = min(MAX_DOWNLOAD, self._context.file_limits.max_bytes)
        if file.size is not None and file.size > limit:
            raise DeliveryRefused(f"the file has {file.size} bytes, and {limit} are allowed")
        client = self._connected()
        found = await _whole(client, lambda: client.bot.get_file(file.reference))
        if not found.file_path or not found.file_path.startswith(("http://", "https://")):
            raise DeliveryRefused("Telegram does not say where the file is")
        try:
            async with asyncio.timeout(_DOWNLOAD_SECONDS):
                await _fetch(found.file_path, target, limit, self._settings.timeout_seconds)
        except (aiohttp.ClientError, TimeoutError) as error:
            target.unlink(missing_ok=True)
            what = f"the file could not be fetched from Telegram: {type(error).__name__}"
            raise ChannelUnavailable(what) from None  # its text has the address, and that the token
        except OSError as error:
            target.unlink(missing_ok=True)
            raise FileTrouble(f"the file cannot be kept: {error.strerror}", where=target.parent) from None
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    async def open_direct(self, user_id: str) -> str:
        """The chat with a person has the person's id. Telegram lets no bot begin it."""
        return str(_number(user_id))

    async def person_name(self, user_id: str) -> str | None:
        return await self.chat_name(user_id)

    async def chat_name(self, platform_id: str) -> str | None:
        client = self._connected()
        try:
            chat = await _whole(client, lambda: client.bot.get_chat(_number(platform_id)))
        except DeliveryRefused:
            return None
        return chat.effective_name or chat.username

    def _connected(self) -> Client:
        if self._client is None:
            raise ChannelUnavailable("the channel is not connected")
        return self._client

    def _steps(self, message: Outgoing) -> list[Callable[[Bot, int], Awaitable[str]]]:
        """The calls that make up one message, each with the id of what it sent."""
        steps: list[Callable[[Bot, int], Awaitable[str]]] = []
        groups = _groups(message.files)
        caption = ""
        if message.draft_id is None and len(groups) == 1 and not message.buttons and message.text:
            html = to_html(message.text)
            caption = html if utf16_units(to_plain(message.text)) <= MAX_CAPTION else ""
        if message.text.strip() and not caption:
            steps.append(lambda bot, chat: self._send_text(bot, chat, message))
        for number, group in enumerate(groups):
            # The first of the calls replies, and it alone.
            is_first = number == 0 and not steps
            steps.append(
                lambda bot, chat, group=group, is_first=is_first: self._send_files(  # type: ignore[misc]
                    bot, chat, message, group, caption, is_first
                )
            )
        return steps

    async def _send_text(self, bot: Bot, chat: int, message: Outgoing) -> str:
        if message.draft_id is not None:
            with suppress(NoSuchMessage):
                await self._edit(bot, chat, message.draft_id, message.text, message.buttons)
                return message.draft_id

        async def send(text: str, mode: str | None) -> Message:
            return await bot.send_message(
                chat,
                text,
                parse_mode=mode,
                message_thread_id=_thread(message.address),
                reply_parameters=_reply(message),
                reply_markup=_keyboard(message.buttons),
                link_preview_options=LinkPreviewOptions(is_disabled=True),
            )

        sent = await self._formatted(message.text, MAX_TEXT, send)
        return str(sent.message_id)

    async def _edit(self, bot: Bot, chat: int, message_id: str, text: str, buttons: Sequence[Button]) -> str:
        async def change(text: str, mode: str | None) -> None:
            with suppress(Unchanged):
                await self._translated(
                    bot.edit_message_text(
                        text,
                        chat,
                        _number(message_id),
                        parse_mode=mode,
                        reply_markup=_keyboard(buttons),
                        link_preview_options=LinkPreviewOptions(is_disabled=True),
                    )
                )

        await self._formatted(text, MAX_TEXT, change)
        return message_id

    async def _send_files(
        self, bot: Bot, chat: int, message: Outgoing, files: Sequence[Path], caption: str, is_first: bool
    ) -> str:
        common: dict[str, Any] = {
            "message_thread_id": _thread(message.address),
            "reply_parameters": _reply(message) if is_first else None,
        }

        async def send(caption: str, mode: str | None) -> Message:
            # Read as a whole: the SDK sends bytes. At most `MAX_FILE` each, checked before.
            contents = [await asyncio.to_thread(_read, file) for file in files]
            caption_or_none = caption or None
            if len(files) == 1:
                if files[0].suffix.lower() in _PICTURES and len(contents[0]) <= MAX_PHOTO:
                    return await bot.send_photo(
                        chat, contents[0], caption_or_none, filename=files[0].name, parse_mode=mode, **common
                    )
                return await bot.send_document(
                    chat, contents[0], caption_or_none, filename=files[0].name, parse_mode=mode, **common
                )
            kind = InputMediaPhoto if all(map(_is_picture, files)) else InputMediaDocument
            media = [kind(content, filename=file.name) for content, file in zip(contents, files, strict=True)]
            return (await bot.send_media_group(chat, media, caption=caption_or_none, parse_mode=mode, **common))[0]

        try:
            sent = await self._translated(send(caption, "HTML" if caption else None))
        except NotParsed:
            sent = await self._translated(send(to_plain(message.text)[:MAX_CAPTION] if caption else "", None))
        except DeliveryRefused as error:
            if not any(map(_is_picture, files)) or isinstance(error, Gone):
                raise
            # A picture whose form Telegram does not take (PHOTO_INVALID_DIMENSIONS) is a file like any other.
            sent = await self._translated(self._as_documents(bot, chat, files, message, caption, common))
        return str(sent.message_id)

    async def _as_documents(
        self, bot: Bot, chat: int, files: Sequence[Path], message: Outgoing, caption: str, common: dict[str, Any]
    ) -> Message:
        contents = [await asyncio.to_thread(_read, file) for file in files]
        text, mode = caption or None, "HTML" if caption else None
        if len(files) == 1:
            return await bot.send_document(chat, contents[0], text, filename=files[0].name, parse_mode=mode, **common)
        media = [InputMediaDocument(content, filename=file.name) for content, file in zip(contents, files, strict=True)]
        return (await bot.send_media_group(chat, media, caption=text, parse_mode=mode, **common))[0]

    async def _formatted(self, text: str, limit: int, send: Callable[[str, str | None], Awaitable[T]]) -> T:
        """Send with formatting, or without where Telegram does not take it."""
        html, plain = to_html(text), to_plain(text)
        if 0 < utf16_units(plain) <= limit:
            try:
                return await self._translated(send(html, "HTML"))
            except NotParsed as error:
                log.info("Telegram does not take the formatting", extra={"channel": self.name, "error": error.what})
                return await self._translated(send(plain, None))
        return await self._translated(send(text, None))  # what was written is never longer than it may be

    async def _translated(self, call: Awaitable[T]) -> T:
        client = self._connected()
        async with client.errors():
            return await call

    async def _paced(self, address: Address, call: Callable[[Bot, int], Awaitable[str]]) -> str:
        """A call that counts as a message, in its place."""
        while wait := self._pace.take(address.platform_id, self._context.clock.monotonic()):
            if wait > _LONGEST_WAIT:
                raise ChannelUnavailable("this chat has had as many messages as Telegram allows", retry_after=wait)
            await asyncio.sleep(wait)
        return await self._call(address, call)

    async def _call(self, address: Address, call: Callable[[Bot, int], Awaitable[T]]) -> T:
        """A call about one chat: where the chat has moved, there; where it is gone, the host is told, once."""
        client = self._connected()
        try:
            return await self._once(client, call, _number(address.platform_id))
        except Moved as error:
            await self._tell(ChatMoved(self.name, address.platform_id, error.new_id))
            try:
                return await self._once(client, call, _number(error.new_id))
            except Moved:
                raise DeliveryRefused("the chat moves from one id to another") from None
        except Gone as error:
            if address.platform_id not in self._gone:
                self._remember_gone(address.platform_id)
                await self._tell(ChatGone(Address(self.name, address.platform_id), error.what))
            raise

    async def _once(self, client: Client, call: Callable[[Bot, int], Awaitable[T]], chat: int) -> T:
        try:
            async with client.errors():
                return await call(client.bot, chat)
        except (NotParsed, Unchanged) as error:
            raise DeliveryRefused(f"Telegram refuses it: {error.what}") from None

    async def _tell(self, incoming: ChatMoved | ChatGone) -> None:
        if self._ingest is not None:
            await self._ingest(incoming)


async def _whole(client: Client, call: Callable[[], Awaitable[T]]) -> T:
    """A call that may be repeated: one that was lost is one that did not happen."""
    try:
        async with client.errors():
            return await call()
    except TimeoutError as error:
        raise ChannelUnavailable(str(error) or "Telegram does not answer") from None


async def _until_one_ends(*loops: Callable[[], Awaitable[None]]) -> None:
    """Run loops side by side; the first failure ends all, and is raised."""
    tasks = [asyncio.ensure_future(loop()) for loop in loops]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _fetch(url: str, target: Path, limit: int, seconds: float) -> None:
    """Write a file piece by piece, and never more than the limit, also when its size was said to be smaller."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(url) as response:
        if response.status != 200:
            if response.status >= 500 or response.status == 429:
                raise ChannelUnavailable(f"Telegram has trouble of its own (status {response.status})")
            raise DeliveryRefused(f"Telegram does not give the file (status {response.status})")
        total = 0
        with target.open("xb") as file:
            async for piece in response.content.iter_chunked(256 * 1024):
                total += len(piece)
                if total > limit:
                    raise DeliveryRefused(f"the file has more than the {limit} bytes that are allowed")
                await asyncio.to_thread(file.write, piece)


def _bound(kept: OrderedDict[str, Any]) -> None:
    while len(kept) > _REMEMBERED:
        kept.popitem(last=False)


def _missing_rights(me: User) -> list[str]:
    missing = []
    if me.can_join_groups is False:
        missing.append("the bot may not be added to groups: @BotFather, /setjoingroups, Enable")
    if me.can_read_all_group_messages is False:
        missing.append(
            "privacy mode is on: in groups the bot hears only commands, replies to it and messages that name it, and "
            "some mentions not at all: @BotFather, /setprivacy, Disable; then remove it from the group and add it again"
        )
    return missing


def _hook_elsewhere(url: str) -> str:
    return (
        f"a webhook is set for this bot, at {_host_of(url)}, so that nothing comes by polling: set `remove_webhook = "
        "true`, or use a bot of its own"
    )


def _host_of(url: str) -> str:
    """Returns the server of an address: its path may be a secret of the operator."""
    return "/".join(url.split("/")[:3])[:200]


def _require_sendable(message: Outgoing) -> None:
    for file in message.files:
        size = file.stat().st_size
        if size > MAX_FILE:
            megabytes = size / 1024**2
            raise DeliveryRefused(f"{file.name} has {megabytes:.0f} MB, and Telegram takes 50 MB from a bot")
        if size == 0:
            raise DeliveryRefused(f"{file.name} is empty, and Telegram takes no empty file")


def _groups(files: Sequence[Path]) -> list[Sequence[Path]]:
    return [files[at : at + _GROUP_OF_FILES] for at in range(0, len(files), _GROUP_OF_FILES)]


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in _PICTURES and file.stat().st_size <= MAX_PHOTO


def _read(file: Path) -> bytes:
    return file.read_bytes()


def _keyboard(buttons: Sequence[Button]) -> InlineKeyboardMarkup | None:
    if not buttons:
        return None
    return InlineKeyboardMarkup(
        [[InlineKeyboardButton(button.label[:64] or "…", callback_data=button.value)] for button in buttons[:100]]
    )


def _reply(message: Outgoing) -> ReplyParameters | None:
    if message.reply_to is None or not message.reply_to.lstrip("-").isdigit():
        return None
    return ReplyParameters(int(message.reply_to), allow_sending_without_reply=True)


def _thread(address: Address) -> int | None:
    return None if address.thread_id is None else _number(address.thread_id)


def _number(text: str) -> int:
    """An id of Telegram's. Raises `DeliveryRefused` for what is none."""
    try:
        return int(text)
    except ValueError:
        raise DeliveryRefused(f"'{text[:40]}' is no id of Telegram's: it is a number, such as 123456789") from None
