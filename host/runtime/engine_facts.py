"""Whether agents can work in containers of an engine: from what it says of itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from host.runtime.protocol import RuntimeUnavailable

_ROOTLESS, _REMAPPED = "name=rootless", "name=userns"


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """An engine's version, how it changes users, and the names of its runtimes."""

    version: str
    is_rootless: bool = False
    remaps_users: bool = False
    runtimes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> EngineFacts:
        """From the answer to `GET /info`."""
        options = [str(option).split(",")[0] for option in info.get("SecurityOptions") or ()]
        return cls(
            version=str(info.get("ServerVersion") or "unknown"),
            is_rootless=_ROOTLESS in options,
            remaps_users=_REMAPPED in options,
            runtimes=frozenset(info.get("Runtimes") or ()),
        )


def require_suitable(facts: EngineFacts, oci_runtime: str | None) -> None:
    """Refuse an engine whose containers could not use the folders of this machine, as every agent must.

    Raises `RuntimeUnavailable`.
    """
    if facts.is_rootless:
        raise RuntimeUnavailable(
            "the engine is rootless: it runs agents as users that cannot use the folders they are given",
            hint="use the engine of the system (docker_host = unix:///var/run/docker.sock)",
        )
    if facts.remaps_users:
        raise RuntimeUnavailable(
            "the engine has userns-remap: it runs agents as users that cannot use the folders they are given",
            hint="start dockerd without userns-remap, or name another engine with docker_host",
        )
    if oci_runtime is not None and facts.runtimes and oci_runtime not in facts.runtimes:
        raise RuntimeUnavailable(
            f"the engine has no runtime '{oci_runtime}' (the setting oci_runtime)",
            hint=f"it has {', '.join(sorted(facts.runtimes))}; or install it, see its own page",
        )
