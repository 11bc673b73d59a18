"""A thousand messages into fifty sessions at once, with ten agents that run at a time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from tests.bench import floor
from tests.bench.figure import Figure, at_most, times
from tests.bench.workbench import BenchHost, Workbench

SESSIONS = 50
MESSAGES = 1000
AGENTS = 10
LIMIT_SECONDS = 120.0
_EACH = MESSAGES // SESSIONS
_NOTE = f"with the start of {SESSIONS} agents in it, and the stop of {SESSIONS - AGENTS}, which the floor has not"


def measure(bench: Workbench) -> Iterator[Figure]:
    """The floor is a bare write into `inbound.db` and one into `outbound.db` for each message, one after another."""
    for runtime in bench.runtimes:
        before = _bare_writes(bench) / 2
        seconds, faults = asyncio.run(_burst(bench, runtime))
        bare = before + _bare_writes(bench) / 2
        name = f"burst of {MESSAGES:,} messages into {SESSIONS} sessions, {AGENTS} agents, {runtime}"
        yield Figure(name, seconds, "s", bare, times(5), note=_NOTE)
        yield Figure(f"of the burst, {runtime}: lost, doubled or out of order", faults, "messages", 0.0, at_most(0))


def _bare_writes(bench: Workbench) -> float:
    """Seconds for two bare writes for each message: into as many files as the sessions have, one after another."""
    folder = bench.new_folder("bare")
    folder.mkdir()
    files = [folder / f"{number}-{side}.db" for number in range(SESSIONS) for side in ("in", "out")]
    for file in files:
        floor.make_file(file)
    return sum(floor.write(file) for _ in range(_EACH) for file in files)


async def _burst(bench: Workbench, runtime: str) -> tuple[float, float]:
    """Seconds from the first event at the router to the last `deliver`, and how many messages went wrong."""
    async with bench.host(runtime, chats=SESSIONS, max_agents=AGENTS) as host:
        began = time.perf_counter()
        await asyncio.gather(*(_say_all(host, str(chat)) for chat in range(SESSIONS)))
        deadline = began + LIMIT_SECONDS
        while len(host.channel.arrivals) < MESSAGES and time.perf_counter() < deadline:
            await asyncio.sleep(0.05)
        await host.settled()  # what comes twice has come by then
        seconds = max((arrived for _, arrived in host.channel.arrivals), default=deadline) - began
        heard = {str(chat): list[str]() for chat in range(SESSIONS)}
        for message, _ in host.channel.arrivals:
            heard[message.address.platform_id].append(message.text.splitlines()[0])
        return seconds, float(sum(faults_of(texts) for texts in heard.values()))


async def _say_all(host: BenchHost, chat: str) -> None:
    """One chat's messages in order, each as soon as the one before was accepted."""
    for number in range(_EACH):
        await host.say(str(number), chat=chat)


def faults_of(heard: list[str], expected: int = _EACH) -> int:
    """How many answers of a chat are missing, there twice, or strangers, and how many come after a later one."""
    wanted = Counter(map(str, range(expected)))
    found = Counter(heard)
    numbers = [int(text) for text in heard if text in wanted]
    disorder = sum(1 for first, second in pairwise(numbers) if second < first)
    return (wanted - found).total() + (found - wanted).total() + disorder
