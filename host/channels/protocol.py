"""A channel: the adapter for one platform. It hands events to the host and sends what it is given, nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from host.routing.event import Event, ReadReceipt, Receipt
from host.sessions.house import Platform
from shared_schema.errors import DumbwaiterError
from shared_schema.rows import Address


class ChannelUnavailable(DumbwaiterError):
    """The platform cannot be reached, or says "later". The message surely did not arrive: it is tried again."""

    def __init__(self, what: str, *, retry_after: float | None = None, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.retry_after = retry_after


class DeliveryRefused(DumbwaiterError):
    """The platform will never take this message (chat gone, no right to post, content refused)."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to send. `key` is the same at every attempt: the idempotency key for platforms that take one.

    `kind` is a `MessageOutKind`; `in_reply_to` the id of the message it answers, if it answers one. `from_host` marks a
    notice of the host's own.
    """

    key: str
    address: Address
    kind: str
    text: str
    files: tuple[Path, ...] = ()
    in_reply_to: str | None = None
    from_host: bool = False


Ingest = Callable[[Event | ReadReceipt], Awaitable[Receipt]]


def platform_of(channel: Channel) -> Platform:
    """What a channel says of its platform."""
    plain = Platform()
    return Platform(
        max_text=getattr(channel, "max_text", plain.max_text),
        takes_files=getattr(channel, "takes_files", plain.takes_files),
        mentions_need_ids=getattr(channel, "mentions_need_ids", plain.mentions_need_ids),
    )


class Channel(Protocol):
    """One platform. `idempotent` channels send a message once however often `deliver` is called with the same key.

    A channel acknowledges an event to its platform only after `ingest` has returned, and not when it raised. Whether
    its platform tells what was read or not: a `ReadReceipt` goes the same way.

    What agents are told of the platform stands in attributes that a channel may leave out, with the names and defaults
    of `Platform`.
    """

    channel_type: str
    idempotent: bool

    async def start(self, ingest: Ingest) -> None:
        """Connect, and hand every event to `ingest` from now on. Raises `DumbwaiterError`."""

    async def deliver(self, message: Outgoing) -> str | None:
        """Send a message; the platform's id of it, where there is one.

        Raises `ChannelUnavailable` and `DeliveryRefused`. Any other outcome, a cancellation included, leaves it open
        whether the message arrived.
        """

    async def close(self) -> None:
        """Disconnect."""
