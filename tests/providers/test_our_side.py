"""What dies on our side is not the model's answer: the turn waits, asks again, or is given back (FAILURES 50)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from container_agent.loop import MOST_GIVEN_BACK
from container_agent.providers.model import ModelProvider
from container_agent.providers.model_seams import SetUpTurn, bare
from container_agent.providers.our_side import MOST_REPEATS, WAITING
from tests.agent.session import BareSession
from tests.platforms.model_answer import Answer, Ending, ToolUse
from tests.platforms.model_server import ModelServer
from tests.providers.agent import Agent, living
from tests.providers.subjects import MODELS, environment
from tests.providers.test_model import Adder


@dataclass
class Host:
    """A way out to a host. `marks` are what it says when it is asked, the last one for ever; None: it is away."""

    marks: list[str | None]
    comes_back: bool = True
    waited: list[float] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    session: BareSession | None = None

    async def mark(self) -> str | None:
        return self.marks.pop(0) if len(self.marks) > 1 else self.marks[0]

    async def back(self, seconds: float) -> str | None:
        self.waited.append(seconds)
        if self.session is not None:
            self.states += [row["current_tool"] for row in self.session.out("SELECT current_tool FROM agent_state")]
        if not self.comes_back:
            return None
        while (mark := await self.mark()) is None:
            pass
        return mark


@asynccontextmanager
async def agent_of(
    session: BareSession, server: ModelServer, host: Host, model: str, *, set_up: SetUpTurn = bare, **context: object
) -> AsyncIterator[Agent]:
    """An agent whose calls go through this host."""
    provider = ModelProvider(environment(server), set_up=set_up, way_out=host, retry_seconds=())
    try:
        async with living(session, provider, model=MODELS[model], **context) as agent:
            yield agent
    finally:
        await provider.aclose()


async def test_a_call_that_broke_because_the_host_died_is_made_again(session: BareSession, server: ModelServer) -> None:
    """Its half answer is in no transcript, and the agent's state says what it waits for."""
    server.next(Answer(text="this is half of it", pieces=4, ending=Ending.DROPPED), Answer(text="this is all of it"))
    host = Host(["one", None, None, "two"], session=session)
    async with agent_of(session, server, host, "openai") as agent:
        outcome = await agent.ask("tell me")
    assert outcome.replies == ["this is all of it"]
    assert [step["content"] for step in agent.steps() if step["role"] == "assistant" and step["content"]] == [
        "this is all of it"
    ]
    assert host.states == [WAITING]
    assert [state["current_tool"] for state in session.out("SELECT current_tool FROM agent_state")] == [None]


async def test_a_host_that_came_back_before_anybody_asked_is_known_by_its_mark(
    session: BareSession, server: ModelServer
) -> None:
    server.next(Answer(text="half", ending=Ending.DROPPED), Answer(text="all"))
    host = Host(["one", "two"])
    async with agent_of(session, server, host, "anthropic") as agent:
        assert (await agent.ask("tell me")).replies == ["all"]
    assert host.waited == []


async def test_a_service_that_breaks_off_while_the_host_lives_has_failed(
    session: BareSession, server: ModelServer
) -> None:
    server.next(Answer(text="half", ending=Ending.DROPPED))
    async with agent_of(session, server, Host(["one"]), "openai") as agent:
        outcome = await agent.ask("tell me")
    assert outcome.turn["failure_reason"] == "network"
    assert len(server.requests) == 1


async def test_a_host_that_was_only_slow_to_say_that_it_lives_is_no_excuse(
    session: BareSession, server: ModelServer
) -> None:
    server.next(Answer(text="half", ending=Ending.DROPPED))
    host = Host(["one", None, "one"])
    async with agent_of(session, server, host, "openai") as agent:
        outcome = await agent.ask("tell me")
    assert outcome.turn["failure_reason"] == "network"
    assert len(host.waited) == 1


async def test_tools_are_not_called_again_for_it(session: BareSession, server: ModelServer) -> None:
    adder = Adder()
    call = ToolUse("add", {"a": 1, "b": 2})
    server.next(Answer(calls=(call,)), Answer(text="half", ending=Ending.DROPPED), Answer(text="it is 3"))
    host = Host(["one", "one", "two"])
    async with agent_of(session, server, host, "openai", set_up=adder.set_up) as agent:
        assert (await agent.ask("add")).replies == ["it is 3"]
    assert len(adder.called) == 1
    assert '"3"' in json.dumps(server.requests[-1].messages)


async def test_a_host_that_does_not_come_back_gives_the_turn_back_and_after_a_while_that_is_told(
    session: BareSession, server: ModelServer
) -> None:
    host = Host([None], comes_back=False)
    async with agent_of(session, server, host, "openai") as agent:
        outcome = await agent.ask("say hello")
    assert outcome.turn["failure_reason"] == "network"
    assert "the connection to the host was lost again and again" in (outcome.error or "")
    given_back = session.out("SELECT id FROM turns WHERE status = 'cancelled' AND failure_reason IS NULL")
    assert len(given_back) == MOST_GIVEN_BACK
    assert server.requests == []


async def test_a_host_that_dies_again_and_again_is_not_asked_without_end(
    session: BareSession, server: ModelServer
) -> None:
    server.next(*[Answer(text="half", ending=Ending.DROPPED) for _ in range(MOST_REPEATS + 1)])
    marks: list[str | None] = [str(number) for number in range(200)]
    async with agent_of(session, server, Host(marks), "openai") as agent:
        assert (await agent.ask("say at last")).replies == ["at last"]
    assert len(server.requests) == MOST_REPEATS + 2
    assert len(session.out("SELECT id FROM turns WHERE status = 'cancelled'")) == 1


async def test_the_time_of_a_turn_stands_still_meanwhile(session: BareSession, server: ModelServer) -> None:
    class Slow(Host):
        async def back(self, seconds: float) -> str | None:
            await asyncio.sleep(4.0)  # what is waited for here is time itself
            return "two"

    host = Slow([None, "two"])
    async with agent_of(session, server, host, "openai", turn_seconds=3.0) as agent:
        outcome = await agent.ask("say in time")
    assert (outcome.replies, outcome.error) == (["in time"], None)
