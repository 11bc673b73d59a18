"""What a channel hands over, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass

from host.sessions.attachments import Attachment
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address
from shared_schema.text import is_all_shown

_LONGEST_IDENTIFIER = 500


@dataclass(frozen=True, slots=True)
class Event:
    """One message on one platform.

    `platform_message_id` makes the event recognisable when the platform sends it twice. `agent_group` narrows it to one
    agent by name and `session_id` to one session; somebody at the host's own terminal may do that, a platform cannot.
    `reply_to` is the platform's id of the message it replies to (or ours), `quote` what it quotes of that.
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

    def require_identifiers(self) -> None:
        """Raises `InvalidValue` for what cannot identify anything: empty, enormous or not printable."""
        for what, value in (
            ("chat", self.address.platform_id),
            ("thread", self.address.thread_id),
            ("sender", self.sender_id),
            ("message id", self.platform_message_id),
            ("message it replies to", self.reply_to),
        ):
            if value is not None and (not value or len(value) > _LONGEST_IDENTIFIER or not is_all_shown(value)):
                raise InvalidValue(f"the {what} '{value[:40]!r}' of an event cannot be an identifier")


@dataclass(frozen=True, slots=True)
class ReadReceipt:
    """Somebody has read what is in a chat, or in one thread of it. A channel hands it over as it does an event."""

    address: Address


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
