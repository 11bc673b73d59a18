"""A host with twelve sessions: four that people talk to, and a crowd of eight. The crowd is hostile, or it is honest.

    python -m tests.hostile.crowd DATA SIZE SEED     the crowd does the tricks that the seed draws
    python -m tests.hostile.crowd DATA SIZE honest   the crowd has the real agent, and people ask it as often
    python -m tests.hostile.crowd DATA SIZE stalled  the same, and the host's loop stands still again and again

It is a process of its own, so that its memory is the host's, and does what the lines of its standard input say:

    begin           the crowd starts; memory and disk are counted from here
    window SECONDS  people talk in the four chats: the milliseconds of each round trip
    stop            `/stop` in a chat of the crowd whose agent is at something: milliseconds, and what it was at
    rest            the crowd ends
    figures         memory, disk, and what the log says went wrong

Each is answered with one line of JSON. At the end of the input the host is closed in the middle of what goes on, and
the last line says how long that took.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from host.channels.protocol import Outgoing
from tests.hostile.attack import HOSTILE, HostileProcesses, _make_bait, _start_peak, _status
from tests.hostile.draw import TOGETHER, Step, crowd
from tests.hostile.neighbour import SETTINGS, Chats
from tests.support.chats import add_chats
from tests.support.host import Host, running
from tests.support.wait import STEP

HONEST, CROWD = 4, 8
MIB = 1024**2
LIMITS = {"silent_seconds": 3.0, "turn_seconds": 6.0, "idle_seconds": 3_600.0, "engine_seconds": 10.0}
"""So that a session gets through several steps in seconds. The clock is the machine's: `/stop` has a deadline."""
KEPT_BYTES_PER_HOUR = 16 * MIB
OUT_BYTES = 256 * MIB
PAUSE_SECONDS = 0.05
"""Between the trips of one chat, so that the four do not wait for each other alone."""
ASKED_AGAIN_SECONDS = 0.2
TRIP_SECONDS, STEP_SECONDS, STOP_SECONDS = 60.0, 45.0, 60.0
_THREADS = 32
_MOST_OF_A_LINE = 140
_STALL_SECONDS, _SERVED_SECONDS = 0.6, 0.05
_ASKED_OF_THE_HONEST: Sequence[Step] = (("think 1",), ("reply 20",), ("think 2",), ("steps 50",), ("think 3",))


class Ears(Chats):
    """Tells each chat's own listener, and counts what the host itself says."""

    def __init__(self) -> None:
        super().__init__()
        self.notices: Counter[str] = Counter()
        self.awaited: dict[str, tuple[str, asyncio.Future[float]]] = {}
        self.on_sent = self._hear

    def _hear(self, message: Outgoing) -> None:
        chat = message.address.platform_id
        self.notices[chat] += message.from_host
        expected, heard = self.awaited.get(chat, (None, None))
        if heard is not None and message.text == expected and not heard.done():
            heard.set_result(time.perf_counter())


class Trouble(logging.Handler):
    """What the host logs as an error, and the last line of each traceback."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.events: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[1] if record.exc_info else None
        error = getattr(record, "error", "") if raised is None else f"{type(raised).__name__}: {raised}"
        text = f"{record.getMessage()}: {error}".partition(" (/")[0]  # without the path
        self.events[text[:_MOST_OF_A_LINE]] += 1


class Population:
    """The people of one host."""

    def __init__(
        self, host: Host, ears: Ears, size: str, steps: Sequence[Sequence[Step]], *, stalls: bool = False
    ) -> None:
        self._host = host
        self._ears = ears
        self._size = size
        self._stalls = stalls
        self._steps = [itertools.cycle(own) for own in steps]
        self._honest = [f"honest-{number}" for number in range(HONEST)]
        self._crowd = [f"crowd-{number}" for number in range(CROWD)]
        self._at: dict[str, tuple[float, str, str, str]] = {}  # chat → since, message, session, what
        self._turn = 0
        self._number = 0
        self._done = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._resident = 0
        self._before: Counter[str] = Counter()
        self.trouble = Trouble()

    async def arrive(self, agent_group: str) -> None:
        """Everybody says hello, and has an agent."""
        await add_chats(self._host, *self._honest)
        await add_chats(self._host, *self._crowd, agent_group=agent_group)
        await asyncio.gather(*(self._host.say("hello", chat=chat) for chat in [*self._honest, *self._crowd]))
        for chat in [*self._honest, *self._crowd]:
            while not self._ears.counts[chat]:
                await asyncio.sleep(STEP)
        await self.window(2.0)  # the first trips are slower

    async def window(self, seconds: float) -> list[float]:
        """The round trips of four people who talk at the same time, each as soon as they were answered."""
        end = time.monotonic() + seconds
        found = await asyncio.gather(*(self._talk(chat, end) for chat in self._honest))
        return [trip for trips in found for trip in trips]

    async def begin(self) -> dict[str, Any]:
        self._resident = _status("VmRSS")
        self._before = await asyncio.to_thread(self._disk)
        _start_peak()
        self._tasks = [
            asyncio.create_task(self._go_through(chat, steps))
            for chat, steps in zip(self._crowd, self._steps, strict=True)
        ]
        if self._stalls:
            self._tasks.append(asyncio.create_task(self.stall()))
        return {}

    async def stall(self) -> None:
        """What no host may do: nothing else is served meanwhile."""
        while True:
            time.sleep(_STALL_SECONDS)
            await asyncio.sleep(_SERVED_SECONDS)

    async def fall_silent(self) -> None:
        """The people of the crowd write no more; its agents go on with what they are at."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def rest(self) -> dict[str, Any]:
        await self.fall_silent()
        for found in await self._host.do("session.list", agent_group=HOSTILE):
            await self._host.do("session.stop", session=found["id"])
        self._at.clear()
        return {}

    async def stop(self) -> dict[str, Any]:
        """From the `/stop` to the outcome of the message, and to the answer, which comes when the agent is silent."""
        deadline = time.monotonic() + STOP_SECONDS
        while (chat := self._busy()) is None:
            assert time.monotonic() < deadline, "no session of the crowd is at anything"
            await asyncio.sleep(STEP)
        _, message, _, what = self._at[chat]
        notices = self._ears.notices[chat]
        began = time.perf_counter()
        await self._host.say("/stop", chat=chat)
        ended = told = 0.0
        while not (ended and told):
            now = (time.perf_counter() - began) * 1000
            assert now < STOP_SECONDS * 1000, f"/stop of {what}: ended {ended:.0f} ms, told {told:.0f} ms"
            if not told and self._ears.notices[chat] > notices:
                told = now
            if not ended and await self._outcome(message):
                ended = now
            await asyncio.sleep(STEP)
        return {"ended": ended, "told": told, "of": what}

    async def figures(self) -> dict[str, Any]:
        disk = await asyncio.to_thread(self._disk)
        return {
            "now": (_status("VmRSS") - self._resident) / 1e6,
            "peak": (_status("VmHWM") - self._resident) / 1e6,
            "kept": (disk["kept"] - self._before["kept"]) / 1e6,
            "out": disk["out"] / 1e6,
            "largest": {name: size for name, size in disk.items() if name.startswith("file ")},
            "steps": self._done,
            "trouble": dict(self.trouble.events),
        }

    async def _talk(self, chat: str, end: float) -> list[float]:
        trips = []
        while time.monotonic() < end:
            self._number += 1
            text = f"number {self._number}"
            heard: asyncio.Future[float] = asyncio.get_running_loop().create_future()
            self._ears.awaited[chat] = f"scripted: {text}", heard
            began = time.perf_counter()
            await self._host.say(text, chat=chat)
            async with asyncio.timeout(TRIP_SECONDS):
                trips.append((await heard - began) * 1000)
            await asyncio.sleep(PAUSE_SECONDS)
        return trips

    async def _go_through(self, chat: str, steps: itertools.cycle[Step]) -> None:
        """One step after the other. Where the last two got nowhere, what the agent left spoils the session: `/new`."""
        failed = 0
        for step in steps:
            text = TOGETHER.join(step)
            told = f"trick {self._size} {text}" if step not in _ASKED_OF_THE_HONEST else text
            receipt = await self._host.say(told, chat=chat)
            if receipt.accepted:
                accepted = receipt.accepted[0]
                self._at[chat] = time.monotonic(), accepted.message_id, accepted.session_id, text
                deadline = time.monotonic() + STEP_SECONDS
                while (outcome := await self._outcome(accepted.message_id)) is None and time.monotonic() < deadline:
                    await asyncio.sleep(0.1)
                self._at.pop(chat, None)
                failed = failed + 1 if outcome != "completed" else 0
            self._done += 1
            if failed >= 2:
                await self._host.say("/new", chat=chat)
                failed = 0
            await asyncio.sleep(ASKED_AGAIN_SECONDS)

    async def _outcome(self, message: str) -> str | None:
        row = await self._host.central("SELECT status FROM ingest WHERE message_id = ?", message)
        return None if row[0]["status"] == "pending" else str(row[0]["status"])

    def _busy(self) -> str | None:
        """A chat whose agent has been at it for a moment; each in its turn."""
        agents = self._host.services.supervisor.agents
        for offset in range(CROWD):
            chat = self._crowd[(self._turn + offset) % CROWD]
            if chat in self._at and time.monotonic() - self._at[chat][0] > 0.3 and self._at[chat][2] in agents:
                self._turn += offset + 1
                return chat
        return None

    def _disk(self) -> Counter[str]:
        """Bytes of the data folder: what is in the folders of agents (`out`), and what is the host's own (`kept`)."""
        found: Counter[str] = Counter()
        data = self._host.services.settings.data
        for folder, folders, files in os.walk(data):
            if Path(folder).name in ("out", "workspace", ".reading"):  # the last has the host's names for agents' files
                folders.clear()
                found["out"] += _bytes_below(Path(folder))
                continue
            for name in files:
                with suppress(OSError):
                    size = os.lstat(Path(folder) / name).st_blocks * 512
                    found["kept"] += size
                    if size > MIB:
                        found[f"file {Path(folder, name).relative_to(data)}"] = size
        return found


def _bytes_below(folder: Path) -> int:
    """As much as it holds on the disk; of folders that hostile agents filled, the first hundred thousand."""
    found = 0
    for path, _, files in itertools.islice(os.walk(folder), 1_000):
        for name in files[:100_000]:
            with suppress(OSError):
                found += os.lstat(Path(path) / name).st_blocks * 512
    return found


def processes_of(data: Path) -> list[int]:
    """The processes that live and were started for a session of this data folder."""
    started_for = f"DUMBWAITER_SESSION={data}/".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if started_for in path.read_bytes():
                found.append(int(path.parent.name))
    return found


async def _serve(data: Path, size: str, seed: str) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "blocking"))
    folder = data / "data"
    ears = Ears()
    options: dict[str, Any] = dict(SETTINGS) | LIMITS
    options |= {"kept_bytes_per_hour": KEPT_BYTES_PER_HOUR, "out_bytes": OUT_BYTES}
    steps: Sequence[Sequence[Step]] = [_ASKED_OF_THE_HONEST] * CROWD
    processes = HostileProcesses(data)
    if seed.isdecimal():
        steps = crowd(int(seed), CROWD, rounds=10)
    async with running(folder, channel=ears, runtime=processes.runtime, **options) as host:
        _make_bait(folder)
        group = (await host.do("agent_group.add", name=HOSTILE, provider="scripted"))["id"]
        processes.group = group if seed.isdecimal() else None
        people = Population(host, ears, size, steps, stalls=seed == "stalled")
        logging.getLogger("host").addHandler(people.trouble)
        await people.arrive(HOSTILE)
        _say({})
        while line := await asyncio.to_thread(sys.stdin.readline):
            match line.split():
                case ["begin"]:
                    _say(await people.begin())
                case ["window", seconds]:
                    _say(await people.window(float(seconds)))
                case ["stop"]:
                    _say(await people.stop())
                case ["rest"]:
                    _say(await people.rest())
                case ["figures"]:
                    _say(await people.figures())
                case _:
                    raise ValueError(line)
        await people.fall_silent()
        began = time.monotonic()
    _say({"shutdown": time.monotonic() - began, "left": len(processes_of(folder))})


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), *sys.argv[2:]))
