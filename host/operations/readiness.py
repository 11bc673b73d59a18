"""What an agent still lacks before it can answer, each with the line to type: a model, a key, packages, an image."""

from __future__ import annotations

from typing import Any

from host.central import agent_groups
from host.central.agent_groups import AgentGroup
from host.gateway.upstreams import UpstreamKind
from host.runtime.image_names import how_to_build
from host.runtime.images import standing
from host.runtime.protocol import RuntimeUnavailable
from host.runtime.sources import SOURCE_ROOT
from host.services import Services
from host.supervision.runs import image_of
from shared_schema.providers import VARIANTS
from shared_schema.provisions import how_to_install, is_installed

_KINDS = tuple(UpstreamKind)


async def lacking(services: Services, *, name: str) -> list[str]:
    """What an agent group lacks, as sentences. Empty when nothing is known to be missing. Raises `NotFound`."""
    return await of_group(services, await services.central.read(agent_groups.get_by_name, name))


async def of_group(services: Services, group: AgentGroup) -> list[str]:
    """The same for an agent group."""
    found = [_model(group), *_keys(services, group), await _provisions(services, group)]
    return list(dict.fromkeys(sentence for sentence in found if sentence is not None))


def _model(group: AgentGroup) -> str | None:
    if group.provider != "model":
        return None
    set_one = f"`dumbwaiter agent-group set {group.name} --model anthropic:claude-sonnet-5-5`"
    if not group.model:
        return f"'{group.name}' has no model yet: {set_one}, or let `dumbwaiter init` ask you"
    kind, colon, rest = group.model.partition(":")
    if kind not in _KINDS or not colon or not rest:
        known = ", ".join(f"{each}:NAME" for each in _KINDS)
        return f"'{group.model[:100]}' is no model: write {known}, for instance {set_one}"
    return None


def _keys(services: Services, group: AgentGroup) -> list[str | None]:
    """What is missing for its model and for each that it falls back on."""
    if group.provider not in VARIANTS:
        return []
    return [_key(services, group.provider, model) for model in (group.model or "", *group.fallback_models)]


def _key(services: Services, provider: str, model: str) -> str | None:
    kind = model.partition(":")[0] if provider == "model" else str(UpstreamKind.ANTHROPIC)
    service = model.rpartition("@")[2] if "@" in model else kind
    upstream = services.upstreams.get(service)
    if upstream is None or not upstream.lacks_key:
        return None
    return f"{upstream.name} has no key yet: `dumbwaiter init --model {upstream.name}` asks for it and keeps it private"


async def _provisions(services: Services, group: AgentGroup) -> str | None:
    """Packages beside the host, or an image. What cannot be known without a running host is left out."""
    if group.provider not in VARIANTS:
        return None
    runtime: Any = services.runtime
    setting = services.settings.runtime
    if runtime.name == "process" or (services.started_at is None and setting == "process"):
        if is_installed(group.provider):
            return None
        return f"what the provider `{group.provider}` needs is not installed: `{how_to_install(group.provider)}`"
    if runtime.name == "docker":
        image = image_of(group, services.settings)
        try:
            stands = await standing(runtime, image, SOURCE_ROOT)
        except RuntimeUnavailable:
            return None
        return f"the image {image} is missing: {how_to_build(image)}" if stands == "is missing" else None
    return None
