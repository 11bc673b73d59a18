"""What a person can do about nodes: add one, see how each is, take it out of service, give it up for lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from host.background import boundary, in_background, repeat
from host.central import audit, nodes
from host.central.database import Transaction
from host.operations import cluster_nodes
from host.runtime.engine_facts import require_suitable
from host.runtime.placement import InspectedNodes
from host.runtime.protocol import RuntimeUnavailable
from host.services import Services, node_of, nodes_runtime, swarm_runtime
from host.settings import NodeSetting
from host.settings_file import put_item
from host.similar import did_you_mean
from host.validation import misfit_of
from shared_schema.errors import Conflict, DumbwaiterError, InvalidValue, NotFound

if TYPE_CHECKING:
    from host.runtime.nodes import NodesRuntime
    from host.runtime.placement import NodeFacts
    from host.runtime.swarm import SwarmRuntime

log = logging.getLogger(__name__)

_GRACE = 2.0


async def list_all(services: Services) -> list[dict[str, Any]]:
    """Every node: name, state, agents, max_agents, labels, address, reason, waiting (sessions that wait for it)."""
    if cluster_nodes.is_used(services):
        return await cluster_nodes.list_all(services)
    async with nodes_for_a_moment(services) as runtime:
        facts = {} if runtime is None else {each.name: each for each in await runtime.facts()}
        away = {} if runtime is None else dict(runtime.away)
        addresses = {} if runtime is None else await runtime.addresses()
    words = await services.central.read(nodes.all_words)
    unsettled = await services.central.read(nodes.unsettled)
    waiting = list(services.supervisor.waits_for().values())
    return [
        {
            "name": name,
            "state": _state(facts.get(name), words.get(name)),
            "agents": facts[name].agents if name in facts and facts[name].answers else unsettled.get(name, 0),
            "max_agents": facts[name].slots if name in facts else None,
            "labels": dict(facts[name].labels) if name in facts else {},
            "address": addresses.get(name),
            "reason": away.get(name) or (None if name in facts else "it is not in the settings any more"),
            "waiting": waiting.count(name),
        }
        for name in sorted({*facts, *words, *unsettled})
    ]


async def add(
    services: Services,
    *,
    name: str,
    address: str | None = None,
    labels: dict[str, str] | None = None,
    max_agents: int | None = None,
    certificate: str | None = None,
    key: str | None = None,
    authority: str | None = None,
) -> dict[str, Any]:
    """Add a node to dumbwaiter.toml, or take a known one back into service; the engine must answer.

    Raises `NotFound` for a node that is not known and has no address, `InvalidValue`, `RuntimeUnavailable`.
    """
    if cluster_nodes.is_used(services):
        return await _readmit_to_cluster(services, name)
    if uses_swarm(services):
        return await _readmit_of_swarm(services, name, (address, labels, max_agents, certificate, key, authority))
    known = {each.name: each for each in services.settings.nodes}
    async with nodes_for_a_moment(services) as runtime:
        if runtime is not None:
            known |= {each: setting for each, setting in services.added_nodes.items()}
    if address is None and name not in known:
        adds = f"`dumbwaiter node add {name} ssh://user@host` adds one"
        raise NotFound(f"there is no node '{name}'{did_you_mean(name, known)}", hint=adds)
    before = known[name].model_dump(mode="json", exclude_none=True) if name in known else {}
    given = {
        "name": name,
        "address": address,
        "labels": labels,
        "max_agents": max_agents,
        "certificate": certificate,
        "key": key,
        "authority": authority,
    }
    try:
        setting = NodeSetting(**(before | {each: value for each, value in given.items() if value is not None}))
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidValue(f"the {first['loc'][-1]} of the node is not valid: {misfit_of(first)}") from error
    async with nodes_for_a_moment(services, setting) as runtime:
        assert runtime is not None
        facts = await cast("NodesRuntime", runtime).engine_facts(name)
        require_suitable(facts, services.settings.oci_runtime)
        await _end_strangers(services, runtime, name)
    if address is not None or labels is not None or max_agents is not None:
        table = setting.model_dump(mode="json", exclude_none=True, exclude_defaults=True, exclude={"name"})
        await asyncio.to_thread(put_item, services.settings.layout.settings, "nodes", name, table)
    services.added_nodes[name] = setting

    def readmit(tx: Transaction) -> None:
        nodes.readmit(tx, name)
        after = {"address": setting.address, "labels": setting.labels}
        audit.record(tx, "node.add", name, after=after)

    await services.central.write(readmit)
    await services.heed_nodes()
    for session_id in await services.central.read(nodes.sessions_on, name):
        services.supervisor.schedule(session_id)
    if services.runtime.name == "nodes" or services.started_at is None:
        following = f"Next: `dumbwaiter node check {name}` sees whether agents find their folders there."
    else:
        following = (
            f"This host runs its agents with {services.runtime.name}. Next: set runtime = nodes, and restart the host."
        )
    shown = next(each for each in await list_all(services) if each["name"] == name)
    return {**shown, "next": following}


async def drain(services: Services, *, name: str) -> dict[str, Any]:
    """Place no more agents on a node; `{name, agents}`, those that run there still. Raises `NotFound`."""
    if cluster_nodes.is_used(services):
        raise cluster_nodes.refuse(name, f"cordon {name}")
    await _require(services, name)

    def store(tx: Transaction) -> None:
        nodes.drain(tx, name)
        audit.record(tx, "node.drain", name)

    await services.central.write(store)
    await services.heed_nodes()
    return {"name": name, "agents": len(await services.central.read(nodes.sessions_on, name))}


async def lost(services: Services, *, name: str) -> dict[str, Any]:
    """The admin's word that a node is gone for good: `{name, sessions}`, those that go on elsewhere.

    Raises `NotFound`, and `Conflict` for a node that answers: its engine knows how its agents are.
    """
    await _require(services, name)
    if await _answers(services, name):
        raise Conflict(
            f"the node {name} answers, so it is not lost",
            hint=f"`dumbwaiter node drain {name}` takes it out of service",
        )

    def store(tx: Transaction) -> list[str]:
        nodes.lose(tx, name)
        waiting = nodes.sessions_on(tx, name)
        audit.record(tx, "node.lost", name, after={"sessions": waiting})
        return waiting

    waiting = await services.central.write(store)
    await services.heed_nodes()
    log.warning("a node was given up for lost", extra={"node": name, "sessions": len(waiting)})
    for session_id in waiting:
        services.supervisor.look_at_agent(session_id)
    return {"name": name, "sessions": len(waiting)}


async def check(services: Services, *, name: str | None = None) -> list[dict[str, Any]]:
    """What agents need of each node, or of one: name, is_good, engine, problem, hint. Raises `NotFound`."""
    if cluster_nodes.is_used(services):
        return await cluster_nodes.check(services, name=name)
    if name is not None:
        await _require(services, name)
    async with nodes_for_a_moment(services) as runtime:
        if runtime is None:
            return []
        names = [facts.name for facts in await runtime.facts()] if name is None else [name]
        return list(await asyncio.gather(*(checked(runtime, each) for each in names)))


async def _readmit_of_swarm(services: Services, name: str, given: Sequence[object]) -> dict[str, Any]:
    """Take a node of the Swarm back into service. It joins, and gets its labels, by Swarm's own commands."""
    if any(given):
        raise InvalidValue(
            "a node of a Swarm joins and gets labels by docker's own commands",
            hint="`docker swarm join-token worker` shows how it joins; "
            f"`docker node update --label-add gpu=yes {name}` gives it a label",
        )
    await _require(services, name)
    async with nodes_for_a_moment(services) as runtime:
        assert runtime is not None
        await runtime.ask(name)
        await _end_strangers(services, runtime, name)

    def readmit(tx: Transaction) -> None:
        nodes.readmit(tx, name)
        audit.record(tx, "node.add", name)

    await services.central.write(readmit)
    await services.heed_nodes()
    for session_id in await services.central.read(nodes.sessions_on, name):
        services.supervisor.schedule(session_id)
    shown = next(each for each in await list_all(services) if each["name"] == name)
    return {**shown, "next": f"Next: `dumbwaiter node check {name}` sees whether agents find their folders there."}


@asynccontextmanager
async def watching_nodes(services: Services, *, seconds: float = 10.0) -> AsyncIterator[None]:
    """Look for nodes that were given up for lost and are back, again after so many seconds, until the block ends.

    Their agents are ended before they do anything twice.
    """
    if not isinstance(runtime := services.runtime, InspectedNodes):
        yield
        return

    async def look() -> float:
        words = await services.central.read(nodes.all_words)
        for name in [name for name, word in words.items() if word.lost_at is not None]:
            with boundary(log, "a node cannot be looked at", node=name):
                if await _answers(services, name):
                    await _end_strangers(services, runtime, name)
        return seconds

    failure = "the nodes cannot be looked at"
    async with in_background(repeat(look, log=log, failure=failure, retry_seconds=seconds), name="watch nodes"):
        yield


async def _end_strangers(services: Services, runtime: InspectedNodes, name: str) -> None:
    """End every agent of this install on a node that is not the present run of its session."""
    unsettled = set(await services.central.read(nodes.sessions_on, name))
    for handle in await runtime.found_on(name):
        current = services.supervisor.agents.get(handle.session_id)
        is_present = current is not None and current.handle.run_id == handle.run_id
        if is_present or (handle.session_id in unsettled and not runtime.is_lost(name)):
            continue
        log.warning("ending an agent of an earlier run", extra={"session_id": handle.session_id, "node": name})
        await runtime.end(handle, _GRACE)


async def _readmit_to_cluster(services: Services, name: str) -> dict[str, Any]:
    """Take back the word that a node of a cluster is lost. Raises `Conflict` where there is none, `NotFound`."""
    await _require(services, name)
    words = await services.central.read(nodes.all_words)
    if name not in words:
        raise cluster_nodes.refuse(name, f"uncordon {name}")

    def readmit(tx: Transaction) -> None:
        nodes.readmit(tx, name)
        audit.record(tx, "node.add", name)

    await services.central.write(readmit)
    await services.heed_nodes()
    shown = next(each for each in await list_all(services) if each["name"] == name)
    return {**shown, "next": f"Next: `dumbwaiter node check {name}` sees whether agents find their folders there."}


async def _answers(services: Services, name: str) -> bool:
    if cluster_nodes.is_used(services):
        return await cluster_nodes.answers(services, name)
    async with nodes_for_a_moment(services) as runtime:
        if runtime is None:
            return False
        try:
            await runtime.ask(name)
        except RuntimeUnavailable:
            return False
        return True


async def checked(runtime: InspectedNodes, name: str) -> dict[str, Any]:
    """What agents need of one node, as `check`. A container is started there, and removed."""
    found: dict[str, Any] = {"name": name, "is_good": False, "engine": None, "problem": None, "hint": None}
    try:
        found["engine"] = await runtime.check(name)
    except DumbwaiterError as error:
        return found | {"problem": error.what, "hint": error.hint}
    return found | {"is_good": True}


async def _require(services: Services, name: str) -> None:
    known = {each["name"] for each in await list_all(services)}
    if name not in known:
        raise NotFound(f"there is no node '{name}'{did_you_mean(name, known)}", hint="`dumbwaiter node list` shows all")


def _state(facts: NodeFacts | None, word: nodes.NodeWord | None) -> str:
    if word is not None and word.lost_at is not None:
        return "lost"
    if facts is None or not facts.answers:
        return "away"
    return "drained" if word is not None and word.drained_at is not None else "ready"


def uses_swarm(services: Services) -> bool:
    """Whether agents run on the nodes of a Swarm."""
    return services.runtime.name == "swarm" or (services.started_at is None and services.settings.runtime == "swarm")


@asynccontextmanager
async def nodes_for_a_moment(
    services: Services, setting: NodeSetting | None = None
) -> AsyncIterator[InspectedNodes | None]:
    """The host's runtime of nodes; one for the moment where no host uses it. None: no nodes.

    `setting` is added, and taken back where the block fails.
    """
    running = services.runtime
    if isinstance(running, InspectedNodes):
        if setting is None or running.name != "nodes":
            yield running
            return
        runtime = cast("NodesRuntime", running)
        before = runtime.add(node_of(setting))
        try:
            yield running
        except BaseException:  # it does not answer, for instance: then it is as it was
            if before is None:
                runtime.take_out(setting.name)
            else:
                runtime.add(before)
            raise
        return
    made = _made(services, setting)
    if made is None:
        yield None
        return
    words = await services.central.read(nodes.all_words)
    made.close_nodes(
        drained=frozenset(name for name, word in words.items() if word.drained_at is not None),
        lost=frozenset(name for name, word in words.items() if word.lost_at is not None),
    )
    try:
        yield made
    finally:
        await made.close()


def _made(services: Services, setting: NodeSetting | None) -> NodesRuntime | SwarmRuntime | None:
    if uses_swarm(services):
        return swarm_runtime(services.settings, services.central.install_id)
    settings = [*(each for each in services.settings.nodes if setting is None or each.name != setting.name)]
    if setting is not None:
        settings.append(setting)
    return nodes_runtime(services.settings, services.central.install_id, settings) if settings else None
