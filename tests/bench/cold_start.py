"""From the event to the reply when no container of the session runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from tests.bench.container import BareContainer
from tests.bench.figure import Figure, percentile, times
from tests.bench.workbench import Workbench
from tests.support.wait import until

ROUNDS = 10


def measure(bench: Workbench) -> Iterator[Figure]:
    """`docker run --rm` of an interpreter that does nothing, and a cold agent's answer, in turns."""
    if bench.image is None:
        return
    floors, trips = asyncio.run(_measure(bench, bench.image))
    yield Figure(
        "cold start, docker, p50",
        percentile(trips, 50),
        "s",
        percentile(floors, 50),
        times(1.5),
        note=f"p95 of {ROUNDS} each: {percentile(trips, 95):.2f} s by {percentile(floors, 95):.2f} s",
    )


async def _measure(bench: Workbench, image: str) -> tuple[list[float], list[float]]:
    bare = BareContainer(bench.new_folder("bare"), image)
    floors: list[float] = []
    trips: list[float] = []
    async with bench.host("docker") as host:
        for number in range(-1, ROUNDS):  # the first of each is not counted: it makes the session's folder
            began = time.perf_counter()
            await asyncio.to_thread(bare.run, "pass")
            floor = time.perf_counter() - began
            trip = await host.round_trip(f"message {number}")
            await host.settled()
            (session,) = await host.do("session.list")
            await host.do("session.stop", session=session["id"])
            await until(lambda: not host.services.supervisor.agents, "the agent has left")
            if number >= 0:
                floors.append(floor)
                trips.append(trip)
    return floors, trips
