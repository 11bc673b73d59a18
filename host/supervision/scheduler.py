"""Each session is reconciled by one task at a time, any number of sessions at once.

Scheduling a session while it is being reconciled leads to exactly one more time. `reconcile` returns when the next time
is due without being scheduled. What it raises is logged here and stays with its session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import field

from host.background import boundary
from shared_schema.dataclass import dataclass

log = logging.getLogger(__name__)

_BROKEN_SECONDS = 2.0

Reconcile = Callable[[str], Awaitable[float | None]]


@dataclass(slots=True)
class _Gate:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: bool = False
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None  # what the last reconcile asked for
    soon: asyncio.TimerHandle | None = None  # what `schedule_within` asked for
    users: int = 0

    def is_free(self) -> bool:
        return self.task is None and self.timer is None and self.soon is None and self.users == 0

    def forget_soon(self) -> None:
        if self.soon is not None:
            self.soon.cancel()
            self.soon = None


class SessionScheduler:
    """Calls `reconcile`, which returns the seconds until the next time is due, or None."""

    def __init__(self, reconcile: Reconcile) -> None:
        self._reconcile = reconcile
        self._gates: dict[str, _Gate] = {}
        self._open = False

    def open(self) -> None:
        """Begin; scheduling before has no effect."""
        self._open = True

    def schedule(self, session_id: str) -> None:
        """Reconcile a session soon."""
        if not self._open:
            return
        gate = self._gates.setdefault(session_id, _Gate())
        gate.forget_soon()
        gate.wanted = True
        if gate.task is None:
            gate.task = asyncio.create_task(self._serve(session_id, gate), name=f"reconcile {session_id}")

    def schedule_within(self, session_id: str, seconds: float) -> None:
        """Reconcile a session after that time at the latest."""
        if not self._open:
            return
        gate = self._gates.setdefault(session_id, _Gate())
        loop = asyncio.get_running_loop()
        if gate.soon is not None:
            if gate.soon.when() <= loop.time() + seconds:
                return
            gate.forget_soon()
        gate.soon = loop.call_later(seconds, self.schedule, session_id)

    @asynccontextmanager
    async def holding(self, session_id: str) -> AsyncIterator[None]:
        """Do not reconcile a session while it is changed; reconcile it once afterwards."""
        gate = self._gates.setdefault(session_id, _Gate())
        gate.users += 1
        try:
            async with gate.lock:
                yield
        finally:
            gate.users -= 1
            self.schedule(session_id)

    async def close(self) -> None:
        """Let what is under way finish, and start nothing else."""
        self._open = False
        for gate in self._gates.values():
            gate.forget_soon()
            self._set_timer("", gate, None)
        tasks = [gate.task for gate in self._gates.values() if gate.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, session_id: str, gate: _Gate) -> None:
        try:
            while gate.wanted and self._open:
                gate.wanted = False  # before the lock: scheduling while this runs leads to one more
                async with gate.lock:
                    due = await self._reconcile_safely(session_id)
                self._set_timer(session_id, gate, due)
        finally:
            gate.task = None
            if gate.is_free():
                self._gates.pop(session_id, None)

    async def _reconcile_safely(self, session_id: str) -> float | None:
        with boundary(log, "a session could not be reconciled", session_id=session_id):
            return await self._reconcile(session_id)
        return _BROKEN_SECONDS

    def _set_timer(self, session_id: str, gate: _Gate, seconds: float | None) -> None:
        if gate.timer is not None:
            gate.timer.cancel()
            gate.timer = None
        if seconds is not None and self._open:
            gate.timer = asyncio.get_running_loop().call_later(seconds, self._fire, session_id, gate)

    def _fire(self, session_id: str, gate: _Gate) -> None:
        gate.timer = None
        self.schedule(session_id)
