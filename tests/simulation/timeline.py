"""Time that is played: one line of events for all machines, processes that freeze and die, and an event loop on it."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

_EPOCH = datetime(2026, 3, 1, tzinfo=UTC)
_MOST_LAST_STEPS = 1_000_000


class Timeline:
    """Runs what is due in its order; `now` is in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._line: list[tuple[float, int, Process | None, Callable[[], object]]] = []
        self._number = 0

    def at(self, when: float, run: Callable[[], object], of: Process | None = None) -> None:
        """Run something then, unless the process that it belongs to is dead by then, or later, while it is frozen."""
        self._number += 1
        heapq.heappush(self._line, (max(when, self.now), self._number, of, run))

    def run(self, until: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        while self._line and self._line[0][0] <= until and not is_over():
            self.now, _, process, run = heapq.heappop(self._line)
            self.steps += 1
            if process is None or process.takes(run):
                run()
        self.now = max(self.now, until) if not is_over() else self.now


class Process:
    """Something that runs on a machine: a host, or an agent."""

    def __init__(self, timeline: Timeline, machine: Machine) -> None:
        self.is_alive = True
        self.machine = machine
        self._timeline = timeline
        self._frozen = 0
        self._parked: list[Callable[[], object]] = []

    @property
    def is_frozen(self) -> bool:
        return self._frozen > 0

    def takes(self, run: Callable[[], object]) -> bool:
        """Whether it runs now; a frozen one does it when it wakes."""
        if self.is_frozen and self.is_alive:
            self._parked.append(run)
        return self.is_alive and not self.is_frozen

    def freeze(self) -> None:
        self._frozen += 1

    def thaw(self) -> None:
        """Wake: all that was due meanwhile runs now."""
        self._frozen = max(0, self._frozen - 1)
        if not self._frozen:
            for run in self._parked:
                self._timeline.at(self._timeline.now, run, self)
            self._parked.clear()

    def kill(self) -> None:
        self.is_alive = False
        self._parked.clear()


class Machine:
    """A machine with clocks of its own: off by some days, and a little too fast or too slow.

    It is a `Clock`. `mount_lag`: how late it sees what another machine has changed; `has_mount`: whether the mount
    answers it; `has_network`: whether hosts reach its engine.
    """

    def __init__(self, timeline: Timeline, name: str, *, rate: float, off: float, mount_lag: float) -> None:
        self.name = name
        self.mount_lag = mount_lag
        self.has_mount = True
        self.has_network = True
        self._timeline = timeline
        self._rate = rate
        self._off = off

    def now(self) -> datetime:
        return _EPOCH + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return 1e6 + self._off + self._timeline.now * self._rate

    def moment(self, monotonic: float) -> float:
        """When on the timeline its clock shows that."""
        return (monotonic - 1e6 - self._off) / self._rate


class VirtualLoop(asyncio.AbstractEventLoop):
    """An event loop of one process on the timeline. Threads are played as well: what blocks is done a moment later."""

    def __init__(self, timeline: Timeline, process: Process, delay: Callable[[], float]) -> None:
        self.failures: list[str] = []
        self._timeline = timeline
        self._process = process
        self._delay = delay
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._due: dict[asyncio.Handle, None] = {}
        self._last: list[asyncio.Handle] | None = None  # of a dead process: what its tasks still run to their end

    def time(self) -> float:
        return self._process.machine.monotonic()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._add(handle, self._timeline.now)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._add(handle, self._process.machine.moment(when))
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coroutine: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=self, name=name, context=context)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        if self._last is not None:
            task.cancel()
        return task

    def run_in_executor(self, executor: Any, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()
        self.call_later(self._delay(), self._work, future, partial(function, *args))
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._process.is_alive:
            self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is skipped when it is due."""

    def end(self) -> None:
        """The process was killed: its tasks are cancelled, so that nothing of them is left. They reach nothing more."""
        assert not self._process.is_alive
        # A task that is about to begin must, to be cancelled; of timers none is waited for any more.
        self._last = [handle for handle in self._due if not isinstance(handle, asyncio.TimerHandle)]
        for task in list(self._tasks):
            task.cancel()
        for _ in range(_MOST_LAST_STEPS):
            if not self._last:
                break
            self._run(self._last.pop(0))
        else:
            raise AssertionError("a dead process does not come to its end")
        self._due.clear()

    def _add(self, handle: asyncio.Handle, when: float) -> None:
        if self._last is not None:
            if not isinstance(handle, asyncio.TimerHandle):
                self._last.append(handle)
            return
        self._due[handle] = None
        self._timeline.at(when, partial(self._run, handle), self._process)

    def _work(self, future: asyncio.Future[Any], function: Callable[[], Any]) -> None:
        if future.cancelled():
            return
        try:
            result = function()
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _run(self, handle: asyncio.Handle) -> None:
        self._due.pop(handle, None)
        if handle.cancelled():
            return
        asyncio._set_running_loop(self)
        try:
            handle._run()
        finally:
            asyncio._set_running_loop(None)
