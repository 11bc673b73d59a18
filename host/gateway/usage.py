"""Reading out of a model's answer, while it streams by, what it used. Pure.

Whose answer it is shows in its fields: Anthropic Messages, OpenAI Chat Completions and Responses, Gemini and Ollama,
each as one JSON document or in events. What has no usage in it (an OpenAI stream without `include_usage`, a stream
that was broken off) is estimated, so that leaving it out is no way around a budget.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from shared_schema.dataclass import dataclass

_WHOLE = 128 * 1024
"""Bytes of one document, or of one line of a stream, that are read as a whole; of a longer one only its end."""
_END = 16 * 1024
_BYTES_PER_TOKEN = 4
_LARGEST = 10**12
_OLLAMAS = ("prompt_eval_count", "eval_count")
_KEYS = {name: f'"{name}"'.encode() for name in ("usage", "usageMetadata", *_OLLAMAS)}
_MODEL = b'"model'
_LONGEST_NAME = 200
_NUMBERS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "hour_write_tokens",
)


@dataclass(frozen=True, slots=True)
class CallUsage:
    """What a call used, in tokens, each counted once; `estimated` where the model's service did not say."""

    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    """Part of the output."""
    estimated: bool = False
    hour_write_tokens: int = 0
    """Part of what was written to the cache: kept there for an hour, which costs more."""
    service_tier: str | None = None
    speed: str | None = None
    """With the tier what else a price depends on, in the words of the service."""
    requested_models: frozenset[str] = frozenset()
    """Where the answer did not say the model: what the request may mean."""

    @property
    def tokens(self) -> int:
        """All that a budget counts."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


def tokens_of(number: int) -> int:
    """The tokens that so many bytes are taken for, where nothing better is known."""
    return number // _BYTES_PER_TOKEN


class UsageReader:
    """Reads one answer. `feed` it as it comes, then `finish`."""

    def __init__(self, content_type: str) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        self._by_line = kind in ("text/event-stream", "application/x-ndjson")
        self._token = b"data:" if kind == "text/event-stream" else b"\n"  # stands for one, where nothing better is said
        self._rest = bytearray()
        self._lines = self._bytes = 0
        self._model: str | None = None
        self._found: CallUsage | None = None

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer. Never raises."""
        self._bytes += len(chunk)
        end = chunk.rfind(b"\n") if self._by_line else -1
        if end >= 0:
            block = bytes(self._rest) + chunk[:end]
            self._rest.clear()
            self._lines += (block + b"\n").count(self._token)
            if self._says(block):
                for line in block.split(b"\n"):
                    self._take(line)
        self._rest += chunk[end + 1 :]
        del self._rest[: -_WHOLE - 1]

    def finish(
        self, *, complete: bool, request_bytes: int, requested_models: frozenset[str] = frozenset()
    ) -> CallUsage:
        """What the call used. `complete` is false for an answer broken off; `requested_models` as in `CallUsage`."""
        self._take(bytes(self._rest))
        self._rest.clear()
        output = self._lines or tokens_of(self._bytes)
        if self._found is None:
            found = CallUsage(input_tokens=tokens_of(request_bytes), output_tokens=output, estimated=True)
        elif not complete and output > self._found.output_tokens:
            found = replace(self._found, output_tokens=output, estimated=True)
        else:
            found = self._found
        return (
            replace(found, requested_models=requested_models)
            if self._model is None
            else replace(found, model=self._model)
        )

    def _says(self, text: bytes) -> bool:
        """Whether there may be something in it that is not known yet."""
        return any(key in text for key in _KEYS.values()) or (self._model is None and _MODEL in text)

    def _take(self, text: bytes) -> None:
        """Take the numbers of a line or document; later ones of a stream replace smaller ones before."""
        if len(text) > _WHOLE:
            text = text[-_END:]
        if not self._says(text):
            return
        for part in _parts(text.removeprefix(b"data:").strip()):
            self._model = _model_in(part) or self._model
            usage = _usage_in(part)
            if usage is not None:
                self._found = usage if self._found is None else _merged(usage, self._found)


def _merged(usage: CallUsage, before: CallUsage) -> CallUsage:
    """Of two states of the same call; what was read from the cache may be said later than the whole prompt."""
    numbers = {name: max(getattr(usage, name), getattr(before, name)) for name in _NUMBERS}
    prompt = max(each.input_tokens + each.cache_read_tokens for each in (usage, before))
    numbers["input_tokens"] = prompt - numbers["cache_read_tokens"]
    return CallUsage(
        **numbers, service_tier=usage.service_tier or before.service_tier, speed=usage.speed or before.speed
    )


def _parts(text: bytes) -> Iterator[dict[str, Any]]:
    """The objects of a document, and in each the `message` (Anthropic) or `response` (OpenAI Responses) of an event."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = _end_of(text)
    for part in document if isinstance(document, list) else [document]:
        if isinstance(part, dict):
            inner = (part.get("message"), part.get("response"))
            yield from (each for each in (part, *inner) if isinstance(each, dict))


def _end_of(text: bytes) -> dict[str, object]:
    """The usage in the last bytes of a document whose beginning was not kept. What stands last counts: before it, a
    model may have written the same words.
    """
    last = max(_KEYS, key=lambda name: text.rfind(_KEYS[name]))
    names = _OLLAMAS if last in _OLLAMAS else (last,)
    values = {name: _value_behind(text, _KEYS[name]) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _value_behind(text: bytes, key: bytes) -> object:
    _, found, tail = text.rpartition(key)
    try:
        value: object = json.JSONDecoder().raw_decode(tail.decode("utf-8", "replace").lstrip(" :\r\n\t"))[0]
    except (ValueError, RecursionError):
        return None
    return value if found else None


def _model_in(part: Mapping[str, Any]) -> str | None:
    return _text(part, "model") or _text(part, "modelVersion")


def _usage_in(part: Mapping[str, Any]) -> CallUsage | None:
    if isinstance(part.get("usage"), dict):
        return _of_usage(part["usage"], _text(part, "service_tier"))
    if isinstance(part.get("usageMetadata"), dict):
        return _of_gemini(part["usageMetadata"])
    if any(name in part for name in _OLLAMAS):
        return CallUsage(None, _count(part, "prompt_eval_count"), _count(part, "eval_count"))
    return None


def _of_usage(usage: Mapping[str, Any], service_tier: str | None) -> CallUsage:
    if "prompt_tokens" in usage or "input_tokens_details" in usage:  # OpenAI: the input includes what was cached
        chat = "prompt_tokens" in usage
        details = usage.get("prompt_tokens_details" if chat else "input_tokens_details")
        of_output = usage.get("completion_tokens_details" if chat else "output_tokens_details")
        read = _count(details, "cached_tokens")
        return CallUsage(
            input_tokens=max(0, _count(usage, "prompt_tokens" if chat else "input_tokens") - read),
            output_tokens=_count(usage, "completion_tokens" if chat else "output_tokens"),
            cache_read_tokens=read,
            reasoning_tokens=_count(of_output, "reasoning_tokens"),
            service_tier=service_tier,
        )
    written = _count(usage, "cache_creation_input_tokens")
    return CallUsage(
        input_tokens=_count(usage, "input_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        cache_read_tokens=_count(usage, "cache_read_input_tokens"),
        cache_write_tokens=written,
        reasoning_tokens=_count(usage.get("output_tokens_details"), "thinking_tokens"),
        hour_write_tokens=min(written, _count(usage.get("cache_creation"), "ephemeral_1h_input_tokens")),
        service_tier=_text(usage, "service_tier"),
        speed=_text(usage, "speed"),
    )


def _of_gemini(usage: Mapping[str, Any]) -> CallUsage:
    """What tools of Google's own put into the prompt is counted apart, and costs the same."""
    read, thoughts = _count(usage, "cachedContentTokenCount"), _count(usage, "thoughtsTokenCount")
    return CallUsage(
        input_tokens=max(0, _count(usage, "promptTokenCount") - read) + _count(usage, "toolUsePromptTokenCount"),
        output_tokens=_count(usage, "candidatesTokenCount") + thoughts,
        cache_read_tokens=read,
        reasoning_tokens=thoughts,
    )


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        return None
    return value[:_LONGEST_NAME].encode("utf-8", "replace").decode("utf-8")  # half characters cannot be kept


def _count(fields: object, name: str) -> int:
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST else 0
