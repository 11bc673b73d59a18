"""`python -m container_agent`: the only module that reads the environment; builds the objects and runs the loop.

    DUMBWAITER_SESSION             the session folder                          /session
    DUMBWAITER_WORKSPACE           the agent group's folder                    /workspace
    DUMBWAITER_NOTIFY              `auto` or `off`: use file events            auto
    DUMBWAITER_POLL_SECONDS        how often inbound.db is looked at anyway    1.0
    DUMBWAITER_HEARTBEAT_SECONDS   how often .heartbeat is touched             5.0
    DUMBWAITER_STOP_SECONDS        what a turn still gets after SIGTERM        5.0
    DUMBWAITER_SHARED              `1`: the session lies on a shared mount     0
    DUMBWAITER_GATEWAY             the gateway's socket                        gateway.sock in the session folder
    DUMBWAITER_RUN_NUMBER          the number of this run of the session       none: nothing is compared

Exit status: 0 stopped by a signal, 1 cannot go on (the last line says why), 2 a wrong setting, 74 the files cannot be
used, 75 a provider would not end its turn, 76 another run has taken its place.
"""

from __future__ import annotations

from container_agent import deferred
from shared_schema import collector

collector.wait()
deferred.defer()  # before asyncio is imported

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Self

from container_agent import providers
from container_agent.check import checking
from container_agent.fence import Fence, Superseded
from container_agent.heartbeat import Heartbeat
from container_agent.lock import alone
from container_agent.loop import Loop
from container_agent.outbox import Outbox
from container_agent.providers.protocol import Closing, Provider, TurnOutput, TurnRequest
from container_agent.turn_watch import WillNotEnd
from container_agent.wake import Waker
from shared_schema.clock import Clock, SystemClock
from shared_schema.dataclass import dataclass
from shared_schema.errors import EXIT_FILES, DumbwaiterError, FileTrouble, InvalidValue, NotFound
from shared_schema.layout import CONTAINER_SESSION, CONTAINER_WORKSPACE, SessionLayout
from shared_schema.signals import end_with

if TYPE_CHECKING:
    from container_agent.forwarder import Forwarder
    from container_agent.providers.model_seams import TurnSetup
    from container_agent.tools.background import BackgroundProcesses
    from container_agent.tools.notifications import Notifications
    from container_agent.tools.tool_setup import ToolSetup

log = logging.getLogger("container_agent")

EXIT_WILL_NOT_END = 75
EXIT_SUPERSEDED = 76
UMASK = 0o007  # the host may read the agent's files through its group


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Where things are and how often to look; all times in seconds."""

    session: Path
    workspace: Path
    use_events: bool
    poll_seconds: float
    heartbeat_seconds: float
    stop_seconds: float
    run: int | None = None
    shared: bool = False
    way_out: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Raises `InvalidValue`, naming the variable."""
        notify = environment.get("DUMBWAITER_NOTIFY", "auto")
        if notify not in ("auto", "off"):
            raise InvalidValue(f"DUMBWAITER_NOTIFY is '{notify}'", hint="use auto or off")

        def seconds(name: str, otherwise: float, *, may_be_zero: bool = False) -> float:
            value = environment.get(name, str(otherwise))
            try:
                number = float(value)
            except ValueError:
                number = -1.0
            if not 0 <= number < 1e6 or (number == 0 and not may_be_zero):
                raise InvalidValue(f"{name} is '{value}'", hint="use a number of seconds above 0")
            return number

        return cls(
            session=Path(environment.get("DUMBWAITER_SESSION", CONTAINER_SESSION)),
            workspace=Path(environment.get("DUMBWAITER_WORKSPACE", CONTAINER_WORKSPACE)),
            use_events=notify == "auto",
            poll_seconds=seconds("DUMBWAITER_POLL_SECONDS", 1.0),
            heartbeat_seconds=seconds("DUMBWAITER_HEARTBEAT_SECONDS", 5.0),
            stop_seconds=seconds("DUMBWAITER_STOP_SECONDS", 5.0, may_be_zero=True),
            run=_run_number(environment.get("DUMBWAITER_RUN_NUMBER", "")),
            shared=environment.get("DUMBWAITER_SHARED", "0") == "1",
            way_out=Path(way) if (way := environment.get("DUMBWAITER_GATEWAY")) else None,
        )


def _run_number(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise InvalidValue(f"DUMBWAITER_RUN_NUMBER is '{text}'", hint="use a whole number")
    return int(text)


class LoadedProviders:
    """The providers of one agent process, with what they need: tools, prompts, and the way out.

    `environment` is the environment of SDKs and programs; what the forwarder sets in it, all of them see.
    `note_processes` writes into the session's file which background processes there are, `note_notifications` what MCP
    servers have notified of.
    """

    def __init__(
        self,
        session: SessionLayout,
        clock: Clock,
        environment: Mapping[str, str],
        note_processes: Callable[[str], None],
        note_notifications: Callable[[str], None],
    ) -> None:
        self._session = session
        self._note_processes = note_processes
        self._note_notifications = note_notifications
        self._processes: BackgroundProcesses | None = None
        self._notifications: Notifications | None = None
        self._clock = clock
        self.environment = dict(environment)
        self._loaded: dict[str, Provider] = {}
        self._tool_setups: dict[str, ToolSetup] = {}
        self._forwarder: Forwarder | None = None
        self._has_port = False

    def load(self, name: str) -> Provider:
        """The provider of that name. Raises `ProviderError`."""

        async def set_up(request: TurnRequest, out: TurnOutput) -> TurnSetup:
            await self.open_way_out()
            if name not in self._tool_setups:
                # An agent without tools need not load them.
                from container_agent.tools.background import BackgroundProcesses
                from container_agent.tools.notifications import Notifications
                from container_agent.tools.tool_setup import ToolSetup

                if self._processes is None:
                    self._processes = BackgroundProcesses(self._note_processes)
                if self._notifications is None:
                    self._notifications = Notifications(self._note_notifications)
                self._tool_setups[name] = ToolSetup(
                    self._clock, self.environment, self._processes, self._notifications, brings_own=name == "claude"
                )
            return await self._tool_setups[name].set_up(request, out)

        if name not in self._loaded:
            self._loaded[name] = providers.load(name, set_up, self.environment, self)
        return self._loaded[name]

    async def ready(self, name: str) -> None:
        """Make the way out before a provider that needs it is asked for anything."""
        if name in providers.ONLINE:
            await self.open_way_out()

    async def open_way_out(self) -> None:
        """Open it, where it is not open yet. An agent that the host gives none, or not yet, works on without."""
        from container_agent.forwarder import Forwarder, environment

        if self._forwarder is None:
            self._forwarder = Forwarder(self._session)
        try:
            self.environment.update(environment(await self._forwarder.port()))
            self._has_port = True
        except NotFound as error:
            log.info("%s", error)

    async def mark(self) -> str | None:
        """As `Forwarder.mark`; for an agent without a way out always the same."""
        return "" if self._forwarder is None or not self._has_port else await self._forwarder.mark()

    async def back(self, seconds: float) -> str | None:
        """As `Forwarder.back`."""
        return "" if self._forwarder is None or not self._has_port else await self._forwarder.back(seconds)

    async def close(self) -> None:
        """End tools and connections."""
        if self._processes is not None:
            await self._processes.close()
        for tool_setup in self._tool_setups.values():
            await tool_setup.close()
        if self._notifications is not None:
            self._notifications.close()
        for provider in self._loaded.values():
            if isinstance(provider, Closing):
                await provider.aclose()
        if self._forwarder is not None:
            await self._forwarder.aclose()


async def live(settings: AgentSettings, environment: Mapping[str, str]) -> None:
    """One agent, from its first heartbeat until it is told to stop."""
    session = SessionLayout(settings.session, settings.shared, settings.way_out)
    clock = SystemClock()
    fence = Fence(session.inbound, settings.run, shared=settings.shared)
    with (
        alone(session.agent_lock),
        closing(Outbox(session, clock, fence)) as outbox,
        closing(
            Waker(
                session.inbound,
                poll_seconds=settings.poll_seconds,
                use_events=settings.use_events,
                adapts=settings.shared,
            )
        ) as waker,
    ):
        loaded = LoadedProviders(session, clock, environment, outbox.set_processes, outbox.set_notifications)
        loop = Loop(
            session,
            settings.workspace,
            outbox=outbox,
            waker=waker,
            load=loaded.load,
            ready=loaded.ready,
            clock=clock,
            stop_seconds=settings.stop_seconds,
            check=checking(loaded.environment),
        )
        end_with(asyncio.get_running_loop(), loop.stop)
        heartbeat = Heartbeat(session.heartbeat, settings.heartbeat_seconds, fence)
        heartbeat.touch()  # the host that sees it may send a signal, which from here on ends the loop in good order
        beating = asyncio.create_task(heartbeat.beat())
        try:
            await loop.run()
        finally:
            await loaded.close()
            beating.cancel()


async def _live_or_leave(settings: AgentSettings, environment: Mapping[str, str]) -> None:
    """`live`, and the end of the process when a provider goes on for ever, or must not: asyncio would wait for it."""
    try:
        await live(settings, environment)
    except (WillNotEnd, Superseded) as error:
        log.error("%s", error)
        logging.shutdown()
        os._exit(EXIT_SUPERSEDED if isinstance(error, Superseded) else EXIT_WILL_NOT_END)


def main() -> int:
    """Run until a signal. Returns the exit status."""
    os.umask(UMASK)
    deferred.complete()
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    collector.begin()
    try:
        asyncio.run(_live_or_leave(AgentSettings.from_environment(os.environ), os.environ))
    except InvalidValue as error:
        log.error("%s", error)
        return 2
    except FileTrouble as error:
        log.error("%s", error)
        return EXIT_FILES
    except DumbwaiterError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
