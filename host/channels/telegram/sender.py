"""Messages to Telegram: paced as it asks, formatted where it takes that; what failed half-way goes on from there.

A chat that has moved is written to where it is now; of one that is gone the host is told, once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    LinkPreviewOptions,
    Message,
    ReactionTypeEmoji,
    ReplyParameters,
)
from telegram.constants import ReactionEmoji

from host.channels.protocol import Button, ChannelUnavailable, DeliveryRefused, Outgoing
from host.channels.telegram.client import Client, Gone, Moved, NoSuchMessage, NotParsed, Unchanged
from host.channels.telegram.files import FileGroup, groups_of, has_pictures, require_sendable
from host.channels.telegram.pace import Pace
from host.channels.telegram.text import to_html, to_plain, utf16_units
from host.latest import Latest
from host.routing.event import ChatGone, ChatMoved
from shared_schema.clock import Clock
from shared_schema.rows import Address

log = logging.getLogger(__name__)

MAX_TEXT = 4096
MAX_CAPTION = 1024
_LONGEST_WAIT = 5.0
"""Seconds that a message waits here for its place; where it takes longer the host waits, and can do so for hours."""
_REMEMBERED = 1_000

_REACTIONS = {"✅": "👍", "☑️": "👍", "❌": "👎", "⏳": "👀", "⌛": "👀", "🚀": "⚡", "❤️": "❤", "⚠️": "🤔"}
"""Telegram has some seventy reactions; these stand for what others call the same."""

T = TypeVar("T")
Step = Callable[[Bot, int], Awaitable[str]]
"""A call to a chat; it gives the id of what it has sent."""


class TelegramSender:
    """Sends for the channel called `name`. It outlives the connections: it knows what is sent of a message.

    `client` gives the connection or raises `ChannelUnavailable`, `tell` hands over that a chat is gone or has moved.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        client: Callable[[], Client],
        tell: Callable[[ChatMoved | ChatGone], Awaitable[None]],
    ) -> None:
        self._name = name
        self._clock = clock
        self._client = client
        self._tell = tell
        self._pace = Pace()
        self._gone = Latest[str, None](_REMEMBERED)  # chats of which the host was told that they are gone
        self._sent = Latest[str, list[str]](_REMEMBERED)  # ids of what went out of a message that is not whole

    async def send(self, message: Outgoing) -> str | None:
        """Send a message with its files; the id of the first that was sent. Raises the errors of the protocol."""
        require_sendable(message.files)
        sent = self._sent[message.key] = self._sent.get(message.key, [])
        # What an attempt before this one has sent is not sent again.
        for number, step in enumerate(self._steps(message)):
            if number >= len(sent):
                sent.append(await self._paced(message.address, step))
        self._sent.pop(message.key, None)
        return sent[0] if sent else None

    async def edit(self, address: Address, message_id: str, text: str, buttons: Sequence[Button]) -> None:
        """Replace a message of ours, and its buttons."""
        await self._paced(address, lambda bot, chat: self._edit(bot, chat, message_id, text, buttons))

    async def delete(self, address: Address, message_id: str) -> None:
        """Take a message of ours away, if it is still there."""
        with suppress(NoSuchMessage):
            await self._call(address, lambda bot, chat: bot.delete_message(chat, number(message_id)))

    async def react(self, address: Address, message_id: str, emoji: str | None) -> None:
        """Put a reaction on a message; None takes ours away."""
        chosen = None if emoji is None else _REACTIONS.get(emoji, emoji)
        if chosen is not None and chosen not in set(ReactionEmoji):
            raise DeliveryRefused(f"Telegram has no reaction {emoji}")
        reaction = [] if chosen is None else [ReactionTypeEmoji(chosen)]
        await self._call(address, lambda bot, chat: bot.set_message_reaction(chat, number(message_id), reaction))

    async def typing(self, address: Address) -> None:
        """Show that we work on an answer."""
        await self._call(
            address, lambda bot, chat: bot.send_chat_action(chat, "typing", message_thread_id=_thread(address))
        )

    def is_gone(self, chat: str) -> None:
        """The host knows that the bot cannot write there any more."""
        self._gone[chat] = None

    def is_back(self, chat: str) -> None:
        """Something came from there: the chat is there."""
        self._gone.pop(chat, None)

    # --- what a message is made of ---

    def _steps(self, message: Outgoing) -> list[Step]:
        """The calls that make up one message."""
        steps: list[Step] = []
        groups = groups_of(message.files)
        caption = ""
        if message.draft_id is None and len(groups) == 1 and not message.buttons and message.text:
            html = to_html(message.text)
            caption = html if utf16_units(to_plain(message.text)) <= MAX_CAPTION else ""
        if message.text.strip() and not caption:
            steps.append(lambda bot, chat: self._send_text(bot, chat, message))
        for place, group in enumerate(groups):
            # The first of the calls replies, and it alone.
            reply = _reply(message) if place == 0 and not steps else None
            steps.append(
                lambda bot, chat, group=group, reply=reply: self._send_files(  # type: ignore[misc]
                    bot, FileGroup(group, chat, _thread(message.address), reply), caption, message.text
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

        sent = await self._formatted(message.text, send)
        return str(sent.message_id)

    async def _edit(self, bot: Bot, chat: int, message_id: str, text: str, buttons: Sequence[Button]) -> str:
        async def change(text: str, mode: str | None) -> None:
            with suppress(Unchanged):
                await self._translated(
                    bot.edit_message_text(
                        text,
                        chat,
                        number(message_id),
                        parse_mode=mode,
                        reply_markup=_keyboard(buttons),
                        link_preview_options=LinkPreviewOptions(is_disabled=True),
                    )
                )

        await self._formatted(text, change)
        return message_id

    async def _send_files(self, bot: Bot, group: FileGroup, caption: str, text: str) -> str:
        mode = "HTML" if caption else None
        try:
            sent = await self._translated(group.send(bot, caption, mode))
        except NotParsed:
            plain = to_plain(text)[:MAX_CAPTION] if caption else ""
            sent = await self._translated(group.send(bot, plain, None))
        except DeliveryRefused as error:
            if not has_pictures(group.files) or isinstance(error, Gone):
                raise
            # A picture whose form Telegram does not take (PHOTO_INVALID_DIMENSIONS) is a file like any other.
            sent = await self._translated(group.send(bot, caption, mode, as_pictures=False))
        return str(sent.message_id)

    async def _formatted(self, text: str, send: Callable[[str, str | None], Awaitable[T]]) -> T:
        """Send with formatting, or without where Telegram does not take it."""
        html, plain = to_html(text), to_plain(text)
        if 0 < utf16_units(plain) <= MAX_TEXT:
            try:
                return await self._translated(send(html, "HTML"))
            except NotParsed as error:
                log.info("Telegram does not take the formatting", extra={"channel": self._name, "error": error.what})
                return await self._translated(send(plain, None))
        return await self._translated(send(text, None))  # what was written is never longer than it may be

    # --- calls ---

    async def _translated(self, call: Awaitable[T]) -> T:
        async with self._client().errors():
            return await call

    async def _paced(self, address: Address, call: Step) -> str:
        """A call that counts as a message, in its place."""
        while wait := self._pace.take(address.platform_id, self._clock.monotonic()):
            if wait > _LONGEST_WAIT:
                raise ChannelUnavailable("this chat has had as many messages as Telegram allows", retry_after=wait)
            await asyncio.sleep(wait)
        try:
            return await self._call(address, call)
        finally:
            self._pace.came_back(address.platform_id, self._clock.monotonic())

    async def _call(self, address: Address, call: Callable[[Bot, int], Awaitable[T]]) -> T:
        """A call about one chat: where the chat has moved, there; where it is gone, the host is told, once."""
        client = self._client()
        try:
            return await _once(client, call, number(address.platform_id))
        except Moved as error:
            await self._tell(ChatMoved(self._name, address.platform_id, error.new_id))
            try:
                return await _once(client, call, number(error.new_id))
            except Moved:
                raise DeliveryRefused("the chat moves from one id to another") from None
        except Gone as error:
            if address.platform_id not in self._gone:
                self.is_gone(address.platform_id)
                await self._tell(ChatGone(Address(self._name, address.platform_id), error.what))
            raise


async def _once(client: Client, call: Callable[[Bot, int], Awaitable[T]], chat: int) -> T:
    try:
        async with client.errors():
            return await call(client.bot, chat)
    except (NotParsed, Unchanged) as error:
        raise DeliveryRefused(f"Telegram refuses it: {error.what}") from None


def number(text: str) -> int:
    """An id of Telegram's. Raises `DeliveryRefused` for what is none."""
    try:
        return int(text)
    except ValueError:
        raise DeliveryRefused(f"'{text[:40]}' is no id of Telegram's: it is a number, such as 123456789") from None


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
    return None if address.thread_id is None else number(address.thread_id)
