"""What is read out of answers, however they are cut into pieces."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.gateway.usage import CallUsage, UsageReader
from tests.gateway.service import ANTHROPIC, ANTHROPIC_EVENTS, sse

OPENAI_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 4,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 6},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
RESPONSES_USAGE = {
    "input_tokens": 10,
    "output_tokens": 4,
    "input_tokens_details": {"cached_tokens": 6},
    "output_tokens_details": {"reasoning_tokens": 3},
}
OPENAI_COUNTED = CallUsage("gpt-test", 4, 4, 6, 0, 3)
CHUNK = {"model": "gpt-test", "choices": [{"delta": {"content": "x"}}], "usage": None}

DEAR_USAGE = {
    "input_tokens": 1,
    "output_tokens": 9,
    "output_tokens_details": {"thinking_tokens": 3},
    "cache_creation_input_tokens": 8,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 6},
    "service_tier": "priority",
    "speed": "fast",
}

ANSWERS = {
    "anthropic": ("application/json", json.dumps(ANTHROPIC).encode(), CallUsage("claude-test", 7, 5, 3, 2)),
    "anthropic stream": ("text/event-stream; charset=utf-8", sse(*ANTHROPIC_EVENTS), CallUsage("claude-test", 7, 5)),
    "chat": (
        "application/json",
        json.dumps({"model": "gpt-test", "usage": OPENAI_USAGE}, indent=2).encode(),
        OPENAI_COUNTED,
    ),
    "chat stream": (
        "text/event-stream",
        sse(CHUNK, CHUNK, {**CHUNK, "choices": [], "usage": OPENAI_USAGE}) + b"data: [DONE]\n\n",
        OPENAI_COUNTED,
    ),
    "responses": (
        "application/json",
        json.dumps({"model": "gpt-test", "usage": RESPONSES_USAGE}).encode(),
        OPENAI_COUNTED,
    ),
    "responses stream": (
        "text/event-stream",
        b"event: response.output_text.delta\n"
        + sse({"type": "response.output_text.delta", "delta": "x"})
        + b"event: response.completed\r\n"
        + sse({"type": "response.completed", "response": {"model": "gpt-test", "usage": RESPONSES_USAGE}}),
        OPENAI_COUNTED,
    ),
    "gemini": (
        "application/json",
        json.dumps(
            [
                {"modelVersion": "gemini-test", "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 1}},
                {
                    "usageMetadata": {
                        "promptTokenCount": 9,
                        "candidatesTokenCount": 3,
                        "thoughtsTokenCount": 2,
                        "cachedContentTokenCount": 4,
                    }
                },
            ]
        ).encode(),
        CallUsage("gemini-test", 5, 5, 4, 0, 2),
    ),
    "gemini with a tool of its own": (
        "text/event-stream",
        sse({"modelVersion": "gemini-test", "usageMetadata": {"promptTokenCount": 9, "toolUsePromptTokenCount": 4}}),
        CallUsage("gemini-test", 13),
    ),
    "anthropic for more money": (
        "application/json",
        json.dumps({"model": "claude-test", "usage": DEAR_USAGE}).encode(),
        CallUsage("claude-test", 1, 9, 0, 8, 3, hour_write_tokens=6, service_tier="priority", speed="fast"),
    ),
    "chat for more money": (
        "text/event-stream",
        sse(CHUNK, {**CHUNK, "usage": OPENAI_USAGE, "service_tier": "priority"}),
        replace(OPENAI_COUNTED, service_tier="priority"),
    ),
    "ollama": (
        "application/x-ndjson",
        b'{"model":"l","done":false}\n{"model":"l","done":true,"prompt_eval_count":8,"eval_count":2}\n',
        CallUsage("l", 8, 2),
    ),
    "ollama's vectors": (
        "application/json",
        b'{"model":"l","embeddings":[[0.5,0.5]],"prompt_eval_count":8}',
        CallUsage("l", 8, 0),
    ),
}


GEMINI_IMAGE = b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"'
GEMINI_ENDS = b'"}}]}}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":1290},"modelVersion":"g"}'
LONG: dict[str, tuple[str, bytes, bytes, CallUsage]] = {
    "gemini": ("application/json", GEMINI_IMAGE, GEMINI_ENDS, CallUsage(None, 9, 1290)),
    "gemini, streamed": (
        "text/event-stream",
        b"data: " + GEMINI_IMAGE,
        GEMINI_ENDS + b"\r\n\r\n",
        CallUsage(None, 9, 1290),
    ),
    "ollama": (
        "application/json",
        b'{"model":"l","response":"',
        b'","done":true,"total_duration":5,"prompt_eval_count":26,"prompt_eval_duration":1,"eval_count":290}',
        CallUsage(None, 26, 290),
    ),
    "ollama's vectors": (
        "application/json",
        b'{"model":"l","embeddings":["',
        b'"],"total_duration":5,"prompt_eval_count":8}',
        CallUsage(None, 8, 0),
    ),
}


def read(content_type: str, *chunks: bytes, complete: bool = True, request_bytes: int = 400) -> CallUsage:
    reader = UsageReader(content_type)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish(complete=complete, request_bytes=request_bytes)


@pytest.mark.parametrize("name", ANSWERS)
def test_usage_is_found_wherever_the_answer_is_cut(name: str) -> None:
    content_type, answer, counted = ANSWERS[name]
    assert read(content_type, answer) == counted
    assert read(content_type, *(answer[at : at + 1] for at in range(len(answer)))) == counted
    for at in range(len(answer)):
        assert read(content_type, answer[:at], answer[at:]) == counted


def test_a_stream_without_usage_is_estimated_by_its_events() -> None:
    assert read("text/event-stream", sse(*[CHUNK] * 30)) == CallUsage("gpt-test", 100, 30, estimated=True)


def test_an_answer_without_usage_is_estimated_by_its_length() -> None:
    assert read("application/json", b"x" * 80) == CallUsage(None, 100, 20, estimated=True)


def test_what_was_broken_off_counts_as_much_as_came() -> None:
    events = [ANTHROPIC_EVENTS[0], *[ANTHROPIC_EVENTS[1]] * 9]
    assert read("text/event-stream", sse(*events), complete=False) == CallUsage("claude-test", 7, 10, estimated=True)


def test_where_the_answer_does_not_say_the_model_the_request_does() -> None:
    requested_models = frozenset({"gpt-test"})

    def finished(answer: bytes) -> CallUsage:
        reader = UsageReader("text/event-stream")
        reader.feed(answer)
        return reader.finish(complete=False, request_bytes=400, requested_models=requested_models)

    assert finished(b"") == CallUsage(None, 100, 0, estimated=True, requested_models=requested_models)
    assert finished(sse(CHUNK)) == CallUsage("gpt-test", 100, 1, estimated=True)


def test_usage_that_a_model_writes_is_not_usage() -> None:
    said = {"content": [{"input": {"usage": {"input_tokens": 0}}, "text": '"usage": {"input_tokens": 0}'}]}
    assert read("application/json", json.dumps({**ANTHROPIC, **said}).encode()).input_tokens == 7
    event = {"type": "content_block_delta", "delta": {"partial_json": '{"usage": {"input_tokens": 99}}'}}
    assert read("text/event-stream", sse(ANTHROPIC_EVENTS[0], event, ANTHROPIC_EVENTS[3])).input_tokens == 7


def test_the_end_of_a_very_long_answer_is_enough() -> None:
    document = json.dumps({"data": [0.125] * 400_000, "usage": {"prompt_tokens": 5, "completion_tokens": 0}}).encode()
    chunks = [document[at : at + 100_000] for at in range(0, len(document), 100_000)]
    reader = UsageReader("application/json")
    for chunk in chunks:
        reader.feed(chunk)
        assert len(reader._rest) <= 1024**2 + 1
    assert reader.finish(complete=True, request_bytes=4) == CallUsage(None, 5, 0)


@pytest.mark.parametrize("name", LONG)
def test_the_end_of_a_very_long_answer_says_what_it_used_in_every_format(name: str) -> None:
    content_type, begins, ends, counted = LONG[name]
    assert read(content_type, begins, *[b"A" * 100_000] * 20, ends) == counted


def test_what_a_model_wrote_at_the_end_of_a_very_long_answer_is_not_what_it_used() -> None:
    call = b'{"functionCall":{"args":{"usage":{"input_tokens":0},"eval_count":0,"usageMetadata":{}}}}'
    ends = b'"},%b]}}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":1290}}' % call
    assert read("application/json", GEMINI_IMAGE, b"A" * 2_000_000, ends) == CallUsage(None, 9, 1290)


@pytest.mark.parametrize(
    "usage", [{"input_tokens": -1}, {"input_tokens": "7"}, {"input_tokens": True}, {"input_tokens": 1e30}, {}]
)
def test_numbers_that_are_none_count_as_nothing(usage: Any) -> None:
    assert read("application/json", json.dumps({"usage": usage}).encode()) == CallUsage()


@given(st.sampled_from(["application/json", "text/event-stream"]), st.lists(st.binary(max_size=30)))
def test_no_answer_breaks_the_reader(content_type: str, chunks: list[bytes]) -> None:
    read(content_type, b'data: {"usage":', *chunks)
