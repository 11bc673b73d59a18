"""What the host does beside everything else, again and again. What goes wrong once ends none of it.

`in_background` is a task for as long as a block, `repeat` its loop, `boundary` what no failure gets past, and `heard` a
wait that has an end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn

from shared_schema.errors import DumbwaiterError


@asynccontextmanager
async def in_background(*work: Coroutine[None, None, object], name: str) -> AsyncIterator[None]:
    """Do the work in tasks of its own until the block ends; they are cancelled then, and waited for."""
    tasks = [asyncio.create_task(each, name=name) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def repeat(
    step: Callable[[], Awaitable[float | None]],
    *,
    log: logging.Logger,
    failure: str,
    retry_seconds: float,
    news: asyncio.Event | None = None,
    **ids: object,
) -> NoReturn:
    """Take a step again and again, until this is cancelled.

    A step returns after how many seconds the next one follows; None: when there is `news`, which also comes in before
    that time. A step that fails is logged with `failure` and its ids; the next one follows after `retry_seconds`.
    """
    news = asyncio.Event() if news is None else news
    while True:
        news.clear()  # before the step, so that what is new meanwhile leads to one more
        wait: float | None = retry_seconds
        with boundary(log, failure, **ids):
            wait = await step()
        await heard(news, wait)


@contextmanager
def boundary(log: logging.Logger, failure: str, **ids: object) -> Iterator[None]:
    """Log what the block raises, as `failure` with its ids, and go on behind it. A cancellation goes on raising."""
    try:
        yield
    except DumbwaiterError as error:
        log.error(failure, extra=ids | {"error": str(error)})
    except Exception:  # not foreseen, so where it comes from is logged as well
        log.exception(failure, extra=ids)


async def heard(news: asyncio.Event, seconds: float | None) -> bool:
    """Wait until there is news, so many seconds at most (None: without an end); whether there is."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True
