"""What the pod of an agent is: from an `AgentSpecification` to the words of Kubernetes. Pure.

The counterpart of `specification.py`. The invariant: with any template, no container of the pod has a
capability, root, a way to more rights or a writable root; the pod shares nothing with its node and has no token for
the API; and the agent writes only in `out/`, its workspace, a bounded /tmp and what an admin mounts for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Any

from host.runtime.protocol import AgentSpecification, RelayTarget, StartFailed
from host.runtime.specification import (
    AGENT_GROUP_LABEL,
    INSTALL_LABEL,
    RUN_LABEL,
    SESSION_LABEL,
    WAY,
    container_environment,
)
from shared_schema.dataclass import dataclass
from shared_schema.layout import CONTAINER_SESSION, CONTAINER_WORKSPACE, OUT

AGENT, RELAY = "agent", "relay"
GPU_RESOURCE = "nvidia.com/gpu"
"""What the device plugin of NVIDIA calls GPUs; others have a name of their own, which the template can ask for."""
"""The names of the containers."""
PART_LABEL = "app.kubernetes.io/name"
PART = "dumbwaiter-agent"
"""The label that network policies choose agents by."""
FINALIZER = "dumbwaiter/end-is-known"
"""Keeps the object until this host knows that its containers have ended, also when it is deleted by force."""
_RELAY_MEMORY = "128Mi"
_WAY_SIZE = "1Mi"
_REQUESTED_MEMORY, _REQUESTED_CPU = 256 * 1024**2, 100
"""Bytes, and thousandths of a CPU."""
_RELAY_IS_READY = (
    "import os, time\n"
    "for _ in range(600):\n"
    f"    if os.path.exists({WAY + '/gateway.sock'!r}): break\n"
    "    time.sleep(0.05)\n"
)


@dataclass(frozen=True, slots=True)
class SharedVolume:
    """A folder as this host sees it, and what the pods mount to see the same: a claim, or a path of every node."""

    folder: Path
    claim: str | None = None
    host_path: str | None = None


@dataclass(frozen=True, slots=True)
class PodOptions:
    """What holds for every pod of an install."""

    volumes: Sequence[SharedVolume]
    template: Mapping[str, Any] = field(default_factory=dict)
    image_pull_secrets: Sequence[str] = ()
    runtime_class: str | None = None
    grace_seconds: int = 10


def pod_name(run_id: str) -> str:
    """The name of a run's pod: a second one cannot be created."""
    return run_id.replace("_", "-").lower()


def pod_manifest(specification: AgentSpecification, options: PodOptions) -> dict[str, Any]:
    """The Pod to create. Raises `StartFailed` for one that names root or no image, or a folder in no volume."""
    if specification.uid <= 0 or specification.gid <= 0:
        raise StartFailed(
            "an agent does not run as root",
            where=specification.session_id,
            hint="give the specification the uid and gid that own the session's out/ folder",
        )
    if not specification.image:
        raise StartFailed("the specification names no image", where=specification.session_id)
    volumes = VolumeMounts(options.volumes)
    agent = _agent(specification, volumes)
    containers = [agent]
    if specification.way is not None:
        # First: a container is started when the hook of the one before it is over, so the agent finds its way out.
        containers.insert(0, _relay(specification, specification.way))
    ours = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(specification.run_id),
            "labels": {
                PART_LABEL: PART,
                INSTALL_LABEL: specification.install_id,
                SESSION_LABEL: specification.session_id,
                AGENT_GROUP_LABEL: specification.agent_group_id,
                RUN_LABEL: specification.run_id,
            },
            "finalizers": [FINALIZER],
        },
        "spec": {
            "containers": containers,
            "volumes": [*volumes.used(), *_memory(specification)],
            **({"nodeSelector": dict(specification.labels)} if specification.labels else {}),
            **({"imagePullSecrets": [{"name": each} for each in options.image_pull_secrets]}),
            **({} if options.runtime_class is None else {"runtimeClassName": options.runtime_class}),
        },
    }
    template = merged(_requests(specification), _extension(options.template))
    return hardened(merged(template, ours), specification.uid, specification.gid, options)


def merged(template: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Both, where ours wins. Lists are joined: of two things with one name (or mount path) ours is kept, and containers
    are merged."""
    found: dict[str, Any] = dict(template)
    for key, value in ours.items():
        there = found.get(key)
        if isinstance(there, Mapping) and isinstance(value, Mapping):
            found[key] = merged(there, value)
        elif isinstance(there, list) and isinstance(value, list):
            by = "mountPath" if key == "volumeMounts" else "name"
            found[key] = _joined(there, value, by, deeply=key == "containers")
        else:
            found[key] = value
    return found


def hardened(pod: Mapping[str, Any], uid: int, gid: int, options: PodOptions) -> dict[str, Any]:
    """The same pod with what no template may change."""
    spec = dict(pod.get("spec") or {})
    for name in ("serviceAccount", "serviceAccountName", "ephemeralContainers"):
        spec.pop(name, None)
    for kind in ("containers", "initContainers"):
        if spec.get(kind):
            spec[kind] = [_hardened_container(each, uid, gid) for each in spec[kind]]
    spec |= {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostNetwork": False,
        "hostPID": False,
        "hostIPC": False,
        "shareProcessNamespace": False,  # the agent would read the relay's token
        "terminationGracePeriodSeconds": options.grace_seconds,
        # No name is looked up: that would be a way out around the gateway.
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "securityContext": {
            **{name: value for name, value in (spec.get("securityContext") or {}).items() if name in _KEPT_IN_POD},
            "runAsNonRoot": True,
            "runAsUser": uid,
            "runAsGroup": gid,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {**pod, "spec": spec}


_KEPT_IN_POD = frozenset({"supplementalGroups", "seLinuxOptions", "appArmorProfile"})
_KEPT_IN_CONTAINER = frozenset({"seLinuxOptions", "appArmorProfile"})


def _hardened_container(container: Mapping[str, Any], uid: int, gid: int) -> dict[str, Any]:
    given = container.get("securityContext") or {}
    found = {name: value for name, value in container.items() if name not in ("securityContext", "ports")}
    found["securityContext"] = {
        **{name: value for name, value in given.items() if name in _KEPT_IN_CONTAINER},
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": gid,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return found


def _agent(specification: AgentSpecification, volumes: VolumeMounts) -> dict[str, Any]:
    layout, limits = specification.folder, specification.limits
    mounts = [
        volumes.mount(layout.folder, str(CONTAINER_SESSION), writable=False),
        volumes.mount(layout.out, str(CONTAINER_SESSION / OUT), writable=True),
        volumes.mount(specification.workspace, str(CONTAINER_WORKSPACE), writable=True),
        *(volumes.mount(each.source, f"/mnt/{each.name}", writable=each.writable) for each in specification.mounts),
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    environment = container_environment(specification.environment)
    if specification.way is not None:
        mounts.append({"name": "way", "mountPath": WAY, "readOnly": True})
        environment["DUMBWAITER_GATEWAY"] = f"{WAY}/gateway.sock"
    most: dict[str, str] = {"memory": str(limits.memory_bytes), "cpu": f"{max(1, round(limits.cpus * 1000))}m"}
    if limits.gpus:
        most[GPU_RESOURCE] = str(limits.gpus)
    return {
        "name": AGENT,
        "image": specification.image,
        "imagePullPolicy": "IfNotPresent",
        "workingDir": str(CONTAINER_WORKSPACE),
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": {"limits": most},
        "volumeMounts": mounts,
    }


def _relay(specification: AgentSpecification, way: RelayTarget) -> dict[str, Any]:
    """What carries the agent's connections to the gateway. The agent shares one folder with it, and no process."""
    given = {
        "DUMBWAITER_RELAY_ADDRESS": way.address,
        "DUMBWAITER_RELAY_CERTIFICATE": way.certificate,
        "DUMBWAITER_RELAY_TOKEN": way.token,
    }
    return {
        "name": RELAY,
        "image": specification.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "container_agent.relay"],
        "env": [{"name": name, "value": value} for name, value in given.items()],
        "resources": {
            "limits": {"memory": _RELAY_MEMORY, "cpu": "500m"},
            "requests": {"memory": "32Mi", "cpu": "10m"},
        },
        "volumeMounts": [{"name": "way", "mountPath": WAY}],
        "lifecycle": {"postStart": {"exec": {"command": ["python3", "-c", _RELAY_IS_READY]}}},
    }


def _memory(specification: AgentSpecification) -> list[dict[str, Any]]:
    """Folders that are not kept."""
    size = str(specification.limits.tmp_bytes)
    found = [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": size}}]
    if specification.way is not None:
        found.append({"name": "way", "emptyDir": {"medium": "Memory", "sizeLimit": _WAY_SIZE}})
    return found


class VolumeMounts:
    """The shared volumes, of which a pod gets those that it mounts something of."""

    def __init__(self, volumes: Sequence[SharedVolume]) -> None:
        self._volumes = list(volumes)
        self._used: set[int] = set()

    def mount(self, source: Path, target: str, *, writable: bool) -> dict[str, Any]:
        """The mount of a folder of this host. Raises `StartFailed` for one that lies in no volume."""
        containing = [number for number, each in enumerate(self._volumes) if source.is_relative_to(each.folder)]
        if not containing:
            raise StartFailed(
                f"pods do not see the folder {source}",
                hint="add a volume that holds it, in [[kubernetes.volumes]] of dumbwaiter.toml",
            )
        number = max(containing, key=lambda each: len(self._volumes[each].folder.parts))
        self._used.add(number)
        below = PurePosixPath(source.relative_to(self._volumes[number].folder))
        mount: dict[str, Any] = {"name": f"shared-{number}", "mountPath": target, "readOnly": not writable}
        if below.parts:
            mount["subPath"] = str(below)
        return mount

    def used(self) -> list[dict[str, Any]]:
        """The pod's volumes for what was mounted."""
        found = []
        for number in sorted(self._used):
            each = self._volumes[number]
            source: dict[str, Any] = (
                {"persistentVolumeClaim": {"claimName": each.claim}}
                if each.claim is not None
                else {"hostPath": {"path": each.host_path or str(each.folder), "type": "Directory"}}
            )
            found.append({"name": f"shared-{number}", **source})
        return found


def _requests(specification: AgentSpecification) -> dict[str, Any]:
    """What a node must have free for an agent, where the template says nothing of it: an agent mostly waits."""
    limits = specification.limits
    requests = {
        "memory": str(min(limits.memory_bytes, _REQUESTED_MEMORY)),
        "cpu": f"{max(1, min(round(limits.cpus * 1000), _REQUESTED_CPU))}m",
    }
    return {"spec": {"containers": [{"name": AGENT, "resources": {"requests": requests}}]}}


def _extension(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template without what is never its business: names, kinds and states of the object."""
    metadata = template.get("metadata") or {}
    kept = {name: dict(metadata[name]) for name in ("labels", "annotations") if metadata.get(name)}
    return {"metadata": kept, "spec": dict(template.get("spec") or {})}


def _joined(there: Sequence[Any], ours: Sequence[Any], key: str, *, deeply: bool) -> list[Any]:
    """Ours first. What has the same name there is merged into it (`deeply`), or given up."""
    by_key = {each[key]: each for each in there if isinstance(each, Mapping) and key in each}
    known = {each.get(key) for each in ours if isinstance(each, Mapping)} - {None}
    joined = [merged(by_key[each[key]], each) if deeply and each.get(key) in by_key else each for each in ours]
    return [*joined, *(each for each in there if not isinstance(each, Mapping) or each.get(key) not in known)]
