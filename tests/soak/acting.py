"""Agents that act by themselves beside the conversations of people: schedules, a heartbeat, and agents in a ring.

A thousand schedules are due once in hours and cost nothing, but for one of twenty, which is due once, at some moment of
the run; a few are due every few seconds, through every kill. Each agent of the ring writes to the next one, which
answers. Nothing of it speaks in a chat of the people.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from shared_schema.clock import from_text
from shared_schema.errors import DumbwaiterError
from tests.soak.keeper import Keeper
from tests.soak.plan import Plan
from tests.soak.verdict import Verdict

Run = tuple[str, str, str, str | None, str, str | None]
Call = Callable[..., Awaitable[Any]]

_CLOCK = "clock"
_SECONDS = 5
"""Between two runs of a schedule that is due all the time."""
_BUSY = {"every-one": "all", "made-up-for": "once", "left-out": "skip"}
"""Schedules that are due all the time, with what is made up for of missed times."""
_SIDE_BY_SIDE = 20  # calls at a time
_ONE_OF = 20  # schedules is due in the run
_FIRST_SECONDS = 60.0  # in which all of this is set up
_LATE_SECONDS = 5.0
"""A run that begins later than so long after it could is late: on a machine that is very busy with other things."""
_OPEN = "SELECT count(*) FROM schedule_runs WHERE state IN ('running', 'delivering')"
_RUNS = """
SELECT s.name, r.due_at, r.state, r.session_id, r.started_at, r.finished_at
FROM schedule_runs r JOIN schedules s ON s.id = r.schedule_id
ORDER BY r.position
"""
_SENT = (
    "SELECT session_id || '/' || message_out_id FROM deliveries WHERE channel_type = 'agent' AND status = 'delivered'"
)
_HEARD = "SELECT platform_message_id FROM ingest WHERE platform_message_id LIKE 'agent-%'"
_ONCE = "SELECT name FROM schedules WHERE name LIKE 'once-%'"
_WAITING = "SELECT count(*) FROM deliveries WHERE channel_type = 'agent' AND status IN ('pending', 'sending')"


class ActingAgents:
    """What acts by itself in a run; nothing where the plan has no schedules."""

    def __init__(self, plan: Plan, keeper: Keeper) -> None:
        self._plan = plan
        self._keeper = keeper

    async def set_up(self, call: Call) -> None:
        """Make agents, links and schedules."""
        if not self._plan.schedules:
            return
        await call("agent_group.add", name=_CLOCK, provider="scripted")
        names = [f"talker-{number:02}" for number in range(self._plan.talkers)]
        for name in names:
            await call("agent_group.add", name=name, provider="scripted")
        for name, following in zip(names, names[1:] + names[:1], strict=True):
            await call("destination.add", agent_group=name, name="next", messaging_group=f"agent:{following}")
        for name in names[: max(1, len(names) // 4)]:
            await self._add(
                call, name, f"every {2 * _SECONDS}s", "to next reply 1 hello\nreply 1 told", f"{name}-talks"
            )
        for name, missed in _BUSY.items():
            rules = {"missed": missed, "max_failures": 100}  # its agents are killed
            await self._add(call, _CLOCK, f"every {_SECONDS}s", "reply 1 tick", name, **rules)
        await call("schedule.heartbeat", agent_group=_CLOCK, every="1m", to="nowhere")
        workspace = Path((await call("agent_group.show", name=_CLOCK))["workspace"])
        workspace.mkdir(parents=True, exist_ok=True)
        (workspace / "HEARTBEAT.md").write_text("always: reply 1 HEARTBEAT_OK\n")
        places = asyncio.Semaphore(_SIDE_BY_SIDE)

        source = self._plan.stream("schedules")
        latest = max(_FIRST_SECONDS + 1, 0.9 * self._plan.seconds)

        async def add(number: int) -> None:
            async with places:
                if number % _ONE_OF:
                    await self._add(call, _CLOCK, f"every {2 + number % 5}h", "reply 1 rare", f"rare-{number:04}")
                else:
                    seconds = int(source.uniform(_FIRST_SECONDS, latest))
                    await self._add(call, _CLOCK, f"in {seconds}s", "reply 1 now", f"once-{number:04}")

        await asyncio.gather(*(add(number) for number in range(self._plan.schedules)))

    async def rest(self) -> None:
        """Let nothing more begin."""
        if self._plan.schedules:
            await self._keeper.call("schedule.pause_all")

    def judge(self, central: Path, verdict: Verdict) -> None:
        """What the ledger says of it, when all is over."""
        if not self._plan.schedules:
            return
        with closing(sqlite3.connect(f"file:{central}?mode=ro", uri=True)) as connection:
            runs = connection.execute(_RUNS).fetchall()
            (still_open,) = connection.execute(_OPEN).fetchone()
            (waiting,) = connection.execute(_WAITING).fetchone()
            sent = [row[0] for row in connection.execute(_SENT)]
            once = {row[0] for row in connection.execute(_ONCE)}
            heard = Counter(row[0].removeprefix("agent-") for row in connection.execute(_HEARD))
        verdict.numbers |= {"runs of schedules": len(runs), "messages between agents": len(sent)}
        verdict.outcomes.update(f"run {state}" for _, _, state, *_ in runs)
        begun = Counter((name, due) for name, due, _, session, *_ in runs if session is not None)
        waits = waits_of(runs, [*_ready_at(self._keeper.log), *self._keeper.thawed_at])
        verdict.numbers["milliseconds until the latest run began"] = round(1000 * max(waits.values(), default=0.0))
        verdict.fault(
            "runs that began late", (f"{run} {wait:.1f} s" for run, wait in waits.items() if wait > _LATE_SECONDS)
        )
        verdict.fault("runs of schedules that are due once that were lost", once - {name for name, *_ in runs})
        verdict.fault("runs that took place twice", (str(run) for run, count in begun.items() if count > 1))
        verdict.fault("runs left open", ["central.db"] * still_open)
        verdict.fault("due times that were lost", _gaps(due for name, due, *_ in runs if name == "every-one"))
        verdict.fault("no run of a schedule that is due all the time", _never(runs))
        verdict.fault("messages between agents left waiting", ["central.db"] * waiting)
        verdict.fault("messages between agents that were lost", (key for key in sent if not heard[key]))
        verdict.fault("messages between agents that came twice", (key for key, count in heard.items() if count > 1))

    async def _add(self, call: Call, agent_group: str, when: str, prompt: str, name: str, **rules: Any) -> None:
        try:
            await call(
                "schedule.add", agent_group=agent_group, when=when, prompt=prompt, name=name, to="nowhere", **rules
            )
        except DumbwaiterError as error:
            raise AssertionError(f"{name} cannot be set: {error}") from error


def _gaps(due: Iterable[str]) -> list[str]:
    """Where a schedule that makes up for everything has left a time out."""
    times = sorted({from_text(each) for each in due})
    step = timedelta(seconds=_SECONDS)
    return [f"between {before} and {after}" for before, after in pairwise(times) if after - before != step]


def waits_of(runs: Iterable[Run], able_at: Iterable[float]) -> dict[tuple[str, str], float]:
    """How long after it could each run has begun: it was due, the one before it was over, and a host was there."""
    able = sorted(able_at)
    over: dict[str, float] = {}
    found: dict[tuple[str, str], float] = {}
    for name, due, _, session, started, finished in runs:
        if session is None:
            continue
        began = from_text(started).timestamp()
        host = able[bisect_right(able, began) - 1] if able and able[0] <= began else began
        could = max(from_text(due).timestamp(), over.get(name, 0.0), host)
        found[name, due] = max(0.0, began - could)
        if finished is not None:
            over[name] = from_text(finished).timestamp()
    return found


def _ready_at(log: Path) -> list[float]:
    """When each host got ready, as it says itself: also one that was killed before it was asked."""
    lines = (line for line in log.read_text(errors="replace").splitlines() if '"event": "ready"' in line)
    return [from_text(json.loads(line)["time"]).timestamp() for line in lines]


def _never(runs: Iterable[Run]) -> list[str]:
    done = {name for name, _, state, *_ in runs if state in ("ok", "silent")}  # they speak nowhere
    return [name for name in _BUSY if name not in done]
