"""Calls that may hang: how long they are waited for, and by whom."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from host.runtime.protocol import RuntimeUnavailable
from host.runtime.waiting import BoundedThreads
from tests.support.wait import until

_ROOT = Path(__file__).resolve().parents[2]
_HANGS = """
import asyncio, threading
from host.runtime.protocol import RuntimeUnavailable
from host.runtime.waiting import BoundedThreads

async def main():
    threads = BoundedThreads(2, "calls")
    try:
        await threads.call(threading.Event().wait, 0.1)
    except RuntimeUnavailable:
        print("given up", flush=True)
    threads.close()

asyncio.run(main())
"""


def test_a_call_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    """A host that is stopped over an engine that hangs is gone, and the next one can begin."""
    ended = subprocess.run([sys.executable, "-c", _HANGS], cwd=_ROOT, capture_output=True, timeout=60, check=True)
    assert ended.stdout == b"given up\n"


async def test_so_many_calls_are_made_at_once_and_the_others_after_them() -> None:
    threads, go, begun = BoundedThreads(2, "calls"), threading.Event(), []

    def call(number: int) -> int:
        begun.append(number)
        go.wait(60)
        return number

    calls = [asyncio.create_task(threads.call(partial(call, number), 60)) for number in range(5)]
    await until(lambda: len(begun) == 2, "two have begun")
    with pytest.raises(RuntimeUnavailable):
        await threads.call(lambda: call(5), 0.05)
    go.set()
    assert await asyncio.gather(*calls) == [0, 1, 2, 3, 4]
    assert sorted(begun) == [0, 1, 2, 3, 4], "one whose time was over was not made any more"
    with pytest.raises(ZeroDivisionError):
        await threads.call(lambda: 1 // 0, 60)
    names = [thread.name for thread in threading.enumerate()].count("calls")
    assert names == 2
    threads.close()
    with pytest.raises(RuntimeError):
        threads.submit(go.set)
    await until(lambda: "calls" not in [thread.name for thread in threading.enumerate()], "its threads have ended")


async def test_what_waits_is_not_made_after_the_end() -> None:
    threads, go = BoundedThreads(1, "calls"), threading.Event()
    first, second = threads.submit(lambda: go.wait(60)), threads.submit(go.set)
    await until(first.running, "the first runs")
    threads.close()
    assert second.cancelled()
    go.set()
    assert await asyncio.wrap_future(first)
