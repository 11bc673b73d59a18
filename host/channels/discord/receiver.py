"""What Discord sends, into the host: each chat's in order, chats beside each other, and each message once.

Discord's gateway knows no acknowledgement. Invariant: what could not be kept is tried again here, and as long as some
of it is not on the disk, no later message is noted as the one up to which all is (`newest`, catch_up.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from host.channels.discord.client import DiscordClient
from host.channels.discord.directory import Directory, snowflake, table, tables, text
from host.channels.discord.events import DiscordReader
from host.channels.discord.ids import require_id, require_token
from host.channels.protocol import Ingest
from host.latest import Latest
from host.routing.event import ChatMoved, Event, Incoming
from shared_schema.errors import DumbwaiterError, InvalidValue

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 2.0  # Discord shows a click as failed after three
_REMEMBERED = 10_000
_LONGEST_WAIT = 30.0
_COMMAND = 2


class DiscordReceiver:
    """Hands events over for the channel called `name`. It outlives the connections: it knows what was taken.

    `know_direct` hears of each direct chat, before its message is handed over.
    """

    def __init__(self, name: str, know_direct: Callable[[str], Awaitable[None]]) -> None:
        self._name = name
        self._know_direct = know_direct
        self._ingest: Ingest | None = None
        self._client: DiscordClient | None = None
        self.directory = Directory()
        self._reader = DiscordReader(name, "", self.directory)
        self._tasks: set[asyncio.Task[None]] = set()
        self._chains: dict[str, asyncio.Task[None]] = {}
        self._said = Latest[tuple[str, str], None](_REMEMBERED)
        self._open = 0  # events that are not on the disk yet
        self._guilds: set[str] = set()
        self.is_ready = asyncio.Event()
        self.newest = 0
        """The id of the last message that is on the disk; 0 where the noted one counts."""

    def start(self, ingest: Ingest, client: DiscordClient, own_id: str) -> None:
        """A connection begins: from now on what comes is handed to `ingest`."""
        self._ingest, self._client = ingest, client
        self.directory = Directory(own_id)
        self._reader = DiscordReader(self._name, own_id, self.directory)
        self.is_ready, self._guilds = asyncio.Event(), set()

    async def close(self) -> None:
        """Let go of what is under way: it is asked for at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self) -> None:
        """The connection has ended. Where it leaves something that is not on the disk, the next one asks from where all
        was, as it was noted: what came later was kept, and stands behind it.
        """
        if not self.has_all:
            self.newest = 0
        self._ingest = self._client = None
        self._chains.clear()
        self._open = 0

    @property
    def has_all(self) -> bool:
        """Whether everything that came is on the disk."""
        return self._open == 0

    @property
    def knows_all_guilds(self) -> bool:
        """Whether the gateway has told of all the servers that it named at its beginning."""
        return self._guilds <= self.directory.guilds

    def received(self, event: str, data: Mapping[str, Any]) -> None:
        """Take an event of the gateway. Called in the order in which they come."""
        guild_id = text(data, "id")
        if event == "READY":
            self._guilds = {str(each.get("id")) for each in tables(data.get("guilds"))}
            self.is_ready.set()
        is_new_guild = event == "GUILD_CREATE" and self.is_ready.is_set() and guild_id not in self._guilds
        try:
            incoming = self._reader.read(event, data)
            incoming += self._reader.joined(data) if is_new_guild and guild_id not in self.directory.guilds else []
        except InvalidValue as error:
            log.warning("an event of Discord cannot be used", extra={"kind": event[:50], "error": str(error)})
            return
        finally:
            self.directory.learn(event, data)
        for each in incoming:
            handing_over = self._queue(each)
            if event == "INTERACTION_CREATE":
                answering = asyncio.create_task(self._answer(data, handing_over))
                self._tasks.add(answering)
                answering.add_done_callback(self._tasks.discard)

    async def take_missed(self, message: Mapping[str, Any]) -> None:
        """Take a message that was asked for, behind those of its chat that have come."""
        entry = self.directory.entry(str(message.get("channel_id")))
        guild = {"guild_id": entry.guild_id} if entry is not None and entry.guild_id is not None else {}
        try:
            event = self._reader.message({**message, **guild})
        except InvalidValue as error:
            log.warning("a message of Discord cannot be used", extra={"error": str(error)})
            return
        if event is not None:
            await asyncio.wait([self._queue(event)])

    def _queue(self, incoming: Incoming) -> asyncio.Task[None]:
        """Hand it over behind what came before in its chat."""
        chat = incoming.old_platform_id if isinstance(incoming, ChatMoved) else incoming.address.platform_id
        before = self._chains.get(chat)
        task = asyncio.create_task(self._hand_over(incoming, before))
        self._chains[chat] = task
        self._open += 1
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if self._chains.get(chat) is task:
                del self._chains[chat]
            if not task.cancelled() and task.exception() is None:
                self._open -= 1

        task.add_done_callback(ended)
        return task

    async def _hand_over(self, incoming: Incoming, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        said = (incoming.address.platform_id, incoming.platform_message_id) if isinstance(incoming, Event) else None
        if said in self._said or self._ingest is None:  # what is caught up and what comes live overlap
            return
        wait = 1.0
        while True:
            try:
                if isinstance(incoming, Event) and incoming.is_group is False:
                    await self._know_direct(incoming.address.platform_id)
                await self._ingest(incoming)
                break
            except InvalidValue as error:  # it will never be better
                log.warning("an event of Discord cannot be used", extra={"error": str(error)})
                break
            except DumbwaiterError as error:
                log.error("an event of Discord cannot be kept yet", extra={"error": str(error), "wait": wait})
            except Exception:  # the boundary of one event
                log.exception("an event of Discord could not be handled")
                break
            await asyncio.sleep(wait)
            wait = min(_LONGEST_WAIT, wait * 2)
        if said is not None:
            self._said[said] = None
            self.newest = max(self.newest, snowflake(said[1]))

    async def _answer(self, interaction: Mapping[str, Any], handing_over: asyncio.Task[None]) -> None:
        """Tell Discord within its three seconds that a click or a command has come."""
        await asyncio.wait([handing_over], timeout=_ANSWER_SECONDS)
        client, token = self._client, text(interaction, "token")
        if client is None or token is None:
            return
        reply: dict[str, Any] = {"type": 6}
        if interaction.get("type") == _COMMAND:
            name = text(table(interaction.get("data")), "name") or "?"
            reply = {"type": 4, "data": {"content": f"`/{name[:32]}`", "flags": 64, "allowed_mentions": {"parse": []}}}
        try:
            interaction_id = require_id(str(interaction.get("id")))
            await client.call("POST", f"/interactions/{interaction_id}/{require_token(token)}/callback", json=reply)
        except DumbwaiterError as error:
            log.warning("an interaction of Discord could not be answered", extra={"error": str(error)})
