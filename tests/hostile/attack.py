"""A host with the hostile agent set on it, and a neighbour that keeps talking: what came of each trick, measured.

`python -m tests.hostile.attack [--full] [--alone] [--json FILE] [TRICK …]` does all tricks, or those, and prints a
table. It is a process of its own, so that the memory it measures is the host's.

Tricks that are not marked `alone` are done at the same time, each by an agent of its own. So are a few of the others in
their quick size. What comes of it counts where it is as expected, and otherwise the trick is done again by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from host import log as logs
from host.runtime.process import ProcessRuntime
from host.sessions.folder import Owner, make_session_folder
from shared_schema.clock import Clock, SystemClock
from shared_schema.layout import DataLayout, SessionLayout
from tests.hostile.neighbour import SETTINGS, WARM, Chats, Elsewhere, Neighbour, Trips, elsewhere, in_containers
from tests.hostile.session import new, now
from tests.hostile.table import TRICKS
from tests.support.chats import add_chats, session_of
from tests.support.clocks import FastClock
from tests.support.host import Host, running
from tests.support.runtimes import SplitRuntime, install_id
from tests.support.wait import STEP

HOSTILE = "hostile"
HEALTHY = "scripted: "
"""How the real agent's answers begin."""
SORRY = "This message could not be answered: "
SECRET = "what was said in another session"

FASTER = 10.0
LIMITS: Mapping[str, float] = {
    "silent_seconds": 15.0,
    "turn_seconds": 40.0,
    "idle_seconds": 36_000.0,
    "engine_seconds": 100.0,
}
TRIPS = {"quick": 24, "container": 40, "full": 40}
"""So many at least, by size: a median needs no more, and in the quick size each trick is looked at by itself again."""
TOGETHER = 24
ALONE_TOGETHER = 4  # in their quick size
MEMORY_MB = 100.0
ATTEMPTS = 3
DECIDED_SECONDS = {"quick": 20.0, "container": 60.0, "full": 900.0}
AFTER_SECONDS = 20.0
_THREADS = 32


@dataclass(slots=True)
class Result:
    """What the host did about one trick. `ratio` and the rest of the measures are of all tricks done at that time."""

    trick: str
    outcome: str | None = None
    told: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    put_aside: bool = False
    lives: bool = False
    again: str | None = None
    after: str | None = None
    anew: str | None = None
    left: int = 0
    leaked: bool = False
    precious: bool = False
    seconds: float = 0.0
    log_lines: int = 0
    log_bytes: int = 0
    before: Trips | None = None
    during: Trips | None = None
    memory: float = 0.0  # MB, the most since before the first trick
    descriptors: int = 0


class Lines(logging.Handler):
    """Counts what the host logs about each session, and the bytes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logs.JsonFormatter(SystemClock()))
        self.lines: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        session = str(getattr(record, "session", ""))
        self.lines[session] += 1
        self.bytes[session] += len(self.format(record)) + 1


Heal = Callable[[Sequence[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Images:
    """What containers are made of: the image of agents, and one that runs this package."""

    honest: str
    hostile: str


class HostileProcesses:
    """A runtime of plain processes: sessions of one agent group get the hostile agent until they are healed."""

    def __init__(self, data: Path) -> None:
        folder = data / "data"
        other = data / "run"
        other.mkdir(mode=0o711)
        install = install_id(folder)
        self.group: str | None = None
        self._healed: set[str] = set()
        self.runtime = SplitRuntime(
            ProcessRuntime(install, DataLayout(folder).run),
            ProcessRuntime(install, other, command=[sys.executable, "-m", "tests.hostile"]),
            lambda specification: (
                specification.agent_group_id == self.group and specification.session_id not in self._healed
            ),
        )

    async def heal(self, sessions: Sequence[str]) -> None:
        """From now on these sessions get the real agent."""
        self._healed.update(sessions)


class Attack:
    """One host, and tricks done to it one after the other or several at a time."""

    def __init__(self, host: Host, channel: Chats, neighbour: Elsewhere, heal: Heal, lines: Lines, size: str) -> None:
        self._host = host
        self._channel = channel
        self._neighbour = Neighbour(host, channel)
        self._elsewhere = neighbour
        self._heal = heal
        self._lines = lines
        self._size = size
        self._precious = host.services.settings.data / "precious"
        self._number = 0
        self._resident = 0  # before the first trick

    async def warm_up(self) -> None:
        """The first round trips are slower."""
        await self._neighbour.talk(self._elsewhere, lambda count: count < WARM)
        self._resident = _status("VmRSS")

    async def do_again_where_slow(self, tricks: Sequence[str]) -> list[Result]:
        """Do these tricks; again where the neighbour was slow, because what the machine does meanwhile is no trick's
        doing, and what a trick does it does each time."""
        for attempt in range(1, ATTEMPTS + 1):
            results = await self.do(tricks)
            if not any(result.during is not None and result.during.slow for result in results):
                break
            print(f"slow at attempt {attempt}: {', '.join(tricks)}", file=sys.stderr)
        return results

    async def do_alone_where_in_doubt(self, tricks: Sequence[str]) -> list[Result]:
        """Do these tricks at the same time; those by themselves that then came to something else than expected.

        On a busy machine an honest turn of one of many agents takes too long now and then, and is stopped for that.
        """
        results = []
        for result in await self.do_again_where_slow(tricks):
            results += [result] if _is_good(result) else await self.do_again_where_slow([result.trick])
        return results

    async def do(self, tricks: Sequence[str]) -> list[Result]:
        """Do these tricks at the same time."""
        results = [Result(trick) for trick in tricks]
        chats = [self._chat() for _ in tricks]
        await add_chats(self._host, *chats, agent_group=HOSTILE)
        await asyncio.gather(*(self._ask(chat, "hello") for chat in chats))
        sessions = [await session_of(self._host, chat) for chat in chats]
        agents = [self._agent(session) for session in sessions]
        before = await self._neighbour.talk(self._elsewhere, lambda count: count < TRIPS[self._size] // 2)
        process = psutil.Process()
        descriptors = process.num_fds()
        _start_peak()
        began = time.monotonic()
        undecided = asyncio.gather(
            *(
                self._decided(result, chat, session, began)
                for result, chat, session in zip(results, chats, sessions, strict=True)
            )
        )
        during = await self._neighbour.talk(
            self._elsewhere, lambda count: count < TRIPS[self._size] or not undecided.done()
        )
        await undecided
        memory = (_status("VmHWM") - self._resident) / 1e6
        for result, session, agent in zip(results, sessions, agents, strict=True):
            result.lives = self._agent(session) == agent
            result.before, result.during, result.memory = before, during, memory
            result.precious = self._precious.exists()
        await self._heal(sessions)
        await asyncio.gather(
            *(
                self._after(result, chat, session)
                for result, chat, session in zip(results, chats, sessions, strict=True)
            )
        )
        for found in await self._host.do("session.list", agent_group=HOSTILE):
            await self._host.do("session.delete", session=found["id"], for_good=True)
        for result in results:
            result.descriptors = process.num_fds() - descriptors
        return results

    def _chat(self) -> str:
        self._number += 1
        return f"chat-{self._number}"

    def _agent(self, session: str) -> str | None:
        agent = self._host.services.supervisor.agents.get(session)
        return None if agent is None else agent.handle.run_id

    async def _ask(self, chat: str, text: str) -> str | None:
        """Somebody writes; the last thing that chat is sent, None when nothing comes."""
        count = self._channel.counts[chat]
        await self._host.say(text, chat=chat)
        deadline = time.monotonic() + AFTER_SECONDS
        while self._channel.counts[chat] == count and time.monotonic() < deadline:
            await asyncio.sleep(STEP)
        return self._channel.last[chat][-1].text if self._channel.counts[chat] > count else None

    async def _decided(self, result: Result, chat: str, session: str, began: float) -> None:
        """Ask for the trick, and wait until the message has its outcome and the person has heard what is expected."""
        trick = TRICKS[result.trick]
        wanted = (SORRY, *(expected.told for expected in (trick.expected, *trick.otherwise)))
        accepted = (await self._host.say(f"trick {self._size} {result.trick}", chat=chat)).accepted[0]

        async def outcome() -> str | None:
            row = await self._host.central("SELECT status FROM ingest WHERE message_id = ?", accepted.message_id)
            heard = any(message.text.startswith(wanted) for message in self._channel.last[chat])
            return str(row[0]["status"]) if row[0]["status"] != "pending" and heard else None

        deadline = began + DECIDED_SECONDS[self._size]
        while result.outcome is None and time.monotonic() < deadline:
            result.outcome = await outcome()
            await asyncio.sleep(0.05)
        result.seconds = round(time.monotonic() - began, 2)

    async def _after(self, result: Result, chat: str, session: str) -> None:
        """The same session goes on: with whatever agent it has, and then with a healthy one."""
        result.told = [message.text for message in self._channel.last[chat]][1:]
        result.leaked = any(SECRET in text for text in result.told)
        shown = await self._host.do("session.show", session=session)
        result.refusals = list(dict.fromkeys(f"{row['what']}: {row['reason']}" for row in shown["refusals"]))
        layout = SessionLayout(Path(shown["path"]))
        result.put_aside = bool(list(layout.out.glob("outbound.db.unreadable-*")))
        result.log_lines, result.log_bytes = self._lines.lines[session], self._lines.bytes[session]
        result.left = await self._left(session, layout)
        result.again = result.after = await self._ask(chat, "again")
        if result.again is None or not result.again.startswith(HEALTHY):  # of the hostile agent, or of what it left
            await self._host.do("session.stop", session=session)
            result.after = await self._ask(chat, "after")
        if result.after is None or not result.after.startswith(HEALTHY):
            await self._heal([(await self._host.do("session.new", session=session))["id"]])
            result.anew = await self._ask(chat, "anew")

    async def _left(self, session: str, layout: SessionLayout) -> int:
        """How many processes or containers live that were started for a session, and should not."""
        runtime = self._host.services.runtime
        handles = [handle for handle in await runtime.list() if handle.session_id == session]
        containers = sum([(await runtime.poll(handle)).alive for handle in handles])
        return max(containers, _processes_of(layout)) - (self._agent(session) is not None)


def _is_good(result: Result) -> bool:
    """Whether it came to what the table says, and nobody else noticed."""
    trick = TRICKS[result.trick]
    heard = any(
        result.outcome == each.outcome and any(text.startswith(each.told) for text in result.told)
        for each in (trick.expected, *trick.otherwise)
    )
    return heard and result.during is not None and not result.during.slow and result.memory <= MEMORY_MB


def _processes_of(layout: SessionLayout) -> int:
    """How many processes live that were started for a session."""
    started_for = f"DUMBWAITER_SESSION={layout.folder}\0".encode()
    found = 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            found += started_for in path.read_bytes()
    return found


def _make_bait(folder: Path) -> None:
    """Files of the host's that an agent would like to have deleted, or read and sent."""
    (folder / "precious").write_bytes(b"")
    layout = SessionLayout(folder / "victim")
    make_session_folder(layout, Owner(os.geteuid(), os.getegid()))
    with closing(sqlite3.connect(layout.outbound)) as connection, connection:
        statement = "INSERT INTO messages_out (id, generation, timestamp, kind, content) VALUES (?, 1, ?, 'chat', ?)"
        connection.execute(statement, (new("msg"), now(), json.dumps({"text": SECRET})))
    os.rename(layout.outbound, folder / "victim.db")


def _start_peak() -> None:
    """Forget the highest resident size of this process so far."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    """A size of this process in bytes: `VmRSS` now, `VmHWM` at most."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


@asynccontextmanager
async def attacked(data: Path, size: str, images: Images | None) -> AsyncIterator[Attack]:
    """A host to do tricks to. Agents of the group `hostile` are hostile, until they are healed."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "blocking"))
    lines = Lines()
    logging.getLogger("host").addHandler(lines)
    logging.getLogger("host").setLevel(logging.INFO)
    folder = data / "data"
    channel = Chats()
    clock: Clock = SystemClock() if size == "full" else FastClock(FASTER)
    factor = 0.3 if size == "full" else 1.0
    options: dict[str, Any] = dict(SETTINGS) | {name: limit * factor for name, limit in LIMITS.items()}
    hostile = HostileProcesses(data)
    if images is None:
        options["runtime"] = hostile.runtime
    else:
        options |= in_containers(images.honest)
    async with (
        elsewhere(data / "elsewhere", images.honest if images else None) as neighbour,
        running(folder, channel=channel, clock=clock, **options) as host,
    ):
        _make_bait(folder)
        hostile.group = (await host.do("agent_group.add", name=HOSTILE, provider="scripted"))["id"]
        heal = hostile.heal
        if images is not None:
            await host.do("agent_group.set", name=HOSTILE, image=images.hostile, memory_bytes=128 * 1024**2, pids=64)
            heal = partial(_heal_all, host)
        attack = Attack(host, channel, neighbour, heal, lines, size)
        await attack.warm_up()
        yield attack


async def _heal_all(host: Host, sessions: Iterable[str]) -> None:
    """In containers hostility is an image."""
    await host.do("agent_group.set", name=HOSTILE, unset=["image", "memory_bytes", "pids"])


def waves(tricks: Sequence[str], size: int) -> list[Sequence[str]]:
    """Which tricks are done at the same time: about so many."""
    number = max(1, round(len(tricks) / size))
    return [tricks[start::number] for start in range(number) if tricks]


async def run(
    data: Path, tricks: Sequence[str], size: str, *, alone: bool = False, images: Images | None = None
) -> list[Result]:
    """Do tricks to a host in this process. In containers all are done at once."""
    results: list[Result] = []
    if images is not None:
        async with attacked(data, size, images) as attack:
            return await attack.do(tricks)  # once: afterwards all are healed
    together = [] if alone else [trick for trick in tricks if not TRICKS[trick].alone]
    others = [trick for trick in tricks if trick not in together]
    async with attacked(data, size, None) as attack:
        for wave in [
            *waves(together, TOGETHER),
            *waves(others, 1 if alone or size == "full" else ALONE_TOGETHER),
        ]:
            results += await attack.do_alone_where_in_doubt(wave)
    return results


def table(results: Iterable[Result]) -> str:
    """What came of it, for people."""
    lines = []
    for r in results:
        done = r.told[0] if r.told else "nothing"
        assert r.before is not None
        assert r.during is not None
        lines.append(
            f"{r.trick:45} {r.outcome!s:9} {r.seconds:6.2f} s  {r.before.p50:5.1f} → {r.during.p50:5.1f} ms "
            f"x{r.before.ratio:4.2f} → x{r.during.ratio:4.2f} worst {r.during.worst:6.1f} n {r.during.count:4d} "
            f"{r.memory:+6.1f} MB {r.descriptors:+d} fd, {r.log_bytes} bytes logged: {done[:99]} | "
            f"{'lives ' if r.lives else ''}{'put aside ' if r.put_aside else ''}{r.refusals[:1]} "
            f"again: {r.again} after: {r.after} anew: {r.anew}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.attack", description=__doc__)
    parser.add_argument("tricks", nargs="*", help="names of tricks; none: all")
    parser.add_argument("--full", action="store_true", help="as large as they come, with the machine's own clock")
    parser.add_argument("--alone", action="store_true", help="one after the other")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--images", nargs=2, metavar=("HONEST", "HOSTILE"), help="in containers of these images")
    given = parser.parse_args()
    tricks = given.tricks or [trick for trick in TRICKS if not TRICKS[trick].container]
    with tempfile.TemporaryDirectory(prefix="dumbwaiter-") as data:
        size = "full" if given.full else "container" if given.images else "quick"
        images = Images(*given.images) if given.images else None
        results = asyncio.run(run(Path(data), tricks, size, alone=given.alone, images=images))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(result) for result in results]))
    print(table(results))


if __name__ == "__main__":
    main()
