"""The contract of channels over Discord."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from host.channels.discord import TYPE
from host.channels.protocol import Button
from tests.channels.contract import ALL_ABILITIES, ALL_FAULTS, Arrived, ChannelContract, Fault, Subject
from tests.platforms import discord
from tests.platforms.discord import ANN, CHANNEL, TOKEN, FakeDiscord

_OF_CALLS = {
    Fault.SLOW: discord.Fault.SLOW,
    Fault.HANGS: discord.Fault.HANGS,
    Fault.TOO_MANY: discord.Fault.TOO_FAST,
    Fault.FAILS: discord.Fault.BROKEN,
    Fault.DROPS_BEFORE: discord.Fault.DROP_BEFORE,
    Fault.DROPS_AFTER: discord.Fault.DROP_AFTER,
}


class DiscordPlatform:
    """The fake Discord as the contract plays it, in the channel of a server."""

    chat = CHANNEL
    person = ANN

    def __init__(self) -> None:
        self.fake = FakeDiscord()

    async def start(self) -> None:
        await self.fake.start()

    async def stop(self) -> None:
        await self.fake.stop()
        assert not self.fake.unknown

    def settings(self) -> dict[str, Any]:
        return {"type": "discord", "token": TOKEN, "base_url": f"{self.fake.url}/api/v10", "deaf_seconds": 3.0}

    async def write(
        self,
        text: str,
        *,
        thread: str | None = None,
        reply_to: str | None = None,
        mention: bool = False,
        files: tuple[tuple[str, bytes], ...] = (),
    ) -> str:
        return await self.fake.say(text, chat=thread or CHANNEL, reply_to=reply_to, files=dict(files))

    async def edit(self, message_id: str, text: str) -> None:
        await self.fake.edit(CHANNEL, message_id, text)

    async def delete(self, message_id: str) -> None:
        await self.fake.delete(CHANNEL, message_id)

    async def click(self, message_id: str, value: str) -> None:
        await self.fake.click(CHANNEL, message_id, value)

    async def react(self, message_id: str, emoji: str | None) -> None:
        await self.fake.react(CHANNEL, message_id, emoji or "👍", added=emoji is not None)

    async def new_thread(self) -> str:
        return await self.fake.new_thread()

    async def arrived(self) -> list[Arrived]:
        chats = [each["id"] for each in self.fake.channels.values() if each.get("guild_id")]
        found = [
            Arrived(
                id=message["id"],
                text=message["content"],
                chat=CHANNEL,
                thread=chat if chat != CHANNEL else None,
                reply_to=message.get("message_reference", {}).get("message_id"),
                buttons=tuple(
                    Button(each["label"], each["custom_id"])
                    for row in message["components"]
                    for each in row["components"]
                ),
                files=tuple((each["filename"], self.fake.files[each["id"]]) for each in message["attachments"]),
                reactions=tuple(each["emoji"]["name"] for each in message["reactions"]),
            )
            for chat in chats
            for message in self.fake.ours(chat)
        ]
        return sorted(found, key=lambda message: int(message.id))  # ids grow with time, in all channels together

    async def fault(self, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
        self.fake.wait_seconds = seconds
        match fault:
            case Fault.TWICE:
                self.fake.twice = times
            case Fault.REVOKED:
                self.fake.token = None
                await self.fake.close_sockets(4004)
            case Fault.DEAF:
                self.fake.is_deaf = True
            case Fault.CHAT_GONE:
                self.fake.refuses = (403, 50001)
            case _:
                self.fake.faults.extend([_OF_CALLS[fault]] * times)

    async def typing_count(self) -> int:
        return self.fake.typing


class TestDiscord(ChannelContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        faults = ALL_FAULTS - {Fault.SWAPPED}  # a gateway numbers its events, and sends them in that order
        return Subject(platform=DiscordPlatform(), kind=TYPE, faults=faults, abilities=ALL_ABILITIES)
