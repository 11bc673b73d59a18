"""Reading out of a model's answer, while it streams by, what it used. Pure.

Whose answer it is shows in its fields: Anthropic Messages, OpenAI Chat Completions and Responses, Gemini and Ollama,
each as one JSON document or in events. What has no usage in it (an OpenAI stream without `include_usage`, a stream
that somebody broke off) is estimated, so that leaving it out is no way around a budget.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

_WHOLE = 1024**2
"""Bytes of one document, or of one line of a stream, that are read as a whole; of a longer one only its end."""
_END = 64 * 1024
_BYTES_PER_TOKEN = 4
_LARGEST = 10**12
_KEYS = (b'"usage"', b'"usageMetadata"', b'"eval_count"')
_COSTS = re.compile(
    r"(?:/messages|/completions|/responses|/embeddings|/api/chat|/api/generate|:\w*[gG]enerateContent)/?\Z"
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used, in tokens, each counted once; `estimated` where the model's service did not say."""

    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    """Part of the output."""
    estimated: bool = False

    @property
    def tokens(self) -> int:
        """All that a budget counts."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


def costs(method: str, path: str) -> bool:
    """Whether a call is one that uses tokens. The path has no query."""
    return method == "POST" and _COSTS.search(path) is not None


class UsageReader:
    """Reads one answer. `feed` it as it comes, then `finish`."""

    def __init__(self, content_type: str) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        self._by_line = kind in ("text/event-stream", "application/x-ndjson")
        self._rest = bytearray()
        self._lines = self._bytes = 0
        self._found: Usage | None = None

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer. Never raises."""
        self._bytes += len(chunk)
        end = chunk.rfind(b"\n") if self._by_line else -1
        if end >= 0:
            block = bytes(self._rest) + chunk[:end]
            self._rest.clear()
            self._lines += block.count(b"data:") or block.count(b"\n") + 1
            if any(key in block for key in _KEYS):
                for line in block.split(b"\n"):
                    self._take(line)
        self._rest += chunk[end + 1 :]
        if len(self._rest) > _WHOLE:
            del self._rest[:-_END]

    def finish(self, *, complete: bool, request_bytes: int) -> Usage:
        """What the call used. `complete` is false when the answer was broken off."""
        self._take(bytes(self._rest))
        self._rest.clear()
        output = self._lines if self._by_line else self._bytes // _BYTES_PER_TOKEN
        if self._found is None:
            return Usage(input_tokens=request_bytes // _BYTES_PER_TOKEN, output_tokens=output, estimated=True)
        if not complete and output > self._found.output_tokens:
            return replace(self._found, output_tokens=output, estimated=True)
        return self._found

    def _take(self, text: bytes) -> None:
        """Whatever usage a line or document has; later numbers of a stream replace smaller ones before."""
        if not any(key in text for key in _KEYS):
            return
        for usage in _usages(text.removeprefix(b"data:").strip()):
            before = self._found or Usage()
            self._found = Usage(
                usage.model or before.model,
                *(
                    max(getattr(usage, name), getattr(before, name))
                    for name in (
                        "input_tokens",
                        "output_tokens",
                        "cache_read_tokens",
                        "cache_write_tokens",
                        "reasoning_tokens",
                    )
                ),
            )


def _usages(text: bytes) -> Iterator[Usage]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = _end_of(text)
    for part in document if isinstance(document, list) else [document]:
        usage = _usage_in(part)
        if usage is not None:
            yield usage


def _end_of(text: bytes) -> object:
    """The usage in the last bytes of a document whose beginning was not kept."""
    at = text.rfind(b'"usage"')
    if at < 0:
        return None
    tail = text[at + len(b'"usage"') :].decode("utf-8", "replace").lstrip(" :\r\n\t")
    try:
        return {"usage": json.JSONDecoder().raw_decode(tail)[0]}
    except (ValueError, RecursionError):
        return None


def _usage_in(document: object) -> Usage | None:
    """The usage in a document, or in the `message` (Anthropic) or `response` (OpenAI Responses) of an event."""
    if not isinstance(document, dict):
        return None
    for inner in (document, document.get("message"), document.get("response")):
        if not isinstance(inner, dict):
            continue
        model = inner.get("model") or inner.get("modelVersion")
        name = model[:200] if isinstance(model, str) else None
        if isinstance(inner.get("usage"), dict):
            return _of_usage(inner["usage"], name)
        if isinstance(inner.get("usageMetadata"), dict):
            return _of_gemini(inner["usageMetadata"], name)
        if "eval_count" in inner:
            return Usage(name, _count(inner, "prompt_eval_count"), _count(inner, "eval_count"))
    return None


def _of_usage(usage: Mapping[str, Any], model: str | None) -> Usage:
    if "prompt_tokens" in usage or "input_tokens_details" in usage:  # OpenAI: the input includes what was cached
        chat = "prompt_tokens" in usage
        details = usage.get("prompt_tokens_details" if chat else "input_tokens_details")
        of_output = usage.get("completion_tokens_details" if chat else "output_tokens_details")
        read = _count(details, "cached_tokens")
        return Usage(
            model,
            input_tokens=max(0, _count(usage, "prompt_tokens" if chat else "input_tokens") - read),
            output_tokens=_count(usage, "completion_tokens" if chat else "output_tokens"),
            cache_read_tokens=read,
            reasoning_tokens=_count(of_output, "reasoning_tokens"),
        )
    return Usage(
        model,
        input_tokens=_count(usage, "input_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        cache_read_tokens=_count(usage, "cache_read_input_tokens"),
        cache_write_tokens=_count(usage, "cache_creation_input_tokens"),
    )


def _of_gemini(usage: Mapping[str, Any], model: str | None) -> Usage:
    read, thoughts = _count(usage, "cachedContentTokenCount"), _count(usage, "thoughtsTokenCount")
    return Usage(
        model,
        input_tokens=max(0, _count(usage, "promptTokenCount") - read),
        output_tokens=_count(usage, "candidatesTokenCount") + thoughts,
        cache_read_tokens=read,
        reasoning_tokens=thoughts,
    )


def _count(fields: object, name: str) -> int:
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST else 0
