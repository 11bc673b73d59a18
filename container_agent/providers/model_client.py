"""A model of the library for a chosen name. Imports `pydantic_ai` and a vendor's SDK: takes seconds."""

from __future__ import annotations

from collections.abc import Mapping

import httpx2
from pydantic_ai.models import Model
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.profiles.openai import OpenAIModelProfile

from container_agent import connections
from container_agent.providers.model_names import ModelChoice
from container_agent.providers.protocol import ProviderError
from shared_schema import provisions
from shared_schema.models import ModelKind
from shared_schema.rows import FailureReason

_CONNECT_SECONDS = 10.0
_SAYS_WHEN_IT_ENDS = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
"""OpenAI and Ollama do. Some of the others do not: a broken stream of theirs cannot be told from a whole one."""


def http_client(silent_seconds: float, environment: Mapping[str, str]) -> httpx2.AsyncClient:
    """What all requests go through; a service that says nothing for `silent_seconds` is given up."""
    timeout = httpx2.Timeout(silent_seconds, connect=_CONNECT_SECONDS)
    return connections.to_models(environment, timeout=timeout)


def model_of(choice: ModelChoice, client: httpx2.AsyncClient) -> Model:
    """The model. Raises `ProviderError` (bad input) when the SDK it needs is not installed."""
    try:
        return _MODELS[choice.kind](choice, client)
    except ImportError as error:
        raise ProviderError(FailureReason.BAD_INPUT, provisions.missing("model")) from error


def _anthropic(choice: ModelChoice, client: httpx2.AsyncClient) -> Model:
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    provider = AnthropicProvider(api_key=choice.key, base_url=choice.url or None, http_client=client)
    return AnthropicModel(choice.name, provider=provider)


def _openai(choice: ModelChoice, client: httpx2.AsyncClient) -> Model:
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    from container_agent.providers.model_streams import ChatModel

    if not choice.is_vendor:
        other = OpenAICompatibleProvider(
            choice.service, base_url=choice.url, api_key=choice.key, http_client=client, profile=_plain_profile()
        )
        return ChatModel(choice.name, provider=other)
    provider = OpenAIProvider(api_key=choice.key, base_url=choice.url or None, http_client=client)
    return ChatModel(choice.name, provider=provider, profile=_SAYS_WHEN_IT_ENDS)


def _google(choice: ModelChoice, client: httpx2.AsyncClient) -> Model:
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    provider = GoogleProvider(api_key=choice.key, base_url=choice.url or None, http_client=client)
    return GoogleModel(choice.name, provider=provider)


def _ollama(choice: ModelChoice, client: httpx2.AsyncClient) -> Model:
    from pydantic_ai.providers.ollama import OllamaProvider

    from container_agent.providers.model_streams import LocalModel

    provider = OllamaProvider(base_url=choice.url, api_key=choice.key, http_client=client)
    return LocalModel(choice.name, provider=provider, profile=_SAYS_WHEN_IT_ENDS)


def _plain_profile() -> ModelProfile:
    """Nothing that only OpenAI's own service takes."""
    return OpenAIModelProfile(openai_supports_strict_tool_definition=False)


_MODELS = {
    ModelKind.ANTHROPIC: _anthropic,
    ModelKind.OPENAI: _openai,
    ModelKind.GOOGLE: _google,
    ModelKind.OLLAMA: _ollama,
}
