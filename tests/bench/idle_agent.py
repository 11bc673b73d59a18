"""What an agent costs that waits: its interpreter beside one that sleeps, both in a container of the same image."""

from __future__ import annotations

import asyncio
import re
import statistics
from collections.abc import Iterator, Sequence

import psutil

from tests.bench.container import BareContainer
from tests.bench.figure import Figure, above, at_most
from tests.bench.process import MB, cpu_percents, proportional, resident
from tests.bench.workbench import Workbench, docker
from tests.support.wait import until

AGENTS = 3
SECONDS = 10.0
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def measure(bench: Workbench) -> Iterator[Figure]:
    """Medians of three agents that have each answered one message."""
    if bench.image is not None:
        yield from asyncio.run(_measure(bench, bench.image))


async def _measure(bench: Workbench, image: str) -> Sequence[Figure]:
    bare = BareContainer(bench.new_folder("bare"), image)
    async with bench.host("docker", chats=AGENTS) as host:
        await host.warm_up(AGENTS)
        with bare.running("import time; time.sleep(3600)") as sleeping:
            agents = [agent.handle.reference for agent in host.services.supervisor.agents.values()]
            containers = [*agents, sleeping]
            pids = [await _interpreter(container) for container in containers]
            cpus = await asyncio.to_thread(cpu_percents, pids, SECONDS)
            figures = [
                ("resident memory", "MB", [resident(pid) for pid in pids], above(15), 46.8),
                ("memory with shared pages divided (PSS)", "MB", [proportional(p) for p in pids], None, None),
                ("memory as docker counts it", "MB", [_counted_by_docker(c) for c in containers], None, None),
                ("CPU of a core", "percent", cpus, at_most(0.5), None),
            ]
    return [
        Figure(f"idle agent, docker, {name}", statistics.median(values[:-1]), unit, values[-1], target, published)
        for name, unit, values, target, published in figures
    ]


async def _interpreter(container: str) -> int:
    """The process below docker's init, which is the same in every container."""
    init = psutil.Process(int(docker("inspect", "--format={{.State.Pid}}", container)))
    (interpreter,) = await until(init.children, "the interpreter runs")
    return int(interpreter.pid)


def _counted_by_docker(container: str) -> float:
    """Of the whole container in MB: its processes, and of the files they read what no other container read before."""
    used = docker("stats", "--no-stream", "--format={{.MemUsage}}", container).split(" / ")[0]
    match = re.fullmatch(r"([\d.]+)(\w+)", used)
    assert match is not None, used
    return float(match[1]) * _UNITS[match[2]] / MB
