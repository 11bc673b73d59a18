"""What a container of an agent is allowed to be: from an `AgentSpecification` to docker's words. Pure.

Everything of DESIGN section 8 that an engine enforces is written here and nowhere else, as plain data that a test
compares. The invariant: under any specification the container has no network, no capability, no root, no
writable file but `out/`, the workspace and a bounded /tmp, and no value of the host's environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host.runtime.accounts import AGENT_NAME
from host.runtime.protocol import AgentSpecification, Mount, RelayTarget, StartFailed
from shared_schema.layout import CONTAINER_SESSION, CONTAINER_WORKSPACE, OUT

INSTALL_LABEL = "dumbwaiter.install"
SESSION_LABEL = "dumbwaiter.session"
AGENT_GROUP_LABEL = "dumbwaiter.agent_group"
RUN_LABEL = "dumbwaiter.run"
NODE_LABEL = "dumbwaiter.node"
RELAY_LABEL = "dumbwaiter.relay"
WAY = "/way"
_RELAY_MEMORY = 128 * 1024**2

ACCOUNTS_LABEL = "dumbwaiter.accounts"
HOME = "/tmp"
LOG_FILE_SIZE = "5m"  # docker's notation; with two files an agent's output takes at most 10 MB of the host's disk
LOG_FILES = 2
# Period and quota, because the engine refuses `nano_cpus` beyond the machine's count instead of granting what there is.
CPU_PERIOD = 100_000  # microseconds
SMALLEST_CPU_QUOTA = 1_000  # the kernel's
OUT_OF_MEMORY_SCORE = 500  # of -1000 … 1000: when the host runs out of memory, agents go before the host process does


def container_arguments(specification: AgentSpecification) -> dict[str, Any]:
    """The keyword arguments of docker-py's `containers.create`, values of the kinds JSON has.

    Raises `StartFailed` for a specification that names root or no image.
    """
    if specification.uid <= 0 or specification.gid <= 0:
        raise StartFailed(
            "an agent does not run as root",
            where=specification.session_id,
            hint="give the specification the uid and gid that own the session's out/ folder",
        )
    if not specification.image:
        raise StartFailed("the specification names no image", where=specification.session_id)
    limits = specification.limits
    arguments: dict[str, Any] = {
        "image": specification.image,
        "name": container_name(specification),
        "labels": {
            INSTALL_LABEL: specification.install_id,
            SESSION_LABEL: specification.session_id,
            AGENT_GROUP_LABEL: specification.agent_group_id,
            RUN_LABEL: specification.run_id,
            **({NODE_LABEL: specification.node} if specification.node else {}),
        },
        # Who it is and what it may.
        "user": f"{specification.uid}:{specification.gid}",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "network_mode": "none",
        "ipc_mode": "private",
        # What it sees.
        "read_only": True,
        "tmpfs": {"/tmp": f"size={limits.tmp_bytes},mode=1777,nosuid,nodev"},
        "mounts": _mounts(specification),
        "working_dir": str(CONTAINER_WORKSPACE),
        "environment": container_environment(specification.environment)
        | ({} if specification.way is None else {"DUMBWAITER_GATEWAY": f"{WAY}/gateway.sock"}),
        "use_config_proxy": False,  # docker's client would add proxy addresses, passwords included, to the environment
        # What it may use. Memory and memory with swap are equal: no swap.
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,
        "cpu_period": CPU_PERIOD,
        "cpu_quota": max(SMALLEST_CPU_QUOTA, round(limits.cpus * CPU_PERIOD)),
        "pids_limit": limits.pids,
        "ulimits": [
            {"Name": "fsize", "Soft": limits.file_bytes, "Hard": limits.file_bytes},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "oom_score_adj": OUT_OF_MEMORY_SCORE,
        # How it lives and ends. Supervision alone decides about starting again.
        "init": True,
        "stop_signal": "SIGTERM",
        "restart_policy": {"Name": "no"},
        "log_config": {"type": "json-file", "config": {"max-size": LOG_FILE_SIZE, "max-file": str(LOG_FILES)}},
    }
    if limits.gpus:
        arguments["device_requests"] = [gpu_request(limits.gpus)]
    if specification.oci_runtime is not None:
        arguments["runtime"] = specification.oci_runtime
    return arguments


def gpu_request(count: int) -> dict[str, Any]:
    """So many GPUs, as `docker run --gpus` asks for them."""
    return {"Driver": "", "Count": count, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}}


def gpu_arguments(image: str, count: int) -> dict[str, Any]:
    """A container that ends at once: whether it starts says whether the engine has so many GPUs."""
    return {
        "image": image,
        "entrypoint": ["true"],
        "labels": {ACCOUNTS_LABEL: "gpus"},
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "read_only": True,
        "use_config_proxy": False,
        "device_requests": [gpu_request(count)],
    }


def trial_arguments(image: str) -> dict[str, Any]:
    """A container that is made and never started: whether the engine has what a container of an agent needs."""
    return {
        "image": image,
        "entrypoint": ["true"],
        "labels": {ACCOUNTS_LABEL: "trial"},
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "read_only": True,
        "init": True,
        "use_config_proxy": False,
    }


def relay_arguments(specification: AgentSpecification, way: RelayTarget) -> dict[str, Any]:
    """The container beside an agent that carries its connections to the gateway over the network of the node.

    It has no right but that, sees no file of the session, and shares one folder with the agent, in memory.
    """
    return {
        "image": specification.image,
        "command": ["-m", "container_agent.relay"],
        "entrypoint": ["python3"],
        "name": way_name(specification.run_id),
        "labels": {RELAY_LABEL: specification.install_id},
        "user": f"{specification.uid}:{specification.gid}",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "network_mode": "host",
        "ipc_mode": "private",
        "read_only": True,
        "mounts": [way_mount(specification, writable=True)],
        "environment": {
            "DUMBWAITER_RELAY_ADDRESS": way.address,
            "DUMBWAITER_RELAY_CERTIFICATE": way.certificate,
            "DUMBWAITER_RELAY_TOKEN": way.token,
        },
        "use_config_proxy": False,
        "mem_limit": _RELAY_MEMORY,
        "memswap_limit": _RELAY_MEMORY,
        "pids_limit": 16,
        "init": True,
        "restart_policy": {"Name": "no"},
        "log_config": {"type": "json-file", "config": {"max-size": LOG_FILE_SIZE, "max-file": "1"}},
    }


def way_name(run_id: str) -> str:
    """What the relay of a run and the folder it shares with the agent are called on its node."""
    return f"dumbwaiter-way-{run_id.rpartition('_')[2]}"


def way_mount(specification: AgentSpecification, *, writable: bool) -> dict[str, Any]:
    """The folder of the socket, in the memory of the node; it goes with the last container that uses it."""
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size=64k,uid={specification.uid},mode=0755,nosuid,nodev"}
    return {
        "Type": "volume",
        "Source": way_name(specification.run_id),
        "Target": WAY,
        "ReadOnly": not writable,
        "VolumeOptions": {
            "NoCopy": True,
            "Labels": {RELAY_LABEL: specification.install_id},
            "DriverConfig": {"Name": "local", "Options": options},
        },
    }


def with_account(arguments: Mapping[str, Any], name: str, files: Mapping[str, Path]) -> dict[str, Any]:
    """The same container, whose user has a name there. `files` are the host's, by the path they are mounted over."""
    return {
        **arguments,
        "mounts": [*arguments["mounts"], *(_bind(str(files[at]), at, writable=False) for at in files)],
        "environment": {**arguments["environment"], "USER": name, "LOGNAME": name},
    }


def accounts_arguments(image: str, install_id: str) -> dict[str, Any]:
    """A container that is made to read the users of an image, and is never started.

    Its name stands for one at a time, so that one left by a host that was killed is found again.
    """
    return {
        "image": image,
        "name": f"dumbwaiter-accounts-{install_id}",
        "labels": {ACCOUNTS_LABEL: install_id},
        "entrypoint": ["true"],
        "network_mode": "none",
        "use_config_proxy": False,
    }


def container_name(specification: AgentSpecification) -> str:
    """`dumbwaiter-<session id>-<the random part of the run id>`: unique, and legible in `docker ps`."""
    return f"dumbwaiter-{specification.session_id}-{specification.run_id.rpartition('_')[2]}"


def container_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of an agent in a container; the paths cannot be overridden."""
    return {
        **environment,
        "DUMBWAITER_SESSION": str(CONTAINER_SESSION),
        "DUMBWAITER_WORKSPACE": str(CONTAINER_WORKSPACE),
        "HOME": HOME,
        "USER": AGENT_NAME,
        "LOGNAME": AGENT_NAME,
    }


def _mounts(specification: AgentSpecification) -> list[dict[str, Any]]:
    """The binds, outer before inner: the session folder read-only, its out/ writable on top of it."""
    layout = specification.folder
    return [
        _bind(str(layout.folder), str(CONTAINER_SESSION), writable=False),
        _bind(str(layout.out), str(CONTAINER_SESSION / OUT), writable=True),
        _bind(str(specification.workspace), str(CONTAINER_WORKSPACE), writable=True),
        *(_extra(mount) for mount in specification.mounts),
        *([] if specification.way is None else [way_mount(specification, writable=False)]),
    ]


def _extra(mount: Mount) -> dict[str, Any]:
    return _bind(str(mount.source), f"/mnt/{mount.name}", writable=mount.writable)


def _bind(source: str, target: str, *, writable: bool) -> dict[str, Any]:
    """A bind in the engine's own words. Unlike the short form, it fails when the source is missing."""
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": not writable,
        "BindOptions": {"Propagation": "rprivate"},
    }
