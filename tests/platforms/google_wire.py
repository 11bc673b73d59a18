"""The Gemini format (`generateContent`), as the vendor's SDK reads and writes it. Pure: JSON in, JSON out."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from tests.platforms.model_answer import Answer, Asked, Cache, Ending, Fault, Used, has_command, tokens, words_of

_STOPS = {Ending.CUT: "MAX_TOKENS", Ending.REFUSED: "SAFETY"}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
_TYPES = "type.googleapis.com/google.rpc"

Event = dict[str, Any]


def asked(body: dict[str, Any]) -> Asked:
    """The words that count in a request."""
    said, since, result, before = "", 0, "", ""
    for content in body["contents"]:
        parts = content["parts"]
        if content.get("role") == "model":
            since, before = since + 1, "model"
            continue
        results = [part["functionResponse"]["response"] for part in parts if "functionResponse" in part]
        if results:
            result, before = "\n".join(map(str, results[-1].values())), "tool"
        words = words_of([part["text"] for part in parts if "text" in part])
        if words and (before != "tool" or has_command(words)):
            said, since = words_of([said, words]) if before == "user" else words, 0
            before = "user"
    return Asked(said, since, result)


def prompt(body: dict[str, Any]) -> list[str]:
    """The texts of a prompt, part by part."""
    instruction = body.get("systemInstruction")
    first = [*(body.get("tools") or []), *([instruction] if instruction else [])]
    return [json.dumps(part, sort_keys=True) for part in [*first, *body["contents"]]]


def used(body: dict[str, Any], answer: Answer, cache: Cache) -> Used:
    """What the request and its answer take. Everything is cached, and writing to the cache is not counted."""
    blocks = prompt(body)
    read, _ = cache.look(blocks, len(blocks))
    reasoning = tokens(answer.reasoning)
    output = reasoning + tokens(answer.text) + sum(tokens(call.name + call.text) for call in answer.calls)
    return Used(sum(tokens(block) for block in blocks) - read, output, read, 0, reasoning)


def whole(model: str, answer: Answer, counted: Used, number: int) -> dict[str, Any]:
    """The answer in one piece. What a model began and then refused is not in it."""
    if _is_blocked(answer):
        return _blocked(model, counted, number)
    parts = [_thought(answer)] if answer.reasoning else []
    if answer.text and answer.ending is not Ending.REFUSED:
        parts.append({"text": answer.text})
    return _response(model, counted, number, [*parts, *_calls(answer, number)], _stop(answer))


def reasoning(model: str, answer: Answer, counted: Used, number: int) -> Event:
    """The chunk with the reasoning."""
    return _response(model, _so_far(counted), number, [_thought(answer)])


def piece(model: str, counted: Used, number: int, text: str) -> Event:
    """A piece of the text."""
    return _response(model, _so_far(counted), number, [{"text": text}])


def end(model: str, answer: Answer, counted: Used, number: int) -> Iterator[Event]:
    """What comes behind the text: the calls, the reason of the end, the usage."""
    if _is_blocked(answer):
        yield _blocked(model, counted, number)
        return
    for call in _calls(answer, number):
        yield _response(model, _so_far(counted), number, [call])
    yield _response(model, counted, number, [], _stop(answer))


def failing() -> Event:
    """An error in mid-stream."""
    return {"error": _error(503, "The model is overloaded. Please try again later.")}


def encoded(event: Event) -> bytes:
    """A chunk as the stream has it."""
    return f"data: {json.dumps(event)}\r\n\r\n".encode()


def fault(model: str, answer: Answer) -> tuple[int, dict[str, Any]]:
    """Status and body of an error. When to come again is in the body."""
    details: list[dict[str, Any]] = []
    match answer.fault:
        case Fault.RATE_LIMIT:
            status, message = 429, "You exceeded your current quota, please check your plan and billing details."
            details = [_violation("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")]
        case Fault.OVERLOADED:
            status, message = 503, "The model is overloaded. Please try again later."
        case Fault.BAD_KEY:
            status, message = 400, "API key not valid. Please pass a valid API key."
            details = [{"@type": f"{_TYPES}.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]
        case Fault.NO_MODEL:
            status = 404
            message = f"models/{model} is not found for API version v1beta, or is not supported for generateContent."
        case Fault.TOO_LONG:
            status = 400
            message = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
        case Fault.NO_CREDIT:
            status, message = 429, "You exceeded your current quota, please check your plan and billing details."
            details = [_violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier")]
        case Fault.REJECTED:
            status, message = 400, answer.words
        case Fault.GATEWAY:
            status, message = answer.status, answer.words
        case _:
            status, message = answer.status, "Something went wrong, secret details follow: 0123456789"
    if answer.retry_after is not None:
        details.append({"@type": f"{_TYPES}.RetryInfo", "retryDelay": f"{answer.retry_after:g}s"})
    error = _error(status, message)
    return status, {"error": error | {"details": details} if details else error}


def _error(status: int, message: str) -> dict[str, Any]:
    return {"code": status, "message": message, "status": _STATUSES.get(status, "UNKNOWN")}


def _violation(quota: str) -> dict[str, Any]:
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    return {"@type": f"{_TYPES}.QuotaFailure", "violations": [{"quotaMetric": metric, "quotaId": quota}]}


def _is_blocked(answer: Answer) -> bool:
    """Whether it is the prompt that was refused, and not an answer to it."""
    return answer.ending is Ending.REFUSED and not answer.text


def _blocked(model: str, counted: Used, number: int) -> dict[str, Any]:
    response = _response(model, counted, number, [])
    del response["candidates"]
    return response | {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}


def _response(
    model: str, counted: Used, number: int, parts: list[dict[str, Any]], stop: str | None = None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"} if parts else {"role": "model"}}
    if stop:
        candidate["finishReason"] = stop
    return {
        "candidates": [candidate | {"index": 0}],
        "usageMetadata": _usage(counted),
        "modelVersion": model,
        "responseId": f"fake-{number}",
    }


def _usage(counted: Used) -> dict[str, Any]:
    prompt_tokens, said = counted.input + counted.cache_read, counted.output - counted.reasoning
    numbers = {
        "promptTokenCount": prompt_tokens,
        "cachedContentTokenCount": counted.cache_read,
        "candidatesTokenCount": said,
        "thoughtsTokenCount": counted.reasoning,
    }
    return {name: value for name, value in numbers.items() if value} | {
        "totalTokenCount": prompt_tokens + counted.output
    }


def _so_far(counted: Used) -> Used:
    """What is said of the usage before the end: the prompt, without what came from the cache."""
    return Used(input=counted.input + counted.cache_read)


def _thought(answer: Answer) -> dict[str, Any]:
    return {"text": answer.reasoning, "thought": True}


def _calls(answer: Answer, number: int) -> list[dict[str, Any]]:
    """The calls; the first one is signed, and wants its signature back."""
    parts: list[dict[str, Any]] = [
        {"functionCall": {"name": call.name, "args": json.loads(call.text)}} for call in answer.calls
    ]
    if parts:
        parts[0]["thoughtSignature"] = base64.b64encode(f"signature-{number}".encode()).decode()
    return parts


def _stop(answer: Answer) -> str:
    return _STOPS.get(answer.ending, "STOP")
