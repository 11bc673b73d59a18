"""A channel: the adapter for one bot on one platform. It hands over what happens there and sends what it is given.

A channel has a *name*, which stands before the colon of an address, and a *type* (`telegram`): two bots of one platform
are two channels of one type. Nothing outside `host/channels/<type>/` knows the SDK of a platform.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, Protocol

from host.channels.health import Health
from host.routing.event import Incoming, Receipt, RemoteFile
from host.sessions.attachments import FileLimits
from shared_schema.clock import Clock
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError
from shared_schema.rows import Address

LONGEST_PAUSE = 86_400.0


class ChannelUnavailable(DumbwaiterError):
    """The platform cannot be reached, or says "later". The message surely did not arrive: it is tried again.

    `retry_after` is in seconds, as the platform says it. One that names a year is asked again after a day, and one that
    names no number is taken to name none.
    """

    def __init__(self, what: str, *, retry_after: float | None = None, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        is_said = retry_after is not None and not math.isnan(retry_after)
        self.retry_after = min(max(retry_after, 0.0), LONGEST_PAUSE) if retry_after is not None and is_said else None


class ChannelRefused(DumbwaiterError):
    """The platform does not let us in, until a person mends it: a refused token, a missing scope, intent or right.

    `what` names what is missing, `hint` says where to mend it. It is tried again, rarely.
    """


class TokenRefused(ChannelRefused):
    """It refuses a token or password: another one is needed. `setting` is where that stands, `hint` where it is had."""

    def __init__(self, what: str, *, setting: str = "token", hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.setting = setting


class DeliveryRefused(DumbwaiterError):
    """The platform will never take this message (chat gone, no right to post, content refused)."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a platform can do. Its documentation page is `docs/channels/<type>.md`.

    `max_text` is the length of one message in `text_unit`; longer text is split before it gets to the channel. None: no
    limit. `max_file_bytes` the size of one file that can be sent. `typing_seconds`: how often the sign that we work
    must be renewed; None: there is no such sign. `draft_seconds`: the shortest time between two edits of a reply that
    grows in place, in direct chats and in groups; None: replies do not grow. `idempotent`: `deliver` may be called
    twice with one key, and the message is there once. `deletes`: messages of ours can be taken away.
    `mentions_need_ids`: people are mentioned by their ids, which agents must see for that. `formats`:
    Markdown is shown formatted, so that what must be seen letter for letter is escaped before.
    """

    max_text: int | None = None
    text_unit: Literal["characters", "utf16", "bytes"] = "characters"
    takes_files: bool = True
    max_file_bytes: int | None = None
    threads: bool = False
    edits: bool = False
    deletes: bool = False
    reactions: bool = False
    buttons: bool = False
    direct_messages: bool = False
    receipts: bool = False
    idempotent: bool = False
    mentions_need_ids: bool = False
    formats: bool = False
    typing_seconds: float | None = None
    draft_seconds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Button:
    """A button under a message. `value` (at most 48 bytes of ASCII) comes back in `Clicked`."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to send. `key` is the same at every attempt: the idempotency key for platforms that take one.

    `kind` is a `MessageOutKind`; `text` is Markdown (CommonMark), not longer than the platform takes; `in_reply_to` the
    id of the message it answers, if it answers one, and `reply_to` the platform's id of that message. `from_host` marks
    a notice of the host's own. `draft_id` is the platform's id of the message in which this reply has been growing: it
    becomes the whole reply by an edit. `is_draft`: it is the beginning of a reply that grows by edits from now on, and
    is whole once it is delivered with its `draft_id`; `for_user` is the id of the person who is answered then.
    """

    key: str
    address: Address
    kind: str
    text: str
    files: tuple[Path, ...] = ()
    in_reply_to: str | None = None
    from_host: bool = False
    reply_to: str | None = None
    buttons: tuple[Button, ...] = ()
    draft_id: str | None = None
    is_draft: bool = False
    for_user: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are on the platform. `missing` are sentences on what a person still has to set up there."""

    id: str
    name: str
    missing: tuple[str, ...] = ()


class ChannelState(Protocol):
    """What a channel remembers over a restart, kept in central.db: an offset, a sync token, the last UID."""

    async def get(self, key: str) -> str | None:
        """What was kept; None: nothing."""

    async def set(self, key: str, value: str) -> None:
        """Keep it; it is on the disk when this returns. Set what acknowledges an event after `ingest` has returned."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a host gives to each of its channels.

    `health` is told by the channel when it connects, hears and fails. `downloads` is a folder for files on their way;
    `folder` is one that lasts, for the host's user alone, and is made by a channel that needs it. None: there is none.
    """

    name: str
    clock: Clock
    state: ChannelState
    health: Health
    downloads: Path
    file_limits: FileLimits
    folder: Path | None = None


Ingest = Callable[[Incoming], Awaitable[Receipt]]


class Channel(Protocol):
    """One bot on one platform.

    A channel acknowledges an event to its platform only after `ingest` has returned, and not when it raised: what is
    not acknowledged comes again and is known by its `platform_message_id`.

    Each call that talks to the platform raises `ChannelUnavailable` where the platform cannot be reached or says
    "later", `ChannelRefused` where it does not let us in, and `DeliveryRefused` for what it will never take.
    """

    name: str
    type: str
    capabilities: Capabilities

    async def check(self) -> Identity:
        """Ask the platform who we are, and what is missing. Needs no `start`."""

    async def start(self, ingest: Ingest) -> None:
        """Connect, catch up what the platform has kept, and hand everything to `ingest` from now on.

        Raises `ChannelUnavailable` and `ChannelRefused`; after that, and after `close`, it may be called again.
        """

    async def serve(self) -> None:
        """Run until the connection is lost or is deaf, and raise `ChannelUnavailable` or `ChannelRefused` then.

        Deaf: the proof that it hears (a heartbeat of the protocol, a question beside a long poll) did not come in time.
        The host closes the channel, waits, and starts it again.
        """

    async def deliver(self, message: Outgoing) -> str | None:
        """Send a message; the platform's id of it, where there is one.

        Any outcome but a return and the three errors, a cancellation included, leaves open whether it arrived.
        """

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: tuple[Button, ...]) -> None:
        """Replace a message of ours, and its buttons."""

    async def delete(self, address: Address, platform_message_id: str) -> None:
        """Take a message of ours away. One that is not there any more is no failure."""

    async def react(self, address: Address, platform_message_id: str, emoji: str | None) -> None:
        """Put a reaction on a message; None takes ours away."""

    async def typing(self, address: Address) -> None:
        """Show for `typing_seconds` that we work on an answer."""

    async def download(self, file: RemoteFile, target: Path) -> None:
        """Fetch a file of an event into `target`, which does not exist yet; never more than the limit of bytes."""

    async def open_direct(self, user_id: str) -> str:
        """The platform id of the direct chat with a person; it is opened if need be."""

    async def person_name(self, user_id: str) -> str | None:
        """How a person is called there."""

    async def chat_name(self, platform_id: str) -> str | None:
        """How a chat is called there."""

    async def close(self) -> None:
        """Disconnect. May be called twice, and before `start`."""


class BaseChannel:
    """What a channel does that its platform cannot do: nothing, or `DeliveryRefused`. Channels inherit from it."""

    name: str
    type: str
    capabilities = Capabilities()

    async def check(self) -> Identity:
        return Identity(self.name, self.name)

    async def serve(self) -> None:
        await asyncio.Event().wait()

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: tuple[Button, ...]) -> None:
        raise DeliveryRefused(f"messages cannot be changed on {self.type}")

    async def delete(self, address: Address, platform_message_id: str) -> None:
        raise DeliveryRefused(f"messages cannot be taken away on {self.type}")

    async def react(self, address: Address, platform_message_id: str, emoji: str | None) -> None:
        raise DeliveryRefused(f"there are no reactions on {self.type}")

    async def typing(self, address: Address) -> None:
        return

    async def download(self, file: RemoteFile, target: Path) -> None:
        raise DeliveryRefused(f"there are no files on {self.type}")

    async def open_direct(self, user_id: str) -> str:
        raise DeliveryRefused(f"there are no direct chats on {self.type}")

    async def person_name(self, user_id: str) -> str | None:
        return None

    async def chat_name(self, platform_id: str) -> str | None:
        return None
