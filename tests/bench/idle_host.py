"""What a host costs that has many sessions and nothing to do: the real command, in a process of its own."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.figure import Figure, above, at_most
from tests.bench.population import HISTORY, Conversation, Population, converse
from tests.bench.process import cpu_percents, resident
from tests.bench.workbench import Workbench
from tests.support.daemon import Daemon, daemon

SECONDS = 8.0
REST_SECONDS = 1.0
FEW, MANY = 1_000, 10_000
STARTS = 3
AGENTS = 10
LONG = 10_000  # messages in each of the sessions that the published system was measured with
LONG_SESSIONS = 20
_IMPORTS = "import host.cli.root, host.cli.run, host.daemon"


@dataclass(frozen=True, slots=True)
class _Idle:
    """One host at rest: percent of a core, MB, and seconds until it was ready."""

    cpu: float
    memory: float
    start: float


def measure(bench: Workbench) -> Iterator[Figure]:
    """Sessions without and with a history; the memory and the start of the largest host."""
    conversation = converse(bench)
    conversation.grow(HISTORY)
    population = Population(bench.new_folder("sessions"))

    population.add_sessions(FEW)
    empty = _at_rest(population)
    yield _cpu(f"{FEW:,} sessions, empty", empty, 1, published=22.0)
    population.give_history(conversation)
    yield _cpu(f"{FEW:,} sessions, {HISTORY:,} messages in each", _at_rest(population), 1, floor=empty.cpu)
    population.add_sessions(MANY - FEW)
    bare = []
    starts = []
    for _ in range(STARTS):
        bare.append(_bare())
        starts.append(_at_rest(population, 0).start)
    with_history = _at_rest(population)
    population.forget_history()
    empty = _at_rest(population)
    yield _cpu(f"{MANY:,} sessions, empty", empty, 2)
    name = f"{MANY:,} sessions, {HISTORY:,} messages in {FEW:,} of them"
    yield _cpu(name, with_history, 2, floor=empty.cpu)
    yield _cpu(
        f"{LONG_SESSIONS} sessions, {LONG:,} messages in each", _few_and_long(bench, conversation), None, published=61.0
    )

    memory, bare_memory = max(empty.memory, with_history.memory), statistics.median(each.memory for each in bare)
    yield Figure(f"idle host, resident memory, {MANY:,} sessions", memory, "MB", bare_memory, above(60))
    start, bare_start = statistics.median(starts), statistics.median(each.start for each in bare)
    yield Figure(f"start of the host, {MANY:,} sessions", start, "s", bare_start, at_most(2))


def measure_with_agents(bench: Workbench) -> Iterator[Figure]:
    """The same host while ten agents run that have nothing to do either."""
    with daemon(bench.new_folder("agents"), RUNTIME=bench.runtimes[0]) as host:
        for number in range(AGENTS):
            host.call("messaging_group.add", address=f"cli:{number}")
            host.call("wiring.add", messaging_group=f"cli:{number}", agent_group="assistant")
            host.call("message.inject", messaging_group=f"cli:{number}", text="hello")
        host.settle()
        cpu = cpu_of(host)
        assert len(host.call("status")["agents"]) == AGENTS, "all agents run"
    yield Figure(f"idle host, CPU of a core, {AGENTS} idle agents ({bench.runtimes[0]})", cpu, "percent", 0.0)


def _cpu(name: str, idle: _Idle, limit: float | None, *, floor: float = 0.0, published: float | None = None) -> Figure:
    """`floor` of sessions with a history is the host with empty ones."""
    target = None if limit is None else at_most(limit)
    return Figure(f"idle host, CPU of a core, {name}", idle.cpu, "percent", floor, target, published)


def _few_and_long(bench: Workbench, conversation: Conversation) -> _Idle:
    conversation.grow(LONG)
    population = Population(bench.new_folder("sessions"))
    population.add_sessions(LONG_SESSIONS)
    population.give_history(conversation)
    return _at_rest(population)


def _at_rest(population: Population, seconds: float = SECONDS) -> _Idle:
    """Start a host, let it come to rest, and watch it for so long."""
    population.note_as_read()
    host = Daemon(population.layout.data)
    began = time.perf_counter()
    try:
        host.start()
        start = time.perf_counter() - began
        assert host.process is not None
        cpu = cpu_of(host, seconds) if seconds else 0.0
        return _Idle(cpu, resident(host.process.pid), start)
    finally:
        host.close()


def cpu_of(host: Daemon, seconds: float = SECONDS) -> float:
    """Percent of a core that a host uses which has come to rest."""
    assert host.process is not None
    time.sleep(REST_SECONDS)
    (cpu,) = cpu_percents([host.process.pid], seconds)
    return cpu


def _bare() -> _Idle:
    """An interpreter with the host's imports and nothing else: how long it takes to have them, and its memory."""
    began = time.perf_counter()
    program = f"{_IMPORTS}; import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return _Idle(0.0, resident(process.pid), time.perf_counter() - began)
