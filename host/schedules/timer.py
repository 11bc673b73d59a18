"""The one timer of all schedules. It sleeps until the earliest due time, and costs nothing until then.

It is woken when a schedule is added or changed, when a run may have ended (any commit while runs go on), and every
`CLOCK_SECONDS` to compare the wall clock with the monotonic one, which touches no file: a clock that was set, or a
machine that slept, shows by that.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from host.central import agent_groups, schedule_runs, schedules
from host.central.database import Central
from host.schedules import runs
from host.schedules.heartbeat import HeartbeatFacts
from host.schedules.heartbeat_file import look
from host.schedules.runs import RunEffects
from shared_schema.clock import Clock, from_text, to_text
from shared_schema.errors import DumbwaiterError

log = logging.getLogger(__name__)

CLOCK_SECONDS = 5.0
JUMP_SECONDS = 1.5
"""Wall and monotonic clock part by so much between two looks: the clock was set, or the machine slept."""
_BETWEEN_LOOKS = 0.2
"""Ends of runs are looked for so often at most, however many commits there are."""
_RETRY_SECONDS = 2.0


class ScheduleTimer:
    """Begins runs when they are due and takes down how they ended.

    `follow` hears of what follows from each step, after its commit; `workspace` is that of an agent group's folder.
    """

    def __init__(
        self,
        central: Central,
        clock: Clock,
        changed: asyncio.Event,
        follow: Callable[[RunEffects], None],
        workspace: Callable[[str], Path],
    ) -> None:
        self._central = central
        self._clock = clock
        self._changed = changed
        self._follow = follow
        self._workspace = workspace
        self._ended = asyncio.Event()
        self._has_open = False
        self._starts = 0
        self._offset = self._wall_offset()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do so until the block ends."""
        loop = asyncio.get_running_loop()

        def committed() -> None:
            if self._has_open:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._ended.set)

        with self._central.watched(committed):
            tasks = [asyncio.create_task(self._start_loop()), asyncio.create_task(self._end_loop())]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _start_loop(self) -> None:
        await self._guarded(self._plan_anew)
        while True:
            self._changed.clear()
            if self._clock_moved() < 0:
                await self._guarded(self._plan_anew)
            wait = await self._guarded(self._start_due)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._sleep()

    async def _sleep(self) -> None:
        """Until something has changed, the clock among it."""
        while not self._changed.is_set() and abs(self._wall_offset() - self._offset) < JUMP_SECONDS:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOCK_SECONDS):
                    await self._changed.wait()

    def _clock_moved(self) -> float:
        """Seconds by which the wall clock was set since this was asked last; 0: as good as not."""
        before, self._offset = self._offset, self._wall_offset()
        moved = self._offset - before
        if abs(moved) < JUMP_SECONDS:
            return 0.0
        log.warning("the clock was set, or the machine slept", extra={"seconds": round(moved, 1)})
        return moved

    async def _end_loop(self) -> None:
        while True:
            self._ended.clear()  # before looking: a commit meanwhile is not lost
            await self._guarded(self._close_ended)
            await self._ended.wait()
            await asyncio.sleep(_BETWEEN_LOOKS)

    async def _guarded(self, step: Callable[[], object]) -> float | None:
        """Take a step; seconds until the next one. What is wrong with it ends no other one."""
        try:
            result = step()
            return await result if asyncio.iscoroutine(result) else None
        except DumbwaiterError as error:
            log.error("schedules wait for the ledger", extra={"error": str(error)})
        except Exception:  # the boundary of one step: the timer goes on
            log.exception("a step of the schedules failed")
        return _RETRY_SECONDS

    async def _start_due(self) -> float | None:
        """Begin what is due; seconds until the next one is."""
        self._expect_ends()  # a person may have begun a run by hand
        while True:
            at = await self._central.read(_next_due)
            now = self._clock.now()
            wait = None if at is None else (from_text(at) - now).total_seconds()
            if wait is None or wait > 0:
                return wait
            facts = await asyncio.to_thread(self._look, to_text(now))
            effects = await self._central.write(partial(runs.start_due, now=now, facts=facts))
            self._expect_ends()
            self._follow(effects)

    async def _close_ended(self) -> float | None:
        while True:
            starts = self._starts
            found, is_any_open = await self._central.read(_anything_ended)
            if not found:
                self._has_open = is_any_open or starts != self._starts  # one that began while it was looked
                return None
            now = self._clock.now()
            effects = await self._central.write(partial(runs.close_ended, now=now))
            self._follow(effects)
            self._changed.set()  # what was due while its run went on is due now

    def _expect_ends(self) -> None:
        self._starts += 1
        self._has_open = True
        self._ended.set()

    async def _plan_anew(self) -> float | None:
        now = self._clock.now()
        if changed := await self._central.write(lambda c: runs.plan_anew(c, now)):
            log.warning("schedules are planned anew, because the clock was set back", extra={"schedules": changed})
        return None

    def _look(self, now: str) -> dict[str, HeartbeatFacts]:
        """What the workspaces of due heartbeats hold, by schedule. Blocks."""

        def due(connection: sqlite3.Connection) -> list[tuple[str, str]]:
            found = []
            for schedule in schedules.due(connection, now, runs.AT_ONCE):
                group = agent_groups.by_id(connection, schedule.agent_group_id) if schedule.is_heartbeat else None
                if group is not None:
                    found.append((schedule.id, group.folder))
            return found

        beats = self._central.read_here(due)
        return {schedule_id: look(self._workspace(folder)) for schedule_id, folder in beats}

    def _wall_offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()


def _next_due(connection: sqlite3.Connection) -> str | None:
    return None if schedules.paused(connection) is not None else schedules.next_due(connection)


def _anything_ended(connection: sqlite3.Connection) -> tuple[bool, bool]:
    ended = schedule_runs.answered(connection, 1) or schedule_runs.sent(connection, 1)
    return bool(ended), schedule_runs.is_any_open(connection)
