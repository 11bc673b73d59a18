"""One end of a connection: read from it, write to it, or join two of them so that each carries on what the other hears.

Nothing is kept beyond what one call of the kernel gives: whoever is full makes the other wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

FULL = 256 * 1024
"""Bytes that may wait at one end, in either direction, before it takes no more."""
_FLUSH_SECONDS = 10.0


class Wire(asyncio.Protocol):
    """A stream connection, made by asyncio. `opened` and `closed` are told once each."""

    def __init__(
        self, opened: Callable[[Wire], None] | None = None, closed: Callable[[Wire], None] | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._opened, self._closed = opened, closed
        self._arrived = bytearray()
        self._news = asyncio.Event()  # something arrived, or nothing will any more
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._other: Wire | None = None
        self.on_end: Callable[[], object] | None = None  # told when the other side ends its direction or is lost
        self.transport: asyncio.Transport
        self._flush: asyncio.TimerHandle | None = None
        self.moved = self._loop.time()
        self.ended = self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=FULL)
        if self._opened is not None:
            self._opened(self)

    def data_received(self, data: bytes) -> None:
        self.moved = self._loop.time()
        if self._other is not None:
            self._other.write(data)
            return
        self._arrived += data
        self._news.set()
        if len(self._arrived) >= FULL:
            self.transport.pause_reading()

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
        if self._other is not None:
            self._other.hear_again()
        if self._closed is not None:
            self._closed(self)

    def pause_writing(self) -> None:
        self._may_write.clear()
        if self._other is not None:
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        self._may_write.set()
        if self._other is not None:
            self._other.hear_again()

    def hear_again(self) -> None:
        """Hear again what this side sends."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    async def read(self) -> bytes:
        """Whatever has arrived, once there is something; nothing at the end."""
        while not self._arrived and not self.ended:
            self._news.clear()
            await self._news.wait()
        data = bytes(self._arrived)
        self._arrived.clear()
        if len(data) >= FULL:
            self.hear_again()
        return data

    async def read_until(self, mark: bytes, limit: int) -> bytes | None:
        """All up to and with `mark`; None when it is not within `limit` bytes. Raises `EOFError` when the end is."""
        start = 0
        while (at := self._arrived.find(mark, start)) < 0:
            if len(self._arrived) > limit:
                return None
            if self.ended:
                raise EOFError
            start = max(0, len(self._arrived) - len(mark) + 1)
            self._news.clear()
            await self._news.wait()
        end = at + len(mark)
        if end > limit:
            return None
        was_full = len(self._arrived) >= FULL
        data = bytes(self._arrived[:end])
        del self._arrived[:end]
        if was_full:
            self.hear_again()
        return data

    def write(self, data: bytes) -> None:
        """Send, or keep until it can be sent; `drain` waits."""
        if not self.transport.is_closing():
            self.transport.write(data)

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

    async def join(self, other: Wire, idle_seconds: float) -> None:
        """Carry everything between the two until both directions are done, one is lost, or nothing moves for long."""
        over = asyncio.Event()

        def look() -> None:
            if self.lost or other.lost or (self.ended and other.ended):
                over.set()

        for one, to in ((self, other), (other, self)):
            one.on_end = look
            one._other = to
            if one._arrived:
                to.write(bytes(one._arrived))
                one._arrived.clear()
                if to._may_write.is_set():
                    one.hear_again()
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
                    pass
        except TimeoutError:
            return

    def close(self) -> None:
        """Send what waits to be sent, for a while, and end."""
        if not self.lost:
            self.transport.close()
            self._flush = self._loop.call_later(_FLUSH_SECONDS, self.abort)

    def abort(self) -> None:
        """End at once."""
        if not self.lost:
            self.transport.abort()

    def _end(self) -> None:
        self.ended = True
        self._news.set()
        if self.on_end is not None:
            self.on_end()
