"""A container of an agent as a service of Swarm: what `specification.py` allows, in Swarm's words. Pure.

A service has one replica and is never restarted: a second container of a run is never Swarm's idea. What Swarm does not
take (no network, no-new-privileges on older engines) is the node's configuration, which a probe with the same words
finds or does not (`PROBE`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from host.runtime.specification import HOME, NODE_LABEL

NODE_ID_LABEL = "dumbwaiter.node_id"
ENDED_LABEL = "dumbwaiter.ended"
PROBE_LABEL = "dumbwaiter.probe"
NOWHERE = ["node.id==nowhere"]
"""A placement that no node satisfies: the update to it ends the task, keeps what it said, and starts no other."""

GPU_KIND = "NVIDIA-GPU"
"""What `node-generic-resources` in a node's daemon.json calls its GPUs."""

HAS_NETWORK, MAY_GAIN, OTHER_FOLDER = 81, 82, 83
PROBE = f"""
import os, sys
if set(os.listdir("/sys/class/net")) != {{"lo"}}:
    sys.exit({HAS_NETWORK})
if "NoNewPrivs:\\t1" not in open("/proc/self/status").read():
    sys.exit({MAY_GAIN})
if open("/mnt/" + sys.argv[1]).read() != sys.argv[2]:
    sys.exit({OTHER_FOLDER})
"""
"""Its exit status says what the node would let an agent do."""

_NANO = 1_000_000_000


def agent_service(arguments: Mapping[str, Any], *, node_id: str, grace: float) -> dict[str, Any]:
    """What `create_service` takes, from the arguments of `containers.create` that `container_arguments` makes.

    `grace` is seconds between SIGTERM and SIGKILL: Swarm wants to know them before.
    """
    options = dict(part.split("=") for part in arguments["tmpfs"]["/tmp"].split(",") if "=" in part)
    tmpfs = {
        "Type": "tmpfs",
        "Target": HOME,
        "TmpfsOptions": {"SizeBytes": int(options["size"]), "Mode": int(options["mode"], 8)},
    }
    container = {
        "Image": arguments["image"],
        "Labels": arguments["labels"],
        "User": arguments["user"],
        "Dir": arguments["working_dir"],
        "Env": [f"{name}={value}" for name, value in arguments["environment"].items()],
        "Mounts": [tmpfs, *arguments["mounts"]],
        "ReadOnly": True,
        "Init": True,
        "CapabilityDrop": arguments["cap_drop"],
        "Privileges": {"NoNewPrivileges": True},  # from Docker 25 on; what is older reads past it
        "OomScoreAdj": arguments["oom_score_adj"],  # from Docker 27 on
        "Ulimits": arguments["ulimits"],
        "StopSignal": arguments["stop_signal"],
        "StopGracePeriod": round(grace * _NANO),
    }
    limits = {
        "MemoryBytes": arguments["mem_limit"],
        "NanoCPUs": round(arguments["cpu_quota"] / arguments["cpu_period"] * _NANO),
        "Pids": arguments["pids_limit"],
    }
    labels = {**arguments["labels"], NODE_ID_LABEL: node_id}
    service = _service(arguments["name"], container, limits, labels, node_id, networks=())
    if (gpus := sum(request["Count"] for request in arguments.get("device_requests", ()))) > 0:
        # Swarm has no requests for devices: it counts what a node's configuration names, and the node's default
        # runtime hands out what was counted.
        reserved = [{"DiscreteResourceSpec": {"Kind": GPU_KIND, "Value": gpus}}]
        service["TaskTemplate"]["Resources"]["Reservations"] = {"GenericResources": reserved}
    return service


def relay_service(arguments: Mapping[str, Any], *, node_id: str, node: str) -> dict[str, Any]:
    """The relay beside an agent, from the arguments that `relay_arguments` makes; it has the network of its node."""
    container = {
        "Image": arguments["image"],
        "Command": arguments["entrypoint"],
        "Args": arguments["command"],
        "Labels": arguments["labels"],
        "User": arguments["user"],
        "Env": [f"{name}={value}" for name, value in arguments["environment"].items()],
        "Mounts": arguments["mounts"],
        "ReadOnly": True,
        "Init": True,
        "CapabilityDrop": arguments["cap_drop"],
        "Privileges": {"NoNewPrivileges": True},
        "StopGracePeriod": _NANO,
    }
    limits = {"MemoryBytes": arguments["mem_limit"], "Pids": arguments["pids_limit"]}
    labels = {**arguments["labels"], NODE_LABEL: node, NODE_ID_LABEL: node_id}
    return _service(arguments["name"], container, limits, labels, node_id, networks=("host",))


def probe_service(
    name: str, image: str, install_id: str, node_id: str, command: Sequence[str], mounts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A short container on one node, with the rights of an agent but root's own uid: it looks at what is the host's."""
    container = {
        "Image": image,
        "Command": ["python3"],
        "Args": list(command),
        "User": "0:0",
        "Mounts": list(mounts),
        "ReadOnly": True,
        "Privileges": {"NoNewPrivileges": True},
        "StopGracePeriod": _NANO,
    }
    labels = {PROBE_LABEL: install_id}
    return _service(name, container, {"MemoryBytes": 256 * 1024**2}, labels, node_id, networks=())


def ended(service: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of a service whose task is to end."""
    was = service["Spec"]
    template = {**was["TaskTemplate"], "Placement": {"Constraints": NOWHERE}}
    return {**was, "TaskTemplate": template, "Labels": {**was["Labels"], ENDED_LABEL: "1"}}


def is_ended(service: Mapping[str, Any]) -> bool:
    """Whether it was asked to end."""
    return ENDED_LABEL in service["Spec"]["Labels"]


def _service(
    name: str,
    container: dict[str, Any],
    limits: dict[str, Any],
    labels: Mapping[str, str],
    node_id: str,
    networks: Sequence[str],
) -> dict[str, Any]:
    template: dict[str, Any] = {
        "ContainerSpec": container,
        "Resources": {"Limits": limits},
        "RestartPolicy": {"Condition": "none", "MaxAttempts": 0},
        "Placement": {"Constraints": [f"node.id=={node_id}"]},
        "LogDriver": {"Name": "json-file", "Options": {"max-size": "5m", "max-file": "2"}},
    }
    if networks:
        template["Networks"] = [{"Target": each} for each in networks]
    return {
        "Name": name,
        "Labels": dict(labels),
        "TaskTemplate": template,
        "Mode": {"Replicated": {"Replicas": 1}},
        "UpdateConfig": {"Parallelism": 1, "Delay": 0, "FailureAction": "continue", "Order": "stop-first"},
    }
