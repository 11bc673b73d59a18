"""The nodes of a Kubernetes cluster: how each is, and whether agents find there what they need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from host.central import nodes
from host.runtime.protocol import RuntimeUnavailable, StartFailed
from host.services import Services, cluster_of
from host.similar import did_you_mean
from shared_schema.errors import Conflict, NotFound

if TYPE_CHECKING:
    from host.runtime.kubernetes import KubernetesRuntime

_OWN = "kubernetes.io/"
"""Labels that a cluster sets by itself have it in their name."""


def is_used(services: Services) -> bool:
    """Whether agents run on a cluster."""
    return services.runtime.name == "kubernetes" or (
        services.started_at is None and services.settings.runtime == "kubernetes"
    )


def refuse(name: str, command: str) -> Conflict:
    """What is the cluster's business, with the line to type."""
    return Conflict(
        f"the cluster decides on which nodes agents run, so {name} is not changed here",
        hint=f"type `kubectl {command}`",
    )


async def list_all(services: Services) -> list[dict[str, Any]]:
    """Every node: name, state, agents, max_agents (pods), labels, address, reason, waiting."""
    from host.runtime.kubernetes_state import NodeStanding, node_standing

    words = await services.central.read(nodes.all_words)
    waiting = list(services.supervisor.waits_for().values())
    async with cluster_for_a_moment(services) as runtime:
        try:
            found, agents = await asyncio.gather(runtime.client.nodes(), runtime.list())
        except RuntimeUnavailable as error:
            known = sorted({*words, *waiting})
            return [_row(name, "away", reason=error.what, waiting=waiting.count(name)) for name in known]
    listed = []
    for node in found:
        name = str(node["metadata"]["name"])
        state = "away"
        if name in words and words[name].lost_at is not None:
            state = "lost"
        elif node_standing(node) is NodeStanding.READY:
            state = "drained" if node.get("spec", {}).get("unschedulable") else "ready"
        listed.append(
            _row(
                name,
                state,
                agents=sum(handle.node == name for handle in agents),
                max_agents=int((node["status"].get("allocatable") or {}).get("pods", 0)) or None,
                labels={key: value for key, value in node["metadata"].get("labels", {}).items() if _OWN not in key},
                address=_address(node),
                reason=None if state in ("ready", "drained") else _trouble(node),
                waiting=waiting.count(name),
            )
        )
    there = {each["name"] for each in listed}
    gone = [_row(name, "lost", reason="the cluster has no such node any more") for name in words if name not in there]
    return sorted([*listed, *gone], key=lambda each: str(each["name"]))


async def answers(services: Services, name: str) -> bool:
    """Whether a node speaks for its pods."""
    from host.runtime.kubernetes_state import NodeStanding, node_standing

    async with cluster_for_a_moment(services) as runtime:
        return node_standing(await runtime.client.node(name)) is NodeStanding.READY


async def check(services: Services, *, name: str | None = None) -> list[dict[str, Any]]:
    """What agents need of each node that takes pods, or of one: name, is_good, engine, problem, hint.

    Raises `NotFound`, `RuntimeUnavailable`.
    """
    from host.runtime.kubernetes_state import takes_pods

    async with cluster_for_a_moment(services) as runtime:
        found = {str(node["metadata"]["name"]): node for node in await runtime.client.nodes()}
        if name is not None and name not in found:
            meant = did_you_mean(name, found)
            raise NotFound(f"there is no node '{name}'{meant}", hint="`dumbwaiter node list` shows all")
        chosen = [each for each in sorted(found) if (takes_pods(found[each]) if name is None else each == name)]
        return list(await asyncio.gather(*(_checked(services, runtime, found[each]) for each in chosen)))


async def _checked(services: Services, runtime: KubernetesRuntime, node: Mapping[str, Any]) -> dict[str, Any]:
    from host.runtime.kubernetes_cluster import look_around, require_closed, require_folder

    name, settings = str(node["metadata"]["name"]), services.settings
    version = str((node["status"].get("nodeInfo") or {}).get("kubeletVersion") or "")
    row = {"name": name, "is_good": False, "engine": version or None, "problem": None, "hint": None}
    plan = cluster_of(settings)
    assert plan is not None
    try:
        found = await look_around(runtime, plan, settings.image, settings.layout.run, name)
        require_folder(found, settings.layout.run)
        if not plan.open_network:
            require_closed(found)
        if plan.gateway is not None and services.started_at is not None and not found.reaches_gateway:
            raise RuntimeUnavailable(
                f"a pod there does not reach the gateway at {plan.gateway}: {found.targets['gateway']}",
                hint="let the network policy of agents pass to that address and port",
            )
    except (RuntimeUnavailable, StartFailed) as error:
        return row | {"problem": error.what, "hint": error.hint}
    return row | {"is_good": True}


@asynccontextmanager
async def cluster_for_a_moment(services: Services) -> AsyncIterator[KubernetesRuntime]:
    """The host's runtime, or one for the moment where no host runs."""
    running: Any = services.runtime
    if running.name == "kubernetes":
        yield running
        return
    from host.runtime.kubernetes_cluster import cluster_runtime

    plan = cluster_of(services.settings)
    assert plan is not None
    made = await asyncio.to_thread(cluster_runtime, services.central.install_id, plan)
    try:
        yield made
    finally:
        await made.close()


def _row(
    name: str,
    state: str,
    *,
    agents: int = 0,
    max_agents: int | None = None,
    labels: Mapping[str, str] | None = None,
    address: str | None = None,
    reason: str | None = None,
    waiting: int = 0,
) -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "agents": agents,
        "max_agents": max_agents,
        "labels": dict(labels or {}),
        "address": address,
        "reason": reason,
        "waiting": waiting,
    }


def _address(node: Mapping[str, Any]) -> str | None:
    addresses = node["status"].get("addresses") or ()
    return next((str(each["address"]) for each in addresses if each["type"] == "InternalIP"), None)


def _trouble(node: Mapping[str, Any]) -> str | None:
    conditions = node["status"].get("conditions") or ()
    ready: Mapping[str, Any] = next((each for each in conditions if each["type"] == "Ready"), {})
    return str(ready.get("message") or ready.get("reason") or "it is not ready")
