"""Agents on several machines: a Swarm of three engines, and a MooseFS that is mounted once for each machine.

Everything is started on this machine, which needs root; so what is measured has the processors
of one machine for all of them. Each figure is beside the same without the cluster.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from host.runtime.docker import DockerRuntime
from host.runtime.engine_client import EngineClient
from host.runtime.protocol import AgentHandle
from host.runtime.swarm import SwarmRuntime
from host.runtime.swarm_client import SwarmClient
from host.runtime.swarm_state import is_over
from host.sessions.folder import Owner, make_session_folder
from tests.bench.figure import Figure, at_most, percentile, times
from tests.bench.floor import make_file, write
from tests.bench.idle_host import FEW, SECONDS, cpu_of
from tests.bench.population import Population
from tests.bench.process import cpu_seconds
from tests.bench.round_trip import POLL_SECONDS, POLLED_CHATS, polled_chat
from tests.bench.workbench import BenchHost, Workbench, docker
from tests.cluster import moosefs, swarm
from tests.cluster.elsewhere import ElsewhereRuntime
from tests.conftest import docker_url
from tests.runtime.agents import UID, session_folder, specification
from tests.support.daemon import Daemon
from tests.support.wait import until

STARTS = 8
BLOCKS, BLOCK = 10, 10
AGENTS = 300
REST_SECONDS = 120.0
"""After which agents at rest are looked at as seldom as they ever are (`host/supervision/polling.py`)."""
WATCHED_SECONDS = 30.0
_AT_ONCE = 10
_CALL_SECONDS = 30.0
_MS = 1000
NODES = 3
_QUESTIONS = 20
_QUESTION_SECONDS = 5.0  # an answer that old is good enough for an agent at rest: how often an engine is asked at most
_NOTHING = 0.5  # percent: what rounds to 0


def measure_cold_start(bench: Workbench) -> Iterator[Figure]:
    """From the event to the reply on a Swarm, beside a service of an interpreter that does nothing."""
    _require(swarm.why_not() or bench.why_no_engine)
    assert bench.image is not None
    with swarm.a_swarm() as cluster:
        cluster.load(bench.image)
        for has_gateway in (False, True):
            floors, trips = asyncio.run(_cold_starts(bench, cluster, bench.image, has_gateway=has_gateway))
            yield Figure(
                f"cold start, Swarm of three engines{', with its way out' if has_gateway else ''}, p50",
                percentile(trips, 50),
                "s",
                percentile(floors, 50),
                times(1.3),
                note=f"p95 of {STARTS} each: {percentile(trips, 95):.2f} s by {percentile(floors, 95):.2f} s",
            )


async def _cold_starts(
    bench: Workbench, cluster: swarm.Swarm, image: str, *, has_gateway: bool
) -> tuple[list[float], list[float]]:
    def make(install_id: str) -> SwarmRuntime:
        return SwarmRuntime(install_id, cluster.manager, image=image, probed_folder=bench.folder)

    bare = _BareService(bench.new_folder("bare"), cluster, docker("inspect", "-f", "{{.Id}}", image))
    settings: dict[str, Any] = {"shared": True, "image": image, "make_runtime": make}
    if has_gateway:
        settings["gateway_address"] = f"{swarm.HOST}:0"
    floors: list[float] = []
    trips: list[float] = []
    async with bench.host("swarm", **settings) as host:
        for number in range(-1, STARTS):  # the first of each is not counted: nodes are probed, a folder is made
            floor = await asyncio.to_thread(bare.run)
            trip = await host.round_trip(f"message {number}")
            await _stop_agent(host)
            if number >= 0:
                floors.append(floor)
                trips.append(trip)
    return floors, trips


async def _stop_agent(host: BenchHost) -> None:
    await host.settled()
    (session,) = await host.do("session.list")
    await host.do("session.stop", session=session["id"])
    await until(lambda: not host.services.supervisor.agents, "the agent has left", 60)


class _BareService:
    """A service with an agent's limits and a mount, whose program does nothing."""

    def __init__(self, folder: Path, cluster: swarm.Swarm, image: str) -> None:
        folder.mkdir()
        self._folder, self._image = folder, image
        self._manager = cluster.machines[0]
        self._swarm = SwarmClient(EngineClient(cluster.manager, _CALL_SECONDS, _CALL_SECONDS), "bench")

    def run(self) -> float:
        """Seconds until the manager says that it has run."""
        began = time.perf_counter()
        service = self._manager.docker(
            *("service", "create", "--detach", "--quiet", "--no-resolve-image", "--restart-condition=none"),
            *("--user=10001:10001", "--cap-drop=ALL", "--read-only", "--init"),
            *("--limit-memory=1g", "--limit-cpu=1", "--limit-pids=256", "--mount=type=tmpfs,target=/tmp"),
            f"--mount=type=bind,source={self._folder},target=/session/out",
            *("--entrypoint=python3", self._image, "-c", "pass"),
        )
        self._swarm.wait(service, is_over, _CALL_SECONDS)
        took = time.perf_counter() - began
        self._manager.docker("service", "rm", service)
        return took


def measure_round_trip(bench: Workbench) -> Iterator[Figure]:
    """Over a MooseFS: with file events, host and agent on one mount; without, each on a mount of its own."""
    _require(moosefs.lacks())
    with _mounted(1) as (mounted,):
        floors, trips = asyncio.run(_with_events(bench, mounted / "data"))
        make_file(mounted / "bare.db")
        make_file(bench.folder / "bare.db")
        there = percentile([write(mounted / "bare.db") for _ in range(20)], 50) * _MS
        here = percentile([write(bench.folder / "bare.db") for _ in range(20)], 50) * _MS
    yield Figure(
        "warm round trip, MooseFS with events, p50",
        percentile(trips, 50) * _MS,
        "ms",
        percentile(floors, 50) * _MS,
        times(2),
        note=f"the floor is the product on this machine's disk; a bare commit takes {there:.1f} ms by {here:.1f} ms",
    )
    with _mounted(2) as (first, second):
        for chats, how in ((1, ""), (POLLED_CHATS, f", {POLLED_CHATS} chats at once")):
            data = f"data-{chats}"
            trips = asyncio.run(_without_events(bench, first / data, second / data, chats))
            for percent in (50, 95):
                name = f"round trip, MooseFS without events{how}, p{percent}"
                yield Figure(name, percentile(trips, percent) * _MS, "ms", POLL_SECONDS * _MS, times(1.5))


async def _with_events(bench: Workbench, data: Path) -> tuple[list[float], list[float]]:
    """The product on this machine's disk and on the mount, in alternating blocks."""
    floors: list[float] = []
    trips: list[float] = []
    async with bench.host("process") as here, bench.host("process", data=data) as there:
        for host in (here, there):
            await host.warm_up()
        for _ in range(BLOCKS):
            for host, taken in ((here, floors), (there, trips)):
                taken += [await host.round_trip(f"message {number}") for number in range(BLOCK)]
                await host.settled()
    return floors, trips


async def _without_events(bench: Workbench, data: Path, seen: Path, chats: int) -> list[float]:
    """So many chats at once, each at moments of its own, as without notifications on one machine."""

    def make(install_id: str) -> ElsewhereRuntime:
        return ElsewhereRuntime(install_id, data, seen)

    settings: dict[str, Any] = {"shared": True, "poll_seconds": POLL_SECONDS, "make_runtime": make, "data": data}
    rounds = BLOCK * POLLED_CHATS // chats
    async with bench.host("elsewhere", chats=chats, **settings) as host:
        await host.warm_up(chats)
        of_chats = await asyncio.gather(*(polled_chat(host, str(number), rounds) for number in range(chats)))
    return [seconds for of_chat in of_chats for seconds in of_chat]


def measure_idle(bench: Workbench) -> Iterator[Figure]:
    """The real command on a MooseFS, with its lease, and sessions without agents."""
    _require(moosefs.lacks())
    with _mounted(1) as (mounted,):
        population = Population(mounted / "data")
        population.add_sessions(FEW)
        population.note_as_read()
        host = Daemon(population.layout.data, SHARED="true")
        try:
            host.start()
            cpu = cpu_of(host, SECONDS)
        finally:
            host.close()
    name = f"idle host, CPU of a core, {FEW:,} sessions, MooseFS"
    yield Figure(name, cpu, "percent", 0.0, at_most(_NOTHING), note="it renews its lease every 2 s")


def measure_agents(bench: Workbench) -> Iterator[Figure]:
    """Agents on three mounts that are at rest, and what asking three engines for all of them would add."""
    _require(moosefs.lacks())
    with _mounted(4) as (own, *others):
        cpu = asyncio.run(_agents_at_rest(bench, own / "data", [each / "data" for each in others]))
    asked = None if bench.image is None else asyncio.run(_cost_of_a_question(bench, bench.image, AGENTS // NODES))
    of_engines = 0.0 if asked is None else NODES / _QUESTION_SECONDS * asked * 100
    name = f"idle host, CPU of a core, {AGENTS} running agents, three mounts of a MooseFS"
    note = f"they are processes; of it {of_engines:.2f} percent are asking {NODES} docker engines for all of them"
    yield Figure(name, cpu + of_engines, "percent", 0.0, at_most(5), note=note)


async def _agents_at_rest(bench: Workbench, data: Path, seen: list[Path]) -> float:
    def make(install_id: str) -> ElsewhereRuntime:
        return ElsewhereRuntime(install_id, data, *seen)

    settings: dict[str, Any] = {"shared": True, "max_agents": AGENTS, "idle_seconds": 3600.0, "make_runtime": make}
    async with bench.host("elsewhere", chats=AGENTS, data=data, **settings) as host:
        for first in range(0, AGENTS, _AT_ONCE):
            chats = range(first, min(AGENTS, first + _AT_ONCE))
            await asyncio.gather(*(host.round_trip("hello", str(chat)) for chat in chats))
        await host.settled()
        await asyncio.sleep(REST_SECONDS)
        assert len(host.services.supervisor.agents) == AGENTS, "all agents run"
        began, before = time.perf_counter(), cpu_seconds(os.getpid())
        await asyncio.sleep(WATCHED_SECONDS)
        cpu = (cpu_seconds(os.getpid()) - before) / (time.perf_counter() - began) * 100
        assert len(host.services.supervisor.agents) == AGENTS, "all agents run on"
    return cpu


async def _cost_of_a_question(bench: Workbench, image: str, agents: int) -> float:
    """Seconds of this process for one question to a docker engine about all of its agents."""
    folder = bench.new_folder("polled")
    folder.mkdir()
    runtime = DockerRuntime("ins_0000000000000002", docker_url())
    handles: list[AgentHandle] = []
    try:
        for first in range(0, agents, _AT_ONCE):
            layouts = [session_folder(folder, "") for _ in range(first, min(agents, first + _AT_ONCE))]
            for layout in layouts:
                make_session_folder(layout, Owner(UID, UID))
            wanted = [specification(each, runtime.install_id, image=image, uid=UID) for each in layouts]
            handles += await asyncio.gather(*map(runtime.start, wanted))
        before = cpu_seconds(os.getpid())
        for _ in range(_QUESTIONS):
            found = await asyncio.gather(*(runtime.poll(handle, max_age=0.001) for handle in handles))
            assert all(status.alive for status in found), "all agents run on"
        return (cpu_seconds(os.getpid()) - before) / _QUESTIONS
    finally:
        for handle in await runtime.list():
            await runtime.remove(handle)
        await runtime.close()


@contextmanager
def _mounted(count: int) -> Iterator[list[Path]]:
    with moosefs.a_moosefs(count) as found:
        yield found.mounts


def _require(missing: str | None) -> None:
    if missing is not None:
        raise RuntimeError(missing)
