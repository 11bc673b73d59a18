"""One end of a connection: read from it, write to it, or join two of them so that each carries on what the other hears.

Nothing is kept beyond what one call of the kernel gives: who is full makes the other wait. What is kept counts in the
memory of the session, and what is done at a connection in its pace: a session that has used its part is not read from.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Flag, auto
from typing import cast

from host.backoff import Backoff
from host.gateway.memory import CONNECTION, Memory, MemoryAccount
from host.gateway.pace import Paces, SessionPace

FULL = 64 * 1024
"""Bytes that may wait to be read at one end before it takes no more; and the most that one read brings."""
_FLUSH_SECONDS = 10.0
_READ_SECONDS = 0.00003
"""What a read takes in the loop and the system besides the work that it begins."""
_CONNECTION_SECONDS = 0.0002
"""What making and ending a connection takes besides, also of one that is turned away."""


_SMALL = 1024
_SMALL_READS = 3
_REST = Backoff(0.005, 0.32)
"""A head comes in one piece or two. Of one that comes in more and small ones the next is read after a rest, which
doubles each time: meanwhile the pieces gather with the system, and a byte at a time costs no work each."""


class _Pause(Flag):
    """Why a connection is not read from."""

    FULL = auto()
    OTHER_IS_FULL = auto()
    PACE = auto()
    MEMORY = auto()
    PIECES = auto()


class Connection(asyncio.Protocol):
    """A stream connection, made by asyncio. `opened` and `closed` are told once each.

    `pace` and `memory` are those of its session.
    """

    def __init__(
        self,
        opened: Callable[[Connection], None] | None = None,
        closed: Callable[[Connection], None] | None = None,
        pace: SessionPace | None = None,
        memory: MemoryAccount | None = None,
    ) -> None:
        self.pace = Paces().new() if pace is None else pace
        self.memory = Memory().new() if memory is None else memory
        self._held = 0
        self._paused = _Pause(0)
        self._loop = asyncio.get_running_loop()
        self._opened, self._closed = opened, closed
        self._arrived = bytearray()
        self._news = asyncio.Event()  # something arrived that is waited for, or nothing will any more
        self._wanted: tuple[bytes, int] | None = None  # the mark that is waited for, and within how many bytes
        self._looked = 0  # bytes of what arrived in which it is not
        self._small_reads = 0
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._other: Connection | None = None
        self.on_end: Callable[[], object] | None = None  # told when the other side ends its direction or is lost
        self.transport: asyncio.Transport
        self._flush: asyncio.TimerHandle | None = None
        self.moved = self._loop.time()
        self.ended = self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        began = time.perf_counter()
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=0)  # what cannot be sent at once fills it: one write waits at most
        self.transport.max_size = FULL  # type: ignore[attr-defined]  # of one read; asyncio's own is four times that
        self._count()
        if self._opened is not None:
            self._opened(self)
        self.pace.charge(time.perf_counter() - began + _CONNECTION_SECONDS)

    def data_received(self, data: bytes) -> None:
        began = time.perf_counter()
        self.moved = self._loop.time()
        if self._other is not None:
            self._other.write(data)
        else:
            self._arrived += data
            if len(self._arrived) >= FULL:
                self._pause(_Pause.FULL)
            if self._wanted is None or self._is_there(*self._wanted):
                self._news.set()
            elif len(data) < _SMALL:
                self._rest()
            self._count()
        if self.memory.is_full:
            self._pause(_Pause.MEMORY)
            self.memory.when_there_is_room(lambda: self._go_on(_Pause.MEMORY))
        self.pace.charge(time.perf_counter() - began + _READ_SECONDS)
        if not self.pace.may_go_on:
            self._pause(_Pause.PACE)
            self.pace.when_it_may(lambda: self._go_on(_Pause.PACE))

    def eof_received(self) -> bool:
        self._end()
        if self._other is not None:
            self._other.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if self._flush is not None:
            self._flush.cancel()
        self._may_write.set()
        self._end()
        self._count()
        if self._other is not None:
            self._other._go_on(_Pause.OTHER_IS_FULL)
        if self._closed is not None:
            self._closed(self)

    def pause_writing(self) -> None:
        self._may_write.clear()
        self._count()
        if self._other is not None:
            self._other._pause(_Pause.OTHER_IS_FULL)

    def resume_writing(self) -> None:
        self._may_write.set()
        self._count()
        if self._other is not None:
            self._other._go_on(_Pause.OTHER_IS_FULL)

    def _pause(self, why: _Pause) -> None:
        if not self._paused and not self.transport.is_closing():
            self.transport.pause_reading()
        self._paused |= why

    def _is_there(self, mark: bytes, limit: int) -> bool:
        """Whether what is waited for has arrived, or cannot any more."""
        is_there = self._arrived.find(mark, self._looked) >= 0 or len(self._arrived) >= limit
        if not is_there:
            self._looked = max(0, len(self._arrived) - len(mark) + 1)
        return is_there

    def _rest(self) -> None:
        """Read on after a while: what is waited for comes in small pieces."""
        self._small_reads += 1
        if self._small_reads >= _SMALL_READS:
            self._pause(_Pause.PIECES)
            self._loop.call_later(_REST.after(1 + self._small_reads - _SMALL_READS), self._go_on, _Pause.PIECES)

    def _go_on(self, why: _Pause) -> None:
        was = self._paused
        self._paused &= ~why
        if was and not self._paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _count(self) -> None:
        """Tell the session's memory what is kept here."""
        held = 0 if self.lost else CONNECTION + len(self._arrived) + self.transport.get_write_buffer_size()
        if held != self._held:
            more, self._held = held - self._held, held
            self.memory.take(more)

    async def read(self, most: int = FULL * 4) -> bytes:
        """What has arrived, once there is something, up to `most` bytes of it; nothing at the end."""
        while not self._arrived and not self.ended:
            self._news.clear()
            await self._news.wait()
        return self._taken(min(most, len(self._arrived)))

    def _taken(self, number: int) -> bytes:
        data = bytes(self._arrived[:number])
        del self._arrived[:number]
        if len(self._arrived) < FULL:
            self._go_on(_Pause.FULL)
        self._count()
        return data

    async def read_until(self, mark: bytes, limit: int) -> bytes | None:
        """All up to and with `mark`; None when it is not within `limit` bytes. Raises `EOFError` when the end is."""
        self._wanted, self._looked, self._small_reads = (mark, limit), 0, 0
        try:
            while not self._is_there(mark, limit):
                if self.ended:
                    raise EOFError
                self._news.clear()
                await self._news.wait()
        finally:
            self._wanted = None
        at = self._arrived.find(mark, self._looked)
        end = at + len(mark)
        return None if at < 0 or end > limit else self._taken(end)

    def write(self, data: bytes) -> None:
        """Send, or keep until it can be sent; `drain` waits."""
        if not self.transport.is_closing():
            self.transport.write(data)
            self._count()

    def write_eof(self) -> None:
        """No more is sent."""
        if not self.transport.is_closing():
            self.transport.write_eof()

    async def drain(self, seconds: float) -> None:
        """Wait until there is room. Raises `ConnectionResetError` when the other side is gone or takes nothing."""
        if not self._may_write.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._may_write.wait()
            except TimeoutError as error:
                raise ConnectionResetError from error
        if self.lost:
            raise ConnectionResetError

    async def join(self, other: Connection, idle_seconds: float) -> None:
        """Carry everything between the two until both directions are done, one is lost, or nothing moves for long."""
        over = asyncio.Event()

        def look() -> None:
            if self.lost or other.lost or (self.ended and other.ended):
                over.set()

        for one, to in ((self, other), (other, self)):
            one.on_end = look
            one._other = to
            if not to._may_write.is_set():
                one._pause(_Pause.OTHER_IS_FULL)
            if one._arrived:
                to.write(one._taken(len(one._arrived)))
            if one.ended:
                to.write_eof()
        look()
        while not over.is_set():
            quiet = self._loop.time() - max(self.moved, other.moved)
            if quiet >= idle_seconds:
                return
            try:
                async with asyncio.timeout(idle_seconds - quiet):
                    await over.wait()
            except TimeoutError:
                continue

    async def swallow(self, seconds: float) -> None:
        """Read and forget what still comes, so that an answer sent before is not lost with it."""
        try:
            async with asyncio.timeout(seconds):
                while await self.read():
                    await self.pace.turn()
        except TimeoutError:
            return

    def close(self) -> None:
        """Send what waits to be sent, for a while, and end."""
        if not self.lost:
            self.transport.close()
            self._flush = self._loop.call_later(_FLUSH_SECONDS, self.abort)

    def close_read(self) -> None:
        """End at once what nothing was read of: unread bytes would make the system take back what was just written."""
        with suppress(OSError):
            os.read(self.transport.get_extra_info("socket").fileno(), FULL)
        self.close()

    def abort(self) -> None:
        """End at once."""
        if not self.lost:
            self.transport.abort()

    def _end(self) -> None:
        self.ended = True
        self._news.set()
        if self.on_end is not None:
            self.on_end()
