"""One look at a time for each session, any number of sessions at once.

Whoever notices something asks for a look; asking while one is under way leads to exactly one more. A look returns when
the next is due without being asked for. What one look breaks is logged here and stays with its session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from shared_schema.errors import DumbwaiterError

log = logging.getLogger(__name__)

_BROKEN_SECONDS = 2.0

Look = Callable[[str], Awaitable[float | None]]


@dataclass(slots=True)
class _Gate:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: bool = False
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None  # what the last look asked for
    soon: asyncio.TimerHandle | None = None  # what somebody else asked for
    users: int = 0

    def is_free(self) -> bool:
        return self.task is None and self.timer is None and self.soon is None and self.users == 0

    def forget_soon(self) -> None:
        if self.soon is not None:
            self.soon.cancel()
            self.soon = None


class Turnstile:
    """Serves sessions with `look`, which returns the seconds until the next look is due, or None."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._gates: dict[str, _Gate] = {}
        self._open = False

    def open(self) -> None:
        """Begin to serve; asking for a look before has no effect."""
        self._open = True

    def attend(self, session_id: str) -> None:
        """Ask for a look at a session, soon."""
        if not self._open:
            return
        gate = self._gates.setdefault(session_id, _Gate())
        gate.forget_soon()
        gate.wanted = True
        if gate.task is None:
            gate.task = asyncio.create_task(self._serve(session_id, gate), name=f"look {session_id}")

    def attend_within(self, session_id: str, seconds: float) -> None:
        """Ask for a look at a session after that time, or before."""
        if not self._open:
            return
        gate = self._gates.setdefault(session_id, _Gate())
        loop = asyncio.get_running_loop()
        if gate.soon is not None:
            if gate.soon.when() <= loop.time() + seconds:
                return
            gate.forget_soon()
        gate.soon = loop.call_later(seconds, self.attend, session_id)

    @asynccontextmanager
    async def holding(self, session_id: str) -> AsyncIterator[None]:
        """Keep looks away from a session while it is changed; one look follows."""
        gate = self._gates.setdefault(session_id, _Gate())
        gate.users += 1
        try:
            async with gate.lock:
                yield
        finally:
            gate.users -= 1
            self.attend(session_id)

    async def close(self) -> None:
        """Let the looks that are under way finish, and start no other."""
        self._open = False
        for gate in self._gates.values():
            gate.forget_soon()
            self._set_timer("", gate, None)
        tasks = [gate.task for gate in self._gates.values() if gate.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, session_id: str, gate: _Gate) -> None:
        try:
            while gate.wanted and self._open:
                gate.wanted = False
                async with gate.lock:
                    due = await self._look_safely(session_id)
                self._set_timer(session_id, gate, due)
        finally:
            gate.task = None
            if gate.is_free():
                self._gates.pop(session_id, None)

    async def _look_safely(self, session_id: str) -> float | None:
        try:
            return await self._look(session_id)
        except DumbwaiterError as error:
            log.error("a session could not be looked after", extra={"session": session_id, "error": str(error)})
        except Exception:  # the boundary of one session: whatever is wrong with it stays with it
            log.exception("a session could not be looked after", extra={"session": session_id})
        return _BROKEN_SECONDS

    def _set_timer(self, session_id: str, gate: _Gate, seconds: float | None) -> None:
        if gate.timer is not None:
            gate.timer.cancel()
            gate.timer = None
        if seconds is not None and self._open:
            gate.timer = asyncio.get_running_loop().call_later(seconds, self._fire, session_id, gate)

    def _fire(self, session_id: str, gate: _Gate) -> None:
        gate.timer = None
        self.attend(session_id)
