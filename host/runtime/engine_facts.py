"""Whether agents can work in containers of an engine: from what it says of itself. Pure but for this process's user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from host.runtime.podman import NO_RUNTIME, hint_of_runtime
from host.runtime.protocol import RuntimeUnavailable
from shared_schema.dataclass import dataclass

Product = Literal["docker", "podman"]
_ROOTLESS, _REMAPPED = "name=rootless", "name=userns"


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """An engine's version, how it changes users, and the names of its runtimes."""

    version: str
    product: Product = "docker"
    is_rootless: bool = False
    remaps_users: bool = False
    keeps_limits: bool = True
    """Whether limits of memory, CPUs and processes hold."""
    socket_owner: int | None = None
    runtimes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, info: Mapping[str, Any], *, socket_owner: int | None = None) -> EngineFacts:
        """From the answer to `GET /info`, and the user whose socket it came from."""
        options = [str(option).split(",")[0] for option in info.get("SecurityOptions") or ()]
        is_podman = "BuildahVersion" in info
        # Podman says it in a field of its own, and not among the options.
        is_rootless = _ROOTLESS in options or info.get("Rootless") is True
        return cls(
            version=str(info.get("ServerVersion") or "unknown"),
            product="podman" if is_podman else "docker",
            is_rootless=is_rootless,
            remaps_users=_REMAPPED in options,
            keeps_limits=not (is_podman and is_rootless and str(info.get("CgroupVersion")) == "1"),
            socket_owner=socket_owner,
            runtimes=frozenset(info.get("Runtimes") or ()),
        )

    def __str__(self) -> str:
        rootless = ", rootless" if self.is_rootless else ""
        return f"{self.product} {self.version}{rootless}"


def require_suitable(facts: EngineFacts, oci_runtime: str | None, *, user: int | None = None) -> None:
    """Refuse an engine whose containers could not use the folders of this machine, as every agent must.

    A rootless podman can give agents one user of this machine: its own. `user` is the host's, None for this process's.
    Raises `RuntimeUnavailable`.
    """
    user = os.geteuid() if user is None else user
    if facts.is_rootless and facts.product == "podman":
        if facts.socket_owner != user:
            raise RuntimeUnavailable(
                "the engine is the rootless podman of another user: its agents cannot use the folders they are given",
                hint="use the podman of the user who runs the host (`systemctl --user start podman.socket`), or that "
                "of the system (docker_host = unix:///run/podman/podman.sock)",
            )
    elif facts.is_rootless:
        raise RuntimeUnavailable(
            "the engine is rootless: it runs agents as users that cannot use the folders they are given",
            hint="use the engine of the system (docker_host = unix:///var/run/docker.sock)",
        )
    if facts.remaps_users:
        raise RuntimeUnavailable(
            "the engine has userns-remap: it runs agents as users that cannot use the folders they are given",
            hint="start dockerd without userns-remap, or name another engine with docker_host",
        )
    if oci_runtime is not None and facts.product == "podman":
        raise RuntimeUnavailable(NO_RUNTIME, hint=hint_of_runtime(oci_runtime))
    if oci_runtime is not None and facts.runtimes and oci_runtime not in facts.runtimes:
        raise RuntimeUnavailable(
            f"the engine has no runtime '{oci_runtime}' (the setting oci_runtime)",
            hint=f"it has {', '.join(sorted(facts.runtimes))}; or install it, see its own page",
        )
