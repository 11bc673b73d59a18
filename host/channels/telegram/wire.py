"""What we read of Telegram's updates, checked field by field: https://core.telegram.org/bots/api#update.

Only what is used is read, everything else is passed over, and a field of a wrong type makes the whole update unreadable
(`InvalidValue`): it is counted and skipped, and the next one is not delayed. The SDK's own models check no types, and
one update that they cannot read costs all those that came with it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared_schema.errors import InvalidValue

Id = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Reference = Annotated[str, Field(min_length=1, max_length=500)]


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)


class TelegramUser(_Wire):
    id: Id
    is_bot: bool = False
    first_name: str = ""
    last_name: str | None = None
    username: str | None = None

    @property
    def name(self) -> str:
        """How the person is shown."""
        return " ".join(part for part in (self.first_name, self.last_name) if part) or self.username or str(self.id)


class Chat(_Wire):
    id: Id
    type: str = "private"
    title: str | None = None
    username: str | None = None
    first_name: str | None = None
    last_name: str | None = None

    @property
    def is_group(self) -> bool:
        return self.type != "private"

    @property
    def name(self) -> str | None:
        """How the chat is shown."""
        return self.title or " ".join(part for part in (self.first_name, self.last_name) if part) or self.username


class Entity(_Wire):
    type: str
    offset: Annotated[int, Field(ge=0, le=10_000_000)]
    length: Annotated[int, Field(ge=0, le=10_000_000)]
    user: TelegramUser | None = None


class TelegramFile(_Wire):
    """A photo size, document, voice, audio, video, video note, animation or sticker."""

    file_id: Reference
    file_name: str | None = None
    file_size: int | None = None
    mime_type: str | None = None
    emoji: str | None = None


class Quote(_Wire):
    text: str = ""


class Origin(_Wire):
    sender_user: TelegramUser | None = None
    sender_user_name: str | None = None
    sender_chat: Chat | None = None
    chat: Chat | None = None


class Location(_Wire):
    latitude: float
    longitude: float


class Venue(_Wire):
    location: Location
    title: str = ""
    address: str = ""


class Contact(_Wire):
    phone_number: str = ""
    first_name: str = ""
    last_name: str | None = None


class PollOption(_Wire):
    text: str = ""


class Poll(_Wire):
    question: str = ""
    options: list[PollOption] = []


class Dice(_Wire):
    emoji: str = ""
    value: int = 0


class Message(_Wire):
    message_id: Id
    chat: Chat
    from_: TelegramUser | None = Field(None, alias="from")
    sender_chat: Chat | None = None
    message_thread_id: Id | None = None
    is_topic_message: bool = False
    media_group_id: Reference | None = None
    text: str | None = None
    caption: str | None = None
    entities: list[Entity] = []
    caption_entities: list[Entity] = []
    reply_to_message: ReplyTo | None = None
    quote: Quote | None = None
    forward_origin: Origin | None = None
    photo: list[TelegramFile] = []
    document: TelegramFile | None = None
    voice: TelegramFile | None = None
    audio: TelegramFile | None = None
    video: TelegramFile | None = None
    video_note: TelegramFile | None = None
    animation: TelegramFile | None = None
    sticker: TelegramFile | None = None
    location: Location | None = None
    venue: Venue | None = None
    contact: Contact | None = None
    poll: Poll | None = None
    dice: Dice | None = None
    migrate_to_chat_id: Id | None = None
    migrate_from_chat_id: Id | None = None


class ReplyTo(_Wire):
    """The message that is replied to: it may be anything, so that little of it is read."""

    message_id: Id
    from_: TelegramUser | None = Field(None, alias="from")
    text: str | None = None
    caption: str | None = None
    forum_topic_created: dict[str, Any] | None = None


class ClickedMessage(_Wire):
    message_id: Id
    chat: Chat
    message_thread_id: Id | None = None
    is_topic_message: bool = False


class CallbackQuery(_Wire):
    id: Reference
    from_: TelegramUser = Field(alias="from")
    message: ClickedMessage | None = None
    data: str | None = None


class Reaction(_Wire):
    type: str
    emoji: str | None = None


class MessageReaction(_Wire):
    chat: Chat
    message_id: Id
    user: TelegramUser | None = None
    actor_chat: Chat | None = None
    new_reaction: list[Reaction] = []


class Member(_Wire):
    status: str


class MemberUpdate(_Wire):
    chat: Chat
    from_: TelegramUser = Field(alias="from")
    old_chat_member: Member
    new_chat_member: Member


class Update(_Wire):
    update_id: Annotated[int, Field(ge=0, lt=2**63)]
    message: Message | None = None
    edited_message: Message | None = None
    channel_post: Message | None = None
    edited_channel_post: Message | None = None
    callback_query: CallbackQuery | None = None
    message_reaction: MessageReaction | None = None
    my_chat_member: MemberUpdate | None = None

    @property
    def chat(self) -> Chat | None:
        """Where it happened: what happens in one chat is kept in order."""
        happened = (
            self.message or self.edited_message or self.channel_post or self.edited_channel_post
            or self.message_reaction or self.my_chat_member
            or (None if self.callback_query is None else self.callback_query.message)
        )  # fmt: skip
        return None if happened is None else happened.chat


KINDS = (
    "message", "edited_message", "channel_post", "edited_channel_post", "callback_query", "message_reaction",
    "my_chat_member",
)  # fmt: skip
"""`allowed_updates`: what is asked for. Reactions come only where they are named, and the bot is an administrator."""


def update_id(raw: object) -> int | None:
    """The number of an update, also of one that cannot be read otherwise."""
    found = raw.get("update_id") if isinstance(raw, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 2**63 else None


def read_update(raw: object) -> Update:
    """An update as it came. Raises `InvalidValue`, which names the field and nothing of what was in it."""
    try:
        return Update.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part)[:40] for part in first["loc"][:6]) or "update"
        raise InvalidValue(f"an update of Telegram's cannot be read: {field}: {first['msg'][:100]}") from None
    except RecursionError:
        raise InvalidValue("an update of Telegram's cannot be read: it nests too deeply") from None
