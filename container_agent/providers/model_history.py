"""The transcript as the library's messages, and back. Every vendor takes what `messages_of` makes, from any steps.

Steps may be of another provider, of another model, cut off, or broken: a call without a result gets one that says so, a
result without a call is left out, ids that a vendor would refuse are replaced, and texts that are empty do not count.
Reasoning is kept for people and not told again: its signatures are good for one vendor and one turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
    repair_messages,
)

from container_agent.providers import model_images
from container_agent.providers.protocol import Step, Usage
from shared_schema.layout import SessionLayout
from shared_schema.text import without_lone_surrogates

_ID = re.compile(r"[a-zA-Z0-9_-]{1,40}")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_MOST_IMAGES = 20
_MOST_IMAGE_BYTES = 20 * 1024**2
_BEGINNING = "(The conversation began earlier.)"
_NOTHING = "(empty message)"


def messages_of(
    steps: Sequence[Step], session: SessionLayout, *, hidden: frozenset[str] | None = frozenset()
) -> list[ModelMessage]:
    """The messages for a request. Reads the images that steps name; blocks for as long as that takes.

    Images whose paths are `hidden` are only named; with None, all of them.
    """
    images = _Images(session, steps, hidden)
    calls = _CallIds()
    found: list[ModelMessage] = []
    for step in steps:
        message = _message_of(step, images, calls)
        if message is not None:
            if not found and isinstance(message, ModelResponse):
                found.append(ModelRequest([UserPromptPart(_BEGINNING)]))
            found.append(message)
    return repair_messages(found)


def user_part(content: str, session: SessionLayout, *, hidden: frozenset[str] | None = frozenset()) -> UserPromptPart:
    """Returns what a person says now as a prompt part; `content` as a step records it."""
    return UserPromptPart(_user_content(content, _Images(session, [Step("user", content)], hidden)))


def step_of(response: ModelResponse) -> Step | None:
    """The step that records an answer, whole or not; None when there is nothing in it and nothing was used."""
    calls = [
        {"id": part.tool_call_id, "name": part.tool_name, "arguments": part.args_as_json_str()}
        for part in response.parts
        if isinstance(part, ToolCallPart)
    ]
    text = said_in(response)
    reasoning = "".join(part.content for part in response.parts if isinstance(part, ThinkingPart))
    usage = {name: value for name, value in asdict(usage_of(response)).items() if value is not None}
    if not (text or calls or reasoning or usage):
        return None
    return Step(
        "assistant",
        text or None,
        tool_calls=json.dumps(calls, ensure_ascii=False) if calls else None,
        reasoning=reasoning or None,
        usage=json.dumps(usage) if usage else None,
    )


def said_in(response: ModelResponse) -> str:
    """The text of an answer."""
    return "".join(part.content for part in response.parts if isinstance(part, TextPart))


def usage_of(response: ModelResponse) -> Usage:
    """What an answer used; all unknown when the service did not say."""
    used = response.usage
    if used.unmeasured_requests or not (used.input_tokens or used.output_tokens):
        return Usage()
    return Usage(
        input_tokens=max(0, used.input_tokens - used.cache_read_tokens - used.cache_write_tokens),
        output_tokens=used.output_tokens,
        cache_read_tokens=used.cache_read_tokens,
        cache_write_tokens=used.cache_write_tokens,
        reasoning_tokens=used.output_reasoning_tokens,
        cost_usd=_cost(response),
    )


def _cost(response: ModelResponse) -> float | None:
    """In US dollars; None for a model that the library has no price of."""
    try:
        return float(response.cost().total_price) if response.model_name else None
    except (LookupError, ValueError):
        return None


def _message_of(step: Step, images: _Images, calls: _CallIds) -> ModelMessage | None:
    content = step.content or ""
    if step.role != "tool":
        calls.close()
    if step.role == "assistant":
        text = _text(content)
        parts: list[TextPart | ToolCallPart] = [TextPart(text)] if text.strip() else []
        parts += [
            ToolCallPart(name, arguments, calls.begun(call_id)) for call_id, name, arguments in _calls(step.tool_calls)
        ]
        return ModelResponse(parts) if parts else None
    if step.role == "tool":
        call_id = calls.ended(step.tool_call_id or "")
        return ModelRequest([ToolReturnPart(_name(step.tool_name), _text(content), call_id)]) if call_id else None
    return ModelRequest([UserPromptPart(_user_content(content, images))]) if content.strip() else None


def _user_content(content: str, images: _Images) -> str | list[UserContent]:
    parts = model_images.parts_of(content)
    if parts is None:
        return without_lone_surrogates(content) if content.strip() else _NOTHING
    found: list[UserContent] = []
    for part in parts:
        if part["type"] == "image" and isinstance(path := part.get("path"), str):
            found.append(
                images.taken(path)
                or model_images.not_shown(without_lone_surrogates(path), again=not images.hides(path))
            )
        elif isinstance(text := part.get("text"), str) and text.strip():
            found.append(without_lone_surrogates(text))
    return found or _NOTHING


def _text(content: str) -> str:
    """The text of a step, whose content may be a list of parts."""
    parts = model_images.parts_of(content)
    if parts is None:
        return without_lone_surrogates(content)
    return without_lone_surrogates("\n".join(part["text"] for part in parts if isinstance(part.get("text"), str)))


def _calls(text: str | None) -> Iterator[tuple[str, str, str]]:
    """Id, name and arguments of each call: as written here, and as the vendors write them."""
    try:
        value = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return
    for call in value if isinstance(value, list) else []:
        if not isinstance(call, dict):
            continue
        inner = call.get("function")
        function: dict[str, Any] = inner if isinstance(inner, dict) else call
        arguments: Any = next((function[name] for name in ("arguments", "input", "args") if name in function), {})
        yield (
            str(call.get("id") or call.get("tool_call_id") or ""),
            _name(function.get("name") or function.get("tool_name")),
            _arguments(arguments),
        )


def _arguments(value: object) -> str:
    """The arguments of a call as JSON that every vendor takes; of what is none, nothing is told."""
    try:
        text = without_lone_surrogates(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        said = json.loads(text)
        json.dumps(said, allow_nan=False)  # what is no number in JSON would fail every request from now on
    except (ValueError, RecursionError):
        return "{}"
    return text if isinstance(said, dict) else "{}"


def _name(name: object) -> str:
    """A tool's name as every vendor takes it."""
    return name if isinstance(name, str) and _NAME.fullmatch(name) else "unknown_tool"


class _CallIds:
    """Ids of calls that every vendor takes: each used once, and only answered right after its call."""

    def __init__(self) -> None:
        self._open: dict[str, list[str]] = {}  # by the recorded id
        self._used: set[str] = set()

    def begun(self, recorded: str) -> str:
        """The id for a call."""
        call_id = recorded
        if not _ID.fullmatch(call_id) or call_id in self._used:
            call_id = f"call_{len(self._used)}"
            while call_id in self._used:
                call_id += "_"
        self._used.add(call_id)
        self._open.setdefault(recorded, []).append(call_id)
        return call_id

    def close(self) -> None:
        """What comes now is no result: no call gets one any more."""
        self._open.clear()

    def ended(self, recorded: str) -> str | None:
        """The id for the result of a call; None when no such call waits for one."""
        waiting = self._open.get(recorded)
        return waiting.pop(0) if waiting else None


class _Images:
    """The images that a request shows: the newest of its steps, as many as vendors take."""

    def __init__(self, session: SessionLayout, steps: Sequence[Step], hidden: frozenset[str] | None) -> None:
        self._session = session
        self._hidden = hidden
        self._shown: set[str] = set()
        left = _MOST_IMAGE_BYTES
        named = [path for step in steps if step.role == "user" for path in _paths(step.content or "")]
        for path in reversed([path for path in named if not self.hides(path)]):
            image = model_images.data(session, path)
            if image is not None and len(self._shown) < _MOST_IMAGES and len(image[0]) <= left:
                left -= len(image[0])
                self._shown.add(path)

    def hides(self, path: str) -> bool:
        """Whether an image is not to be shown to this model."""
        return self._hidden is None or path in self._hidden

    def taken(self, path: str) -> BinaryContent | None:
        """An image, which is known by its path; None for one that is left out, or is not there any more."""
        image = model_images.data(self._session, path) if path in self._shown else None
        return None if image is None else BinaryContent(image[0], media_type=image[1], identifier=path)


def _paths(content: str) -> list[str]:
    return [
        part["path"]
        for part in model_images.parts_of(content) or []
        if part["type"] == "image" and isinstance(part.get("path"), str)
    ]
