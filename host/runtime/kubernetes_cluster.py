"""The cluster of the settings: its runtime, and whether agents may be started there at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from host.runtime.kubernetes import KubernetesRuntime
from host.runtime.kubernetes_client import ClusterAccess, ClusterClient, read_template
from host.runtime.kubernetes_pod import PodOptions, SharedVolume
from host.runtime.kubernetes_probe import ProbeResult, missing_rights, probe
from host.runtime.protocol import RuntimeUnavailable, StartFailed
from shared_schema.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What the settings say of the cluster. `uid` is the user of agents, `gateway` the address that they are given."""

    access: ClusterAccess
    volumes: Sequence[SharedVolume]
    template: Path | None
    image_pull_secrets: Sequence[str]
    runtime_class: str | None
    grace_seconds: int
    pending_seconds: float
    open_network: bool
    uid: int
    gid: int
    gateway: str | None


def cluster_runtime(install_id: str, plan: ClusterPlan) -> KubernetesRuntime:
    """The runtime. Blocks for the template's file. Raises `FileTrouble`."""
    options = PodOptions(
        volumes=plan.volumes,
        template={} if plan.template is None else read_template(plan.template),
        image_pull_secrets=plan.image_pull_secrets,
        runtime_class=plan.runtime_class,
        grace_seconds=plan.grace_seconds,
    )
    return KubernetesRuntime(install_id, ClusterClient(plan.access), options, pending_seconds=plan.pending_seconds)


async def made_ready(install_id: str, plan: ClusterPlan, image: str, run_folder: Path) -> tuple[KubernetesRuntime, str]:
    """The runtime of a cluster that can run agents, and how it stands, in a sentence.

    Raises `RuntimeUnavailable` for one that cannot, or that lets agents reach more than the gateway without the
    operator's word, and `StartFailed` where no pod can be started.
    """
    runtime = await asyncio.to_thread(cluster_runtime, install_id, plan)
    try:
        version = await runtime.client.version()
        await require_rights(runtime.client)
        found = await look_around(runtime, plan, image, run_folder)
        require_folder(found, run_folder)
        if not plan.open_network:
            require_closed(found)
    except (RuntimeUnavailable, StartFailed):
        await runtime.close()
        raise
    network = "its network is closed to agents" if not found.leaks else f"agents REACH {', '.join(found.leaks)}"
    return runtime, f"Kubernetes {version} at {await runtime.client.address()} answers, and {network}"


async def look_around(
    runtime: KubernetesRuntime, plan: ClusterPlan, image: str, run_folder: Path, node: str | None = None
) -> ProbeResult:
    """What a pod finds there. Raises as `probe`."""
    return await probe(
        runtime.client,
        runtime.options,
        image=image,
        uid=plan.uid,
        gid=plan.gid,
        folder=run_folder,
        gateway=plan.gateway,
        node=node,
    )


async def require_rights(client: ClusterClient) -> None:
    """Raises `RuntimeUnavailable` with the rights that this host lacks."""
    if missing := await missing_rights(client):
        raise RuntimeUnavailable(
            f"this host may not {', '.join(missing)} in the namespace {client.access.namespace}",
            hint="`kubectl apply -k deploy/kubernetes/base` gives these rights to its service account",
        )


def require_folder(found: ProbeResult, run_folder: Path) -> None:
    """Raises `RuntimeUnavailable` where pods see another folder than this host."""
    if not found.sees_folder:
        raise RuntimeUnavailable(
            f"a pod on {found.node} does not find what this host has just written in {run_folder}",
            hint="name the claim or host_path in [[kubernetes.volumes]] that is mounted here",
        )


def require_closed(found: ProbeResult) -> None:
    """Raises `RuntimeUnavailable` where agents reach what they should not."""
    if found.leaks:
        raise RuntimeUnavailable(
            f"the cluster does not enforce its network policies: a pod reaches {', '.join(found.leaks)}",
            hint="apply deploy/kubernetes/base, with a network plugin that enforces policies (Calico, Cilium); or, for "
            "agents that reach all that pods reach, set open_network = true under [kubernetes]",
        )
