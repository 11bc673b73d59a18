"""What Slack sends, into the host: each chat's in order, chats beside each other, and each message once.

Invariant: an event is acknowledged only after `ingest` has returned, or when the host can never use it. What could not
be kept is counted as missed: until the next start no later moment is noted as the one up to which all was heard.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from host.channels.protocol import ChannelRefused, ChannelUnavailable, Ingest
from host.channels.slack.client import APP_PAGE
from host.channels.slack.events import SlackReader
from host.channels.slack.socket import Envelope, Socket
from host.latest import Latest
from host.routing.event import ChatMoved, Event, Incoming
from shared_schema.errors import DumbwaiterError, InvalidValue

log = logging.getLogger(__name__)

_REMEMBERED = 10_000
_NAME_SECONDS = 2.0
_END_OF_APP = {"tokens_revoked": "the app's tokens were revoked", "app_uninstalled": "the app was removed"}


class SlackReceiver:
    """Hands events over. It outlives the connections: it knows what was taken.

    `person_name` asks Slack how a person is called, `ended` hears that the app is let in no more.
    """

    def __init__(
        self, person_name: Callable[[str], Awaitable[str | None]], ended: Callable[[ChannelRefused], None]
    ) -> None:
        self._person_name = person_name
        self._ended = ended
        self._reader: SlackReader | None = None
        self._ingest: Ingest | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = _Turns()
        self._names = Latest[str, str](_REMEMBERED)
        self._said = Latest[tuple[str, str], None](_REMEMBERED)  # the last messages that are on the disk
        self.missed = asyncio.Event()
        """Set when an event could not be kept. Who asks for it again clears that first."""

    def start(self, ingest: Ingest, reader: SlackReader) -> None:
        """From now on what comes is read with `reader`, and handed to `ingest`."""
        self._ingest, self._reader = ingest, reader
        self.missed.clear()

    async def close(self) -> None:
        """Let go of what is under way: it was not acknowledged."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._ingest = None

    def received(self, socket: Socket, envelope: Envelope) -> None:
        """Take an envelope beside the others, and acknowledge it when it is on the disk."""
        task = asyncio.create_task(self._take_and_acknowledge(socket, envelope))
        self._tasks.add(task)
        task.add_done_callback(self._over)

    async def posted(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Take what came over HTTP. Raises as `take`."""
        try:
            await self.take(kind, payload)
        except InvalidValue:
            raise
        except DumbwaiterError:
            self.missed.set()
            raise

    async def take(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hand over what was sent. Raises what `ingest` raises, and `InvalidValue` for what cannot be read."""
        assert self._reader is not None, "it has been started"
        match kind:
            case "events_api":
                event = payload.get("event")
                table = event if isinstance(event, Mapping) else {}
                # A list is in no dictionary, and asking for it raises: then the event would never be acknowledged.
                if isinstance(type_ := table.get("type"), str) and type_ in _END_OF_APP:
                    self._ended(ChannelRefused(_END_OF_APP[type_], hint=f"install it again at {APP_PAGE}"))
                await self._hand_over(self._reader.event(table))
            case "interactive":
                await self._hand_over(self._reader.interaction(payload))
            case "slash_commands":
                await self._hand_over(self._reader.command(payload))

    async def _take_and_acknowledge(self, socket: Socket, envelope: Envelope) -> None:
        payload = envelope.get("payload")
        try:
            await self.take(str(envelope.get("type")), payload if isinstance(payload, Mapping) else {})
        except InvalidValue as error:  # it will never be better
            log.warning("an event of Slack cannot be used", extra={"error": str(error)})
        except DumbwaiterError as error:
            log.error("an event of Slack could not be kept: it will come again", extra={"error": str(error)})
            self.missed.set()
            return
        try:
            await socket.acknowledge(envelope)
        except ChannelUnavailable:
            log.info("an event could not be acknowledged: it will come again, and is known then")

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

    async def _name_of(self, user_id: str) -> str | None:
        """How a person is called, as far as that is known soon: no message waits long for it."""
        if user_id not in self._names:
            try:
                async with asyncio.timeout(_NAME_SECONDS):
                    name = await self._person_name(user_id)
            except (DumbwaiterError, TimeoutError):
                return None
            self._names[user_id] = name or ""
        return self._names[user_id] or None

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.missed.set()
            log.error("an event of Slack could not be handled", extra={"error": type(error).__name__})


class _Turns:
    """One at a time for each chat, in the order of arrival."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def of(self, chat: str) -> AsyncIterator[None]:
        """The turn of one event in a chat."""
        # Counted before it waits: a lock is dropped by the last of those who wait for it or hold it.
        self._users[chat] = self._users.get(chat, 0) + 1
        try:
            async with self._locks.setdefault(chat, asyncio.Lock()):
                yield
        finally:
            self._users[chat] -= 1
            if not self._users[chat]:
                del self._users[chat], self._locks[chat]


def _named(event: Event, name: str | None) -> Event:
    return event if name is None else dataclasses.replace(event, sender_name=name)
