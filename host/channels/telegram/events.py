"""An update of Telegram's as what happened in words of the host. Pure."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence

from host.channels.telegram.text import utf16_slice
from host.channels.telegram.wire import (
    CallbackQuery,
    Chat,
    ClickedMessage,
    MemberUpdate,
    Message,
    MessageReaction,
    TelegramFile,
    Update,
)
from host.routing.event import (
    ChatGone,
    ChatMoved,
    Clicked,
    Edited,
    Event,
    Incoming,
    Joined,
    Reacted,
    RemoteFile,
)
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address
from shared_schema.text import folded

_LONGEST_QUOTE = 1_000
_LONGEST_NAME = 100
_OUTSIDE = frozenset({"left", "kicked"})


@dataclass(frozen=True, slots=True)
class TelegramBot:
    """The bot itself, and the name of its channel."""

    channel: str
    id: int
    username: str


def translate(update: Update, me: TelegramBot) -> list[Incoming]:
    """What happened. Raises `InvalidValue` for what cannot be an event."""
    message = update.message or update.channel_post
    edited = update.edited_message or update.edited_channel_post
    if message is not None:
        return from_messages([message], me)
    if edited is not None:
        return _edited(edited, me)
    if update.callback_query is not None:
        return _clicked(update.callback_query, me)
    if update.message_reaction is not None:
        return _reacted(update.message_reaction, me)
    if update.my_chat_member is not None:
        return _member(update.my_chat_member, me)
    return []


def from_messages(messages: Sequence[Message], me: TelegramBot) -> list[Incoming]:
    """One message, or the parts of an album in their order, as one event."""
    first = min(messages, key=lambda message: message.message_id)
    chat = first.chat
    if (moved := first.migrate_to_chat_id) is not None:
        return [ChatMoved(me.channel, str(chat.id), str(moved))]
    if (origin := first.migrate_from_chat_id) is not None:
        return [ChatMoved(me.channel, str(origin), str(chat.id))]
    if first.from_ is not None and first.from_.id == me.id:
        return []
    parts = sorted({message.message_id: message for message in messages}.values(), key=lambda part: part.message_id)
    text = "\n\n".join(filter(None, (_text(part, me) for part in parts)))
    files = tuple(file for part in parts for file in _files(part))
    if not text and not files:
        return []  # a notice of the platform's: a person joined, a title changed
    reply = None if _is_topic_root(first) else first.reply_to_message
    event = Event(
        address=_address(me, chat, first.message_thread_id if first.is_topic_message else None),
        platform_message_id=str(first.message_id),
        text=text,
        sender_id=_sender_id(first),
        sender_name=_sender_name(first),
        is_mention=not chat.is_group or any(_is_mention(part, me) for part in parts),
        reply_to=None if reply is None else str(reply.message_id),
        quote=_quote(first),
        is_group=chat.is_group,
        chat_name=chat.name,
        remote_files=files,
    )
    event.require_identifiers()
    return [event]


def _address(me: TelegramBot, chat: Chat, thread: int | None) -> Address:
    return Address(me.channel, str(chat.id), None if thread is None else str(thread))


def _thread(message: Message | ClickedMessage) -> int | None:
    """Returns the topic: other replies in a group have a thread id too, and no app shows them as threads."""
    return message.message_thread_id if message.is_topic_message else None


def _sender_id(message: Message) -> str | None:
    """Who wrote: an anonymous administrator writes as the group, a linked channel as the channel."""
    sender = message.sender_chat or message.from_
    return None if sender is None else str(sender.id)


def _sender_name(message: Message) -> str | None:
    sender = message.sender_chat or message.from_
    return None if sender is None else sender.name


def _is_topic_root(message: Message) -> bool:
    """In a topic, a message that replies to nothing "replies" to the notice that the topic was made."""
    reply = message.reply_to_message
    return reply is not None and (
        reply.forum_topic_created is not None
        or (message.is_topic_message and reply.message_id == message.message_thread_id)
    )


def _quote(message: Message) -> str | None:
    if message.quote is not None and message.quote.text:
        return message.quote.text[:_LONGEST_QUOTE]
    reply = message.reply_to_message
    if reply is None or _is_topic_root(message):
        return None
    return (reply.text or reply.caption or "")[:_LONGEST_QUOTE] or None


def _is_mention(message: Message, me: TelegramBot) -> bool:
    """The bot's name in the text, a command with its name, or a reply to what it wrote."""
    reply = message.reply_to_message
    if reply is not None and reply.from_ is not None and reply.from_.id == me.id and not _is_topic_root(message):
        return True
    name = folded(f"@{me.username}", _LONGEST_NAME)
    text = message.text if message.text is not None else message.caption or ""
    for entity in message.entities if message.text is not None else message.caption_entities:
        if entity.type == "text_mention" and entity.user is not None and entity.user.id == me.id:
            return True
        if entity.type in ("mention", "bot_command") and entity.length <= 200:
            said = folded(utf16_slice(text, entity.offset, entity.length), 200)
            if said == name or (entity.type == "bot_command" and said.endswith(name)):
                return True
    return False


def _text(message: Message, me: TelegramBot) -> str:
    text = message.text if message.text is not None else message.caption or ""
    text = _without_our_name(text, me)
    for said in (_of_other_kinds(message), None if not message.forward_origin else _forwarded(message)):
        if said:
            text = f"{said}\n{text}" if text else said
    return text


def _without_our_name(text: str, me: TelegramBot) -> str:
    """`/new@our_bot` is `/new`, as everywhere else."""
    word, space, rest = text.partition(" ")
    command, at, name = word.partition("@")
    if text.startswith("/") and at and folded(name, _LONGEST_NAME) == folded(me.username, _LONGEST_NAME):
        return command + space + rest
    return text


def _of_other_kinds(message: Message) -> str | None:
    """What has neither text nor file, in words."""
    if message.sticker is not None:
        return f"[sticker {message.sticker.emoji or ''}".rstrip() + "]"
    if message.venue is not None:
        place = message.venue.location
        return f"[place: {message.venue.title}, {message.venue.address}; {place.latitude}, {place.longitude}]"
    if message.location is not None:
        return f"[location: {message.location.latitude}, {message.location.longitude}]"
    if (contact := message.contact) is not None:
        name = " ".join(filter(None, (contact.first_name, contact.last_name)))
        return f"[contact: {name}, {contact.phone_number}]"
    if message.poll is not None:
        options = "; ".join(option.text for option in message.poll.options)
        return f"[poll: {message.poll.question} ({options})]"
    if message.dice is not None:
        return f"[{message.dice.emoji} {message.dice.value}]"
    return None


def _forwarded(message: Message) -> str:
    origin = message.forward_origin
    assert origin is not None, "asked by the caller"
    sender = origin.sender_user or origin.sender_chat or origin.chat
    name = (None if sender is None else sender.name) or origin.sender_user_name or "elsewhere"
    return f"[forwarded from {name}]"


def _files(message: Message) -> list[RemoteFile]:
    number, found = message.message_id, []
    if message.photo:  # the sizes of one picture, the largest last
        found.append(_file(message.photo[-1], f"photo-{number}.jpg"))
    # an animation comes as a document once more
    document = message.animation or message.document
    for file, name in (
        (document, f"file-{number}"),
        (message.voice, f"voice-{number}.ogg"),
        (message.audio, f"audio-{number}"),
        (message.video, f"video-{number}"),
        (message.video_note, f"video-{number}.mp4"),
    ):
        if file is not None:
            found.append(_file(file, name))
    return found


def _file(file: TelegramFile, name: str) -> RemoteFile:
    if file.file_name:
        name = file.file_name
    elif "." not in name:
        name += mimetypes.guess_extension(file.mime_type or "") or ""
    return RemoteFile(name, file.file_id, file.file_size)


def _edited(message: Message, me: TelegramBot) -> list[Incoming]:
    text = _text(message, me)
    if not text or (message.from_ is not None and message.from_.id == me.id):
        return []
    address = _address(me, message.chat, _thread(message))
    return [Edited(address, str(message.message_id), text, _sender_id(message))]


def _clicked(query: CallbackQuery, me: TelegramBot) -> list[Incoming]:
    message = query.message
    if message is None or query.data is None:
        return []
    if len(query.data) > 64 or not query.data.isascii():
        raise InvalidValue("a click has a value that no button of ours has")
    address = _address(me, message.chat, _thread(message))
    return [Clicked(address, str(message.message_id), query.data, query.id, str(query.from_.id), query.from_.name)]


def _reacted(reaction: MessageReaction, me: TelegramBot) -> list[Incoming]:
    sender = reaction.user or reaction.actor_chat
    if sender is not None and sender.id == me.id:
        return []
    emoji = next((each.emoji for each in reaction.new_reaction if each.type == "emoji" and each.emoji), None)
    if emoji is None and reaction.new_reaction:
        return []  # a custom picture, which has no character
    return [
        Reacted(
            _address(me, reaction.chat, None),
            str(reaction.message_id),
            None if emoji is None else emoji[:32],
            None if sender is None else str(sender.id),
            None if sender is None else sender.name,
        )
    ]


def _member(update: MemberUpdate, me: TelegramBot) -> list[Incoming]:
    """The bot was added, thrown out, or blocked."""
    chat, before, now = update.chat, update.old_chat_member.status, update.new_chat_member.status
    address = _address(me, chat, None)
    if now in _OUTSIDE:
        reason = "the bot was removed from this chat" if chat.is_group else "the person has blocked the bot on Telegram"
        return [ChatGone(address, reason)]
    if before in _OUTSIDE and chat.is_group:
        return [Joined(address, chat.name, True, str(update.from_.id), update.from_.name)]
    return []
