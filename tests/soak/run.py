"""One run from beginning to end: set up, trouble, calm, a last kill, settle, evidence, report."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from tests.soak.acting import ActingAgents
from tests.soak.agents import AgentContainers, AgentProcesses, Agents
from tests.soak.bots import Bots
from tests.soak.evidence import gather
from tests.soak.keeper import Keeper
from tests.soak.people import Operators, Writers
from tests.soak.plan import AGENT_GROUP, DESTINATION, KINDS, Plan
from tests.soak.platforms import Platform, Weather
from tests.soak.report import Report, judge_growth
from tests.soak.trouble import AgentTrouble, HostTrouble, PlatformTrouble
from tests.soak.verdict import judge

_MEASURE_SECONDS = 1.0
_OPEN = "SELECT count(*) FROM ingest WHERE status = 'pending'"
# Context, such as the edit of what is answered, waits for the next turn, and there may be none.
_UNSETTLED = """
SELECT (SELECT count(*) FROM ingest
        WHERE (status = 'pending' AND trigger = 1) OR (recorded = 0 AND session_id IS NOT NULL))
     + (SELECT count(*) FROM deliveries WHERE status IN ('pending', 'sending') OR recorded = 0)
     + (SELECT count(*) FROM schedule_runs WHERE state IN ('running', 'delivering'))
"""

Tell = Callable[[str], None]


class Soak:
    """A run in a folder. `tell` hears of the progress, a line at a time."""

    def __init__(self, plan: Plan, folder: Path, tell: Tell) -> None:
        self._plan = plan
        self._tell = tell
        self._bots = Bots(plan, lambda: self._open)
        self._keeper = Keeper(folder / "data", folder, plan.settings)
        self._platforms = [
            Platform(kind, kind.socket(folder), plan.stream(kind.name), Weather.usual(plan.weather)) for kind in KINDS
        ]
        by_name = {platform.kind.name: platform for platform in self._platforms}
        self._writers = Writers(plan, by_name, lambda: self._open)
        self._operators = Operators(plan, self._keeper)
        self._acting = ActingAgents(plan, self._keeper)
        self._host_trouble = HostTrouble(plan, self._keeper)
        self._open = 0
        self._began = time.monotonic()

    async def run(self) -> Report:
        """The whole run. Raises `HostFailed`."""
        for platform in self._platforms:
            await platform.open()
        await self._bots.open()
        self._keeper.environment["DUMBWAITER_CHANNELS"] = json.dumps(self._bots.settings)
        await self._keeper.start()
        await self._set_up()
        agents = self._agents()
        agent_trouble = AgentTrouble(self._plan, agents)
        async with _until_left(self._measure()):
            async with _until_left(
                self._writers.write(),
                self._operators.operate(),
                agent_trouble.make(),
                PlatformTrouble(self._plan, self._platforms).make(),
                self._offer_again(),
                self._bots.write(),
                self._bots.trouble(),
            ):
                wild = self._plan.seconds * (1 - self._plan.calm)
                await self._host_trouble.make(wild)
                await asyncio.sleep(max(0.0, self._plan.seconds - (time.monotonic() - self._began)))
            await self._keeper.kill()  # what is open now has nothing but the next start to wake it
            await self._keeper.start()
            await self._heal()
            await self._acting.rest()
            restless = await self._restless()
        await self._keeper.stop()
        left = [f"{agent.reference} of {agent.session_id}" for agent in await agents.living()]
        return await self._report(agent_trouble, restless, left)

    async def kill(self) -> None:
        """End whatever of it still runs."""
        with suppress(Exception):
            await self._keeper.kill()
        for agent in await self._agents().living():
            await self._agents().kill(agent)
        for platform in self._platforms:
            await platform.close()
        await self._bots.close()

    async def _set_up(self) -> None:
        call = self._keeper.call
        await call("agent_group.add", name=AGENT_GROUP, provider=self._plan.provider, model=self._plan.models[0])
        for chat in self._plan.chats:
            await call("messaging_group.add", address=chat.address, is_group=True, unknown_sender="public")
            await call("wiring.add", messaging_group=chat.address, agent_group=AGENT_GROUP)
        bell = f"{KINDS[0].name}:{DESTINATION}"
        await call("messaging_group.add", address=bell, unknown_sender="public")
        await call("destination.add", agent_group=AGENT_GROUP, name=DESTINATION, messaging_group=bell)
        await self._bots.set_up(call)
        await self._acting.set_up(call)

    def _agents(self) -> Agents:
        if self._plan.runtime == "process":
            return AgentProcesses(self._keeper.layout.data)
        with closing(sqlite3.connect(self._keeper.layout.central)) as central:
            (install_id,) = central.execute("SELECT id FROM install").fetchone()
        return AgentContainers(install_id)

    async def _measure(self) -> None:
        """Look at everything once a second, and say how it goes."""
        while True:
            vitals = self._keeper.measure()
            self._open = await asyncio.to_thread(self._count, _OPEN)
            offered = sum(len(platform.offered) for platform in self._platforms)
            answered = len({m.in_reply_to for platform in self._platforms for m in platform.arrived})
            size = "down" if vitals is None else f"{vitals.descriptors} fds {vitals.resident / 1024**2:.0f} MB"
            elapsed = time.monotonic() - self._began
            self._tell(
                f"{elapsed:5.0f} of {self._plan.seconds:.0f} s  offered {offered}  not accepted {self._unaccepted}  "
                f"answered {answered}  open {self._open}  host {self._keeper.lives}: {size}"
            )
            await asyncio.sleep(_MEASURE_SECONDS)

    async def _offer_again(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for platform in self._platforms:
                platform.offer_again()

    async def _heal(self) -> None:
        """From now on every platform is well."""
        for platform in self._platforms:
            platform.weather = Weather()
            await platform.go_down()
            platform.come_up()
        await self._bots.heal()

    async def _restless(self) -> list[str]:
        """Wait until everything is accepted, has its outcome and is recorded; what still is not, in a word."""
        deadline = time.monotonic() + self._plan.settle_seconds
        while (open_rows := await asyncio.to_thread(self._count, _UNSETTLED)) or self._unaccepted:
            if time.monotonic() > deadline:
                return [f"{self._unaccepted} events not accepted, {open_rows} rows open"]
            await asyncio.sleep(0.1)
            for platform in self._platforms:
                platform.offer_again()
        return []

    @property
    def _unaccepted(self) -> int:
        return sum(platform.unacknowledged for platform in self._platforms) + self._bots.unaccepted

    def _count(self, statement: str) -> int:
        with closing(sqlite3.connect(f"file:{self._keeper.layout.central}?mode=ro", uri=True)) as central:
            return int(central.execute(statement).fetchone()[0])

    async def _report(self, agent_trouble: AgentTrouble, restless: list[str], left: list[str]) -> Report:
        evidence = await asyncio.to_thread(
            gather,
            self._keeper.layout,
            self._keeper.log,
            self._platforms,
            stopped=self._operators.stopped,
            reset=self._operators.reset,
        )
        verdict = judge(evidence)
        left_alone = self._operators.stopped | set(self._operators.reset)
        await self._bots.judge(self._keeper.layout.central, left_alone, verdict)
        await asyncio.to_thread(self._acting.judge, self._keeper.layout.central, verdict)
        verdict.fault("broken platforms", (problem for platform in self._platforms for problem in platform.broken))
        verdict.fault("did not come to rest", restless)
        verdict.fault("agents left alive", left)
        verdict.fault("sessions with two agents", agent_trouble.twins)
        judge_growth(self._keeper.measured, verdict)
        return Report(
            seed=self._plan.seed,
            seconds=self._plan.seconds,
            verdict=verdict,
            measured=self._keeper.measured,
            start_seconds=self._keeper.start_seconds,
            troubles=Counter({f"host: {how}": count for how, count in self._keeper.ended.items()})
            + self._host_trouble.done
            + agent_trouble.done,
            platforms={platform.kind.name: platform.happened for platform in self._platforms}
            | {"bots": self._bots.happened},
            called=self._operators.called,
            errors=evidence.errors,
            most_agents=agent_trouble.most_at_once,
            data_bytes=evidence.data_bytes,
        )


@asynccontextmanager
async def _until_left(*actors: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines until the block ends. What one of them raises ends the block, in an `ExceptionGroup`."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(actor) for actor in actors]
        yield
        for task in tasks:
            task.cancel()
