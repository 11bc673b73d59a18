"""Sessions share the loop: no request holds it up for long, however much work is in what it sends."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from host.gateway.memory import ALL, Memory
from host.gateway.pace import RATE, RATE_OF_MANY, Paced, Paces, Slices
from host.gateway.server import Transport
from tests.gateway.world import World, world

POST = b"POST /upstream/openai/v1/responses HTTP/1.1\r\nHost: x\r\n"
LONGEST_STEP = 0.06  # seconds of the processor in one turn of the loop


class Turns:
    """The longest turn of the loop, in seconds of the processor: what else the machine does is not in it."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._at = time.thread_time()
        self._ends = False

    def look(self) -> None:
        now = time.thread_time()
        self.longest, self._at = max(self.longest, now - self._at), now
        if not self._ends:
            asyncio.get_running_loop().call_soon(self.look)

    def end(self) -> None:
        self._ends = True


@asynccontextmanager
async def watched(here: World) -> AsyncIterator[Turns]:
    """Turns of the loop, once the first call has loaded what it needs."""
    await here.message()
    turns = Turns()
    turns.look()
    try:
        yield turns
    finally:
        turns.end()


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        (POST + b"Content-Length: 99999999\r\n\r\n", b"\\u006d"),
        (POST + b"Content-Length: 99999999\r\n\r\n", b"["),
        (POST + b"Content-Length: 99999999\r\n\r\n", b'"a'),
    ],
    ids=["chunks", "escapes", "brackets", "strings"],
)
async def test_a_body_full_of_work_is_done_in_small_steps(tmp_path: Path, head: bytes, piece: bytes) -> None:
    async with world(tmp_path, Transport.UNIX) as here, watched(here) as turns:
        _, writer = await here.connect()
        writer.write(head)
        for _ in range(8):
            writer.write(piece * (100_000 // len(piece)))
            await asyncio.sleep(0.05)
        assert turns.longest < LONGEST_STEP
        writer.close()


@pytest.mark.parametrize("what", ["chunks", "interim", "usage"])
async def test_a_reply_full_of_work_is_done_in_small_steps(tmp_path: Path, what: str) -> None:
    flood = {
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 100_000,
        "interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
        "usage": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + b'data: {"usage":{}}\n' * 20_000,
    }[what]

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        if not body.startswith(b"flood"):
            return web.json_response({"usage": {}})
        assert request.transport is not None
        request.transport.write(flood)  # type: ignore[attr-defined]
        await asyncio.sleep(20)
        return web.Response()

    async with world(tmp_path, Transport.UNIX) as here:
        here.service.respond = respond
        async with watched(here) as turns:
            _, writer = await here.connect()
            writer.write(POST + b"Content-Length: 5\r\n\r\nflood")
            await asyncio.sleep(1)
            assert turns.longest < LONGEST_STEP
            writer.close()


@pytest.mark.full  # it judges times, which says something only on a machine that does nothing else
async def test_sessions_at_work_share_the_time_and_one_alone_has_more() -> None:
    async def work(seconds: float) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            began = time.perf_counter()
            while time.perf_counter() - began < 0.0005:
                pass
            used[asyncio.current_task()] = used.get(asyncio.current_task(), 0.0) + time.perf_counter() - began
            await asyncio.sleep(0)

    used: dict[object, float] = {}
    paces = Paces()
    await asyncio.create_task(Paced(work(1.0), paces.new()))
    assert sum(used.values()) < RATE * 1.0 + 0.1

    used.clear()
    await asyncio.sleep(0.2)
    greedy, modest = paces.new(), paces.new()
    tasks = [asyncio.create_task(Paced(work(1.0), pace)) for pace in (*[greedy] * 20, modest)]
    await asyncio.gather(*tasks)
    assert sum(used.values()) < RATE_OF_MANY * 1.0 + 0.2
    assert used[tasks[-1]] > 0.3 * sum(used.values())  # one task, and as much as twenty of the other session


async def test_what_is_cancelled_while_it_waits_for_its_turn_ends_at_once() -> None:
    async def sleep() -> None:
        await asyncio.sleep(60)

    pace = Paces().new()
    pace.charge(100)
    task = asyncio.create_task(Paced(sleep(), pace))
    await asyncio.sleep(0.01)
    task.cancel()
    async with asyncio.timeout(1):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_connection_that_waits_for_its_sessions_turn_when_that_ends_is_closed(tmp_path: Path) -> None:
    async with world(tmp_path, Transport.UNIX) as here:
        here.gateway._sessions[here.session_id].pace.charge(100)
        reader, _ = await here.connect()
        for _ in range(20):  # in which it is seen that one connects
            await asyncio.sleep(0)
        await here.gateway.close(here.session_id)
        async with asyncio.timeout(60):
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
    gc.collect()  # an open socket that nobody holds is a warning, and that an error


async def test_who_may_keep_no_more_waits_until_it_has_less() -> None:
    memory = Memory()
    one, other = memory.new(), memory.new()
    one.take(ALL // 2)
    assert one.is_full
    assert not other.is_full
    waited: list[str] = []
    one.when_there_is_room(lambda: waited.append("room"))
    one.take(-ALL // 4)
    assert waited == ["room"]
    async with other.call():
        assert other.held > 0
    assert other.held == 0


async def test_calls_whose_requests_fill_the_room_begin_one_after_the_other_and_do_not_wait_for_each_other() -> None:
    memory = Memory()
    account = memory.new()
    account.take(memory.part())  # what has arrived of all of them
    begun: list[int] = []

    async def call(number: int) -> None:
        async with account.call():
            begun.append(number)
            await asyncio.sleep(0)

    async with asyncio.timeout(1), asyncio.TaskGroup() as calls:
        for number in range(5):
            calls.create_task(call(number))
    assert begun == [0, 1, 2, 3, 4]
    assert account.held == memory.part()


def test_a_machine_that_stood_still_for_a_moment_costs_nobody_more_than_two_seconds() -> None:
    now = 0.0
    paces = Paces(lambda: now)
    sessions = [paces.new() for _ in range(10)]
    for pace in sessions:
        pace.charge(5.0)
    assert not any(pace.may_go_on for pace in sessions)
    now += 2.5
    assert all(pace.may_go_on for pace in sessions)


def test_pieces_that_take_long_become_smaller() -> None:
    slices = Slices()
    for _ in range(20):
        slices.took(1.0)
    assert slices.size == Slices.SMALLEST
    for _ in range(20):
        slices.took(0.0)
    assert slices.size == Slices.LARGEST
