"""The OpenAI Chat Completions format, as the vendor's SDK reads and writes it. Pure: JSON in, JSON out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.platforms.model_answer import Answer, Asked, Cache, Ending, Fault, Used, has_command, tokens, words_of

_CREATED = 1_760_000_000
_STOPS = {Ending.CUT: "length"}

Event = dict[str, Any]


def asked(body: dict[str, Any]) -> Asked:
    """The words that count in a request."""
    said, since, result, before = "", 0, "", ""
    for message in body["messages"]:
        role, text = message["role"], _text(message["content"])
        if role == "assistant":
            since += 1
        elif role == "tool":
            result = text
        elif role == "user" and (before != "tool" or has_command(text)):
            said, since = words_of([said, text]) if before == "user" else text, 0
        before = role
    return Asked(said, since, result)


def prompt(body: dict[str, Any]) -> list[str]:
    """The texts of a prompt, part by part."""
    tools = [json.dumps(tool, sort_keys=True) for tool in body.get("tools") or []]
    return tools + [json.dumps(message, sort_keys=True) for message in body["messages"]]


def used(body: dict[str, Any], answer: Answer, cache: Cache) -> Used:
    """What the request and its answer take. Everything is cached, and writing to the cache is not counted."""
    blocks = prompt(body)
    read, _ = cache.look(blocks, len(blocks))
    reasoning = tokens(answer.reasoning)
    output = reasoning + tokens(answer.text) + sum(tokens(call.name + call.text) for call in answer.calls)
    return Used(sum(tokens(block) for block in blocks) - read, output, read, 0, reasoning)


def whole(body: dict[str, Any], answer: Answer, counted: Used, number: int) -> dict[str, Any]:
    """The answer in one piece."""
    refuses = answer.ending is Ending.REFUSED
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refuses else answer.text or None,
        "refusal": answer.text if refuses else None,
    }
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["tool_calls"] = [
            {"id": _call_id(number, place), "type": "function", "function": {"name": call.name, "arguments": call.text}}
            for place, call in enumerate(answer.calls)
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _stop(answer)}
    return _head(body, number, "chat.completion") | {"choices": [choice], "usage": _usage(counted)}


def start(body: dict[str, Any], counted: Used, number: int) -> Iterator[Event]:
    """The first chunks of a stream."""
    yield _chunk(body, number, {"role": "assistant", "content": "", "refusal": None})


def reasoning(body: dict[str, Any], answer: Answer, number: int) -> Iterator[Event]:
    """The chunks of the reasoning, as the services have them that show it."""
    yield _chunk(body, number, {"reasoning_content": answer.reasoning})


def piece(body: dict[str, Any], answer: Answer, number: int, text: str) -> Event:
    """A piece of the text."""
    return _chunk(body, number, {"refusal" if answer.ending is Ending.REFUSED else "content": text})


def end(body: dict[str, Any], answer: Answer, counted: Used, number: int) -> Iterator[Event]:
    """What comes behind the text: the calls, the reason of the end, the usage when it was asked for."""
    for place, call in enumerate(answer.calls):
        middle = len(call.text) // 2
        begun = {"name": call.name, "arguments": ""}
        first = {"index": place, "id": _call_id(number, place), "type": "function", "function": begun}
        yield _chunk(body, number, {"tool_calls": [first]})
        for half in (call.text[:middle], call.text[middle:]):
            yield _chunk(body, number, {"tool_calls": [{"index": place, "function": {"arguments": half}}]})
    yield _chunk(body, number, {}, _stop(answer))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _head(body, number, "chat.completion.chunk") | {"choices": [], "usage": _usage(counted)}


def failing() -> Event:
    """An error in mid-stream."""
    return {"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}}


def encoded(event: Event) -> bytes:
    """A chunk as the stream has it."""
    return f"data: {json.dumps(event)}\n\n".encode()


def fault(body: dict[str, Any], answer: Answer) -> tuple[int, dict[str, Any]]:
    """Status and body of an error."""
    kind, code = "invalid_request_error", None
    match answer.fault:
        case Fault.RATE_LIMIT:
            status, message, kind, code = 429, "Rate limit reached for requests.", "requests", "rate_limit_exceeded"
        case Fault.OVERLOADED:
            status, message, kind = 503, "The engine is currently overloaded, please try again later", "server_error"
        case Fault.BAD_KEY:
            status, message, code = 401, "Incorrect API key provided: sk-0123456789.", "invalid_api_key"
        case Fault.NO_MODEL:
            status, message, code = 404, f"The model `{body['model']}` does not exist.", "model_not_found"
        case Fault.TOO_LONG:
            message = "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000."
            status, code = 400, "context_length_exceeded"
        case Fault.NO_CREDIT:
            status, message = 429, "You exceeded your current quota, please check your plan and billing details."
            kind = code = "insufficient_quota"
        case Fault.REJECTED:
            status, message = 400, answer.words
        case Fault.GATEWAY:
            status, message = answer.status, answer.words
        case _:
            message, kind = "Something went wrong, secret details follow: 0123456789", "server_error"
            status = answer.status
    return status, {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _head(body: dict[str, Any], number: int, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-fake-{number}",
        "object": kind,
        "created": _CREATED,
        "model": body["model"],
        "system_fingerprint": "fp_fake",
    }


def _chunk(body: dict[str, Any], number: int, delta: dict[str, Any], stop: str | None = None) -> Event:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": stop}
    return _head(body, number, "chat.completion.chunk") | {"choices": [choice], "usage": None}


def _usage(counted: Used) -> dict[str, Any]:
    prompt_tokens = counted.input + counted.cache_read
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": counted.output,
        "total_tokens": prompt_tokens + counted.output,
        "prompt_tokens_details": {"cached_tokens": counted.cache_read},
        "completion_tokens_details": {"reasoning_tokens": counted.reasoning},
    }


def _stop(answer: Answer) -> str:
    return _STOPS.get(answer.ending, "tool_calls" if answer.calls else "stop")


def _call_id(number: int, place: int) -> str:
    return f"call_fake_{number}_{place}"


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if not isinstance(content, list):
        return content or ""
    return "\n".join(str(part.get("text", "")) for part in content if part["type"] == "text")
