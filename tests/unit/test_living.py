"""One question about all agents of an engine, and who takes which answer."""

from __future__ import annotations

import asyncio

import pytest

from host.runtime.living import LivingAgents
from host.runtime.protocol import RuntimeUnavailable


class Engine:
    """Agents `a` and `b` live there. It answers when it is `released`, and says why not where it is `away`."""

    def __init__(self) -> None:
        self.asked = 0
        self.living = {"a", "b"}
        self.away = False
        self.released = asyncio.Event()
        self.released.set()

    async def ask(self) -> set[str]:
        self.asked += 1
        await self.released.wait()
        if self.away:
            raise RuntimeUnavailable("no engine answers")
        return set(self.living)


async def test_hundreds_are_asked_about_with_one_question() -> None:
    engine = Engine()
    agents = LivingAgents(engine.ask)
    found = await asyncio.gather(*(agents.have(reference, 5.0) for reference in ["a", "b", "c"] * 100))
    assert found == [True, True, False] * 100
    assert engine.asked == 1


async def test_an_answer_that_is_older_than_wanted_is_asked_for_anew() -> None:
    engine = Engine()
    agents = LivingAgents(engine.ask)
    assert await agents.have("a", 60.0)
    engine.living.remove("a")
    assert await agents.have("a", 60.0)
    await asyncio.sleep(0.02)
    assert not await agents.have("a", 0.01)
    assert engine.asked == 2


async def test_who_wants_to_know_how_it_is_now_asks_about_that_agent_alone() -> None:
    engine = Engine()
    agents = LivingAgents(engine.ask)
    assert await agents.have("a", 60.0)
    assert not await agents.have("a", 0.0)
    assert engine.asked == 1


async def test_an_engine_that_hangs_is_asked_once_also_when_one_waits_no_more() -> None:
    engine = Engine()
    engine.released.clear()
    agents = LivingAgents(engine.ask)
    waiting = [asyncio.create_task(agents.have("a", 0.001)) for _ in range(10)]
    await asyncio.sleep(0.01)
    waiting += [asyncio.create_task(agents.have("b", 0.001)) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    engine.released.set()
    assert await asyncio.gather(*waiting[1:]) == [True] * 19
    assert engine.asked == 1


async def test_all_are_told_that_no_engine_answers_and_the_next_one_finds_it_back() -> None:
    engine = Engine()
    engine.away = True
    agents = LivingAgents(engine.ask)
    found = await asyncio.gather(*(agents.have("a", 0.01) for _ in range(10)), return_exceptions=True)
    assert [str(each) for each in found] == ["no engine answers"] * 10
    assert engine.asked == 1
    engine.away = False
    await asyncio.sleep(0.02)
    assert await agents.have("a", 0.01)


async def test_after_the_end_of_the_host_nothing_is_waited_for() -> None:
    engine = Engine()
    engine.released.clear()
    agents = LivingAgents(engine.ask)
    waiting = asyncio.create_task(agents.have("a", 5.0))
    await asyncio.sleep(0.01)
    agents.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
