"""OpenAI's API over agents, with a client that is not OpenAI's own program: Pydantic AI, as an agent of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest
from pydantic_ai import Agent, BinaryContent, ModelHTTPError
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.http_api.programs import Api
from tests.support.host import AGENT

MODELS: dict[str, Callable[..., Model]] = {
    "chat completions": lambda provider: OpenAIChatModel(AGENT, provider=provider),
    "responses": lambda provider: OpenAIResponsesModel(AGENT, provider=provider),
}


@asynccontextmanager
async def agent_of(api: Api, form: str) -> AsyncIterator[Agent]:
    async with httpx2.AsyncClient(timeout=60) as http:
        provider = OpenAIProvider(base_url=f"{api.address}/v1", api_key=await api.token(), http_client=http)
        yield Agent(MODELS[form](provider))


@pytest.mark.parametrize("form", MODELS)
async def test_a_run_is_answered_with_its_usage_and_goes_on_with_its_messages(api: Api, form: str) -> None:
    async with agent_of(api, form) as agent:
        first = await agent.run("good day\nuse 7")
        assert first.output == "scripted: good day"
        assert (first.usage.input_tokens, first.usage.output_tokens) == (7, 7)
        second = await agent.run("good night", message_history=first.all_messages())
        assert second.output.endswith("scripted: good night")
        assert "User: good day" in second.output  # a conversation that it has no name for is told the past


@pytest.mark.parametrize("form", MODELS)
async def test_a_stream_comes_in_pieces_that_are_the_whole(api: Api, form: str) -> None:
    async with agent_of(api, form) as agent, agent.run_stream("write 0.3 one two three four") as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]

    assert "".join(pieces) == "one two three four"
    assert len(pieces) > 1


@pytest.mark.parametrize("form", MODELS)
async def test_a_picture_goes_along_and_a_failure_is_an_error(api: Api, form: str) -> None:
    picture = BinaryContent(b"\x89PNG\r\n\x1a\n and more", media_type="image/png")
    async with agent_of(api, form) as agent:
        assert (await agent.run(["what is this?", picture])).output == "scripted: what is this?"
        (asked,) = await api.host.central("SELECT content FROM ingest WHERE kind = 'chat'")
        assert ".png" in asked["content"]
        with pytest.raises(ModelHTTPError) as failed:
            await agent.run("fail it is broken")
        assert failed.value.status_code == 502
