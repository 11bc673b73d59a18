"""The providers that the contract suite is run over, and the words with which each is told what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from container_agent.providers.echo import EchoProvider
from container_agent.providers.model import ModelProvider
from container_agent.providers.model_seams import SetUpTurn, bare
from container_agent.providers.protocol import Provider
from container_agent.providers.scripted import ScriptedProvider
from tests.agent.session import BareSession
from tests.platforms.model_server import ModelServer
from tests.providers.agent import Agent, living

MODELS = {
    "anthropic": "anthropic:claude-sonnet-5-5",
    "openai": "openai:gpt-4o",
    "google": "google:gemini-3.8-flash",
    "ollama": "ollama:qwen3",
}
"""One model of each service; Ollama is asked in OpenAI's format."""


def environment(server: ModelServer) -> dict[str, str]:
    """What the gateway's forwarder sets, for the fake server."""
    return {
        "ANTHROPIC_BASE_URL": server.url,
        "OPENAI_BASE_URL": f"{server.url}/v1",
        "GOOGLE_GEMINI_BASE_URL": server.url,
        "OLLAMA_BASE_URL": f"{server.url}/v1",
    }


@asynccontextmanager
async def model_agent(
    session: BareSession, server: ModelServer, model: str, *, set_up: SetUpTurn = bare, **options: float
) -> AsyncIterator[Agent]:
    """An agent with the provider `model`."""
    provider = ModelProvider(environment(server), set_up=set_up, retry_seconds=(0.01, 0.01), **options)
    try:
        async with living(session, provider, model=MODELS.get(model, model)) as agent:
            yield agent
    finally:
        await provider.aclose()


@dataclass(frozen=True, slots=True)
class Subject:
    """A provider under test. `words` are what to say for each case; a case without words does not apply."""

    name: str
    words: Mapping[str, str]
    make: Callable[[], Provider] | None = None

    @asynccontextmanager
    async def agent(self, session: BareSession, server: ModelServer) -> AsyncIterator[Agent]:
        """A running agent."""
        if self.make is None:
            async with model_agent(session, server, self.name) as agent:
                yield agent
        else:
            async with living(session, self.make()) as agent:
                yield agent


_MODEL_WORDS = {
    "normal": "say hello",
    "streamed": "stream 5 0.01 one two three four five",
    "tool": 'call add {"a": 1}\nthen\nsay done',
    "refusal": "refuse",
    "rate limit": "rate-limit 3600",
    "rate limit without a time": "rate-limit",
    "overloaded": "overloaded",
    "server error": "error 500",
    "key refused": "bad-key",
    "model not found": "no-model",
    "no credit": "no-credit",
    "connection lost": "drop",
    "end without an end": "close",
    "error in mid-stream": "failing",
    "malformed stream": "garble",
    "over-long context": "too-long",
    "other error": "error 418",
    "bad request": "error 400",
    "empty": "empty",
    "endless": "endless",
    "stall": "stall",
}
SUBJECTS = [
    Subject("echo", {"normal": "hello"}, EchoProvider),
    Subject(
        "scripted",
        {"normal": "reply 1 hello", "streamed": "stream 3 0.01", "tool": "tool add 0", "stall": "stall"},
        ScriptedProvider,
    ),
    Subject("anthropic", _MODEL_WORDS),
    Subject("openai", _MODEL_WORDS),
    Subject("google", _MODEL_WORDS),
    Subject("ollama", _MODEL_WORDS),
]


def who_know(case: str) -> list[Subject]:
    """The subjects that a case applies to."""
    return [subject for subject in SUBJECTS if case in subject.words]
