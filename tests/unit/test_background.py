"""What is done again and again outlives its failures, waits no longer than it says, and ends when it is to."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from host.background import boundary, heard, in_background, repeat
from shared_schema.errors import DumbwaiterError, FileTrouble

log = logging.getLogger(__name__)

LONG = 3600.0
FAILURES = pytest.mark.parametrize("error", [FileTrouble("the disk is full"), ValueError("not foreseen")], ids=str)


class Work:
    """A step that does in turn what it was given: it fails, or returns how long to wait. Then it waits for ever."""

    def __init__(self, *turns: Exception | float | None) -> None:
        self._turns = list(turns)
        self.began: list[float] = []
        self.is_done = asyncio.Event()

    async def step(self) -> float | None:
        self.began.append(time.monotonic())
        if not self._turns:
            self.is_done.set()
            return None
        turn = self._turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn


async def done(work: Work) -> list[float]:
    """Seconds between the steps, once all were taken."""
    async with asyncio.timeout(10):
        await work.is_done.wait()
    return [after - before for before, after in zip(work.began, work.began[1:], strict=False)]


@FAILURES
async def test_a_step_that_fails_is_logged_and_taken_again_after_a_while(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(error, error)
    repeated = repeat(work.step, log=log, failure="a look failed", retry_seconds=0.05, hook="hok_1")
    async with in_background(repeated, name="work"):
        assert all(0.04 <= pause < 5 for pause in await done(work))
    assert len(work.began) == 3
    for record in caplog.records:
        assert (record.message, record.levelname, record.name) == ("a look failed", "ERROR", __name__)
        assert record.__dict__["hook"] == "hok_1"
        if isinstance(error, DumbwaiterError):
            assert (record.__dict__["error"], record.exc_info) == (str(error), None)
        else:
            assert record.exc_info is not None, "where it comes from is said"
    assert len(caplog.records) == 2


async def test_a_step_says_when_the_next_one_follows() -> None:
    work = Work(0.05, 0.0)
    async with in_background(repeat(work.step, log=log, failure="", retry_seconds=LONG), name="work"):
        first, second = await done(work)
    assert 0.04 <= first < 5
    assert second < first


@pytest.mark.parametrize("wait", [None, LONG, FileTrouble("the disk is full")], ids=str)
async def test_news_come_in_before_the_time(wait: float | Exception | None) -> None:
    news, work = asyncio.Event(), Work(wait)
    async with in_background(repeat(work.step, log=log, failure="", retry_seconds=LONG, news=news), name="work"):
        await asyncio.sleep(0)
        assert len(work.began) == 1
        news.set()
        await done(work)
        assert not news.is_set(), "they were taken"


async def test_news_that_come_during_a_step_lead_to_another_one() -> None:
    news, steps, is_second = asyncio.Event(), 0, asyncio.Event()

    async def step() -> None:
        nonlocal steps
        steps += 1
        if steps == 1:
            news.set()
        else:
            is_second.set()

    async with in_background(repeat(step, log=log, failure="", retry_seconds=LONG, news=news), name="work"):
        async with asyncio.timeout(10):
            await is_second.wait()


async def test_what_is_done_in_background_is_over_when_the_block_is() -> None:
    ends: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(0)  # it puts something in order
            ends.append(name)

    async def block() -> None:
        async with in_background(work("one"), work("two"), name="work"):
            await asyncio.sleep(0)
            raise DumbwaiterError("the block fails")

    with pytest.raises(DumbwaiterError):
        await block()
    assert ends == ["one", "two"]


async def test_a_cancelled_step_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def step() -> None:
        await asyncio.sleep(LONG)

    task = asyncio.create_task(repeat(step, log=log, failure="", retry_seconds=LONG))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert caplog.records == []


@FAILURES
def test_what_is_behind_a_boundary_goes_on(error: Exception) -> None:
    results = []
    for each in (error, None):
        with boundary(log, "one of two failed"):
            if each is not None:
                raise each
            results.append("the other")
    assert results == ["the other"]


def test_a_boundary_stops_no_signal_to_leave() -> None:
    with pytest.raises(KeyboardInterrupt), boundary(log, "one failed"):
        raise KeyboardInterrupt


async def test_a_wait_has_an_end_and_says_whether_there_is_news() -> None:
    news = asyncio.Event()
    assert not await heard(news, 0.01)
    assert not await heard(news, 0.0)
    news.set()
    assert await heard(news, None)
    assert await heard(news, 0.0)
