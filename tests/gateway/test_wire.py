"""One end of a connection: what is read of it, in how many pieces."""

from __future__ import annotations

import asyncio
import socket

from host.gateway.connection import Connection

HEAD = b"GET / HTTP/1.1\r\nX: " + b"y" * 100 + b"\r\n\r\n"


class Counting(Connection):
    """Counts the pieces in which something arrives."""

    pieces = 0

    def data_received(self, data: bytes) -> None:
        self.pieces += 1
        super().data_received(data)


async def test_a_head_that_comes_byte_by_byte_is_read_in_few_pieces() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)  # a full one is no reason to hold up the loop
    with theirs:
        _, wire = await asyncio.get_running_loop().create_connection(Counting, sock=ours)
        reading = asyncio.create_task(wire.read_until(b"\r\n\r\n", 1000))
        await asyncio.sleep(0)
        for at in range(len(HEAD)):
            theirs.send(HEAD[at : at + 1])
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            assert await reading == HEAD
        assert wire.pieces < len(HEAD) / 3
        wire.abort()
        await asyncio.sleep(0)


async def test_a_head_is_read_to_its_end_and_what_comes_behind_it_is_left() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)  # a full one is no reason to hold up the loop
    with theirs:
        _, wire = await asyncio.get_running_loop().create_connection(Counting, sock=ours)
        theirs.send(HEAD + b"behind")
        assert await wire.read_until(b"\r\n\r\n", 1000) == HEAD
        assert await wire.read() == b"behind"
        theirs.send(b"x" * 999)
        reading = asyncio.create_task(wire.read_until(b"\r\n\r\n", 1000))
        await asyncio.sleep(0)
        theirs.send(b"\r\n\r\n")
        assert await reading is None  # its end is behind the limit
        wire.abort()
        await asyncio.sleep(0)
