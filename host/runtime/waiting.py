"""Waiting without holding up the host's loop, and never without a limit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from host.runtime.protocol import AgentHandle, Runtime, RuntimeUnavailable

_Result = TypeVar("_Result")

_FIRST_PAUSE = 0.02  # seconds between two looks at an agent that is ending; grows to the longest
_LONGEST_PAUSE = 0.25


class BoundedThreads:
    """Threads for calls that may hang. A caller waits as long as it says; a thread is lost until its call returns.

    The end of the process waits for none of them, as it would for those of an executor.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._name = name
        self._to_begin = threads
        self._idle = threading.Semaphore(0)
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False

    def submit(self, function: Callable[[], _Result]) -> Future[_Result]:
        """Have a call made. Raises `RuntimeError` after `close`."""
        future: Future[_Result] = Future()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("no more calls are made here")
            if not self._idle.acquire(blocking=False) and self._to_begin:
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
                self._to_begin -= 1
            self._calls.put((future, function))
        return future

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
        with self._lock:
            self._is_closed = True
            with suppress(Empty):
                while call := self._calls.get_nowait():
                    call[0].cancel()
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function = call
            if future.set_running_or_notify_cancel():
                try:
                    result = function()
                except BaseException as error:  # raised by who waits for it
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del call, future, function  # nothing is kept while it waits for the next
            self._idle.release()
        self._calls.put(None)  # for the other threads


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
