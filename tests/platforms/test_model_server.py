"""The vendors' own SDKs, unmodified, against the fake server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.platforms.model_answer import Answer, Asked, Ending, Fault, ToolUse, Used, answer_to
from tests.platforms.model_server import ModelServer, model_server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with model_server() as running:
        yield running


@pytest.fixture
async def claude(server: ModelServer) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture
async def gpt(server: ModelServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="sk-test", max_retries=0) as client:
        yield client


def said(text: str) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}]}


FULL = Answer(text="all of it", reasoning="hm", pieces=3, calls=(ToolUse("add", {"a": 1}), ToolUse("now", {})))


async def test_the_anthropic_sdk_gets_a_plain_answer(server: ModelServer, claude: anthropic.AsyncAnthropic) -> None:
    server.next(FULL)
    message = await claude.messages.create(max_tokens=100, **said("hello"))
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (server.used.input, server.used.output)
    assert server.requests[0].key == "sk-test"


async def test_the_anthropic_sdk_gets_the_same_as_a_stream(
    server: ModelServer, claude: anthropic.AsyncAnthropic
) -> None:
    server.next(FULL, FULL)
    plain = await claude.messages.create(max_tokens=100, **said("hello"))
    async with claude.messages.stream(max_tokens=100, **said("hello")) as stream:
        pieces = [text async for text in stream.text_stream]
        streamed = await stream.get_final_message()
    assert "".join(pieces) == "all of it"
    assert len(pieces) == 3

    kept = {"type", "text", "thinking", "name", "input"}
    assert [block.model_dump(include=kept) for block in streamed.content] == [
        block.model_dump(include=kept) for block in plain.content
    ]
    assert streamed.usage.output_tokens_details is not None
    assert streamed.usage.output_tokens_details.thinking_tokens == 1


async def test_the_anthropic_sdk_counts_tokens(claude: anthropic.AsyncAnthropic) -> None:
    counted = await claude.messages.count_tokens(**said("hello"))
    assert counted.input_tokens > 0


async def test_what_is_marked_for_the_cache_is_read_the_second_time(
    server: ModelServer, claude: anthropic.AsyncAnthropic
) -> None:
    system = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]
    for _ in range(2):
        await claude.messages.create(max_tokens=100, system=system, **said("hello"))  # type: ignore[arg-type]
    first, second = (request.used for request in server.requests)
    assert (first.cache_write, first.cache_read) == (100, 0)
    assert (second.cache_write, second.cache_read) == (0, 100)
    assert first.input == second.input


async def test_the_openai_sdk_gets_a_plain_answer(server: ModelServer, gpt: openai.AsyncOpenAI) -> None:
    server.next(FULL)
    completion = await gpt.chat.completions.create(**said("hello"))
    message = completion.choices[0].message
    assert (message.content, completion.choices[0].finish_reason) == ("all of it", "tool_calls")
    assert [call.function.name for call in message.tool_calls or [] if call.type == "function"] == ["add", "now"]
    assert completion.usage is not None
    assert completion.usage.completion_tokens == server.used.output
    assert server.requests[0].key == "sk-test"


async def test_the_openai_sdk_gets_the_same_as_a_stream(server: ModelServer, gpt: openai.AsyncOpenAI) -> None:
    server.next(FULL)
    async with gpt.chat.completions.stream(stream_options={"include_usage": True}, **said("hello")) as stream:
        async for _ in stream:
            pass
        completion = await stream.get_final_completion()
    message = completion.choices[0].message
    assert message.content == "all of it"
    assert [(call.function.name, call.function.arguments) for call in message.tool_calls or []] == [
        ("add", '{"a": 1}'),
        ("now", "{}"),
    ]
    assert completion.usage is not None
    assert completion.usage.completion_tokens_details is not None
    assert completion.usage.completion_tokens_details.reasoning_tokens == 1


async def test_what_was_in_an_earlier_prompt_comes_from_the_cache(server: ModelServer, gpt: openai.AsyncOpenAI) -> None:
    for _ in range(2):
        completion = await gpt.chat.completions.create(**said("hello"))
    assert completion.usage is not None
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == server.requests[0].used.input
    assert server.requests[1].used.input == 0


FAULTS: list[tuple[Answer, type[Exception], type[Exception]]] = [
    (Answer(fault=Fault.RATE_LIMIT, retry_after=7), anthropic.RateLimitError, openai.RateLimitError),
    (Answer(fault=Fault.OVERLOADED), anthropic.InternalServerError, openai.InternalServerError),
    (Answer(fault=Fault.STATUS, status=500), anthropic.InternalServerError, openai.InternalServerError),
    (Answer(fault=Fault.BAD_KEY), anthropic.AuthenticationError, openai.AuthenticationError),
    (Answer(fault=Fault.NO_MODEL), anthropic.NotFoundError, openai.NotFoundError),
    (Answer(fault=Fault.TOO_LONG), anthropic.BadRequestError, openai.BadRequestError),
    (Answer(fault=Fault.NO_CREDIT), anthropic.BadRequestError, openai.RateLimitError),
]


@pytest.mark.parametrize(("answer", "of_anthropic", "of_openai"), FAULTS, ids=[str(a.fault) for a, _, _ in FAULTS])
async def test_the_sdks_know_every_error(
    server: ModelServer,
    claude: anthropic.AsyncAnthropic,
    gpt: openai.AsyncOpenAI,
    answer: Answer,
    of_anthropic: type[Exception],
    of_openai: type[Exception],
) -> None:
    server.next(answer, answer)
    with pytest.raises(of_anthropic):
        await claude.messages.create(max_tokens=100, **said("hello"))
    with pytest.raises(of_openai):
        await gpt.chat.completions.create(**said("hello"))
    assert server.used == Used()


@pytest.mark.parametrize("ending", [Ending.FAILING, Ending.DROPPED, Ending.GARBLED])
async def test_the_sdks_meet_a_stream_that_breaks(
    server: ModelServer, claude: anthropic.AsyncAnthropic, gpt: openai.AsyncOpenAI, ending: Ending
) -> None:
    server.next(*2 * [Answer(text="half and half", pieces=2, ending=ending)])
    heard: list[str] = []
    broken = (anthropic.APIError, openai.APIError, httpx2.TransportError, json.JSONDecodeError)

    async def listen_to_claude() -> None:
        async with claude.messages.stream(max_tokens=100, **said("hello")) as stream:
            async for text in stream.text_stream:
                heard.append(text)

    async def listen_to_gpt() -> None:
        async for chunk in await gpt.chat.completions.create(stream=True, **said("hello")):
            heard.append(chunk.choices[0].delta.content or "")

    for listen in (listen_to_claude, listen_to_gpt):
        with pytest.raises(broken):
            await listen()
    assert [text for text in heard if text] == ["half a", "half a"]


@pytest.mark.parametrize("ending", [Ending.STALLED, Ending.ENDLESS])
async def test_the_server_sees_that_the_client_is_gone(
    server: ModelServer, claude: anthropic.AsyncAnthropic, ending: Ending
) -> None:
    server.next(Answer(text="for ever", pieces=2, ending=ending))
    async with claude.messages.stream(max_tokens=100, **said("hello")) as stream:
        async for _ in stream.text_stream:
            break
    async with asyncio.timeout(5):
        await server.requests[0].ended.wait()


async def test_another_key_is_refused() -> None:
    async with (
        model_server(key="sk-right") as server,
        anthropic.AsyncAnthropic(base_url=server.url, api_key="sk-wrong", max_retries=0) as client,
    ):
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.create(max_tokens=100, **said("hello"))


def test_a_program_is_answered_step_by_step() -> None:
    program = 'ann: think hm\ncall add {"a": 1}\ncall now\nthen\nstream 3 0.5 and so on'
    assert answer_to(Asked(program, 0)) == Answer(
        reasoning="hm", calls=(ToolUse("add", '{"a": 1}'), ToolUse("now", "{}"))
    )
    assert answer_to(Asked(program, 1)) == Answer(text="and so on", pieces=3, delay=0.5)
    assert answer_to(Asked(program, 2, "42")) == Answer(text="The tool said: 42")
    assert answer_to(Asked("hello", 0)) == Answer(text="You said: hello")


async def test_it_runs_by_itself() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.platforms.model_server", "--key", "k", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = json.loads(await process.stdout.readline())["url"]
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k") as client:
            completion = await client.chat.completions.create(**said("say it runs"))
        assert completion.choices[0].message.content == "it runs"
    finally:
        process.kill()
        await process.wait()
