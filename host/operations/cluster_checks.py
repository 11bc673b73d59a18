"""What `dumbwaiter doctor` checks of a Kubernetes cluster, in the order in which to mend what is wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from host.operations.system_checks import Check
from host.runtime.protocol import RuntimeUnavailable, StartFailed
from host.services import cluster_of
from host.settings import Settings
from shared_schema.errors import DumbwaiterError

if TYPE_CHECKING:
    from host.runtime.kubernetes import KubernetesRuntime
    from host.runtime.kubernetes_cluster import ClusterPlan
    from host.runtime.kubernetes_probe import ProbeResult

_NO_INSTALL = "ins_0000000000000000"
_APPLY = "`kubectl apply -k deploy/kubernetes/base` makes it"


async def check_cluster(settings: Settings) -> list[Check]:
    """The API, the rights of this host, its claims, the network policy, and what a pod finds and reaches."""
    from host.runtime.kubernetes_cluster import cluster_runtime

    plan = cluster_of(settings)
    assert plan is not None  # the settings see to it
    try:
        runtime = await asyncio.to_thread(cluster_runtime, _NO_INSTALL, plan)
    except DumbwaiterError as error:
        return [Check("cluster", False, error.what, error.hint)]
    checks: list[Check] = []
    try:
        version = await runtime.client.version()
        checks.append(Check("cluster", True, f"Kubernetes {version} at {await runtime.client.address()} answers"))
        checks.append(await _rights(runtime))
        checks += await _claims(runtime, plan)
        checks += await _policies(runtime)
        checks += await _probe(runtime, plan, settings)
    except DumbwaiterError as error:
        checks.append(Check("cluster", False, error.what, error.hint))
    finally:
        await runtime.close()
    if not settings.shared:
        what = "shared is false: events and times of files are relied on, which do not come from other nodes"
        checks.append(Check("shared", None, what, "set shared = true unless the cluster is this one machine"))
    return checks


async def _rights(runtime: KubernetesRuntime) -> Check:
    from host.runtime.kubernetes_probe import missing_rights

    namespace = runtime.client.access.namespace
    missing = await missing_rights(runtime.client)
    if missing:
        return Check("rights", False, f"this host may not {', '.join(missing)} in the namespace {namespace}", _APPLY)
    return Check("rights", True, f"this host may do all that it needs in the namespace {namespace}")


async def _claims(runtime: KubernetesRuntime, plan: ClusterPlan) -> list[Check]:
    checks = []
    for claim in sorted({each.claim for each in plan.volumes if each.claim is not None}):
        if not await runtime.client.may("get", "persistentvolumeclaims"):
            checks.append(Check("claim", None, f"this host may not look at the claim {claim}", _APPLY))
            continue
        found = await runtime.client.claim(claim)
        phase = None if found is None else (found.get("status") or {}).get("phase")
        if found is None:
            what = f"there is no claim {claim} in the namespace {runtime.client.access.namespace}"
            checks.append(Check("claim", False, what, "make it, or name another one in [[kubernetes.volumes]]"))
        elif phase != "Bound":
            hint = f"`kubectl describe pvc {claim}` says what it waits for"
            checks.append(Check("claim", False, f"the claim {claim} is {phase}", hint))
        elif "ReadWriteMany" not in (found["spec"].get("accessModes") or ()):
            what = f"the claim {claim} is not ReadWriteMany: all agents must run on the node of this host"
            checks.append(Check("claim", None, what, "take a storage class that many nodes can write to (NFS, CephFS)"))
        else:
            checks.append(Check("claim", True, f"the claim {claim} is bound, for many nodes"))
    return checks


async def _policies(runtime: KubernetesRuntime) -> list[Check]:
    if not await runtime.client.may("list", "networkpolicies", "networking.k8s.io"):
        return [
            Check("network policy", None, "this host may not look at network policies; a probe is made all the same")
        ]
    from host.runtime.kubernetes_pod import PART, PART_LABEL

    for policy in await runtime.client.network_policies():
        chosen = (policy["spec"].get("podSelector") or {}).get("matchLabels") or {}
        if chosen in ({PART_LABEL: PART}, {}) and "Egress" in (policy["spec"].get("policyTypes") or ()):
            return [Check("network policy", True, f"{policy['metadata']['name']} shuts agents in")]
    return [Check("network policy", None, "no network policy is about agents", _APPLY)]


async def _probe(runtime: KubernetesRuntime, plan: ClusterPlan, settings: Settings) -> list[Check]:
    from host.runtime.kubernetes_cluster import look_around, require_closed, require_folder

    try:
        found = await look_around(runtime, plan, settings.image, settings.layout.run)
    except (RuntimeUnavailable, StartFailed) as error:
        return [Check("pod", False, error.what, error.hint)]
    checks = [Check("pod", True, f"a pod with {settings.image} ran on {found.node}")]
    try:
        require_folder(found, settings.layout.run)
        checks.append(Check("volume", True, "it found what this host had just written"))
    except RuntimeUnavailable as error:
        checks.append(Check("volume", False, error.what, error.hint))
    try:
        require_closed(found)
        checks.append(Check("network", True, _closed(found)))
    except RuntimeUnavailable as error:
        if plan.open_network:
            what = f"{error.what}; open_network = true lets agents run all the same"
            checks.append(Check("network", None, what, error.hint))
        else:
            checks.append(Check("network", False, error.what, error.hint))
    return checks


def _closed(found: ProbeResult) -> str:
    asked = ", ".join(sorted(each for each in found.targets if each != "gateway"))
    return f"the network policy is enforced: it did not reach {asked}"
