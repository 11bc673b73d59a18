"""Waiting without holding up the host's loop, and never without a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from host.runtime.protocol import AgentHandle, Runtime, RuntimeUnavailable

_Result = TypeVar("_Result")

_FIRST_PAUSE = 0.02  # seconds between two looks at an agent that is ending; grows to the longest
_LONGEST_PAUSE = 0.25


class BoundedThreads:
    """Threads for calls that may hang. A caller waits as long as it says; a thread is lost until its call returns."""

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def submit(self, function: Callable[[], _Result]) -> Future[_Result]:
        """Have a call made. Raises `RuntimeError` after `close`."""
        return self._executor.submit(function)

    async def call(self, function: Callable[[], _Result], limit: float) -> _Result:
        """What a call returns or raises; `RuntimeUnavailable` after `limit` seconds."""
        return await self.result(self.submit(function), limit)

    async def result(self, future: Future[_Result], limit: float) -> _Result:
        """The same for a call that was submitted. One that waits for a thread is not made any more when time is up."""
        try:
            async with asyncio.timeout(limit):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise RuntimeUnavailable(
                f"the engine did not answer within {limit:g} seconds", hint="`docker info` shows whether it answers"
            ) from error

    def close(self) -> None:
        """Make no more calls; those that run are left to end."""
        self._executor.shutdown(wait=False, cancel_futures=True)


async def ended_within(runtime: Runtime, handle: AgentHandle, seconds: float) -> bool:
    """Whether an agent ends within that time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    pause = _FIRST_PAUSE
    while (await runtime.poll(handle)).alive:
        if loop.time() >= end:
            return False
        await asyncio.sleep(min(pause, max(0.0, end - loop.time())))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return True
