"""Nobody has more than one of the threads that all share."""

from __future__ import annotations

import asyncio
import threading

import pytest

from host.fair_threads import FairThreads


async def test_an_owner_with_much_to_do_leaves_a_thread_to_the_others() -> None:
    threads = FairThreads(2, "test")
    gate = threading.Event()
    try:
        busy = [asyncio.create_task(threads.run("one", lambda: gate.wait(20))) for _ in range(50)]
        async with asyncio.timeout(60):
            assert await threads.run("two", lambda: "served") == "served"
            assert await threads.run(None, lambda: "served, too") == "served, too"
    finally:
        gate.set()
        await asyncio.gather(*busy)
        threads.close()


async def test_what_an_owner_asks_is_done_in_order() -> None:
    threads = FairThreads(2, "test")
    done: list[int] = []
    await asyncio.gather(*(threads.run("one", lambda number=number: done.append(number)) for number in range(20)))  # type: ignore[misc]
    threads.close()
    assert done == list(range(20))


async def test_who_is_cancelled_leaves_the_line_and_a_thread_at_work_is_waited_for() -> None:
    threads = FairThreads(2, "test")
    gate = threading.Event()
    done: list[str] = []
    at_work = asyncio.create_task(threads.run("one", lambda: gate.wait(20)))
    waiting = asyncio.create_task(threads.run("one", lambda: done.append("never")))
    await asyncio.sleep(0)
    waiting.cancel()
    at_work.cancel()
    later = asyncio.create_task(threads.run("one", lambda: done.append("later")))
    await asyncio.sleep(0)
    assert not done
    gate.set()
    for task in (at_work, waiting):
        with pytest.raises(asyncio.CancelledError):
            await task
    await later
    threads.close()
    assert done == ["later"]
