"""Which runtime this host uses: `runtime = auto | docker | process | nodes | swarm`, and in a sentence why.

`auto` prefers isolation and never waits long for an engine that does not answer. Falling back to processes is never
silent: the choice carries a warning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from host.runtime.engine_address import DEFAULT_URL, EngineAddress
from host.runtime.engine_facts import require_suitable
from host.runtime.images import make_ready
from host.runtime.podman import NO_LIMITS
from host.runtime.process import ProcessRuntime
from host.runtime.process_user import trouble_as_root
from host.runtime.protocol import Runtime, RuntimeUnavailable, StartFailed
from host.runtime.sources import SOURCE_ROOT
from host.start_line import start_line
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError, InvalidValue

if TYPE_CHECKING:
    from host.runtime.docker import DockerRuntime
    from host.runtime.kubernetes_cluster import ClusterPlan
    from host.runtime.nodes import Node

SETTINGS = ("auto", "docker", "process", "nodes", "swarm", "kubernetes")
NO_ISOLATION = "NO ISOLATION: agents run as plain processes and can read and change everything their user can"
OPEN_NETWORK = "OPEN NETWORK: agents on the cluster reach all that pods reach there (kubernetes.open_network)"


@dataclass(frozen=True, slots=True)
class Choice:
    """The runtime to use, why it was taken, and what a person must be told about it, if anything."""

    runtime: Runtime
    reason: str
    warning: str | None = None


async def choose(
    setting: str,
    *,
    install_id: str,
    image: str,
    base_image: str,
    run_folder: Path,
    docker_host: EngineAddress | str | None,
    oci_runtime: str | None = None,
    agent_uid: int = 0,
    providers: Collection[str] = (),
    context: Path = SOURCE_ROOT,
    nodes: Sequence[Node] = (),
    cluster: ClusterPlan | None = None,
    stop_seconds: float = 5.0,
) -> Choice:
    """The runtime for a setting.

    `image` is what agents run, in the variants that `providers` need; `base_image` is what it is built from when it is
    missing and `context` (a source checkout) has a Dockerfile.agent; `docker_host` is the engine's address, None for
    docker's default; `oci_runtime` must be one of its; `agent_uid` is what a host that is root gives agents without a
    container; `cluster` is the Kubernetes of `runtime = kubernetes`; `stop_seconds` is what an agent gets to finish.

    Raises `InvalidValue` for an unknown setting, and `RuntimeUnavailable` or `StartFailed` when docker is demanded and
    cannot be had.
    """
    if setting not in SETTINGS:
        raise InvalidValue(f"'{setting}' is not a runtime", hint=f"use one of {', '.join(SETTINGS)}")
    if setting == "process":
        return Choice(
            ProcessRuntime(install_id, run_folder),
            "process: the settings say so",
            _processes(run_folder, agent_uid),
        )

    if setting == "kubernetes" and cluster is not None:
        from host.runtime.kubernetes_cluster import made_ready as cluster_made_ready

        runtime, stands = await cluster_made_ready(install_id, cluster, image, run_folder)
        return Choice(runtime, f"kubernetes: {stands}", OPEN_NETWORK if cluster.open_network else None)

    if setting == "nodes" or (setting == "auto" and nodes):
        return await _on_nodes(install_id, nodes, image, base_image, providers, context, run_folder, oci_runtime)

    if setting == "swarm":
        address = docker_host if isinstance(docker_host, EngineAddress) else EngineAddress(docker_host or DEFAULT_URL)
        return await _on_swarm(install_id, address, image, base_image, providers, context, run_folder, stop_seconds)

    from host.runtime.docker import DockerRuntime  # takes 150 ms; not needed for processes

    docker = DockerRuntime(install_id, docker_host, run_folder=run_folder)
    try:
        reason, warning = await _ready(docker, image, base_image, providers, context, run_folder, oci_runtime)
    except (RuntimeUnavailable, StartFailed) as error:
        await docker.close()
        if setting == "docker":
            raise _kind(error)(
                f"runtime = docker, but {error.what}",
                where=error.where,
                hint=_or_without_isolation(error.hint or "see `dumbwaiter doctor`", run_folder.parent),
            ) from error
        return _fallback(error, install_id, run_folder, agent_uid)
    return Choice(docker, f"docker: {reason}", warning)


def others(
    names: set[str],
    install_id: str,
    run_folder: Path,
    docker_host: EngineAddress | str | None,
    nodes: Sequence[Node] = (),
    cluster: ClusterPlan | None = None,
    *,
    image: str = "",
) -> list[Runtime]:
    """Runtimes by name, to look for agents that a host with another setting left."""
    found: list[Runtime] = []
    if "process" in names:
        found.append(ProcessRuntime(install_id, run_folder))
    if "docker" in names:
        from host.runtime.docker import DockerRuntime  # takes 150 ms

        found.append(DockerRuntime(install_id, docker_host))
    if "nodes" in names:
        from host.runtime.nodes import NodesRuntime

        found.append(NodesRuntime(install_id, nodes))
    if "kubernetes" in names and cluster is not None:
        from host.runtime.kubernetes_cluster import cluster_runtime

        found.append(cluster_runtime(install_id, cluster))
    if "swarm" in names:
        from host.runtime.swarm import SwarmRuntime

        address = docker_host if isinstance(docker_host, EngineAddress) else EngineAddress(docker_host or DEFAULT_URL)
        found.append(SwarmRuntime(install_id, address, image=image, probed_folder=run_folder))
    return found


async def _on_swarm(
    install_id: str,
    manager: EngineAddress,
    image: str,
    base_image: str,
    providers: Collection[str],
    context: Path,
    run_folder: Path,
    stop_seconds: float,
) -> Choice:
    """The nodes of a Swarm. One on which agents may not run is said, and the others are used."""
    from host.runtime.swarm import SwarmRuntime

    grace = stop_seconds + 2
    runtime = SwarmRuntime(install_id, manager, image=image, probed_folder=run_folder, grace=grace)
    try:
        require_suitable(await runtime.manager.facts(), None)
        stands = await make_ready(runtime.manager, image, base_image, providers, context)
        names = [node.name for node in await runtime.facts()]
        await runtime.remove_strays()
    except (RuntimeUnavailable, StartFailed) as error:
        await runtime.close()
        raise _kind(error)(
            f"runtime = swarm, but {error.what}", where=error.where, hint=error.hint or "see `dumbwaiter doctor`"
        ) from error

    async def ready(name: str) -> str | None:
        try:
            await runtime.check(name)
        except (RuntimeUnavailable, StartFailed) as error:
            return f"{name}: {error}"
        return None

    troubles = [trouble for trouble in await asyncio.gather(*map(ready, names)) if trouble]
    reason = f"swarm: {len(names) - len(troubles)} of {len(names)} nodes can run agents, and the image {image} {stands}"
    return Choice(runtime, reason, "; ".join(troubles) or None)


async def _on_nodes(
    install_id: str,
    nodes: Sequence[Node],
    image: str,
    base_image: str,
    providers: Collection[str],
    context: Path,
    run_folder: Path,
    oci_runtime: str | None,
) -> Choice:
    """Several engines. One that does not answer now is used once it does: its sessions wait for it."""
    from host.runtime.nodes import NodesRuntime

    runtime = NodesRuntime(install_id, nodes, run_folder=run_folder, image=image, oci_runtime=oci_runtime)

    async def ready(name: str) -> str | None:
        try:
            require_suitable(await runtime.engine_facts(name), oci_runtime)
            await make_ready(runtime.engine(name), image, base_image, providers, context)
            await runtime.engine(name).remove_stray_relays()
        except (RuntimeUnavailable, StartFailed) as error:
            return f"{name}: {error}"
        return None

    troubles = [trouble for trouble in await asyncio.gather(*(ready(node.name) for node in nodes)) if trouble]
    reason = f"nodes: {len(nodes) - len(troubles)} of {len(nodes)} can run agents"
    return Choice(runtime, reason, "; ".join(troubles) or None)


async def _ready(
    runtime: DockerRuntime,
    image: str,
    base_image: str,
    providers: Collection[str],
    context: Path,
    run_folder: Path,
    oci_runtime: str | None,
) -> tuple[str, str | None]:
    """Make sure that agents can be started; say how it stands, and what a person must be told."""
    facts = await runtime.facts()
    require_suitable(facts, oci_runtime)
    stands = await make_ready(runtime, image, base_image, providers, context)
    if facts.product == "podman":
        await runtime.try_container(image)
    if runtime.engine.socket is None and not await runtime.sees(run_folder, image):
        raise RuntimeUnavailable(
            "the engine is on another machine, and cannot show agents their folders",
            where=str(runtime.engine),
            hint="use an engine of this machine",
        )
    reason = f"engine {facts} at {runtime.engine} answers and the image {image} {stands}"
    return reason, None if facts.keeps_limits else NO_LIMITS


def _kind(error: DumbwaiterError) -> type[StartFailed | RuntimeUnavailable]:
    """What such an error is called with another sentence: some of its kin are made of more than that."""
    return StartFailed if isinstance(error, StartFailed) else RuntimeUnavailable


def _fallback(error: DumbwaiterError, install_id: str, run_folder: Path, agent_uid: int) -> Choice:
    return Choice(
        ProcessRuntime(install_id, run_folder),
        f"process: {error.what}",
        f"{_processes(run_folder, agent_uid)}. Docker is not used because {error}",
    )


def _or_without_isolation(hint: str, data: Path) -> str:
    """A person who has no engine can still begin."""
    return f"{hint}; or, for agents without isolation, type {start_line(data, '--runtime', 'process')}"


def _processes(run_folder: Path, agent_uid: int) -> str:
    """What a person must know of processes here."""
    trouble = trouble_as_root(SOURCE_ROOT, agent_uid, [run_folder.parent])
    return NO_ISOLATION if trouble is None else f"{NO_ISOLATION}. {trouble.what}: {trouble.hint}"
