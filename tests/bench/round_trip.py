"""From the event at the router to the channel's `deliver`, with an agent that runs and has nothing else to do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

from tests.bench.figure import Figure, percentile, times
from tests.bench.floor import PingPong
from tests.bench.workbench import BenchHost, Workbench

ROUNDS = 300
BLOCK = 30
PACED_ROUNDS = 40
PACE_SECONDS = (0.05, 0.15)
POLL_SECONDS = 0.25
POLLED_CHATS = 10
PUBLISHED_MS = {50: 736.0, 95: 1320.0}
_MS = 1000
_TARGETS = {50: times(3), 95: times(5)}


def measure(bench: Workbench) -> Iterator[Figure]:
    """Message after message, floor and product in turns."""
    for runtime in bench.runtimes:
        floors, trips = asyncio.run(_one_after_another(bench, runtime))
        for percent, target in _TARGETS.items():
            yield Figure(
                f"warm round trip, {runtime}, p{percent}",
                percentile(trips, percent) * _MS,
                "ms",
                percentile(floors, 50) * _MS,
                target,
                PUBLISHED_MS[percent] if runtime == "docker" else None,
            )
    runtime = bench.runtimes[0]
    floors, trips = asyncio.run(_now_and_then(bench, runtime))
    yield Figure(
        f"warm round trip, {runtime}, a message now and then, p50",
        percentile(trips, 50) * _MS,
        "ms",
        percentile(floors, 50) * _MS,
        note="everything has gone to sleep between two messages; the others follow each other at once",
    )


def measure_polling(bench: Workbench) -> Iterator[Figure]:
    """Without file notifications, on either side."""
    for runtime in bench.runtimes:
        trips = asyncio.run(_polling(bench, runtime))
        for percent in (50, 95):
            yield Figure(
                f"round trip without notifications, {runtime}, p{percent}",
                percentile(trips, percent) * _MS,
                "ms",
                POLL_SECONDS * _MS,
                times(1.5),
            )


async def _one_after_another(bench: Workbench, runtime: str) -> tuple[list[float], list[float]]:
    """Seconds of the floor's rounds and of the product's, in alternating blocks, so that noise hits both alike."""
    floors: list[float] = []
    trips: list[float] = []
    with PingPong(bench.new_folder("ping-pong")) as ping_pong:
        async with bench.host(runtime) as host:
            await host.warm_up()
            while len(trips) < ROUNDS:
                floors += [ping_pong.round() for _ in range(BLOCK)]
                trips += [await host.round_trip(f"message {len(trips) + number}") for number in range(BLOCK)]
                await host.settled()
    return floors, trips


async def _now_and_then(bench: Workbench, runtime: str) -> tuple[list[float], list[float]]:
    floors: list[float] = []
    trips: list[float] = []
    with PingPong(bench.new_folder("ping-pong")) as ping_pong:
        async with bench.host(runtime) as host:
            await host.warm_up()
            for number in range(PACED_ROUNDS):
                await asyncio.sleep(random.uniform(*PACE_SECONDS))
                floors.append(ping_pong.round())
                await asyncio.sleep(random.uniform(*PACE_SECONDS))
                trips.append(await host.round_trip(f"message {number}"))
    return floors, trips


async def _polling(bench: Workbench, runtime: str) -> list[float]:
    """Several chats at once, each at moments of its own that have nothing to do with the poll's."""
    async with bench.host(runtime, chats=POLLED_CHATS, notify="off", poll_seconds=POLL_SECONDS) as host:
        await host.warm_up(POLLED_CHATS)
        trips = await asyncio.gather(
            *(polled_chat(host, str(number), ROUNDS // POLLED_CHATS) for number in range(POLLED_CHATS))
        )
    return [seconds for of_chat in trips for seconds in of_chat]


async def polled_chat(host: BenchHost, chat: str, rounds: int) -> list[float]:
    """Seconds of so many messages, each at a moment that has nothing to do with the poll's."""
    trips = []
    for number in range(rounds):
        await asyncio.sleep(random.uniform(0, POLL_SECONDS))
        trips.append(await host.round_trip(f"message {number}", chat))
    return trips
