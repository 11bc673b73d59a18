"""The one timer of all schedules. It sleeps until the earliest due time, and costs nothing until then.

It is woken when a schedule is added or changed, when a run may have ended (any commit while runs go on), and every
`CLOCK_SECONDS` to compare the wall clock with the monotonic one, which touches no file: a clock that was set, or a
machine that slept, shows by that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path

from host.background import boundary, heard, in_background
from host.central import agent_groups, schedule_runs, schedules, triggers
from host.central.database import Central, Queryable, Transaction
from host.central.triggers import Trigger
from host.schedules import folder_watch, runs
from host.schedules.heartbeat import HeartbeatFacts
from host.schedules.heartbeat_file import look
from shared_schema.clock import Clock, from_text, to_text

log = logging.getLogger(__name__)

CLOCK_SECONDS = 5.0
WATCH_SECONDS = 2.0
JUMP_SECONDS = 1.5
"""Wall and monotonic clock part by so much between two looks: the clock was set, or the machine slept."""
_BETWEEN_LOOKS = 0.2
"""Ends of runs are looked for so often at most, however many commits there are."""
_BETWEEN_BATCHES = 0.3
"""Of a thousand schedules that are due at once so many seconds pass between one `AT_ONCE` and the next: all of them
have begun after half a minute, and a session's folder is made for each meanwhile."""
_RETRY_SECONDS = 2.0


class ScheduleTimer:
    """Begins runs when they are due and takes down how they ended.

    `changed` is set when a schedule was; `workspace` is that of an agent group's folder; `following` has an event that
    is set after each commit.
    """

    def __init__(
        self,
        central: Central,
        clock: Clock,
        changed: asyncio.Event,
        workspace: Callable[[str], Path],
        following: Callable[[], AbstractContextManager[asyncio.Event]],
    ) -> None:
        self._central = central
        self._clock = clock
        self._changed = changed
        self._workspace = workspace
        self._files: dict[str, frozenset[str]] = {}  # of each trigger, as they were at the last look
        self._following = following
        self._watches = asyncio.Event()
        """Set while a trigger watches a folder."""
        self._has_open = asyncio.Event()
        """Set while a run may be open, whose end is a commit of something else."""
        self._starts = 0
        self._offset = self._wall_offset()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do so until the block ends."""
        async with in_background(self._start_loop(), self._end_loop(), self._watch_loop(), name="schedules"):
            yield

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
            await heard(self._changed, CLOCK_SECONDS)

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
            await self._has_open.wait()
            with self._following() as news:
                while self._has_open.is_set():
                    news.clear()  # before looking: a commit meanwhile is not lost
                    retry = await self._guarded(self._close_ended)
                    if self._has_open.is_set():
                        await heard(news, retry)  # what failed is tried again though nothing else is committed
                        await asyncio.sleep(_BETWEEN_LOOKS)

    async def _watch_loop(self) -> None:
        """Look into the folders that triggers watch, while there are any."""
        while True:
            await self._watches.wait()
            await self._guarded(self._watch)
            await asyncio.sleep(WATCH_SECONDS)

    async def _watch(self) -> float | None:
        seen = await asyncio.to_thread(self._new_files)
        if seen:
            now = self._clock.now()

            def store(tx: Transaction) -> None:
                for trigger, key, path in seen:
                    triggers.offer(tx, trigger, key, path, now)

            await self._central.write(store)
            self._changed.set()
        return None

    def _new_files(self) -> list[tuple[Trigger, str, str]]:
        """New files of watched folders that were the same at the last look: no program writes them any more. Blocks."""

        def watched(connection: Queryable) -> list[tuple[Trigger, str, frozenset[str]]]:
            found = []
            for trigger, agent_group_id in triggers.of_files(connection):
                group = agent_groups.by_id(connection, agent_group_id)
                if group is not None:
                    found.append((trigger, group.folder, triggers.known(connection, trigger.schedule_id)))
            return found

        found, looked = [], {}
        for trigger, folder, known in self._central.read_here(watched):
            files = folder_watch.files(self._workspace(folder), trigger.place, trigger.pattern)
            before = self._files.get(trigger.schedule_id, frozenset())
            found += [(trigger, key, path) for key, path in files.items() if key in before and key not in known]
            looked[trigger.schedule_id] = frozenset(files)
        self._files = looked
        return found

    async def _guarded(self, step: Callable[[], Awaitable[float | None]]) -> float | None:
        """Take a step; seconds until the next one. What is wrong with it ends no other one."""
        with boundary(log, "a step of the schedules failed"):
            return await step()
        return _RETRY_SECONDS

    async def _start_due(self) -> float | None:
        """Begin what is due; seconds until the next one is."""
        self._expect_ends()  # a person may have begun a run by hand
        while True:
            at, watches = await self._central.read(_next_due)
            if watches:
                self._watches.set()
            else:
                self._watches.clear()
            now = self._clock.now()
            wait = None if at is None else (from_text(at) - now).total_seconds()
            if wait is None or wait > 0:
                return wait
            beats = await self._central.read(_due_heartbeats, now=to_text(now))
            # Threads are for those alone: all of them may be busy with the folders of sessions that have just begun.
            facts = await asyncio.to_thread(self._look, beats) if beats else {}
            is_more = await self._central.write(runs.start_due, now=now, facts=facts)
            self._expect_ends()
            if is_more:  # a person's message comes in between, and so does what follows from it
                await asyncio.sleep(_BETWEEN_BATCHES)

    async def _close_ended(self) -> float | None:
        while True:
            starts = self._starts
            found, is_any_open = await self._central.read(_anything_ended)
            if not found:
                if not is_any_open and starts == self._starts:  # else one began while it was looked
                    self._has_open.clear()
                return None
            now = self._clock.now()
            await self._central.write(runs.close_ended, now=now)
            self._changed.set()  # what was due while its run went on is due now

    def _expect_ends(self) -> None:
        self._starts += 1
        self._has_open.set()

    async def _plan_anew(self) -> float | None:
        now = self._clock.now()
        if changed := await self._central.write(runs.plan_anew, now):
            log.warning("schedules are planned anew, because the clock was set back", extra={"schedules": changed})
        return None

    def _look(self, beats: list[tuple[str, str]]) -> dict[str, HeartbeatFacts]:
        """What the workspaces of heartbeats hold, by schedule; `beats` has their ids and folders. Blocks."""
        return {schedule_id: look(self._workspace(folder)) for schedule_id, folder in beats}

    def _wall_offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()


def _next_due(connection: Queryable) -> tuple[str | None, bool]:
    """When the next schedule is due, and whether a trigger watches a folder; neither while everything is paused."""
    if schedules.paused(connection) is not None:
        return None, False
    return schedules.next_due(connection), bool(triggers.of_files(connection))


def _due_heartbeats(connection: Queryable, now: str) -> list[tuple[str, str]]:
    """The heartbeats among what begins next: the ids of their schedules, and the folders of their agent groups."""
    found = []
    for schedule in schedules.due(connection, now, runs.AT_ONCE):
        group = agent_groups.by_id(connection, schedule.agent_group_id) if schedule.is_heartbeat else None
        if group is not None:
            found.append((schedule.id, group.folder))
    return found


def _anything_ended(connection: Queryable) -> tuple[bool, bool]:
    ended = schedule_runs.answered(connection, 1) or schedule_runs.sent(connection, 1)
    return bool(ended), schedule_runs.is_any_open(connection)
