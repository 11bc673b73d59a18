"""What a channel hands over, and what it gets back."""

from __future__ import annotations

from dataclasses import field

from host.sessions.attachments import Attachment
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address
from shared_schema.text import is_all_shown

_LONGEST_IDENTIFIER = 500


def require_identifiers(address: Address, *others: tuple[str, str | None]) -> None:
    """Raises `InvalidValue` for what cannot identify anything: empty, enormous or not printable."""
    for what, value in (("chat", address.platform_id), ("thread", address.thread_id), *others):
        if value is not None and (not value or len(value) > _LONGEST_IDENTIFIER or not is_all_shown(value)):
            raise InvalidValue(f"the {what} '{value[:40]!r}' of an event cannot be an identifier")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that still lies on the platform: its name and size (bytes) as the platform says them, not to be trusted.

    `reference` is what the channel's `download` needs to fetch it.
    """

    name: str
    reference: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One message on one platform.

    `platform_message_id` makes the event recognisable when the platform sends it twice. `agent_group` narrows it to one
    agent by name and `session_id` to one session; the host's own terminal may do that, a platform cannot.
    `reply_to` is the platform's id of the message it replies to (or ours), `quote` what it quotes of that.

    `is_mention`: the platform says that the bot is meant: its own flag, a reply to the bot, or its name. `is_group` and
    `chat_name` describe the chat as far as the platform says; None: not said. `remote_files` are fetched by the router,
    through the channel's `download`, once it is known that an agent takes the event; `attachments` are here already.

    `by_owner`: the owner of the host handed it in at its own terminal. No channel of a platform says so.
    `is_literal`: all of its text is for the agent, also when it begins as a command does: a program wrote it.
    `traceparent`: the place of who handed it in in a trace, as W3C's Trace Context has it.
    """

    address: Address
    platform_message_id: str
    text: str
    sender_id: str | None = None
    sender_name: str | None = None
    is_mention: bool = False
    attachments: tuple[Attachment, ...] = ()
    agent_group: str | None = None
    session_id: str | None = None
    reply_to: str | None = None
    quote: str | None = None
    is_group: bool | None = None
    chat_name: str | None = None
    remote_files: tuple[RemoteFile, ...] = ()
    by_owner: bool = False
    is_literal: bool = False
    traceparent: str | None = None

    def require_identifiers(self) -> None:
        """Raises `InvalidValue` for what cannot identify anything: empty, enormous or not printable."""
        require_identifiers(
            self.address, ("sender", self.sender_id), ("message id", self.platform_message_id),
            ("message it replies to", self.reply_to),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReadReceipt:
    """A person has read what is in a chat, or in one thread of it. A channel hands it over as it does an event."""

    address: Address


@dataclass(frozen=True, slots=True)
class Edited:
    """A person has changed a message: its text is `text` now."""

    address: Address
    platform_message_id: str
    text: str
    sender_id: str | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """A message of a person's is gone from its chat."""

    address: Address
    platform_message_id: str


@dataclass(frozen=True, slots=True)
class Clicked:
    """A person has pressed a button under a message of ours: `value` is that of the `Button`.

    `click_id` is the platform's id of the click, the same when the platform sends it twice.
    """

    address: Address
    platform_message_id: str
    value: str
    click_id: str
    sender_id: str
    sender_name: str | None = None


@dataclass(frozen=True, slots=True)
class Reacted:
    """A person has put a reaction on a message, or (`emoji` None) taken it away.

    `removed` is the one that is gone, where the platform says; else it is all of that person's on the message.
    """

    address: Address
    platform_message_id: str
    emoji: str | None
    sender_id: str | None = None
    sender_name: str | None = None
    removed: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ChatMoved:
    """A chat goes on under another id (a Telegram group that became a supergroup). Its sessions stay."""

    channel: str
    old_platform_id: str
    new_platform_id: str


@dataclass(frozen=True, slots=True)
class ChatGone:
    """The bot can no longer write in a chat: blocked, thrown out, or the chat is deleted. `reason` is a sentence."""

    address: Address
    reason: str


@dataclass(frozen=True, slots=True)
class Joined:
    """The bot was added to a chat; `sender_id` is who added it, where the platform says."""

    address: Address
    chat_name: str | None = None
    is_group: bool = True
    sender_id: str | None = None
    sender_name: str | None = None


Incoming = Event | Edited | Deleted | Clicked | Reacted | ReadReceipt | ChatMoved | ChatGone | Joined
"""Everything a channel hands over. All of it may come twice and late; what it changes is kept before it returns."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One agent group has taken the event; `duplicate` says that it had before."""

    message_id: str
    session_id: str
    agent_group: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an event. It is on the disk when the channel sees this; with no takers, `dropped` says why."""

    accepted: tuple[Accepted, ...]
    dropped: str | None = None
