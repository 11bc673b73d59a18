"""What a service itself said of a refusal, for the operator of the host: short, and without what looks like a key.

The host's gateway has taken its own key out before, in every encoding it knows. This is for keys of others: one in a
message, or of a service that is called without the gateway. Pure.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator

MOST = 2000
_DEEPEST = 6
_SAYING = (
    "message",
    "msg",
    "error",
    "errors",
    "detail",
    "details",
    "reason",
    "title",
    "description",
    "metadata",
    "raw",
)
_NAMING = ("type", "code", "status", "param", "loc", "field", "error_type")
_KEY = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}"
    r"|\b(?:sk|pk|rk|xai|gsk|hf|ghp|gho|ghs|glpat|xox[a-z])[-_][\w-]{8,}"
    r"|\bAIza[\w-]{20,}|\bAKIA[A-Z0-9]{12,}|\beyJ[\w-]{4,}\.[\w-]{4,}(?:\.[\w-]*)?"
    r"|(?i:(?<=key=)|(?<=token=)|(?<=secret=)|(?<=password=))[^\s&\"'<>]{4,}"
)
_MARKUP = re.compile(r"(?is)<(script|style)\b.*?</\1>|<[^>]{0,500}>")


def words(body: object, status: int | None = None) -> str:
    """The words in the body of an error: of JSON its messages and what names the place, of a page of HTML its text."""
    if isinstance(body, str):
        with contextlib.suppress(ValueError, RecursionError):
            body = json.loads(body)
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    said = list(dict.fromkeys(_said(body, 0)))
    named = [text for text in dict.fromkeys(_named(body, 0)) if text not in said]
    text = "; ".join(said) + (f" ({', '.join(named)})" if named else "")
    text = text[: 4 * MOST]  # what takes the markup out takes the square of it
    if "<" in text and "</" in text:
        text = _MARKUP.sub(" ", text)
    text = _KEY.sub("[key]", " ".join(text.split()))
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return f"{'' if status is None else f'{status}: '}{text}"[:MOST].rstrip(": ")


def _said(value: object, depth: int) -> Iterator[str]:
    """Texts under the names for messages, the outermost first."""
    if depth > _DEEPEST:
        return
    if isinstance(value, str):
        if value.strip():
            yield value.strip()[: 2 * MOST]
    elif isinstance(value, list):
        for each in value[:20]:
            yield from _said(each, depth + 1)
    elif isinstance(value, dict):
        for name in _SAYING:
            if name in value:
                yield from _said(value[name], depth + 1)


def _named(value: object, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for each in value[:20]:
            yield from _named(each, depth + 1)
    elif isinstance(value, dict):
        for name in _NAMING:
            found = value.get(name)
            if isinstance(found, str | int) and not isinstance(found, bool) and str(found).strip():
                yield str(found)[:200]
            elif isinstance(found, list) and found and all(isinstance(part, str | int) for part in found):
                yield ".".join(str(part) for part in found)[:200]
        for name in _SAYING:
            if isinstance(value.get(name), dict | list):
                yield from _named(value[name], depth + 1)
