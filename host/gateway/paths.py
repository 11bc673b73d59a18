"""Which calls of a model service are model calls, and which of these use tokens. Pure.

Agents of different people share a key, and a service may do more than answer: keep files and batches for all users of
the key, load and delete models (Ollama). So what is not listed here is not open to them. A path counts as it is
written: another spelling of a listed one is none. One list is for all services, since some speak the formats of others.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Use(StrEnum):
    """What a model call uses."""

    TOKENS = "tokens"
    NOTHING = "nothing"


_GOOGLES = r"/v1(?:alpha|beta)?/(?:models|tunedModels)/[\w.@-]+"
_COSTS = re.compile(
    rf"(?:/v1)?/(?:messages|chat/completions|completions|responses|embeddings)|/api/(?:chat|generate|embed|embeddings)"
    rf"|{_GOOGLES}:(?:generateContent|streamGenerateContent|embedContent|batchEmbedContents)",
    re.ASCII,
)
_FREE = re.compile(
    rf"(?:/v1)?/(?:messages/count_tokens|responses/input_tokens)|/api/show|{_GOOGLES}:countTokens", re.ASCII
)
_READING = re.compile(
    rf"/?|(?:/v1)?/models(?:/[\w.:@-]+)?|{_GOOGLES}|/v1(?:alpha|beta)/models|/api/(?:tags|ps|version)", re.ASCII
)


def use_of(method: str, path: str) -> Use | None:
    """What a call uses; None when it is no model call. The path is what stands behind the URL of the service."""
    if method == "POST" and _COSTS.fullmatch(path):
        return Use.TOKENS
    listed = {"POST": _FREE, "GET": _READING, "HEAD": _READING}.get(method)
    return None if listed is None or listed.fullmatch(path) is None else Use.NOTHING


def only_reads(method: str) -> bool:
    """Whether a call of an unknown kind uses no tokens all the same."""
    return method in ("GET", "HEAD")
