"""What one answered message costs the host and its agent: statements, reconciles, processor time, and throughput.

Counts and processor time are steadier than milliseconds on a machine that does other things as well. Nothing in the
product counts: `sqlite3.connect` is wrapped while statements are counted, reconciles are seen by a profiler.
Names of the product are few here, so that this module also measures an older revision (`--against`).
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from tests.bench.figure import Figure, percentile
from tests.bench.process import cpu_seconds
from tests.bench.workbench import BenchHost, Workbench

NEEDS_ENGINE = False
COUNTED = 30
ROUNDS = 150
CHATS = 20
ROUNDS_OF_CHAT = 25
_MS = 1000
_RECONCILES = frozenset({"_reconcile_once", "_look_once"})


def measure(bench: Workbench) -> Iterator[Figure]:
    """Agents are processes: what an engine adds is no concern of these figures."""
    yield from asyncio.run(_counts(bench))
    alone, costs = asyncio.run(_alone(bench))
    yield from costs
    yield from asyncio.run(_together(bench, alone))


async def _counts(bench: Workbench) -> Sequence[Figure]:
    """Per answered message, with everything that follows it until all files are told."""
    counted: Counter[str] = Counter()
    with _counting(counted):
        async with bench.host("process") as host:
            await host.warm_up()
            with _profiled(counted):
                counted.clear()
                for number in range(COUNTED):
                    await host.round_trip(f"message {number}")
                await asyncio.sleep(0.3)  # what became of it is told to the session's file a moment later
    names = {"central.db": "central.db", "inbound.db": "inbound.db", "outbound.db": "outbound.db"}
    of_file = [
        Figure(f"statements of the host for one message, {name}", counted[key] / COUNTED, "", None)
        for key, name in names.items()
    ]
    total = sum(count for key, count in counted.items() if key != "reconciles") / COUNTED
    return [
        Figure("statements of the host for one message", total, "", None),
        *of_file,
        Figure("reconciles for one message", counted["reconciles"] / COUNTED, "", None),
    ]


async def _alone(bench: Workbench) -> tuple[float, Sequence[Figure]]:
    """Message after message in one session; the median of a round trip, and processor time for one message."""
    async with bench.host("process") as host:
        await host.warm_up()
        await host.round_trip("warm")
        agents = _agents(bench.folder)
        before = time.process_time(), sum(map(cpu_seconds, agents))
        trips = [await host.round_trip(f"message {number}") for number in range(ROUNDS)]
        await host.settled()
        host_ms = (time.process_time() - before[0]) / ROUNDS * _MS
        agent_ms = (sum(map(cpu_seconds, agents)) - before[1]) / ROUNDS * _MS
        alone = percentile(trips, 50)
    return alone, [
        Figure("processor time of the host for one message", host_ms, "ms", None),
        Figure("processor time of the agent for one message", agent_ms, "ms", None),
        Figure("round trip in one session, p50", alone * _MS, "ms", None),
    ]


async def _together(bench: Workbench, alone: float) -> Sequence[Figure]:
    """As many sessions at once as there are chats, each with message after message."""
    async with bench.host("process", chats=CHATS, max_agents=CHATS) as host:
        await host.warm_up(CHATS)
        began, used = time.perf_counter(), time.process_time()
        trips = await asyncio.gather(*(_talk(host, str(chat)) for chat in range(CHATS)))
        seconds = time.perf_counter() - began
        await host.settled()
        count = CHATS * ROUNDS_OF_CHAT
        host_ms = (time.process_time() - used) / count * _MS
    p50 = statistics.median(trip for of_chat in trips for trip in of_chat)
    return [
        Figure(f"answered messages a second, {CHATS} sessions at once", count / seconds, "", None),
        Figure(f"processor time of the host for one message, {CHATS} sessions at once", host_ms, "ms", None),
        Figure(f"round trip with {CHATS} sessions at once over one alone, p50", p50 / alone, "", None),
    ]


async def _talk(host: BenchHost, chat: str) -> list[float]:
    return [await host.round_trip(f"message {number}", chat) for number in range(ROUNDS_OF_CHAT)]


def _agents(folder: Path) -> list[int]:
    """The processes that run agents of sessions beneath a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if "container_agent" in process.cmdline() and str(folder) in process.environ().get(
                "DUMBWAITER_SESSION", ""
            ):
                found.append(process.pid)
        except psutil.Error:
            continue
    assert found, "no agent runs"
    return found


@contextmanager
def _counting(counted: Counter[str]) -> Iterator[None]:
    """Count the statements of every connection that is opened while the block lasts, by the name of its file."""
    connect = sqlite3.connect

    def counting(path: str, **options: Any) -> sqlite3.Connection:
        connection = connect(path, **options)
        name = path.partition("?")[0].rpartition("/")[2]

        def count(statement: str) -> None:
            if not statement.startswith("--"):  # what a trigger does
                counted[name] += 1

        connection.set_trace_callback(count)
        return connection

    sqlite3.connect = counting  # type: ignore[assignment]
    try:
        yield
    finally:
        sqlite3.connect = connect


@contextmanager
def _profiled(counted: Counter[str]) -> Iterator[None]:
    """Count reconciles: calls of a coroutine function that end in a return, not in an await."""

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_name in _RECONCILES and frame.f_lasti <= _BEGINNING:
            counted["reconciles"] += 1

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


_BEGINNING = 8
"""The first instructions of a coroutine; a call event with a later one resumes it."""
