"""How many agents an engine has: one question for all who ask, and what was placed since is added."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from host.runtime.agent_count import AgentCount
from host.runtime.docker import DockerRuntime
from host.runtime.engine_address import EngineAddress
from host.runtime.nodes import Node, NodesRuntime
from host.runtime.placement import NoRoom
from host.runtime.protocol import AgentHandle, AgentSpecification, RuntimeUnavailable, StartFailed
from tests.runtime.agents import session_folder, specification

LONG = 3600.0


class Engine:
    """Answers when it is let, with as many agents as it has then."""

    def __init__(self) -> None:
        self.agents = 0
        self.asked = 0
        self.away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def start(self, given: AgentSpecification) -> AgentHandle:
        raise StartFailed("its image is missing")

    async def living(self) -> int:
        self.asked += 1
        await self.may_answer.wait()
        if self.away:
            raise RuntimeUnavailable("no engine answers")
        return self.agents


async def test_who_asks_meanwhile_or_soon_after_takes_the_same_answer() -> None:
    engine = Engine()
    count = AgentCount(engine.living)
    engine.agents = 3
    engine.may_answer.clear()
    waiting = [asyncio.create_task(count.ask(LONG)) for _ in range(100)]
    while not engine.asked:
        await asyncio.sleep(0)
    engine.may_answer.set()
    await asyncio.gather(*waiting)
    await count.ask(LONG)
    assert (count.agents, engine.asked) == (3, 1)
    await count.ask()
    assert engine.asked == 2


async def test_what_was_placed_since_the_question_is_counted_until_the_next_one() -> None:
    engine = Engine()
    count = AgentCount(engine.living)
    await count.ask()
    count.placed()
    assert count.agents == 1
    engine.agents += 1
    count.start_ended()
    assert count.agents == 1, "the kept answer does not have it"
    await count.ask()
    assert count.agents == 1, "the new one has it"


async def test_who_is_placed_while_the_engine_is_asked_is_counted() -> None:
    engine = Engine()
    count = AgentCount(engine.living)
    engine.may_answer.clear()
    asking = asyncio.create_task(count.ask())
    while not engine.asked:
        await asyncio.sleep(0)
    count.placed()
    engine.may_answer.set()
    await asking
    assert count.agents == 1
    count.start_ended()
    engine.agents = 1
    await count.ask()
    assert count.agents == 1


async def test_until_the_answer_is_there_the_old_one_holds_with_all_that_was_placed_since() -> None:
    engine = Engine()
    count = AgentCount(engine.living)
    await count.ask()
    for _ in range(5):
        count.placed()
        count.start_ended()
    engine.may_answer.clear()
    asking = asyncio.create_task(count.ask())
    while engine.asked < 2:
        await asyncio.sleep(0)
    assert count.agents == 5, "others choose a node meanwhile"
    engine.agents = 4
    engine.may_answer.set()
    await asking
    assert count.agents == 4


async def test_a_failure_is_told_to_all_and_a_cancelled_waiter_takes_the_answer_from_no_other() -> None:
    engine = Engine()
    engine.away = True
    count = AgentCount(engine.living)
    engine.may_answer.clear()
    first, second = (asyncio.create_task(count.ask(LONG)) for _ in range(2))
    while not engine.asked:
        await asyncio.sleep(0)
    first.cancel()
    engine.may_answer.set()
    with pytest.raises(RuntimeUnavailable):
        await second
    with pytest.raises(RuntimeUnavailable):
        await count.ask(LONG)
    assert engine.asked == 1
    engine.away = False
    count.forget()
    await count.ask(LONG)
    assert (count.agents, engine.asked) == (0, 2)


async def test_many_starts_at_once_ask_each_node_once_and_fill_none_beyond_its_places() -> None:
    engines = {name: Engine() for name in ("a", "b", "c")}
    nodes = [Node(name, EngineAddress(f"unix:///{name}"), slots=40) for name in engines]
    runtime = NodesRuntime("install", nodes, make=lambda node: cast(DockerRuntime, engines[node.name]))
    places = await asyncio.gather(*(runtime.place({}) for _ in range(120)))
    assert Counter(places) == {"a": 40, "b": 40, "c": 40}
    assert [engine.asked for engine in engines.values()] == [1, 1, 1]
    with pytest.raises(NoRoom):
        await runtime.place({})


async def test_a_start_that_fails_gives_back_no_place_but_its_own(tmp_path: Path) -> None:
    engine = Engine()
    node = Node("a", EngineAddress("unix:///a"), slots=2)
    runtime = NodesRuntime("install", [node], make=lambda node: cast(DockerRuntime, engine))
    first, second = await runtime.place({}), await runtime.place({})
    given = specification(session_folder(tmp_path, ""), "install")
    with pytest.raises(StartFailed):
        await runtime.start(replace(given, node=first))
    runtime.start_ended(first)  # by who placed it
    engine.agents = 1  # another install's
    assert [each.agents for each in await runtime.facts()] == [2], "the second is still on its way"
    runtime.start_ended(second)
    assert [each.agents for each in await runtime.facts()] == [1]
