"""What `dumbwaiter doctor` looks at in nodes: whether agents can run on each, and where those that run are."""

from __future__ import annotations

from collections import Counter
from typing import Any

from host.operations.nodes import checked
from host.operations.system_checks import Check
from host.runtime.placement import InspectedNodes
from host.services import nodes_runtime, swarm_runtime
from host.settings import Settings
from shared_schema.errors import DumbwaiterError

_OF_SWARM = (
    "Swarm does not tell out of memory from a kill, and takes neither --runtime nor a limit of swap: both are the "
    "configuration of a node (docs/cluster.md has the table)"
)


def uses_nodes(settings: Settings) -> bool:
    """Whether agents of these settings run on nodes."""
    return settings.runtime in ("nodes", "swarm") or (settings.runtime == "auto" and bool(settings.nodes))


async def check_nodes(settings: Settings) -> list[Check]:
    """Whether each node answers, suits and finds the data folder; a container is started on each."""
    runtime: InspectedNodes  # it starts no agent: the id is never used
    if settings.runtime == "swarm":
        runtime = swarm_runtime(settings, "ins_0000000000000000")
    else:
        runtime = nodes_runtime(settings, "ins_0000000000000000", settings.nodes)
    try:
        names = [facts.name for facts in await runtime.facts()]
        checks = [_check(await checked(runtime, name)) for name in names]
    except DumbwaiterError as error:
        checks = [Check("engine", False, error.what, error.hint)]
    finally:
        await runtime.close()
    if settings.runtime == "swarm":
        checks.append(Check("swarm", True, _OF_SWARM))
    if settings.oci_runtime is not None and settings.runtime == "swarm":
        hint = f'set "default-runtime": "{settings.oci_runtime}" in /etc/docker/daemon.json of the nodes'
        checks.append(Check("swarm", None, "the setting oci_runtime does nothing on a Swarm", hint))
    if settings.gateway_address is None:
        what = "agents on nodes have no way out: neither a model nor a tool beyond their workspace"
        checks.append(Check("gateway", None, what, "set gateway_address in dumbwaiter.toml, see docs/cluster.md"))
    return checks


def check_where(host: dict[str, Any] | None) -> list[Check]:
    """On which machines the agents of a running host are, and which conversations wait for one."""
    nodes = [agent["node"] for agent in (host or {}).get("agents") or [] if agent.get("node")]
    checks = []
    if nodes:
        shown = ", ".join(f"{count} on {node}" for node, count in sorted(Counter(nodes).items()))
        checks.append(Check("agents", True, f"{shown} (`dumbwaiter status` names each)"))
    waits = Counter(each["node"] for each in (host or {}).get("waits_for_nodes") or [])
    for node, count in sorted(waits.items()):
        what = f"{count} conversation{'s' * (count > 1)} wait for the node {node}, which does not answer"
        hint = f"they go on when it is back; if it is gone for good, type `dumbwaiter node lost {node}`"
        checks.append(Check("agents", False, what, hint))
    return checks


def _check(found: dict[str, Any]) -> Check:
    if found["is_good"]:
        what = f"{found['name']}: docker {found['engine']} answers, and agents find their folders there"
        return Check("node", True, what)
    return Check("node", False, f"{found['name']}: {found['problem']}", found["hint"])
