"""When a service refuses, the next model of the agent group's list answers the turn, where it was."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from container_agent.providers.model import ModelProvider
from container_agent.providers.model_chain import ModelChain
from container_agent.providers.model_seams import SetUpTurn, bare
from container_agent.providers.protocol import ProviderError
from shared_schema.rows import FailureReason, encode
from tests.agent.session import BareSession
from tests.platforms.model_answer import Answer, Fault, ToolUse
from tests.platforms.model_server import ModelServer
from tests.providers.agent import Agent, living
from tests.providers.subjects import MODELS, environment
from tests.providers.test_model import Adder
from tests.support.host import AGENT, running
from tests.support.wait import until

FIRST, SECOND, THIRD = MODELS["anthropic"], MODELS["openai"], MODELS["google"]


@asynccontextmanager
async def agent_of(
    session: BareSession, server: ModelServer, *fallbacks: str, set_up: SetUpTurn = bare
) -> AsyncIterator[Agent]:
    """An agent whose first model is Anthropic's."""
    provider = ModelProvider(environment(server), set_up=set_up, retry_seconds=(0.01, 0.01))
    try:
        async with living(session, provider, model=FIRST, fallbacks=json.dumps(fallbacks)) as agent:
            yield agent
    finally:
        await provider.aclose()


@pytest.mark.parametrize("fault", [Fault.RATE_LIMIT, Fault.OVERLOADED, Fault.BAD_KEY, Fault.NO_CREDIT])
async def test_the_next_model_answers_when_a_service_refuses(
    session: BareSession, server: ModelServer, fault: Fault
) -> None:
    server.next(Answer(fault=fault, retry_after=3600))
    async with agent_of(session, server, SECOND, THIRD) as agent:
        outcome = await agent.ask("say hello")
        assert (outcome.replies, outcome.error) == (["hello"], None)
        assert outcome.turn["model"] == SECOND
        assert "anthropic" in outcome.turn["fallback"]
        again = await agent.ask("say bye")
    assert (again.turn["model"], again.turn["fallback"]) == (FIRST, None)
    assert [request.path for request in server.requests] == ["/v1/messages", "/v1/chat/completions", "/v1/messages"]


async def test_the_next_model_goes_on_where_the_turn_was_and_calls_no_tool_twice(
    session: BareSession, server: ModelServer
) -> None:
    adder = Adder()
    server.next(Answer(text="let me see", calls=(ToolUse("add", {"a": 1, "b": 2}),)), Answer(fault=Fault.OVERLOADED))
    server.next(Answer(text="that makes 3"))
    async with agent_of(session, server, SECOND, set_up=adder.set_up) as agent:
        outcome = await agent.ask("what is 1 + 2?")
        assert outcome.replies == ["that makes 3"]
        assert [step["role"] for step in agent.steps()] == ["user", "assistant", "tool", "assistant"]
        await agent.ask("say bye")
    assert len(adder.called) == 1
    told = json.dumps(server.requests[2].messages)
    assert "what is 1 + 2?" in told
    assert '"role": "tool"' in told
    assert outcome.turn["output_tokens"] == sum(request.used.output for request in server.requests[:3])


async def test_when_no_model_answers_the_failure_names_each_service(session: BareSession, server: ModelServer) -> None:
    server.next(*[Answer(fault=fault, retry_after=3600) for fault in (Fault.BAD_KEY, Fault.OVERLOADED)])
    async with agent_of(session, server, SECOND) as agent:
        outcome = await agent.ask("say hello")
    assert outcome.turn["failure_reason"] == "rate_limited"
    assert (outcome.error or "").startswith("no model of this agent answered: anthropic refused the key")
    assert "openai" in (outcome.error or "")


@pytest.mark.parametrize("words", ["refuse", "too-long", "error 400", "no-model"])
async def test_what_lies_in_the_question_is_no_reason_to_ask_another_model(
    session: BareSession, server: ModelServer, words: str
) -> None:
    async with agent_of(session, server, SECOND) as agent:
        outcome = await agent.ask(words)
    assert outcome.turn["status"] == "failed"
    assert {request.path for request in server.requests} == {"/v1/messages"}


async def test_a_summary_is_made_by_the_next_model_as_well(session: BareSession, server: ModelServer) -> None:
    async with agent_of(session, server, SECOND) as agent:
        await agent.ask("say hello")
        server.next(Answer(fault=Fault.OVERLOADED), Answer(text="They greeted each other."))
        outcome = await agent.ask("", kind="control", content=encode({"do": "summarize"}))
    assert outcome.replies == ["They greeted each other."]
    assert outcome.turn["model"] == SECOND


def test_the_budget_of_the_agent_itself_is_no_reason_to_ask_another_model() -> None:
    chain = ModelChain([FIRST, SECOND])
    assert not chain.falls_back(ProviderError(FailureReason.RATE_LIMITED, "the budget is used up"))
    assert chain.current == FIRST


@pytest.mark.full
async def test_the_chat_is_told_once_and_model_says_who_answered(tmp_path: Path, server: ModelServer) -> None:
    upstreams = {"anthropic": {"url": server.url, "key": "one"}, "openai": {"url": f"{server.url}/v1", "key": "two"}}
    async with running(tmp_path, provider="model", upstreams=upstreams) as host:
        await host.do("agent_group.set", name=AGENT, model=FIRST, fallbacks=[SECOND])
        await host.do("role.grant", user="memory:ann", role="owner")
        busy = Answer(fault=Fault.BAD_KEY)
        server.next(busy, Answer(text="first"), busy, Answer(text="second"), Answer(text="third"))
        for expected in ("first", "second", "third"):
            await host.say("say something")
            await until(lambda text=expected: text in host.texts(), "it is answered", 120)  # type: ignore[misc]
        await host.settled()
        told = [text for text in host.texts() if "answers for now" in text]
        assert len(told) == 1, told
        assert told[0].startswith(f"{SECOND} answers for now: anthropic refused the key")
        (session,) = await host.do("session.list")
        turns = (await host.do("session.show", session=session["id"]))["turns"]
        assert [turn["model"] for turn in turns] == [FIRST, SECOND, SECOND]
        server.next(busy, Answer(text="fourth"))
        await host.say("say something")
        await until(lambda: "fourth" in host.texts(), "it is answered", 120)
        await host.settled()
        before = len(host.texts())
        await host.say("/model")
        shown = (await host.channel.wait_for(before + 1, 60))[before].text
        assert f"When that one's service refuses: {SECOND}." in shown
        assert f"The last answer here came from {SECOND}: anthropic refused the key" in shown
