"""Somebody who keeps talking to an honest agent: how long each round trip takes, and how long it would take elsewhere.

On a small machine everything slows everything down. So the same is done, trip by trip, at a host of its own that nobody
attacks: `python -m tests.hostile.neighbour DATA` is that host. Whatever else the machine does, it does to both.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.channels.memory import MemoryChannel
from host.channels.protocol import Outgoing
from host.channels.telegram.text import to_html
from tests.support.host import Host, running

CHAT = "one"
ROOT = Path(__file__).resolve().parents[2]
WARM = 20
SLOWER = 2.0  # times, at most
FLOOR_MS = 5.0  # on top: what one commit more or less takes
SETTINGS: Mapping[str, Any] = {"max_retries": 0, "poll_seconds": 0.2, "stop_seconds": 0.1, "max_agents": 100}
_LIMIT = 60.0
_QUICK_TRIPS = 2_000
_REST_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Trips:
    """Round trips of the neighbour, and of one elsewhere at the same time; milliseconds."""

    count: int
    p50: float
    worst: float
    p50_elsewhere: float

    @property
    def ratio(self) -> float:
        return self.p50 / self.p50_elsewhere

    @property
    def slow(self) -> bool:
        """Whether it is slower than a neighbour of a hostile session may be."""
        return self.p50 > SLOWER * self.p50_elsewhere + FLOOR_MS


class Chats(MemoryChannel):
    """A platform that keeps the last messages of each chat, however many arrive.

    Like a real one it takes text of a certain length, and has a formatting of its own.
    """

    def __init__(self) -> None:
        super().__init__(max_text=4_096)
        self.counts: Counter[str] = Counter()
        self.last: dict[str, deque[Outgoing]] = {}

    async def deliver(self, message: Outgoing) -> str | None:
        chat = message.address.platform_id
        to_html(message.text)
        self.counts[chat] += 1
        self.last.setdefault(chat, deque(maxlen=50)).append(message)
        self.on_sent(message)
        return f"{chat}-{self.counts[chat]}"


class Neighbour:
    """One chat with an agent of the provider `scripted`."""

    def __init__(self, host: Host, channel: Chats) -> None:
        self._host = host
        self._channel = channel
        self._number = 0

    async def trip(self) -> float:
        """From the event the router is given to the channel's `deliver`; milliseconds."""
        self._number += 1
        expected = f"scripted: number {self._number}"
        heard: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        def hear(message: Outgoing) -> None:
            if message.text == expected:
                heard.set_result(time.perf_counter())

        self._channel.on_sent = hear
        began = time.perf_counter()
        await self._host.say(f"number {self._number}", chat=CHAT)
        async with asyncio.timeout(_LIMIT):
            ended = await heard
        return (ended - began) * 1000

    async def talk(self, elsewhere: Elsewhere, goes_on: Callable[[int], bool]) -> Trips:
        """Trips here and elsewhere by turns, as long as it goes on."""
        here: list[float] = []
        there: list[float] = []
        while goes_on(len(here)):
            here.append(await self.trip())
            there.append(await elsewhere.trip())
            if len(here) > _QUICK_TRIPS:  # of a trick that takes long: of a session so many rows are kept in an hour
                await asyncio.sleep(_REST_SECONDS)
        return Trips(len(here), statistics.median(here), max(here), statistics.median(there))


class Elsewhere:
    """The neighbour of the host that nobody attacks."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._stdout = process.stdout

    async def trip(self) -> float:
        """Milliseconds."""
        self._stdin.write(b"\n")
        return float(await self._stdout.readline())


def in_containers(image: str | None = None) -> dict[str, Any]:
    """The options of a host whose agents run in containers of an image; without one, none."""
    if image is None:
        return {}
    from host.runtime.docker import DockerRuntime

    return {"make_runtime": DockerRuntime, "image": image}


@asynccontextmanager
async def elsewhere(data: Path, image: str | None) -> AsyncIterator[Elsewhere]:
    """That host, until the block ends. `image`: its agent runs in a container of it, and not as a process."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(data), *([image] if image else []), cwd=ROOT, stdin=pipe, stdout=pipe
    )
    try:
        yield Elsewhere(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def _serve(data: Path, *image: str) -> None:
    """One trip for each line that comes in; its milliseconds go out."""
    channel = Chats()
    async with running(data, channel=channel, **SETTINGS, **in_containers(*image)) as host:
        neighbour = Neighbour(host, channel)
        for _ in range(WARM):
            await neighbour.trip()
        while await asyncio.to_thread(sys.stdin.readline):
            print(await neighbour.trip(), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), *sys.argv[2:]))
