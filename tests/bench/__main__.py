"""Measure, and say how it compares: `python -m tests.bench`."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from host.central.database import Central
from host.runtime.choose import choose
from host.runtime.protocol import Runtime
from host.settings import Settings
from shared_schema.clock import SystemClock
from shared_schema.layout import DataLayout
from tests.bench import floor
from tests.bench.figure import Figure, percentile, report
from tests.support.host import Host, running

ROUNDS = 300
_IMAGE = Settings.model_fields["image"].default
_MS = 1000


async def round_trips(data: Path, runtime: str) -> list[float]:
    """Seconds from the event at the router to the channel's `deliver`, with an agent that runs."""
    async with running(data, runtime=await _runtime(data, runtime), provider="echo") as host:
        await host.ask("warm up")
        return [await _round_trip(host, number) for number in range(ROUNDS)]


async def _round_trip(host: Host, number: int) -> float:
    began = time.perf_counter()
    await host.ask(f"message {number}")
    return time.perf_counter() - began


async def _runtime(data: Path, name: str) -> Runtime:
    layout = DataLayout(data)
    central = Central.open(layout.central, SystemClock())
    central.close()
    choice = await choose(
        name,
        install_id=central.install_id,
        image=_IMAGE,
        base_image=os.environ.get("BASE_IMAGE", "python:3.12-slim-bookworm"),
        run_folder=layout.run,
        docker_host=None,
    )
    return choice.runtime


def main() -> None:
    """Run every figure and report."""
    figures = []
    floors = floor.measure(ROUNDS)
    for runtime in ("docker", "process"):
        with tempfile.TemporaryDirectory() as name:
            times = asyncio.run(round_trips(Path(name), runtime))
        for percent, target in ((50, 3.0), (95, 5.0)):
            figures.append(
                Figure(
                    f"warm round trip, {runtime}, p{percent}",
                    percentile(times, percent) * _MS,
                    "ms",
                    percentile(floors, 50) * _MS,
                    target,
                )
            )
    report(figures)


if __name__ == "__main__":
    main()
