"""The Anthropic Messages format, as the vendor's SDK reads and writes it. Pure: JSON in, JSON out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.platforms.model_answer import Answer, Asked, Cache, Ending, Fault, Used, has_command, tokens, words_of

_STOPS = {Ending.CUT: "max_tokens", Ending.REFUSED: "refusal"}
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

Event = dict[str, Any]


def asked(body: dict[str, Any]) -> Asked:
    """The words that count in a request."""
    said, since, result = "", 0, ""
    for message in body["messages"]:
        blocks = _blocks(message["content"])
        if message["role"] == "assistant":
            since += 1
            continue
        texts = [block["text"] for block in blocks if block["type"] == "text"]
        results = [_text(block.get("content") or "") for block in blocks if block["type"] == "tool_result"]
        result = results[-1] if results else result
        words = words_of(texts)
        is_aside = bool(results) or message["role"] == "system"  # so the Claude Agent SDK tells what came in meanwhile
        if texts and (not is_aside or has_command(words)):
            said, since = words, 0
    return Asked(said, since, result)


def prompt(body: dict[str, Any]) -> tuple[list[str], int]:
    """The texts of a prompt, block by block, and how many of them may be cached."""
    found: list[tuple[str, bool]] = []
    for tool in body.get("tools") or []:
        found.append((json.dumps(_plain(tool), sort_keys=True), "cache_control" in tool))
    for block in _blocks(body.get("system") or ""):
        found.append((block["text"], "cache_control" in block))
    for message in body["messages"]:
        for block in _blocks(message["content"]):
            found.append((message["role"] + json.dumps(_plain(block), sort_keys=True), "cache_control" in block))
    marked = [number for number, (_, is_marked) in enumerate(found, 1) if is_marked]
    everything = len(found) if "cache_control" in body else 0
    return [text for text, _ in found], max([*marked, everything])


def used(body: dict[str, Any], answer: Answer, cache: Cache) -> Used:
    """What the request and its answer take."""
    blocks, marked = prompt(body)
    read, written = cache.look(blocks, marked)
    rest = sum(tokens(block) for block in blocks[marked:])
    reasoning = tokens(answer.reasoning)
    output = reasoning + tokens(answer.text) + sum(tokens(call.name + call.text) for call in answer.calls)
    return Used(rest, output, read, written, reasoning)


def whole(body: dict[str, Any], answer: Answer, counted: Used, number: int) -> dict[str, Any]:
    """The answer in one piece."""
    blocks = []
    if answer.reasoning:
        blocks.append({"type": "thinking", "thinking": answer.reasoning, "signature": f"signature-{number}"})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text, "citations": None})
    for index, call in enumerate(answer.calls):
        blocks.append(
            {"type": "tool_use", "id": _call_id(number, index), "name": call.name, "input": json.loads(call.text)}
        )
    usage = _usage(counted) | _output(counted)
    return _message(body, number) | {"content": blocks, "stop_reason": _stop(answer), "usage": usage}


def start(body: dict[str, Any], counted: Used, number: int) -> Iterator[Event]:
    """The first events of a stream."""
    usage = _usage(counted) | {"output_tokens": 1}
    yield {"type": "message_start", "message": _message(body, number) | {"usage": usage}}
    yield {"type": "ping"}


def reasoning(answer: Answer, number: int) -> Iterator[Event]:
    """The events of the reasoning; the index of its block is 0."""
    yield {"type": "content_block_start", "index": 0, "content_block": _block("thinking", thinking="", signature="")}
    yield _delta(0, "thinking_delta", thinking=answer.reasoning)
    yield _delta(0, "signature_delta", signature=f"signature-{number}")
    yield {"type": "content_block_stop", "index": 0}


def text_start(answer: Answer) -> Event:
    """The text begins."""
    index = int(bool(answer.reasoning))
    return {"type": "content_block_start", "index": index, "content_block": _block("text", text="")}


def piece(answer: Answer, text: str) -> Event:
    """A piece of the text."""
    return _delta(int(bool(answer.reasoning)), "text_delta", text=text)


def end(answer: Answer, counted: Used, number: int) -> Iterator[Event]:
    """What comes behind the text: the calls, the usage and the end."""
    index = int(bool(answer.reasoning))
    if answer.text:
        yield {"type": "content_block_stop", "index": index}
        index += 1
    for place, call in enumerate(answer.calls):
        block = _block("tool_use", id=_call_id(number, place), name=call.name, input={})
        yield {"type": "content_block_start", "index": index + place, "content_block": block}
        middle = len(call.text) // 2
        for half in (call.text[:middle], call.text[middle:]):
            yield _delta(index + place, "input_json_delta", partial_json=half)
        yield {"type": "content_block_stop", "index": index + place}
    usage = _usage(counted) | _output(counted)
    yield {"type": "message_delta", "delta": {"stop_reason": _stop(answer), "stop_sequence": None}, "usage": usage}
    yield {"type": "message_stop"}


def failing() -> Event:
    """An error in mid-stream."""
    return {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def encoded(event: Event) -> bytes:
    """An event as the stream has it."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def fault(body: dict[str, Any], answer: Answer) -> tuple[int, dict[str, Any]]:
    """Status and body of an error."""
    match answer.fault:
        case Fault.RATE_LIMIT:
            status, message = 429, "This request would exceed your organization's rate limit of 50 requests per minute."
        case Fault.OVERLOADED:
            status, message = 529, "Overloaded"
        case Fault.BAD_KEY:
            status, message = 401, "invalid x-api-key"
        case Fault.NO_MODEL:
            status, message = 404, f"model: {body['model']}"
        case Fault.TOO_LONG:
            status, message = 400, "prompt is too long: 210000 tokens > 200000 maximum"
        case Fault.NO_CREDIT:
            status, message = 400, "Your credit balance is too low to access the Anthropic API."
        case Fault.REJECTED:
            status, message = 400, answer.words
        case Fault.GATEWAY:
            status, message = answer.status, answer.words
        case _:
            status, message = answer.status, "Something went wrong, secret details follow: 0123456789"
    kind = _ERRORS.get(status, "api_error")
    return status, {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_fake"}


def _message(body: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        "id": f"msg_fake_{number}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(counted: Used) -> dict[str, Any]:
    return {
        "input_tokens": counted.input,
        "cache_creation_input_tokens": counted.cache_write,
        "cache_read_input_tokens": counted.cache_read,
    }


def _output(counted: Used) -> dict[str, Any]:
    details = {"output_tokens_details": {"thinking_tokens": counted.reasoning}} if counted.reasoning else {}
    return {"output_tokens": counted.output, **details}


def _stop(answer: Answer) -> str:
    return _STOPS.get(answer.ending, "tool_use" if answer.calls else "end_turn")


def _call_id(number: int, place: int) -> str:
    return f"toolu_fake_{number}_{place}"


def _block(kind: str, **values: Any) -> dict[str, Any]:
    return {"type": kind, **values}


def _delta(index: int, kind: str, **values: Any) -> Event:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **values}}


def _blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_block("text", text=content)] if isinstance(content, str) else content


def _text(content: str | list[dict[str, Any]]) -> str:
    return "\n".join(str(block.get("text", "")) for block in _blocks(content))


def _plain(block: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name != "cache_control"}
