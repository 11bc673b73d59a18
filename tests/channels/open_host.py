"""A real host with one real channel, and one that dies between taking an event and acknowledging it.

    python -m tests.channels.open_host DATA TYPE SETTINGS CHAT      runs until its first event is on the disk, and dies

`TYPE` is the name of the type of channel, `SETTINGS` the JSON of the channel's settings.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from host.channels.build import settings_of
from host.channels.health import Health
from host.channels.protocol import Channel, Context, Ingest
from host.channels.registry import ChannelType, channel_type
from host.routing.event import Event, Incoming, Receipt
from shared_schema.clock import Clock, SystemClock
from tests.support.host import AGENT, Host, running
from tests.support.wait import until

Around = Callable[[Ingest], Ingest]


class ChannelHost:
    """A host, its channel, and everything that it handed over."""

    def __init__(self, host: Host, channel: Any, context: Context) -> None:
        self.host = host
        self.channel = channel
        self.context = context
        self.incoming: list[Incoming] = []
        self._serving: asyncio.Task[None] | None = None
        self.around: Around = lambda ingest: ingest

    async def start(self) -> None:
        """Start the channel, and serve until it fails or is closed."""
        await self.channel.start(self.around(self._ingest))
        self._serving = asyncio.create_task(self.channel.serve())

    async def served(self) -> BaseException | None:
        """Wait until the channel has lost its connection; why."""
        assert self._serving is not None
        await asyncio.wait([self._serving], timeout=60)
        assert self._serving.done(), "the channel still serves"
        return self._serving.exception()

    async def close(self) -> None:
        """Close the channel, as the host does."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        await self.channel.close()

    async def _ingest(self, event: Incoming) -> Receipt:
        receipt = await self.host.services.router.ingest(event)
        self.incoming.append(event)
        return receipt

    def events(self) -> list[Event]:
        """The messages that were handed over."""
        return [event for event in self.incoming if isinstance(event, Event)]

    async def heard(self, count: int) -> list[Event]:
        """Wait until so many messages were handed over."""
        await until(lambda: len(self.events()) >= count, f"{count} messages are heard")
        return self.events()

    async def register(self, chat: str, *, is_group: bool = False, **wiring: Any) -> None:
        """Wire a chat to the agent, which hears everybody there."""
        address = f"{self.channel.name}:{chat}"
        await self.host.do("messaging_group.add", address=address, is_group=is_group, unknown_sender="public")
        await self.host.do("wiring.add", messaging_group=address, agent_group=AGENT, **wiring)

    async def answered(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many replies were delivered; all deliveries."""

        async def delivered() -> list[dict[str, Any]]:
            rows = await self.host.central("SELECT * FROM deliveries ORDER BY position")
            return rows if sum(row["status"] == "delivered" for row in rows) >= count else []

        return await until(delivered, f"{count} replies are delivered", 60)


@asynccontextmanager
async def channel_host(
    data: Path,
    kind: ChannelType,
    settings: dict[str, Any],
    *,
    chats: Sequence[str] = (),
    name: str | None = None,
    clock: Clock | None = None,
    around: Around = lambda ingest: ingest,
    is_started: bool = True,
    has_folder: bool = True,
    **options: Any,
) -> AsyncIterator[ChannelHost]:
    """A host on a data folder with one channel, until the block ends. `chats` are wired to its agent the first time."""
    name = name or kind.name
    async with running(data, clock=clock, **options) as host:
        context = host.services.running.context(name, Health(clock or SystemClock()))
        context = context if has_folder else dataclasses.replace(context, folder=None)
        context.downloads.mkdir(parents=True, exist_ok=True)
        channel: Channel = kind.make(settings_of(kind, name, settings), context)
        host.services.channels[name] = channel
        there = ChannelHost(host, channel, context)
        there.around = around
        known = {row["address"] for row in await host.do("messaging_group.list")}
        for chat in chats:
            if f"{name}:{chat}" not in known:
                await there.register(chat)
        try:
            if is_started:
                await there.start()
            yield there
        finally:
            await there.close()
            del host.services.channels[name]


def dies_after_ingest(ingest: Ingest) -> Ingest:
    """The plug is pulled when the first message is on the disk, and before its platform hears of that."""

    async def ingest_and_die(event: Incoming) -> Receipt:
        receipt = await ingest(event)
        if isinstance(event, Event) and receipt.accepted:
            os.kill(os.getpid(), signal.SIGKILL)
        return receipt

    return ingest_and_die


class DyingHost:
    """A host in a process of its own that is killed when its first message is on the disk."""

    def __init__(self, data: Path, kind: str, settings: dict[str, Any], chat: str) -> None:
        self._arguments = [str(data), kind, json.dumps(settings), chat]
        self._log = data.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> DyingHost:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.channels.open_host", *self._arguments], stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        # Not in the loop: the platform that the host connects to may be served by it.
        assert await asyncio.to_thread(self._process.stdout.readline) == b"ready\n", self._log.read_text()
        return self

    async def dead(self) -> None:
        """Wait until it was killed."""
        process = self._process
        assert process is not None
        await until(lambda: process.poll() is not None, "the host has taken the message and died", 60)
        assert process.returncode == -signal.SIGKILL, self._log.read_text()

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        assert self._process.stdout is not None
        self._process.stdout.close()


async def _run(data: Path, name: str, settings: dict[str, Any], chat: str) -> None:
    never: Callable[[], Awaitable[Any]] = asyncio.Event().wait
    async with channel_host(data, channel_type(name), settings, chats=[chat], around=dies_after_ingest):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await never()


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]))
