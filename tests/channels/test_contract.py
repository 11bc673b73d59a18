"""The contract of channels over those that have no platform: the terminal, and the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from host.central import mailbox
from host.central.database import Central
from host.channels.cli import TerminalChannel
from host.channels.memory import MemoryChannel
from host.channels.protocol import Channel, Context
from host.routing.event import Event
from shared_schema.clock import SystemClock
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address, decode
from tests.channels.contract import Arrived, ChannelContract, Fault, Subject
from tests.support.registry import open_central


class NoPlatform:
    """What both have in common: the person writes by handing an event to the channel itself."""

    chat = "one"
    person = "ann"

    def __init__(self) -> None:
        self.channel: Any = None

    async def start(self) -> None:
        """There is nothing to start."""

    async def stop(self) -> None:
        """There is nothing to stop."""

    def settings(self) -> dict[str, Any]:
        return {}

    def event(self, name: str, text: str) -> Event:
        return Event(Address(name, self.chat), new_id(Prefix.MESSAGE), text, sender_id=self.person)

    async def edit(self, message_id: str, text: str) -> None:
        raise NotImplementedError

    async def delete(self, message_id: str) -> None:
        raise NotImplementedError

    async def click(self, message_id: str, value: str) -> None:
        raise NotImplementedError

    async def react(self, message_id: str, emoji: str | None) -> None:
        raise NotImplementedError

    async def new_thread(self) -> str:
        raise NotImplementedError

    async def typing_count(self) -> int:
        return 0


class Memory(NoPlatform):
    async def write(self, text: str, **more: Any) -> str:
        event = self.event("bot", text)
        await self.channel.receive(event)
        return event.platform_message_id

    async def arrived(self) -> list[Arrived]:
        changed = dict(self.channel.changed)
        return [
            Arrived(
                f"mem-{number}",
                changed.get(f"mem-{number}", message.text),
                message.address.platform_id,
                buttons=message.buttons,
                files=tuple((path.name, path.read_bytes()) for path in message.files),
            )
            for number, message in enumerate(self.channel.sent, 1)
        ]

    async def fault(self, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
        assert fault == Fault.CHAT_GONE
        self.channel.refuses = lambda message: "the chat is gone"

    def make(self, context: Context) -> Channel:
        self.channel = MemoryChannel(name=context.name)
        return self.channel  # type: ignore[no-any-return]


class TestMemory(ChannelContract):
    @pytest.fixture
    def subject(self) -> Subject:
        platform = Memory()
        return Subject(platform, make=platform.make, faults=frozenset({Fault.CHAT_GONE}), is_remote=False)


class Terminal(NoPlatform):
    person = "terminal"

    def __init__(self, central: Central) -> None:
        super().__init__()
        self.central = central

    async def write(self, text: str, **more: Any) -> str:
        event = self.event("cli", text)
        await self.channel.send(event)
        return event.platform_message_id

    async def arrived(self) -> list[Arrived]:
        letters = await self.central.read(mailbox.behind, self.chat, 0)
        return [
            Arrived(
                str(letter.position),
                decode(letter.content)["text"],
                letter.platform_id,
                files=tuple((Path(path).name, Path(path).read_bytes()) for path in decode(letter.content)["files"]),
            )
            for letter in letters
        ]

    async def fault(self, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
        raise NotImplementedError

    def make(self, context: Context) -> Channel:
        self.channel = TerminalChannel(self.central, context.clock)
        return self.channel  # type: ignore[no-any-return]


class TestTerminal(ChannelContract):
    @pytest.fixture
    async def subject(self, tmp_path: Path) -> AsyncIterator[Subject]:
        central = await asyncio.to_thread(open_central, tmp_path / "central.db", SystemClock())
        platform = Terminal(central)
        yield Subject(platform, make=platform.make, name="cli", is_remote=False)
        await asyncio.to_thread(central.close)
