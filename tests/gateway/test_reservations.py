"""A budget holds against calls that are made at once."""

from __future__ import annotations

import asyncio

import pytest

from host.gateway.refusal import Refused
from host.gateway.reservations import BudgetLeft, Release, Reservations

GROUP = "agr_1"


class Budget:
    """A budget of tokens and what was used of it."""

    def __init__(self, tokens: int) -> None:
        self.tokens, self.used = tokens, 0

    async def left(self) -> BudgetLeft:
        left = self.tokens - self.used
        await asyncio.sleep(0)
        return BudgetLeft(tokens=max(0, left), exhausted="It is used up." if left <= 0 else None)


async def test_calls_at_once_use_no_more_than_what_is_left() -> None:
    reservations, budget = Reservations(0.3), Budget(1000)
    under_way = highest = made = 0

    async def call(can_use: int, uses: int) -> bool:
        nonlocal under_way, highest, made
        try:
            release = await reservations.reserve(GROUP, can_use, 0.0, budget.left)
        except Refused:
            return False
        under_way += can_use
        highest = max(highest, under_way)
        await asyncio.sleep(0.01)
        under_way -= can_use
        budget.used += uses
        made += 1
        release()
        return True

    answers = await asyncio.gather(*(call(300, 200) for _ in range(256)))
    assert highest <= 900
    assert budget.used == 1000
    assert (sum(answers), made) == (5, 5)


async def test_the_only_call_under_way_may_go_past_what_is_left_and_no_second_one_with_it() -> None:
    reservations, budget = Reservations(0.05), Budget(10)
    release = await reservations.reserve(GROUP, 1000, 0.0, budget.left)
    with pytest.raises(Refused) as refused:
        await reservations.reserve(GROUP, 1, 0.0, budget.left)
    assert (refused.value.status, refused.value.retry_after) == (429, 10)
    release()
    release()  # once is enough, and twice harms nobody
    (await reservations.reserve(GROUP, 1, 0.0, budget.left))()
    budget.used = 10
    with pytest.raises(Refused, match="used up"):
        await reservations.reserve(GROUP, 1, 0.0, budget.left)


async def test_who_waits_goes_on_when_a_reservation_is_given_back_and_who_leaves_has_none() -> None:
    reservations, budget = Reservations(20), Budget(100)
    first = await reservations.reserve(GROUP, 80, 0.0, budget.left)
    left = asyncio.create_task(reservations.reserve(GROUP, 80, 0.0, budget.left))
    waiting = asyncio.create_task(reservations.reserve(GROUP, 80, 0.0, budget.left))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    assert not waiting.done()
    first()
    async with asyncio.timeout(5):
        release: Release = await waiting
    release()
    assert reservations._groups == {}


async def test_what_was_counted_while_a_budget_was_read_is_read_again() -> None:
    """A call that ends in between is no longer under way, and what it used is not yet in what was read."""
    reservations, budget = Reservations(5), Budget(100)
    first = await reservations.reserve(GROUP, 60, 0.0, budget.left)
    reads = 0

    async def left() -> BudgetLeft:
        nonlocal reads
        reads += 1
        read = await budget.left()
        if reads == 1:
            budget.used = 100
            first()
        return read

    with pytest.raises(Refused, match="used up"):
        await reservations.reserve(GROUP, 60, 0.0, left)
    assert reads == 2


async def test_dollars_are_kept_free_as_tokens_are() -> None:
    async def left() -> BudgetLeft:
        return BudgetLeft(usd=1.0)

    reservations = Reservations(0.05)
    for _ in range(2):
        await reservations.reserve(GROUP, 10**9, 0.5, left)
    with pytest.raises(Refused):
        await reservations.reserve(GROUP, 1, 0.1, left)
    await reservations.reserve("agr_2", 1, 0.1, left)
