"""What the vendors refuse a request for: the rules that a rebuilt history can break. Pure: the first breach."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_GOOGLE_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")


def breach_of_anthropic(body: dict[str, Any]) -> str | None:
    """Messages: the first one is a user's, texts are not empty, every call has its result in the next message.

    Messages of the role `system` may stand anywhere: newer models take them.
    """
    return next(_anthropic([message for message in body["messages"] if message["role"] != "system"]), None)


def breach_of_openai(body: dict[str, Any]) -> str | None:
    """Chat Completions: every call has its result right behind it, and no result is without a call."""
    return next(_openai(body["messages"]), None)


def breach_of_google(body: dict[str, Any]) -> str | None:
    """Gemini: a user begins and ends, each round of calls has its results next, the first call of a round is signed."""
    return next(_google(body["contents"]), None)


def _anthropic(messages: list[dict[str, Any]]) -> Iterator[str]:
    open_calls: list[str] = []
    used: set[str] = set()
    if not messages or messages[0]["role"] != "user":
        yield "messages: first message must use the user role"
    if messages and messages[-1]["role"] != "user":
        yield "messages: the last message must be a user's"
    for message in messages:
        blocks = message["content"]
        if isinstance(blocks, str):
            blocks = [{"type": "text", "text": blocks}]
        if not blocks:
            yield "messages: content must not be empty"
        for block in blocks:
            if block["type"] == "text" and not block["text"].strip():
                yield "messages: text content blocks must contain non-whitespace text"
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(results) != sorted(open_calls):
            yield f"messages: tool_use and tool_result do not match: {open_calls} and {results}"
        if results and any(block["type"] != "tool_result" for block in blocks[: len(results)]):
            yield "messages: tool_result blocks must come first"
        open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for block in blocks:
            if block["type"] == "tool_use":
                yield from _call(block["id"], block["name"], used)
                if not isinstance(block["input"], dict):
                    yield "messages: tool_use.input must be an object"


def _openai(messages: list[dict[str, Any]]) -> Iterator[str]:
    open_calls: set[str] = set()
    used: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                yield "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            yield f"an assistant message with 'tool_calls' must be followed by tool messages: {open_calls}"
        if not message.get("content") and not message.get("tool_calls"):
            yield "messages: content must not be empty"
        for call in message.get("tool_calls") or []:
            open_calls.add(call["id"])
            yield from _call(call["id"], call["function"]["name"], used)
            if not isinstance(call["function"]["arguments"], str):
                yield "tool_calls: arguments must be a string"


def _google(contents: list[dict[str, Any]]) -> Iterator[str]:
    open_calls: list[str] = []
    if not contents or contents[0].get("role") == "model" or contents[-1].get("role") == "model":
        yield "Please ensure that the conversation begins and ends with a user role."
    for content in contents:
        parts = content.get("parts")
        if not parts or any(
            not (part.keys() - {"thought", "thoughtSignature"}) or part.get("text") == "" for part in parts
        ):
            yield "Unable to submit request because it must have a text parameter. Add a text parameter and try again."
            continue
        results = [part["functionResponse"]["name"] for part in parts if "functionResponse" in part]
        if results != open_calls:
            yield (
                "Please ensure that the number of function response parts is equal to the number of function call parts"
                f" of the function call turn: {open_calls} and {results}"
            )
        calls = [part for part in parts if "functionCall" in part]
        if calls and content.get("role") != "model":
            yield "Please ensure that function call turn comes from the model."
        if calls and "thoughtSignature" not in calls[0]:
            yield "Function call is missing a thought_signature in functionCall parts."
        open_calls = [call["functionCall"]["name"] for call in calls]
        for name in (*open_calls, *results):
            if not _GOOGLE_NAME.fullmatch(name):
                yield f"Invalid function name: {name}"


def _call(call_id: str, name: str, used: set[str]) -> Iterator[str]:
    if not _ID.fullmatch(call_id) or not _NAME.fullmatch(name):
        yield f"tool calls: id or name does not match the pattern: {call_id} {name}"
    if call_id in used:
        yield f"tool calls: ids must be unique: {call_id}"
    used.add(call_id)
