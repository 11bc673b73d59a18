"""What people do: they write, in bursts, and now and then somebody types a command or a program calls the API."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from host.api.client import HostGone, NoHost
from shared_schema.errors import Conflict, DumbwaiterError, NotFound
from tests.soak import errands
from tests.soak.keeper import Keeper
from tests.soak.plan import AGENT_GROUP, Chat, Plan
from tests.soak.platforms import Offered, Platform

COMMAND = str(Path(sys.executable).parent / "dumbwaiter")
_NAMES = ("ann", "bob")
_THREADS = (None, None, None, "thread-1", "thread-2")
_LONGEST_BURST = 6


class Writers:
    """Write in the chats until cancelled; they pause while too much is open."""

    def __init__(self, plan: Plan, platforms: Mapping[str, Platform], open_messages: Callable[[], int]) -> None:
        self._plan = plan
        self._platforms = platforms
        self._open_messages = open_messages
        self._source = plan.stream("writers")
        self._numbers = itertools.count(1)

    async def write(self) -> None:
        """Burst after burst, each in one chat."""
        chats = self._plan.chats
        for chat in self._source.sample(chats, len(chats)):  # every chat has a session
            self._say(chat)
        while True:
            await asyncio.sleep(self._source.expovariate(1 / self._plan.between_bursts))
            chat, count = self._source.choice(chats), self._source.randint(1, _LONGEST_BURST)
            while self._open_messages() > 2 * self._plan.sessions:
                await asyncio.sleep(0.2)
            for _ in range(count):
                self._say(chat)
                await asyncio.sleep(self._source.choice((0.0, 0.0, 0.05)))

    def _say(self, chat: Chat) -> None:
        number = next(self._numbers)
        self._platforms[chat.platform].say(
            Offered(
                id=f"event-{number}",
                chat=chat.id,
                thread=self._source.choice(_THREADS),
                sender=self._source.choice(_NAMES),
                errand=errands.draw(self._source, number, self._plan.provider),
            )
        )


class Operators:
    """Call operations at random until cancelled. `stopped` are sessions somebody stopped; `reset` when which was."""

    def __init__(self, plan: Plan, keeper: Keeper) -> None:
        self._chats = plan.chats
        self._models = plan.models
        self._keeper = keeper
        self._source = plan.stream("operators")
        self.called: Counter[str] = Counter()
        self.stopped: set[str] = set()
        self.reset: dict[str, float] = {}

    async def operate(self) -> None:
        """Operation after operation; those that find no host, or lose it, are simply that."""
        actions = (
            (6, self._new), (6, self._stop), (4, self._rewire), (2, self._change_model), (4, self._status),
            (1, self._new_by_command), (1, self._stop_by_command), (2, self._status_by_command),
        )  # fmt: skip
        while True:
            await asyncio.sleep(self._source.expovariate(1 / 2.0))
            (action,) = self._source.choices([action for _, action in actions], [weight for weight, _ in actions])
            try:
                await action()
            except (NoHost, HostGone) as error:
                self.called[f"{action.__name__.strip('_')}: {type(error).__name__}"] += 1
            except (NotFound, Conflict):
                self.called[f"{action.__name__.strip('_')}: refused"] += 1
            else:
                self.called[action.__name__.strip("_")] += 1

    async def _new(self) -> None:
        if (session := await self._some_session()) is not None:
            await self._keeper.call("session.new", session=session)
            self.reset[session] = time.monotonic()

    async def _stop(self) -> None:
        if (session := await self._some_session()) is not None:
            self.stopped.add(session)
            await self._keeper.call("session.stop", session=session)

    async def _rewire(self) -> None:
        await self._keeper.call(
            "wiring.add",
            messaging_group=self._source.choice(self._chats).address,
            agent_group=AGENT_GROUP,
            session_mode=self._source.choice(("shared", "shared", "per-thread")),
            per_user=self._source.random() < 0.2,
            **self._source.choice(({"engage": "all"}, {"engage": "pattern", "pattern": "."})),
        )

    async def _change_model(self) -> None:
        model = self._source.choice(self._models)
        await self._keeper.call("agent_group.set", name=AGENT_GROUP, model=model)

    async def _status(self) -> None:
        await self._keeper.call("status")

    async def _new_by_command(self) -> None:
        if (session := await self._some_session()) is not None and await self._command("session", "new", session):
            self.reset[session] = time.monotonic()

    async def _stop_by_command(self) -> None:
        if (session := await self._some_session()) is not None:
            self.stopped.add(session)
            await self._command("session", "stop", session)

    async def _status_by_command(self) -> None:
        await self._command("status", "--json")

    async def _some_session(self) -> str | None:
        """An active session, as a person would pick one."""
        listed = await self._keeper.call("session.list", status="active", limit=50)
        return str(self._source.choice(listed)["id"]) if listed else None

    async def _command(self, *arguments: str) -> bool:
        """One command, with a host or without; whether it was done."""
        done = await asyncio.to_thread(
            subprocess.run,
            [COMMAND, "--data", str(self._keeper.layout.data), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            env=self._keeper.environment,
            check=False,
        )
        if "Traceback" in done.stderr:
            raise DumbwaiterError(f"a command broke: {done.stderr}")
        return done.returncode == 0
