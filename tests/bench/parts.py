"""Where the time of a warm round trip goes: its parts, each of which ends with a commit or with the delivery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise

from shared_schema.layout import OUTBOUND
from tests.bench import floor
from tests.bench.figure import Figure, percentile
from tests.bench.observer import Observer, observing
from tests.bench.workbench import BenchHost, Workbench
from tests.support.wait import until

ROUNDS = 100
PARTS = (
    "event to ledger",
    "ledger to inbound.db",
    "inbound.db to turn begun",
    "turn begun to answer in outbound.db",
    "outbound.db to delivery",
)
_MS = 1000


def measure(bench: Workbench) -> Iterator[Figure]:
    """Differences of the medians; the floor of each part is one bare write."""
    runtime = bench.runtimes[0]
    bare, rounds = asyncio.run(_measure(bench, runtime))
    medians = [percentile(moments, 50) for moments in zip(*rounds, strict=True)]
    for name, (before, after) in zip(PARTS, pairwise(medians), strict=True):
        yield Figure(f"part of a round trip, {runtime}: {name}", (after - before) * _MS, "ms", bare * _MS)


async def _measure(bench: Workbench, runtime: str) -> tuple[float, list[tuple[float, ...]]]:
    """Seconds of a bare write, and for each round the moments that bound its parts, in seconds from its beginning."""
    path = bench.new_folder("bare")
    floor.make_file(path)
    bare: list[float] = []
    rounds: list[tuple[float, float, float]] = []
    commits: list[tuple[float, str]] = []
    async with bench.host(runtime) as host:
        await host.warm_up()
        async with observing((await host.session()).folder) as observer:
            noting = asyncio.create_task(_note(observer, commits))
            for number in range(ROUNDS):
                bare.append(floor.write(path))
                rounds.append(await _round(host, f"message {number}"))
                await host.settled()
            await until(lambda: commits[-1][0] > rounds[-1][-1], "the file was told of the last delivery")
            noting.cancel()
    nexts = [began for began, _, _ in rounds[1:]] + [float("inf")]
    return percentile(bare, 50), [
        _moments(*round_, next_, commits) for round_, next_ in zip(rounds, nexts, strict=True)
    ]


async def _note(observer: Observer, commits: list[tuple[float, str]]) -> None:
    while True:
        commits.append(await observer.next())


async def _round(host: BenchHost, text: str) -> tuple[float, float, float]:
    """When the event was there, accepted, and answered."""
    began = time.perf_counter()
    await host.say(text, chat="0")
    accepted = time.perf_counter()
    _, delivered = await host.channel.next_in("0")
    return began, accepted, delivered


def _moments(
    began: float, accepted: float, delivered: float, following: float, commits: list[tuple[float, str]]
) -> tuple[float, ...]:
    """The round's moments; of the commits until the `following` round, the last on inbound.db is not part of it."""
    within = [(when, file) for when, file in commits if began < when < following]
    written = next(when for when, file in within if file != OUTBOUND)
    answers = [when for when, file in within if file == OUTBOUND]
    return tuple(moment - began for moment in (began, accepted, written, answers[0], answers[-1], delivered))
