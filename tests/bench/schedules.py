"""What runs by itself: how late it begins, and what a thousand of them that are due at once do to a person."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import timedelta

from host.central import agent_groups, schedules
from host.schedules import making
from host.schedules.request import Wish
from shared_schema.clock import from_text, to_text
from tests.bench.figure import Figure, at_most, percentile, times
from tests.bench.workbench import BenchHost, Workbench
from tests.support.wait import until

SECONDS = 20
AT_ONCE = 1_000
ROUNDS = 20
LIMIT_SECONDS = 60.0


def measure(bench: Workbench) -> Iterator[Figure]:
    """With agents in processes: these figures are about the host."""
    late = asyncio.run(_precision(bench))
    yield Figure(f"{SECONDS} schedules, one a second: a run begins after its time, p95", late, "s", None, at_most(1.0))
    begun, disorder, alone, meanwhile = asyncio.run(_at_once(bench))
    name = f"{AT_ONCE:,} schedules due at the same second"
    yield Figure(f"{name}: the last one has begun", begun, "s", None, at_most(LIMIT_SECONDS))
    yield Figure("of these: begun out of order", disorder, "runs", None, at_most(0))
    yield Figure("a message of a person while they run, p50", meanwhile * 1000, "ms", alone * 1000, times(2))


async def _precision(bench: Workbench) -> float:
    """Seconds from the due time of each of several schedules to the row of its run."""
    async with bench.host("process") as host:
        due = host.services.clock.now() + timedelta(seconds=2)
        times_due = [to_text(due + timedelta(seconds=number)) for number in range(SECONDS)]
        await host.services.central.write(lambda connection: _add(connection, host, times_due))
        host.services.dispatcher.schedules_changed.set()

        async def have_begun() -> bool:
            return (await host.central("SELECT count(*) AS n FROM schedule_runs"))[0]["n"] == SECONDS

        await until(have_begun, "all have begun", 60 + 2 * SECONDS)
        rows = await host.central("SELECT due_at, started_at FROM schedule_runs")
        return percentile([_seconds(row["due_at"], row["started_at"]) for row in rows], 95)


async def _at_once(bench: Workbench) -> tuple[float, float, float, float]:
    """Seconds until the last has begun, how many out of order, and a person's round trip before and meanwhile."""
    async with bench.host("process") as host:
        await host.warm_up()
        alone = percentile([await host.round_trip(f"before {number}") for number in range(ROUNDS)], 50)
        due = host.services.clock.now() + timedelta(seconds=3)
        await host.services.central.write(_add, host, [to_text(due)] * AT_ONCE)
        host.services.dispatcher.schedules_changed.set()
        await until(lambda: host.services.clock.now() > due, "they are due")
        meanwhile = percentile([await host.round_trip(f"meanwhile {number}") for number in range(ROUNDS)], 50)

        async def have_begun() -> bool:
            return (await host.central("SELECT count(*) AS n FROM schedule_runs"))[0]["n"] == AT_ONCE

        await until(have_begun, "all have begun", 2 * LIMIT_SECONDS)
        rows = await host.central(
            "SELECT s.name, r.due_at, r.started_at FROM schedule_runs r JOIN schedules s ON s.id = r.schedule_id"
            " ORDER BY r.position"
        )
        names = [row["name"] for row in rows]
        disorder = sum(a != b for a, b in zip(names, sorted(names), strict=True))
        begun = max(_seconds(row["due_at"], row["started_at"]) for row in rows)
        await host.do("schedule.pause_all")
        return begun, float(disorder), alone, meanwhile


def _add(connection: sqlite3.Connection, host: BenchHost, times_due: Sequence[str]) -> None:
    """A schedule for each of the times."""
    group, now = agent_groups.get_by_name(connection, "assistant"), host.services.clock.now()
    for number, due in enumerate(times_due):
        wish = Wish(when="in 1h", prompt="tick", name=f"many-{number:04}", to="nowhere")
        made = making.make(connection, group, wish, origin=None, by="cli:terminal", setting_zone="UTC", now=now)
        schedules.plan(connection, made.id, due, to_text(now))


def _seconds(before: str, after: str) -> float:
    return (from_text(after) - from_text(before)).total_seconds()
