"""The vendors' own SDKs, unmodified, against the fake server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.platforms.model_answer import Answer, Asked, Ending, Fault, ToolUse, Used, answer_to
from tests.platforms.model_server import ModelServer, model_server
from tests.support.sdks import Later

if TYPE_CHECKING:
    import anthropic
    import openai
    from google import genai
    from google.genai import errors, types
else:
    anthropic, openai, genai = map(Later, ("anthropic", "openai", "google.genai"))
    errors, types = Later("google.genai.errors"), Later("google.genai.types")

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


@pytest.fixture
async def gemini(server: ModelServer) -> AsyncIterator[genai.client.AsyncClient]:
    async with httpx2.AsyncClient() as http:
        options = types.HttpOptions(base_url=server.url, httpx_async_client=http)
        yield genai.Client(api_key="sk-test", http_options=options).aio


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


async def test_the_google_sdk_gets_a_plain_answer(server: ModelServer, gemini: genai.client.AsyncClient) -> None:
    server.next(FULL)
    response = await gemini.models.generate_content(model="fake", contents="hello")
    assert response.text == "all of it"
    assert [(call.name, call.args) for call in response.function_calls or []] == [("add", {"a": 1}), ("now", {})]
    assert response.candidates is not None
    assert response.candidates[0].finish_reason is types.FinishReason.STOP
    usage = response.usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.thoughts_token_count) == (server.used.input, server.used.reasoning)
    assert usage.total_token_count == server.used.input + server.used.output
    assert server.requests[0].key == "sk-test"


async def test_the_google_sdk_gets_the_same_as_a_stream(server: ModelServer, gemini: genai.client.AsyncClient) -> None:
    server.next(FULL)
    chunks = [chunk async for chunk in await gemini.models.generate_content_stream(model="fake", contents="hello")]
    parts = [
        part
        for chunk in chunks
        for candidate in chunk.candidates or []
        if candidate.content
        for part in candidate.content.parts or []
    ]
    assert [part.text for part in parts if part.text] == ["hm", "all", " of", " it"]
    assert [part.function_call.name for part in parts if part.function_call] == ["add", "now"]
    assert [part.thought_signature for part in parts if part.thought_signature] == [b"signature-1"]
    last = chunks[-1].usage_metadata
    assert last is not None
    assert last.candidates_token_count == server.used.output - server.used.reasoning


async def test_the_google_sdk_is_told_of_a_blocked_prompt_and_of_a_refused_answer(
    server: ModelServer, gemini: genai.client.AsyncClient
) -> None:
    server.next(Answer(ending=Ending.REFUSED), Answer(text="no", ending=Ending.REFUSED))
    blocked, refused = [await gemini.models.generate_content(model="fake", contents="hello") for _ in range(2)]
    assert blocked.candidates is None
    assert blocked.prompt_feedback is not None
    assert blocked.prompt_feedback.block_reason is types.BlockedReason.PROHIBITED_CONTENT
    assert refused.candidates is not None
    assert refused.candidates[0].finish_reason is types.FinishReason.SAFETY
    assert refused.text is None


FAULTS = [
    (Answer(fault=Fault.RATE_LIMIT, retry_after=7), "RateLimitError", "RateLimitError", "429 RESOURCE"),
    (Answer(fault=Fault.OVERLOADED), "InternalServerError", "InternalServerError", "503 UNAVAILABLE"),
    (Answer(fault=Fault.STATUS, status=500), "InternalServerError", "InternalServerError", "500 INTERNAL"),
    (Answer(fault=Fault.BAD_KEY), "AuthenticationError", "AuthenticationError", "400 INVALID_ARGUMENT"),
    (Answer(fault=Fault.NO_MODEL), "NotFoundError", "NotFoundError", "404 NOT_FOUND"),
    (Answer(fault=Fault.TOO_LONG), "BadRequestError", "BadRequestError", "400 INVALID_ARGUMENT"),
    (Answer(fault=Fault.NO_CREDIT), "BadRequestError", "RateLimitError", "429 RESOURCE_EXHAUSTED"),
]
"""What the service does, with the names of the errors of two SDKs and the words of the third."""


@pytest.mark.parametrize(
    ("answer", "of_anthropic", "of_openai", "of_google"), FAULTS, ids=[str(fault[0].fault) for fault in FAULTS]
)
async def test_the_sdks_know_every_error(
    server: ModelServer,
    claude: anthropic.AsyncAnthropic,
    gpt: openai.AsyncOpenAI,
    gemini: genai.client.AsyncClient,
    answer: Answer,
    of_anthropic: str,
    of_openai: str,
    of_google: str,
) -> None:
    server.next(answer, answer, answer)
    with pytest.raises(getattr(anthropic, of_anthropic)):
        await claude.messages.create(max_tokens=100, **said("hello"))
    with pytest.raises(getattr(openai, of_openai)):
        await gpt.chat.completions.create(**said("hello"))
    with pytest.raises(errors.APIError, match=of_google):
        await gemini.models.generate_content(model="fake", contents="hello")
    assert server.used == Used()


@pytest.mark.parametrize("ending", [Ending.FAILING, Ending.DROPPED, Ending.GARBLED])
async def test_the_sdks_meet_a_stream_that_breaks(
    server: ModelServer,
    claude: anthropic.AsyncAnthropic,
    gpt: openai.AsyncOpenAI,
    gemini: genai.client.AsyncClient,
    ending: Ending,
) -> None:
    server.next(*3 * [Answer(text="half and half", pieces=2, ending=ending)])
    heard: list[str] = []
    broken = (
        anthropic.APIError,
        openai.APIError,
        errors.APIError,
        errors.UnknownApiResponseError,
        httpx2.TransportError,
        json.JSONDecodeError,
    )

    async def listen_to_claude() -> None:
        async with claude.messages.stream(max_tokens=100, **said("hello")) as stream:
            async for text in stream.text_stream:
                heard.append(text)

    async def listen_to_gpt() -> None:
        async for chunk in await gpt.chat.completions.create(stream=True, **said("hello")):
            heard.append(chunk.choices[0].delta.content or "")

    async def listen_to_gemini() -> None:
        async for chunk in await gemini.models.generate_content_stream(model="fake", contents="hello"):
            heard.append(chunk.text or "")

    for listen in (listen_to_claude, listen_to_gpt, listen_to_gemini):
        with pytest.raises(broken):
            await listen()
    assert [text for text in heard if text] == 3 * ["half a"]


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
