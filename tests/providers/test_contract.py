"""One suite over all providers: each runs in the agent's real loop, on real files, against the fake model server."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import astuple
from typing import Any

import pytest

from container_agent.providers.model import ModelProvider
from tests.agent.session import BareSession
from tests.platforms.model_server import ModelServer
from tests.providers.agent import living
from tests.providers.subjects import MODELS, SUBJECTS, Subject, environment, model_agent, who_know
from tests.support.wait import until


def over(case: str) -> pytest.MarkDecorator:
    """The subjects that a case applies to."""
    known = who_know(case)
    return pytest.mark.parametrize("subject", known, ids=[subject.name for subject in known])


@over("normal")
async def test_a_message_is_answered(session: BareSession, server: ModelServer, subject: Subject) -> None:
    async with subject.agent(session, server) as agent:
        outcome = await agent.ask(subject.words["normal"])
    assert (outcome.turn["status"], outcome.error) == ("completed", None)
    assert "hello" in outcome.replies[0]
    assert [step["role"] for step in agent.steps()] == ["user", "assistant"]


@over("normal")
async def test_every_message_of_a_batch_is_heard(session: BareSession, server: ModelServer, subject: Subject) -> None:
    session.say_all(["some context"], trigger=0)
    async with subject.agent(session, server) as agent:
        outcome = await agent.ask(subject.words["normal"])
    assert "hello" in outcome.replies[0]
    assert [step["content"] for step in agent.steps() if step["role"] == "user"] == [
        "some context",
        subject.words["normal"],
    ]


@over("streamed")
async def test_an_answer_in_pieces_is_whole_in_the_end(
    session: BareSession, server: ModelServer, subject: Subject
) -> None:
    async with subject.agent(session, server) as agent:
        outcome = await agent.ask(subject.words["streamed"])
    expected = ["one two three four five"] if subject.make is None else ["stream 1", "stream 2", "stream 3"]
    assert outcome.replies == expected


@over("tool")
async def test_a_turn_with_a_tool_call_is_completed(
    session: BareSession, server: ModelServer, subject: Subject
) -> None:
    async with subject.agent(session, server) as agent:
        outcome = await agent.ask(subject.words["tool"])
    assert outcome.turn["status"] == "completed"
    assert "done" in outcome.replies[0]


FAILURES = {
    "refusal": ("refused", "'NAME' refused to answer this"),
    "rate limit": ("rate_limited", r"SERVICE takes no more requests until [-0-9]*.?\d\d:\d\d(:\d\d)? UTC"),
    "rate limit without a time": ("rate_limited", "SERVICE takes no more requests for now"),
    "overloaded": ("rate_limited", "SERVICE is overloaded; try again later"),
    "server error": ("provider_error", r"SERVICE had an error of its own \(status 500\); try again later"),
    "key refused": ("key_refused", "SERVICE refused the key; .*"),
    "model not found": ("model_not_found", "SERVICE has no model 'NAME'; .*"),
    "no credit": ("rate_limited", "the account at SERVICE has nothing left to spend"),
    "connection lost": ("network", "the connection to SERVICE was lost"),
    "end without an end": ("network|provider_error", "the answer of SERVICE (broke off|could not be understood)"),
    "error in mid-stream": ("rate_limited|provider_error", "SERVICE (is overloaded|had an error of its own).*"),
    "malformed stream": ("provider_error", "the answer of SERVICE could not be understood"),
    "over-long context": ("context_too_long", "the conversation is too long for 'NAME'; /compress goes on .*"),
    "other error": ("provider_error", r"SERVICE answered with an error \(status 418\)"),
    "bad request": ("bad_input", r"SERVICE did not accept the request for 'NAME' \(status 400\)"),
    "empty": ("provider_error", "'NAME' had nothing to say"),
}


@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.parametrize("model", MODELS)
async def test_a_failed_turn_says_what_happened_in_a_sentence(
    session: BareSession, server: ModelServer, model: str, case: str
) -> None:
    subject = next(subject for subject in SUBJECTS if subject.name == model)
    async with subject.agent(session, server) as agent:
        outcome = await agent.ask(subject.words[case])
    reason, sentence = FAILURES[case]
    expected = sentence.replace("SERVICE", model).replace("NAME", MODELS[model].partition(":")[2])
    assert outcome.turn["status"] == "failed"
    assert re.fullmatch(reason, outcome.turn["failure_reason"])
    assert re.fullmatch(expected, outcome.error or ""), outcome.error
    assert outcome.replies == []


@pytest.mark.parametrize("model", MODELS)
async def test_a_service_that_is_gone_is_a_network_failure(session: BareSession, model: str) -> None:
    nowhere = ModelServer()
    nowhere.url = "http://127.0.0.1:9"
    provider = ModelProvider(environment(nowhere), retry_seconds=(0.01, 0.01))
    async with living(session, provider, model=MODELS[model]) as agent:
        outcome = await agent.ask("hello")
    await provider.aclose()
    assert (outcome.turn["failure_reason"], outcome.error) == (
        "network",
        f"{model} cannot be reached" + ("; is it running? `ollama serve` starts it" if model == "ollama" else ""),
    )


@pytest.mark.parametrize("model", MODELS)
async def test_what_was_sent_is_not_sent_again_when_the_connection_is_lost(session: BareSession, model: str) -> None:
    asked = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.close()

    broken, service = await asyncio.start_server(hang_up, "127.0.0.1", 0), ModelServer()
    service.url = f"http://127.0.0.1:{broken.sockets[0].getsockname()[1]}"
    async with model_agent(session, service, model) as agent:
        outcome = await agent.ask("hello")
    broken.close()
    assert (outcome.turn["failure_reason"], outcome.error) == ("network", f"the connection to {model} was lost")
    assert asked == 1


@pytest.mark.parametrize("model", MODELS)
async def test_a_service_that_falls_silent_is_given_up(session: BareSession, server: ModelServer, model: str) -> None:
    async with model_agent(session, server, model, silent_seconds=0.3) as agent:
        outcome = await agent.ask("stall")
    assert (outcome.turn["failure_reason"], outcome.error) == ("network", f"{model} was silent for too long")
    assert agent.steps()[-1]["content"]


@over("stall")
async def test_a_turn_that_is_stopped_ends_at_once(session: BareSession, server: ModelServer, subject: Subject) -> None:
    async with subject.agent(session, server) as agent:
        message_id = agent.say(subject.words["stall"])
        await until(lambda: "running" in session.turns() and (subject.make or server.requests), "it works on it")
        began = time.monotonic()
        outcome = await agent.stop(message_id)
    assert time.monotonic() - began < 2
    assert (outcome.turn["status"], outcome.turn["failure_reason"]) == ("cancelled", "stopped")


@over("endless")
async def test_what_was_said_before_a_stop_is_kept_and_the_service_is_left_alone(
    session: BareSession, server: ModelServer, subject: Subject
) -> None:
    async with subject.agent(session, server) as agent:
        message_id = agent.say(subject.words["endless"])
        await until(lambda: server.requests, "it is asked")
        await until(lambda: server.requests[0].sent_pieces > 8, "something was said")
        await agent.stop(message_id)
        await until(server.requests[0].ended.is_set, "the service is left alone")
        assert [step["role"] for step in agent.steps()] == ["user", "assistant"]
        assert "half of it" in agent.steps()[1]["content"]
        await agent.ask("say again")
    roles = [message["role"] for message in server.requests[1].messages]
    assert roles[-3:] in (["user", "assistant", "user"], ["user", "model", "user"])


@pytest.mark.parametrize("model", MODELS)
async def test_a_turn_that_takes_too_long_keeps_what_was_said(
    session: BareSession, server: ModelServer, model: str
) -> None:
    async with model_agent(session, server, model) as agent:
        await agent.ask("say hello")
        session.context(turn_seconds=2)
        outcome = await agent.ask("stall")
    assert outcome.turn["failure_reason"] == "timeout"
    assert "half of it" in agent.steps()[-1]["content"]


@pytest.mark.parametrize("model", MODELS)
async def test_the_model_hears_the_whole_conversation(session: BareSession, server: ModelServer, model: str) -> None:
    async with model_agent(session, server, model) as agent:
        for number in range(3):
            await agent.ask(f"say answer {number}")
    heard = [_said(message) for message in server.requests[-1].messages if message["role"] != "system"]
    assert heard == ["say answer 0", "answer 0", "say answer 1", "answer 1", "say answer 2"]


@pytest.mark.parametrize("model", MODELS)
async def test_the_usage_is_what_the_service_counted(session: BareSession, server: ModelServer, model: str) -> None:
    session.context(context="You are in a test. " * 40)
    async with model_agent(session, server, model) as agent:
        turns = [(await agent.ask(words)).turn for words in ("think hm hm hm\nsay a", 'call x {"b": 1}\nthen\nsay c')]
    counted = server.used
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    assert tuple(sum(turn[name] for turn in turns) for name in names) == astuple(counted)
    assert counted.cache_read > 0
    assert counted.reasoning > 0
    assert [bool(turn["cost_usd"]) for turn in turns] == 2 * [model != "ollama"]
    windows = {"anthropic": 1_000_000, "openai": 128_000, "google": 1_000_000, "ollama": None}
    assert turns[-1]["context_window"] == windows[model]
    last = server.requests[-1].used
    assert turns[-1]["context_tokens"] == last.input + last.cache_read + last.cache_write + last.output
    per_step = [json.loads(step["usage"]) for step in agent.steps() if step["usage"]]
    assert sum(usage["output_tokens"] for usage in per_step) == counted.output


@pytest.mark.parametrize("model", MODELS)
async def test_what_a_broken_answer_used_counts(session: BareSession, server: ModelServer, model: str) -> None:
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("refuse no")
    assert outcome.turn["output_tokens"] == server.used.output
    assert [step["content"] for step in agent.steps()] == [None]


def _said(message: dict[str, Any]) -> str:
    parts = message["parts"] if "parts" in message else message["content"]
    return parts if isinstance(parts, str) else "\n".join(part["text"] for part in parts if "text" in part)
