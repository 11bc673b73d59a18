"""Messages to Discord, so that each is there once.

Discord knows a nonce for some minutes: the same one gives the same message. Where a message may have arrived earlier
(an attempt that was cut off, a host that was killed) the chat is read for it before it is sent again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from host.channels.discord.client import DiscordClient, asked
from host.channels.discord.directory import table, tables, text
from host.channels.discord.ids import channel_of, require_id
from host.channels.discord.text import to_discord
from host.channels.protocol import Button, DeliveryRefused, Outgoing
from host.latest import Latest
from shared_schema.rows import Address

_FILES_A_MESSAGE = 10
_REMEMBERED = 10_000
_NONCE_SECONDS = 60.0  # Discord knows a nonce for "a few minutes"
_DOUBTFUL_SECONDS = 120.0
_LOOK_BACK = 50


class DiscordSender:
    """Sends with the connection that `client` gives. It outlives connections: it knows what is sent and what not.

    `own_id` is the bot's id, once it is known.
    """

    def __init__(self, client: Callable[[], DiscordClient]) -> None:
        self._client = client
        self._done = Latest[str, str](_REMEMBERED)
        self._unsure: dict[str, float] = {}
        self._doubtful_until = 0.0
        self.own_id = ""

    def doubt(self) -> None:
        """An earlier host was killed: for a while each message may have been sent by it."""
        self._doubtful_until = asyncio.get_running_loop().time() + _DOUBTFUL_SECONDS

    @property
    def is_sure(self) -> bool:
        """Whether it is known of every message if it arrived."""
        return not self._unsure

    async def send(self, message: Outgoing) -> str:
        """Send a message with its files; its id. Raises the errors of the protocol."""
        if (done := self._done.get(message.key)) is not None:
            return done
        client, where = self._client(), channel_of(message.address)
        if message.draft_id is not None:
            await self.edit(message.address, message.draft_id, message.text, message.buttons)
            if message.files:
                await self._send_files(client, where, message)
            return self._sent(message.key, message.draft_id)
        found = await self._find(client, where, message)
        if found is not None:
            return self._sent(message.key, found)
        self._unsure.setdefault(message.key, asyncio.get_running_loop().time())
        try:
            message_id = await client.send(
                where,
                to_discord(message.text),
                nonce=nonce_of(message.key),
                reply_to=require_id(message.reply_to) if message.reply_to is not None else None,
                buttons=message.buttons,
                files=message.files[:_FILES_A_MESSAGE],
            )
            if len(message.files) > _FILES_A_MESSAGE:
                await self._send_files(client, where, message, first=_FILES_A_MESSAGE)
        except DeliveryRefused:
            self._unsure.pop(message.key, None)
            raise
        return self._sent(message.key, message_id)

    async def edit(self, address: Address, message_id: str, text: str, buttons: Sequence[Button]) -> None:
        """Replace a message of ours, and its buttons."""
        await self._client().edit(channel_of(address), require_id(message_id), to_discord(text), buttons)

    async def delete(self, address: Address, message_id: str) -> None:
        """Take a message of ours away, if it is still there."""
        await self._client().delete(channel_of(address), require_id(message_id))

    async def react(self, address: Address, message_id: str, emoji: str | None) -> None:
        """Put a reaction on a message; None takes ours away."""
        client, where, message_id = self._client(), channel_of(address), require_id(message_id)
        if emoji is not None:
            await asked(client.calls.add_reaction(where, message_id, emoji))
            return
        message = await asked(client.calls.get_message(where, message_id))
        for reaction in tables(message.get("reactions")):
            name = text(table(reaction.get("emoji")), "name")
            if reaction.get("me") and name is not None:
                await asked(client.calls.remove_own_reaction(where, message_id, name))

    async def typing(self, address: Address) -> None:
        """Show that we work on an answer."""
        await asked(self._client().calls.send_typing(channel_of(address)))

    def _sent(self, key: str, message_id: str) -> str:
        self._unsure.pop(key, None)
        self._done[key] = message_id
        return message_id

    async def _send_files(self, client: DiscordClient, where: str, message: Outgoing, *, first: int = 0) -> None:
        for at in range(first, len(message.files), _FILES_A_MESSAGE):
            files = message.files[at : at + _FILES_A_MESSAGE]
            nonce = nonce_of(f"{message.key}/{at}")
            await client.send(where, "", nonce=nonce, reply_to=None, buttons=(), files=files)

    async def _find(self, client: DiscordClient, where: str, message: Outgoing) -> str | None:
        """A message that may have arrived earlier than Discord remembers its nonce; None: it is not there."""
        now, began = asyncio.get_running_loop().time(), self._unsure.get(message.key)
        is_late = began is not None and now - began > _NONCE_SECONDS
        # Of an earlier host nothing is known but what it answered: without that, equal texts may be two messages.
        is_doubtful = began is None and now < self._doubtful_until and message.reply_to is not None
        if not (is_late or is_doubtful):
            return None
        written = to_discord(message.text)
        for each in tables(await asked(client.calls.logs_from(where, _LOOK_BACK))):
            found = text(each, "id")
            if found is not None and found not in self._done.values() and self._is_it(each, written, message.reply_to):
                return found
        return None

    def _is_it(self, there: Mapping[str, Any], written: str, reply_to: str | None) -> bool:
        """Whether a message that is there is ours, with that text and as an answer to that message."""
        author, reference = table(there.get("author")), table(there.get("message_reference"))
        return (
            author.get("id") == self.own_id
            and there.get("content") == written
            and reference.get("message_id") == reply_to
        )


def nonce_of(key: str) -> str:
    """The nonce of a message: the same for the same key, and at most 25 characters."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:24]
