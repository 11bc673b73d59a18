"""The providers by name. Each is imported when it is first used, so that the agent starts on the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from container_agent.providers.model_seams import NoWayOut, SetUpTurn, WayOut, bare
from container_agent.providers.protocol import Provider, ProviderError
from shared_schema import collector
from shared_schema.rows import FailureReason

PROVIDERS = {
    "echo": ("container_agent.providers.echo", "EchoProvider"),
    "scripted": ("container_agent.providers.scripted", "ScriptedProvider"),
    "model": ("container_agent.providers.model", "ModelProvider"),
    "claude": ("container_agent.providers.claude", "ClaudeProvider"),
}

WITH_TOOLS = frozenset({"claude", "model", "scripted"})
"""Those that are given a prompt and tools."""

ONLINE = frozenset({"claude", "model"})
"""Those that call a model service, which they find in the environment."""


def load(
    name: str, set_up: SetUpTurn = bare, environment: Mapping[str, str] | None = None, way_out: WayOut | None = None
) -> Provider:
    """A new provider of that name. Raises `ProviderError` for a name that does not exist."""
    if name not in PROVIDERS:
        known = ", ".join(sorted(PROVIDERS))
        raise ProviderError(FailureReason.BAD_INPUT, f"there is no provider '{name}'; this agent has: {known}")
    module, attribute = PROVIDERS[name]
    with collector.waiting():
        made = getattr(import_module(module), attribute)
    if name in ONLINE:
        return cast(Provider, made(environment or {}, set_up=set_up, way_out=way_out or NoWayOut()))
    return cast(Provider, made(set_up=set_up) if name in WITH_TOOLS else made())
