"""One look at a time for each session, any number of sessions at once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator

import pytest

from host.supervision.scheduler import SessionScheduler
from shared_schema.errors import DumbwaiterError
from tests.support.wait import until


class Looker:
    """Counts looks, and holds those of one session until it is told to let go."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.inside: Counter[str] = Counter()
        self.most_inside: Counter[str] = Counter()
        self.errors: dict[str, Exception] = {}
        self.due: dict[str, list[float | None]] = defaultdict(list)
        self.held: dict[str, asyncio.Event] = {}
        self.scheduler = SessionScheduler(self.reconcile)

    async def reconcile(self, session_id: str) -> float | None:
        self.begun[session_id] += 1
        self.inside[session_id] += 1
        self.most_inside[session_id] = max(self.most_inside[session_id], self.inside[session_id])
        try:
            if session_id in self.held:
                await self.held[session_id].wait()
            else:
                await asyncio.sleep(0)
            if session_id in self.errors:
                raise self.errors[session_id]
            return self.due[session_id].pop() if self.due[session_id] else None
        finally:
            self.inside[session_id] -= 1
            self.ended[session_id] += 1

    def hold(self, session_id: str) -> asyncio.Event:
        self.held[session_id] = asyncio.Event()
        return self.held[session_id]

    async def others_had_their_turn(self) -> None:
        """Wait until looks that were asked for later have come and gone, several times over."""
        for number in range(5):
            name = f"other {number} {sum(self.begun.values())}"
            self.scheduler.schedule(name)
            await until(lambda name=name: self.ended[name] == 1, "another session was looked at")  # type: ignore[misc]


@pytest.fixture
async def looker() -> AsyncIterator[Looker]:
    """An open scheduler and what it reconciles."""
    made = Looker()
    made.scheduler.open()
    yield made
    for held in made.held.values():
        held.set()
    await made.scheduler.close()


async def test_asking_leads_to_a_look(looker: Looker) -> None:
    looker.scheduler.schedule("a")
    await until(lambda: looker.ended["a"] == 1, "a was looked at")
    await looker.others_had_their_turn()
    assert looker.begun["a"] == 1


async def test_a_session_has_one_look_at_a_time_however_often_it_is_asked_for(looker: Looker) -> None:
    for _ in range(200):
        looker.scheduler.schedule("a")
        await asyncio.sleep(0)
    await until(lambda: looker.ended["a"] == looker.begun["a"] > 1, "the looks came to an end")
    assert looker.most_inside["a"] == 1


async def test_asking_during_a_look_leads_to_exactly_one_more(looker: Looker) -> None:
    go = looker.hold("a")
    looker.scheduler.schedule("a")
    await until(lambda: looker.begun["a"] == 1, "the look began")
    for _ in range(10):
        looker.scheduler.schedule("a")
    await looker.others_had_their_turn()
    assert looker.begun["a"] == 1
    go.set()
    await until(lambda: looker.ended["a"] == 2, "the second look came to an end")
    await looker.others_had_their_turn()
    assert looker.begun["a"] == 2


async def test_sessions_do_not_wait_for_each_other(looker: Looker) -> None:
    looker.hold("slow")
    for name in ("slow", "a", "b", "c"):
        looker.scheduler.schedule(name)
    await until(lambda: all(looker.ended[name] == 1 for name in "abc"), "the others were looked at")
    assert (looker.begun["slow"], looker.ended["slow"]) == (1, 0)


@pytest.mark.parametrize("error", [DumbwaiterError("the file is damaged"), ValueError("a bug"), TimeoutError()])
async def test_what_breaks_in_one_session_stays_there(
    looker: Looker, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    looker.errors["bad"] = error
    with caplog.at_level(logging.ERROR):
        looker.scheduler.schedule("bad")
        looker.scheduler.schedule("good")
        await until(lambda: looker.ended["bad"] == looker.ended["good"] == 1, "both were looked at")
        looker.scheduler.schedule("bad")
        looker.scheduler.schedule("good")
        await until(lambda: looker.ended["bad"] == looker.ended["good"] == 2, "both were looked at again")
    assert [vars(record)["session_id"] for record in caplog.records] == ["bad", "bad"]
    assert [bool(record.exc_info) for record in caplog.records] == [not isinstance(error, DumbwaiterError)] * 2


async def test_a_session_that_broke_is_looked_at_again_by_itself(looker: Looker) -> None:
    looker.errors["bad"] = ValueError("a bug")
    looker.scheduler.schedule("bad")
    await until(lambda: looker.ended["bad"] == 2, "it was tried again", 10)


async def test_a_look_says_when_the_next_one_is_due(looker: Looker) -> None:
    looker.due["a"] = [None, 0.01, 0.01, 0.0]
    looker.scheduler.schedule("a")
    await until(lambda: looker.ended["a"] == 4, "three more looks came by themselves")
    await looker.others_had_their_turn()
    assert looker.begun["a"] == 4


async def test_a_look_that_is_asked_for_takes_the_place_of_the_one_that_is_due(looker: Looker) -> None:
    looker.due["a"] = [None, 3600.0]
    looker.scheduler.schedule("a")
    await until(lambda: looker.ended["a"] == 1, "the first look")
    looker.scheduler.schedule("a")
    await until(lambda: looker.ended["a"] == 2, "the second look")


async def test_a_look_within_a_time_comes_by_itself(looker: Looker) -> None:
    looker.scheduler.schedule_within("one", 0.01)
    await until(lambda: looker.ended["one"] == 1, "it came")
    await looker.others_had_their_turn()
    assert looker.begun["one"] == 1


async def test_of_two_looks_within_a_time_the_earlier_serves_both(looker: Looker) -> None:
    looker.scheduler.schedule_within("one", 3600)
    looker.scheduler.schedule_within("one", 0.01)
    looker.scheduler.schedule_within("one", 3600)
    await until(lambda: looker.ended["one"] == 1, "it came")


async def test_a_look_that_is_asked_for_serves_who_would_have_waited(looker: Looker) -> None:
    looker.scheduler.schedule_within("one", 0.05)
    looker.scheduler.schedule("one")
    looker.scheduler.schedule_within("two", 0.1)
    await until(lambda: looker.ended["two"] == 1, "the time is over")
    assert looker.begun["one"] == 1


async def test_holding_keeps_looks_away_and_one_follows(looker: Looker) -> None:
    async with looker.scheduler.holding("a"):
        for _ in range(5):
            looker.scheduler.schedule("a")
        await looker.others_had_their_turn()
        assert looker.begun["a"] == 0
    await until(lambda: looker.ended["a"] >= 1, "the look that follows")
    await looker.others_had_their_turn()
    assert (looker.most_inside["a"], looker.begun["a"] <= 2) == (1, True)


async def test_holding_waits_for_the_look_that_is_under_way(looker: Looker) -> None:
    go = looker.hold("a")
    looker.scheduler.schedule("a")
    await until(lambda: looker.begun["a"] == 1, "the look began")
    order: list[str] = []

    async def change() -> None:
        async with looker.scheduler.holding("a"):
            order.append(f"{looker.inside['a']} looks inside")

    changing = asyncio.create_task(change())
    await looker.others_had_their_turn()
    assert order == []
    go.set()
    await changing
    assert order == ["0 looks inside"]


async def test_two_who_hold_the_same_session_come_one_after_the_other(looker: Looker) -> None:
    inside, most = 0, 0

    async def change() -> None:
        nonlocal inside, most
        async with looker.scheduler.holding("a"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(change() for _ in range(10)))
    assert most == 1


async def test_a_look_follows_also_when_the_change_failed(looker: Looker) -> None:
    async def fail() -> None:
        async with looker.scheduler.holding("a"):
            raise DumbwaiterError("it did not work")

    with pytest.raises(DumbwaiterError):
        await fail()
    await until(lambda: looker.ended["a"] == 1, "the look that follows")


async def test_before_it_opens_asking_has_no_effect(looker: Looker) -> None:
    closed = Looker()
    closed.scheduler.schedule("a")
    async with closed.scheduler.holding("a"):
        pass
    await looker.others_had_their_turn()
    assert closed.begun == Counter()


async def test_closing_lets_the_look_under_way_finish_and_starts_no_other(looker: Looker) -> None:
    go = looker.hold("a")
    looker.scheduler.schedule("a")
    await until(lambda: looker.begun["a"] == 1, "the look began")
    looker.scheduler.schedule("a")
    looker.due["b"] = [0.001]
    closing = asyncio.create_task(looker.scheduler.close())
    await asyncio.sleep(0)
    assert not closing.done()
    go.set()
    await closing
    looker.scheduler.schedule("a")
    looker.scheduler.schedule("b")
    assert (looker.begun["a"], looker.ended["a"], looker.begun["b"]) == (1, 1, 0)
