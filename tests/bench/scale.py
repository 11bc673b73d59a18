"""What one host's ledger, poll and placement cost, by unit: what docs/scale.md multiplies.

`python -m tests.bench.scale` prints them. Each figure is the median of some blocks, in processor time where it is the
processor that is used, and stands beside a floor of the same run, because a machine's milliseconds say little of
another's.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from host.central import ingest
from host.central.database import Central, Transaction
from host.central.sessions import Session
from host.runtime.nodes import Node, NodesRuntime
from host.runtime.protocol import AgentHandle
from host.sessions import outbox
from host.sessions.folder import Owner, make_data_folder, make_session_folder
from host.supervision.agent import RunningAgent
from host.supervision.capacity import AgentSlots
from host.supervision.polling import poll_after
from host.supervision.sync import view_of
from shared_schema.clock import SystemClock
from shared_schema.layout import DataLayout, SessionLayout
from tests.bench import floor
from tests.unit.registry import accepted_values, add_agent, add_session

SIZES = (1_000, 10_000, 100_000)
_BLOCKS = 5


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit cost; seconds, or what `unit` says."""

    name: str
    value: float
    unit: str = "ms"


def main() -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        for unit in measured(Path(folder)):
            print(f"{unit.name:<78}{unit.value:>12,.3f} {unit.unit}", flush=True)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", file=sys.stderr)


def measured(folder: Path) -> Iterator[Unit]:
    """All of them."""
    file = folder / "floor.db"
    floor.make_file(file)
    yield Unit(
        "floor: a bare commit of one row (open, insert, commit, close)", 1000 * median(lambda: floor.write(file))
    )
    for sessions in SIZES:
        with ledger(folder / str(sessions), sessions) as (central, some):
            yield from of_ledger(central, some, sessions)
    yield from of_poll(folder / "poll")
    for nodes in (3, 100, 2_000):
        yield Unit(f"placing an agent, {nodes} engines that answer at once", 1000 * placing(nodes))
    for waiting in (100, 1_000, 10_000):
        yield Unit(f"whether a session may start, {waiting} wait for a slot", 1000 * asking_for_a_slot(waiting))
    yield Unit(
        "looks at a session in the hour after its last message, shared mount, agent alive", looks(3600.0), "looks"
    )
    yield Unit("looks at a session in the 10 minutes until its agent rests", looks(600.0), "looks")


def median(once: Callable[[], float], times: int = 40) -> float:
    """Of what a function measures."""
    return statistics.median(once() for _ in range(times))


def spent(work: Callable[[], object], times: int) -> float:
    """Processor seconds of one call: the median of blocks."""

    def block() -> float:
        began = time.process_time()
        for _ in range(times):
            work()
        return (time.process_time() - began) / times

    return median(block, _BLOCKS)


@contextmanager
def ledger(folder: Path, sessions: int) -> Iterator[tuple[Central, list[Session]]]:
    """A central.db with so many sessions, of each of which one message was answered; some of them."""
    make_data_folder(DataLayout(folder), Owner(os.geteuid(), os.getegid()))
    central = Central.open(folder / "central.db", SystemClock())

    def fill(tx: Transaction) -> list[Session]:
        made = []
        groups = [add_agent(tx.connection, f"agent-{number}") for number in range(100)]
        for number in range(sessions):
            session = add_session(tx.connection, groups[number % 100], f"shared/memory/{number}")
            row, _ = ingest.accept(tx, accepted_values(session, platform_id=f"chat-{number}"))
            ingest.mark_written(tx, [row.message_id])
            ingest.finish(tx, session.id, row.message_id, cast("Any", "completed"))
            if number % (sessions // 50) == 0:
                made.append(session)
        return made

    try:
        yield central, central.submit(fill).result()
    finally:
        central.close()


def of_ledger(central: Central, some: list[Session], sessions: int) -> Iterator[Unit]:
    """What is asked of a ledger, and what it commits."""
    at = f"{sessions:,} sessions"
    numbers = iter(range(10**9))

    def look() -> None:
        session = some[next(numbers) % len(some)]
        central.read_here(view_of, session_id=session.id)

    yield Unit(f"what the ledger knows of a session ({at}), processor", 1000 * spent(look, 200))

    def accept_one() -> float:
        session = some[next(numbers) % len(some)]
        began = time.perf_counter()
        central.submit(ingest.accept, accepted_values(session)).result()
        return time.perf_counter() - began

    yield Unit(f"accepting a message, one after the other ({at})", 1000 * median(accept_one, 100))

    def burst() -> float:
        began = time.perf_counter()
        jobs = [central.submit(ingest.accept, accepted_values(some[i % len(some)])) for i in range(1_000)]
        for job in jobs:
            job.result()
        return 1_000 / (time.perf_counter() - began)

    yield Unit(f"accepting a thousand at once ({at})", median(burst, _BLOCKS), "messages a second")
    size = sum(path.stat().st_size for path in central._path.parent.glob("central.db"))
    yield Unit(f"central.db for each session with one message ({at})", size / sessions / 1000, "kB")


def of_poll(folder: Path) -> Iterator[Unit]:
    """A look at the files of an agent at rest, on a shared mount."""
    layout = SessionLayout(folder, shared=True)
    make_session_folder(layout, Owner(os.geteuid(), os.getegid()))
    layout.heartbeat.write_bytes(b"%020d %020d\n" % (1, 1))

    def look() -> None:
        outbox.heartbeat(layout)
        outbox.signature(layout)

    yield Unit("a look at the files of an agent at rest, processor", 1000 * spent(look, 500))


class _AtOnce:
    """An engine that answers at once: what is left is the host's own."""

    async def living(self) -> int:
        await asyncio.sleep(0)
        return 1


def placing(nodes: int) -> float:
    """Processor seconds of one placement."""
    made = [Node(f"node-{number}", cast("Any", None)) for number in range(nodes)]
    runtime = NodesRuntime("ins_1", made, make=lambda node: cast("Any", _AtOnce()))

    async def place() -> float:
        began = time.process_time()
        runtime.start_ended(await runtime.place({}))
        return time.process_time() - began

    return median(lambda: asyncio.run(place()), 11)


def asking_for_a_slot(waiting: int) -> float:
    """Processor seconds of what a reconcile of the session in the middle of the queue asks."""
    agents = {"busy": RunningAgent(AgentHandle("run_1", "busy", "1"), SessionLayout(Path("x")), 0.0, None)}
    slots = AgentSlots(agents, 1)
    for number in range(waiting):
        slots._queue[f"session-{number}"] = None
    return spent(lambda: slots.has_one_for(f"session-{waiting // 2}"), 50)


def looks(seconds: float, *, waits: bool) -> int:
    """How often a session with an agent is looked at in the time after something happened."""
    since, number = 0.0, 0
    while since < seconds:
        since += poll_after(since, waits=waits, poll_seconds=1.0)
        number += 1
    return number


if __name__ == "__main__":
    main()
