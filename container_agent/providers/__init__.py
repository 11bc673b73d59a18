"""The providers by name. Each is imported when it is first used, so that the agent starts on the standard library."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from container_agent.providers.protocol import Provider, ProviderError
from shared_schema.rows import FailureReason

PROVIDERS = {
    "echo": ("container_agent.providers.echo", "EchoProvider"),
    "scripted": ("container_agent.providers.scripted", "ScriptedProvider"),
}


def load(name: str) -> Provider:
    """A new provider of that name. Raises `ProviderError` for a name that does not exist."""
    if name not in PROVIDERS:
        known = ", ".join(sorted(PROVIDERS))
        raise ProviderError(FailureReason.BAD_INPUT, f"there is no provider '{name}'; this agent has: {known}")
    module, attribute = PROVIDERS[name]
    return cast(Provider, getattr(import_module(module), attribute)())
