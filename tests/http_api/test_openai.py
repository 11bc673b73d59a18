"""OpenAI's API over agents, with OpenAI's own client."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pytest
from openai import AsyncOpenAI

from tests.http_api.programs import Api
from tests.support.host import AGENT
from tests.support.wait import until

PICTURE = b"\x89PNG\r\n\x1a\n and more"


@asynccontextmanager
async def client_of(api: Api, token: str, **options: object) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{api.address}/v1", api_key=token, **options) as client:  # type: ignore[arg-type]
        yield client


async def test_models_are_the_agents_that_the_token_reaches(api: Api) -> None:
    await api.host.do("agent_group.add", name="other", provider="scripted")
    async with client_of(api, await api.token("all")) as client:
        assert [each.id async for each in await client.models.list()] == [AGENT, "other"]
    async with client_of(api, await api.token("one", agent_group="other")) as client:
        assert [each.id async for each in await client.models.list()] == ["other"]
        assert (await client.models.retrieve("other")).object == "model"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve(AGENT)


async def test_a_chat_is_answered_whole_with_what_it_used(api: Api) -> None:
    async with client_of(api, await api.token()) as client:
        answer = await client.chat.completions.create(
            model=AGENT, messages=[{"role": "user", "content": "good day\nuse 7"}]
        )

    assert answer.choices[0].message.content == "scripted: good day"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 7, 14)


async def test_a_stream_tells_each_word_once_and_what_was_used(api: Api) -> None:
    async with client_of(api, await api.token()) as client:
        pieces, used = [], None
        async for chunk in await client.chat.completions.create(
            model=AGENT,
            messages=[{"role": "user", "content": "write 0.3 one two three four\nuse 3"}],
            stream=True,
            stream_options={"include_usage": True},
        ):
            pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
            used = chunk.usage or used

    assert "".join(pieces) == "one two three four"
    assert len(pieces) > 1
    assert used is not None
    assert used.total_tokens == 6


async def test_a_session_is_named_by_its_header_or_the_user_and_is_told_what_is_new(api: Api) -> None:
    async with client_of(api, await api.token()) as client:
        first = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hear"}]
        told = await client.chat.completions.create(model=AGENT, messages=first, user="ann")  # type: ignore[call-overload]
        second = [*first, {"role": "assistant", "content": "x"}, {"role": "user", "content": "recall"}]
        again = await client.chat.completions.create(  # type: ignore[call-overload]
            model=AGENT, messages=second, extra_headers={"X-Session": "ann"}
        )
        named = await client.responses.create(model=AGENT, input="recall", conversation="ann")
        other = await client.chat.completions.create(model=AGENT, messages=[second[-1]], user="bob")  # type: ignore[call-overload]
        begun = await client.chat.completions.create(model=AGENT, messages=second)  # type: ignore[call-overload]

    assert "be brief" in told.choices[0].message.content
    assert again.session_id == told.session_id == named.session_id  # type: ignore[attr-defined]
    assert "be brief" in again.choices[0].message.content  # what it remembers, and was not told again
    assert again.choices[0].message.content.count("hear") == 1
    assert other.choices[0].message.content.startswith("0 steps")
    assert "Assistant: x" in begun.choices[0].message.content
    assert len({told.session_id, other.session_id, begun.session_id}) == 3


async def test_a_text_that_begins_as_a_command_does_is_for_the_agent(api: Api) -> None:
    async with client_of(api, await api.token()) as client:
        answer = await client.responses.create(model=AGENT, input="/new")

    assert answer.output_text == "scripted: /new"


async def test_responses_go_on_from_one_another(api: Api) -> None:
    async with client_of(api, await api.token()) as client:
        first = await client.responses.create(model=AGENT, input="remember walrus", instructions="be kind")
        second = await client.responses.create(model=AGENT, input="recall", previous_response_id=first.id)
        kept = await client.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError, match="no response"):
            await client.responses.create(model=AGENT, input="x", previous_response_id="resp_0123456789abcdef")

    assert first.status == "completed"
    assert "scripted: remember walrus" in first.output_text
    assert "walrus" in second.output_text
    assert kept.output_text == first.output_text


async def test_a_response_streams_its_events_in_order(api: Api) -> None:
    async with client_of(api, await api.token()) as client:
        kinds, text, last = [], "", None
        async for each in await client.responses.create(model=AGENT, input="write 0.3 one two three", stream=True):
            kinds.append(each.type)
            text += each.delta if each.type == "response.output_text.delta" else ""
            last = each

    assert [kind for kind in dict.fromkeys(kinds)] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert text == "one two three"
    assert last is not None
    assert last.response.output_text == text  # type: ignore[union-attr]


async def test_a_response_in_the_background_is_asked_for_again_and_can_be_cancelled(api: Api) -> None:
    async with client_of(api, await api.token()) as client:
        begun = await client.responses.create(model=AGENT, input="think 0.2", background=True)
        assert begun.status in ("queued", "in_progress")

        async def is_done() -> bool:
            return (await client.responses.retrieve(begun.id)).status == "completed"

        await until(is_done, "the response is there", 60)
        stalled = await client.responses.create(model=AGENT, input="stall", background=True)
        assert (await client.responses.cancel(stalled.id)).status == "cancelled"


async def test_files_go_both_ways(api: Api) -> None:
    url = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    async with client_of(api, await api.token()) as client:
        answer = await client.chat.completions.create(
            model=AGENT,
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "attach notes.txt 20"},
                        {"type": "image_url", "image_url": {"url": url}},
                        {"type": "file", "file": {"filename": "../a.txt", "file_data": url}},
                    ],
                }
            ],
        )
        (file,) = answer.choices[0].message.files  # type: ignore[attr-defined]
        assert file["filename"] == "notes.txt"
        assert (await client.files.content(file["id"])).content == b"x" * 20
    async with client_of(api, await api.token("other")) as client:
        with pytest.raises(openai.NotFoundError):
            await client.files.content(file["id"])

    session = await api.host.session(answer.session_id)  # type: ignore[attr-defined]
    kept = sorted(path.name for path in session.folder.glob("inbox/*/*"))
    assert kept == ["a.txt", "image-1.png"]
    assert list((api.host.services.settings.layout.downloads / "api").iterdir()) == []


async def test_errors_come_as_openai_says_them(api: Api) -> None:
    spent = await api.token("poor", budget_tokens=5)
    async with client_of(api, "dw_wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match="token add"):
            await client.models.list()
    async with client_of(api, await api.token("reader", rights="read"), max_retries=0) as client:
        with pytest.raises(openai.PermissionDeniedError, match="may read and not talk"):
            await client.responses.create(model=AGENT, input="x")
    async with client_of(api, spent) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            await client.responses.create(model="nobody", input="x")
        assert missing.value.code == "model_not_found"
        for wrong in ({"tools": [{"type": "function", "name": "f", "parameters": {}}]}, {"input": []}, {"input": 7}):
            with pytest.raises(openai.BadRequestError):
                await client.responses.create(**{"model": AGENT, "input": "x", **wrong})  # type: ignore[call-overload]
        with pytest.raises(openai.BadRequestError, match="fetches nothing"):
            await client.responses.create(
                model=AGENT,
                input=[{"role": "user", "content": [{"type": "input_image", "image_url": "http://a.example/b.png"}]}],  # type: ignore[list-item]
            )
        with pytest.raises(openai.InternalServerError, match="it broke") as broke:
            await client.responses.create(model=AGENT, input="fail it broke")
        assert broke.value.status_code == 502
        await client.responses.create(model=AGENT, input="use 3")
        with pytest.raises(openai.RateLimitError, match="budget of the token 'poor'") as over:
            await client.responses.create(model=AGENT, input="use 3")
        assert over.value.code == "insufficient_quota"
    asked = await api.host.central("SELECT content FROM ingest WHERE channel_type = 'api'")
    assert len(asked) == 2  # nothing was tried again by the client after it was done


async def test_a_failure_in_a_stream_is_raised_by_the_client(api: Api) -> None:
    async with client_of(api, await api.token()) as client:
        with pytest.raises(openai.APIError, match="it broke"):
            async for _ in await client.chat.completions.create(
                model=AGENT, messages=[{"role": "user", "content": "fail it broke"}], stream=True
            ):
                pass


async def test_a_call_that_comes_twice_with_its_key_is_done_once(api: Api) -> None:
    async with client_of(api, await api.token()) as client:
        keyed = {"extra_headers": {"Idempotency-Key": "k1", "X-Session": "s"}}
        first = await client.responses.create(model=AGENT, input="good day", **keyed)  # type: ignore[call-overload]
        again = await client.responses.create(model=AGENT, input="good day", **keyed)  # type: ignore[call-overload]
        with pytest.raises(openai.ConflictError, match="another message"):
            await client.with_options(max_retries=0).responses.create(model=AGENT, input="other", **keyed)  # type: ignore[call-overload]

    assert again.id == first.id
    assert again.output_text == first.output_text
    assert len(await api.host.central("SELECT 1 FROM ingest WHERE channel_type = 'api'")) == 1
