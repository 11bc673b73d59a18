"""The vendors' own SDKs through the gateway: the key, and that what it counts is what the service counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from pydantic import SecretStr

from container_agent.providers.model import ModelProvider
from host.gateway.prices import usd
from host.gateway.server import Transport
from host.gateway.upstreams import UpstreamKind
from host.gateway.usage import CallUsage
from tests.agent.session import BareSession
from tests.gateway.world import CANARY, World
from tests.platforms.model_answer import Answer, Used
from tests.platforms.model_server import ModelServer, model_server
from tests.providers.agent import Agent, living
from tests.providers.subjects import MODELS
from tests.support.sdks import Later
from tests.support.wait import until

if TYPE_CHECKING:
    import anthropic
    import openai
    from google import genai
    from google.genai import types
else:
    anthropic, openai, genai, types = map(Later, ("anthropic", "openai", "google.genai", "google.genai.types"))

AFTER_GATEWAY = {"anthropic": "", "openai": "", "google": "", "ollama": "/v1"}
"""What stands behind the name of the upstream in the URL that an SDK is given."""


@pytest.fixture
def transport() -> Transport:
    """One is enough: what the SDKs say is the same over both."""
    return Transport.UNIX


@pytest.fixture
async def server(here: World) -> AsyncIterator[ModelServer]:
    """A fake model service as every upstream of the gateway; it takes the host's key and no other."""
    async with model_server(key=CANARY) as running:
        point_at(here, running, CANARY)
        yield running


def point_at(here: World, server: ModelServer, key: str) -> None:
    """Have all upstreams lead to the service."""
    assert here.grant is not None
    urls = {UpstreamKind.OPENAI: f"{server.url}/v1"}
    here.grant = replace(
        here.grant,
        upstreams={
            name: replace(upstream, url=urls.get(upstream.kind, server.url), key=SecretStr(key))
            for name, upstream in here.grant.upstreams.items()
        },
    )


async def base(here: World, kind: str) -> str:
    """The URL that the forwarder sets for a service."""
    return f"http://127.0.0.1:{await here.forwarder.port()}/upstream/{kind}{AFTER_GATEWAY[kind]}"


@asynccontextmanager
async def agent_behind(here: World, session: BareSession, model: str, **options: Any) -> AsyncIterator[Agent]:
    """An agent with the provider `model`, whose way out is the gateway."""
    variables = {"google": "GOOGLE_GEMINI_BASE_URL"}
    provider = ModelProvider({variables.get(model, f"{model.upper()}_BASE_URL"): await base(here, model)}, **options)
    try:
        async with living(session, provider, model=MODELS[model]) as agent:
            yield agent
    finally:
        await provider.aclose()


async def counted(here: World, calls: int) -> Used:
    """What the gateway counted of so many calls together."""
    await until(lambda: len(here.used) >= calls, "the calls are counted")
    assert len(here.used) == calls
    return total([usage for _, _, usage in here.used])


def total(usages: list[CallUsage]) -> Used:
    """Usages added up."""
    columns = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    return Used(*(sum(getattr(usage, column) for usage in usages) for column in columns))


@pytest.mark.parametrize("model", MODELS)
async def test_streamed_usage_is_what_the_service_counted_and_the_agent_says(
    here: World, server: ModelServer, tmp_path_factory: pytest.TempPathFactory, model: str
) -> None:
    session = BareSession(tmp_path_factory.mktemp("agent"))
    session.context(context="You are in a test. " * 40)
    async with agent_behind(here, session, model) as agent:
        turns = [(await agent.ask(words)).turn for words in ("think hm hm hm\nsay a", 'call x {"b": 1}\nthen\nsay c')]
    assert [turn["status"] for turn in turns] == ["completed", "completed"]
    assert await counted(here, 3) == server.used
    assert server.used.cache_read > 0
    said = [sum(turn[f"{name}_tokens"] for turn in turns) for name in ("input", "output", "cache_read", "cache_write")]
    assert tuple(said) == astuple(server.used)[:4]
    assert {usage.model for _, _, usage in here.used} == {MODELS[model].partition(":")[2]}
    assert not any(usage.estimated for _, _, usage in here.used)
    assert here.grant is not None
    prices = [usd(here.grant.upstreams[name], usage, datetime.now(UTC)) for _, name, usage in here.used]
    if model == "ollama":
        assert prices == 3 * [None]
    else:
        assert sum(price or 0 for price in prices) == pytest.approx(sum(turn["cost_usd"] for turn in turns))


async def test_plain_usage_is_what_the_service_counted(here: World, server: ModelServer) -> None:
    full = Answer(text="all of it", reasoning="hm")
    server.next(*6 * [full])
    async with (
        anthropic.AsyncAnthropic(base_url=await base(here, "anthropic"), api_key="none") as claude,
        openai.AsyncOpenAI(base_url=await base(here, "openai"), api_key="none") as gpt,
        httpx2.AsyncClient() as http,
    ):
        options = types.HttpOptions(base_url=await base(here, "google"), httpx_async_client=http)
        gemini = genai.Client(api_key="none", http_options=options).aio
        for _ in range(2):
            await claude.messages.create(
                model="fake",
                max_tokens=100,
                system=[{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}],
                messages=[{"role": "user", "content": "hello"}],
            )
            await gpt.chat.completions.create(model="fake", messages=[{"role": "user", "content": "hello"}])
            await gemini.models.generate_content(model="fake", contents="hello")
    assert await counted(here, 6) == server.used
    assert server.used.cache_read > 0
    assert server.used.cache_write > 0


async def test_googles_keys_are_replaced_wherever_they_are(here: World, server: ModelServer) -> None:
    path = "/upstream/google/v1beta/models/gemini-3.8-flash:streamGenerateContent?key=mine&alt=sse"
    body = {"contents": [{"role": "user", "parts": [{"text": "say hello"}]}]}
    async with here.call(path, headers={"x-goog-api-key": "mine"}, json=body) as response:
        assert b"hello" in await response.read()
    (request,) = server.requests
    assert request.key == CANARY
    assert "mine" not in str(request.headers)


@pytest.mark.parametrize("model", MODELS)
async def test_a_call_that_is_stopped_is_counted_with_its_model(
    here: World, server: ModelServer, tmp_path_factory: pytest.TempPathFactory, model: str
) -> None:
    session = BareSession(tmp_path_factory.mktemp("agent"))
    async with agent_behind(here, session, model) as agent:
        message_id = agent.say("endless")
        await until(lambda: server.requests and server.requests[0].sent_pieces > 8, "something was said")
        await agent.stop(message_id)
        await until(server.requests[0].ended.is_set, "the service is left alone")
    usage = (await counted(here, 1)) and here.used[0][2]
    assert usage.model == MODELS[model].partition(":")[2]
    assert usage.estimated
    # What had come through by then; on a busy machine more of it was still on its way.
    assert 0 < usage.output_tokens <= server.requests[0].sent_pieces + 4  # some say a token for each event


@pytest.mark.parametrize("model", MODELS)
async def test_what_the_gateway_refuses_is_said_to_people_in_its_words(
    here: World, server: ModelServer, tmp_path_factory: pytest.TempPathFactory, model: str
) -> None:
    sentence = "The budget of assistant for today is used up: 5.01 of 5 US dollars."

    async def exhausted() -> str | None:
        return sentence

    assert here.grant is not None
    here.grant = replace(here.grant, exhausted=exhausted)
    session = BareSession(tmp_path_factory.mktemp("agent"))
    async with agent_behind(here, session, model) as agent:
        outcome = await agent.ask("say hello")
    assert (outcome.turn["failure_reason"], outcome.error) == ("rate_limited", sentence)
    assert server.requests == []
    assert here.used == []


@pytest.mark.parametrize("model", MODELS)
async def test_a_key_of_the_host_that_is_refused_is_not_shown(
    here: World, server: ModelServer, tmp_path_factory: pytest.TempPathFactory, model: str
) -> None:
    point_at(here, server, "sk-an-old-one")
    session = BareSession(tmp_path_factory.mktemp("agent"))
    async with agent_behind(here, session, model) as agent:
        outcome = await agent.ask("say hello")
    assert outcome.turn["failure_reason"] == "key_refused"
    assert "sk-" not in (outcome.error or "")
