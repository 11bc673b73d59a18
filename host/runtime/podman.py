"""What podman does otherwise than docker behind the same API, and what a container of an agent needs there. Pure.

Podman 4.3 was tried, with and without root. `docs/podman.md` has the differences as a table for users.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.runtime.protocol import StartFailed
from shared_schema.dataclass import dataclass

KEEP_USER = "keep-id"
"""The user namespace in which the user of a rootless podman has its own number: else its files are root's inside."""
HOSTS = b"127.0.0.1\tlocalhost\n::1\tlocalhost\n"
"""The /etc/hosts of agents. Podman's own is a copy of this machine's, with the names of its neighbours."""
NO_LIMITS = (
    "NO LIMITS: a rootless podman on cgroups v1 sets no limit of memory, CPUs, processes or file size for agents; "
    "use cgroups v2, or the podman of the system (docker_host = unix:///run/podman/podman.sock)"
)
NO_RUNTIME = "podman takes no runtime with a container (the setting oci_runtime)"
_WRITABLE_ANYWAY = ("/run", "/var/tmp")
_EMPTY = "ro,size=64k,mode=755,nosuid,nodev,noexec"
_MOST = 1_048_576  # what podman asks for where it is asked for nothing


@dataclass(frozen=True, slots=True)
class HardLimits:
    """The hard limits of a process for open files and for processes; a negative number is none."""

    files: int
    processes: int


def as_podman_takes(arguments: Mapping[str, Any], limits: HardLimits, *, is_rootless: bool) -> dict[str, Any]:
    """The arguments of a container, so that podman makes of them what docker does.

    `limits` are this process's. Podman as root asks for 1,048,576 open files and processes, and cannot start a
    container where its own limits are lower and it may not raise them; rootless it looks for itself.
    Raises `StartFailed` for what podman would leave out without a word.
    """
    if "device_requests" in arguments:
        raise StartFailed(
            "podman gives no GPUs that are asked for in docker's way",
            hint="use docker, or let agents do without: `dumbwaiter agent-group set NAME --unset gpus`",
        )
    if "runtime" in arguments:
        raise StartFailed(NO_RUNTIME, hint=hint_of_runtime(str(arguments["runtime"])))
    found = dict(arguments)
    if found.get("read_only"):  # podman then adds writable memory at these places, but where something is mounted
        found["tmpfs"] = {**{place: _EMPTY for place in _WRITABLE_ANYWAY}, **found.get("tmpfs", {})}
    if not is_rootless:
        asked = [*found.get("ulimits", ())]
        named = {each["Name"] for each in asked}
        for name, hard in (("nofile", limits.files), ("nproc", limits.processes)):
            most = _MOST if hard < 0 else min(_MOST, hard)
            if name not in named:
                asked.append({"Name": name, "Soft": most, "Hard": most})
        found["ulimits"] = asked
    return found


def bind_sources(arguments: Mapping[str, Any]) -> list[str]:
    """The folders of this machine that a container wants to see. Podman makes those that are missing, as root."""
    return [str(each["Source"]) for each in arguments.get("mounts", ()) if each["Type"] == "bind"]


def hint_of_runtime(name: str) -> str:
    """What gives podman's containers that runtime."""
    return f"write runtime = '{name}' under [engine] in podman's containers.conf, and unset oci_runtime"


def hint_for(reason: str) -> str | None:
    """What to type where podman refuses a container for want of a program of its own."""
    if "container-init" in reason or "catatonit" in reason:
        return "podman needs catatonit (on Debian and Ubuntu: `sudo apt install catatonit`)"
    if "cgroups in hybrid mode not supported" in reason:
        return 'crun does not know these cgroups: install runc, and set runtime = "runc" in containers.conf ([engine])'
    return None
