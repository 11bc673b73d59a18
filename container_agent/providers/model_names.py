"""What `agent-group set --model` may say, and where the model service is then found. Pure.

    anthropic:NAME  openai:NAME  google:NAME  ollama:NAME       the service's URL and key are in the environment
    ...:NAME@UPSTREAM                                            another service that the host's gateway has a name for
    ...:NAME@URL                                                 the service at a URL that ends in what its SDK expects

The variables are those of the vendors' own SDKs. A key that is not set is not needed: the gateway adds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from container_agent.providers.protocol import ProviderError
from shared_schema.dataclass import dataclass
from shared_schema.models import ModelKind, problem
from shared_schema.rows import FailureReason


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model and its service. `service` is what it is called in sentences; an empty `url` means the vendor's own."""

    kind: ModelKind
    name: str
    service: str
    url: str
    key: str = field(repr=False)

    @property
    def is_vendor(self) -> bool:
        """Whether the service is the vendor's own, and not another one that speaks its format."""
        return self.service == self.kind


NO_KEY = "none"
_URLS = {
    ModelKind.ANTHROPIC: "ANTHROPIC_BASE_URL",
    ModelKind.OPENAI: "OPENAI_BASE_URL",
    ModelKind.GOOGLE: "GOOGLE_GEMINI_BASE_URL",
    ModelKind.OLLAMA: "OLLAMA_BASE_URL",
}
_KEYS = {
    ModelKind.ANTHROPIC: "ANTHROPIC_API_KEY",
    ModelKind.OPENAI: "OPENAI_API_KEY",
    ModelKind.GOOGLE: "GEMINI_API_KEY",
    ModelKind.OLLAMA: "OLLAMA_API_KEY",
}
_OLLAMA_HERE = "http://127.0.0.1:11434/v1"
_URL = re.compile(r"https?://([A-Za-z0-9._:\[\]-]+)(/\S*)?")
_UPSTREAM = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_GATEWAY = re.compile(r"(.+/upstream/)[a-z0-9_-]+(/.*)?")
_WINDOWS = {ModelKind.ANTHROPIC: 200_000, ModelKind.OPENAI: 128_000, ModelKind.GOOGLE: 1_000_000}


def chosen(text: str, environment: Mapping[str, str]) -> ModelChoice:
    """The model that a text names. Raises `ProviderError` (bad input) for one that names none."""
    prefix, _, rest = text.strip().partition(":")
    if not text.strip():
        raise _bad(
            "no model is set for this agent: dumbwaiter agent-group set AGENT --model anthropic:claude-sonnet-5-5"
        )
    if sentence := problem("model", text):
        raise _bad(sentence)
    kind = ModelKind(prefix)
    name, _, place = rest.partition("@")
    if (found := _URL.fullmatch(place)) and name:
        return ModelChoice(kind, name, found[1], place.rstrip("/"), NO_KEY)
    if _UPSTREAM.fullmatch(place) and name:
        return ModelChoice(kind, name, place, _upstream(kind, place, environment), NO_KEY)
    url = environment.get(_URLS[kind]) or (_OLLAMA_HERE if kind is ModelKind.OLLAMA else "")
    return ModelChoice(kind, rest, kind.value, url.rstrip("/"), environment.get(_KEYS[kind]) or NO_KEY)


def usual_window(choice: ModelChoice) -> int | None:
    """How many tokens a model of the vendor takes that nothing is known about; None where models differ too much."""
    return _WINDOWS.get(choice.kind) if choice.is_vendor else None


def _upstream(kind: ModelKind, upstream: str, environment: Mapping[str, str]) -> str:
    """Where the gateway has another service: beside those whose URLs are set."""
    found = _GATEWAY.fullmatch(environment.get(_URLS[kind], ""))
    if found is None:
        raise _bad(f"this agent has no gateway, so there is no service '{upstream}'; write its URL instead")
    return f"{found[1]}{upstream}{found[2] or ''}"


def _bad(sentence: str) -> ProviderError:
    return ProviderError(FailureReason.BAD_INPUT, sentence)
