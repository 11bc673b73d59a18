"""What goes wrong: agents and the host die or freeze, platforms go down. Every few seconds, until cancelled."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence

from tests.soak.agents import Agent, Agents
from tests.soak.keeper import Keeper
from tests.soak.plan import Plan
from tests.soak.platforms import Platform, Weather

_FROZEN_SECONDS = (0.3, 6.0)


class AgentTrouble:
    """Kills and freezes agents. `most_at_once` and `twins` are what it saw of how many there are."""

    def __init__(self, plan: Plan, agents: Agents) -> None:
        self._plan = plan
        self._agents = agents
        self._source = plan.stream("agents")
        self._frozen: dict[str, Agent] = {}
        self.done: Counter[str] = Counter()
        self.most_at_once = 0
        self.twins: set[str] = set()

    async def make(self) -> None:
        """Trouble one agent after the other."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await asyncio.sleep(self._source.uniform(*self._plan.between_agents_killed))
                    living = await self._agents.living()
                    self._count(living)
                    if not living:
                        continue
                    agent = self._source.choice(living)
                    if self._source.random() < 0.75:
                        self.done["agents killed"] += 1
                        await self._agents.kill(agent)
                    else:
                        group.create_task(self._freeze(agent, self._source.uniform(*_FROZEN_SECONDS)))
        finally:
            for agent in self._frozen.values():
                await asyncio.shield(self._agents.thaw(agent))

    async def _freeze(self, agent: Agent, seconds: float) -> None:
        self.done["agents frozen"] += 1
        self._frozen[agent.reference] = agent
        await self._agents.freeze(agent)
        await asyncio.sleep(seconds)
        await self._agents.thaw(agent)
        self._frozen.pop(agent.reference, None)

    def _count(self, living: Sequence[Agent]) -> None:
        self.most_at_once = max(self.most_at_once, len(living))
        per_session = Counter(agent.session_id for agent in living)
        self.twins |= {session for session, count in per_session.items() if count > 1}


class HostTrouble:
    """Ends the host and starts it again, at once or a moment later; sometimes it dies again while it starts."""

    def __init__(self, plan: Plan, keeper: Keeper) -> None:
        self._plan = plan
        self._keeper = keeper
        self._source = plan.stream("host")
        self.done: Counter[str] = Counter()

    async def make(self, seconds: float) -> None:
        """One life after the other for that long; at the end a host runs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(self._source.uniform(*self._plan.host_lives))
            chance = self._source.random()
            if chance < 0.1:
                await self._keeper.freeze(self._source.uniform(0.5, 5.0))
                self.done["host frozen"] += 1
                continue
            await (self._keeper.kill() if chance < 0.8 else self._keeper.stop())
            if self._source.random() < 0.5:
                await asyncio.sleep(self._source.uniform(0.0, 3.0))
            while self._source.random() < 0.25:
                self._keeper.begin()
                await asyncio.sleep(self._source.uniform(0.0, 1.2))
                await self._keeper.kill()
            await self._keeper.start()


class PlatformTrouble:
    """Platforms go down for seconds, lose connections, and have worse days than usual."""

    def __init__(self, plan: Plan, platforms: Sequence[Platform]) -> None:
        self._platforms = platforms
        self._worse = plan.weather
        self._source: random.Random = plan.stream("platforms")

    async def make(self) -> None:
        """One outage after the other."""
        while True:
            await asyncio.sleep(self._source.uniform(2.0, 15.0))
            platform = self._source.choice(self._platforms)
            match self._source.choice(("down", "down", "hiccup", "bad day")):
                case "down":
                    platform.happened["down"] += 1
                    await platform.go_down()
                    await asyncio.sleep(self._source.uniform(0.5, 8.0))
                    platform.come_up()
                case "hiccup":
                    platform.happened["lost all connections"] += 1
                    await platform.go_down()
                    platform.come_up()
                case "bad day":
                    platform.happened["bad days"] += 1
                    platform.weather = Weather.usual(6.0)
                    await asyncio.sleep(self._source.uniform(2.0, 6.0))
                    platform.weather = Weather.usual(self._worse)
