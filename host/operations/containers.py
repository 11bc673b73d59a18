"""What agents have got added to their containers: packages and folders, made in the background, one after the other.

An image is built while agents go on with the one they have; what fails leaves it as it was. Containers are replaced
between turns, and then the agent that asked is told. Everything stands in the ledger first (`container_changes`), so a
host that dies in between goes on with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from host.access.told_to_agents import tell
from host.background import boundary, in_background, repeat
from host.central import agent_groups, audit, container_changes, runs, turns
from host.central.agent_groups import AgentGroup
from host.central.container_changes import ChangeKind, ChangeState, ContainerChange
from host.central.database import Queryable, Transaction
from host.central.sessions import Session
from host.operations.mounts import require_useful
from host.operations.push import stop_agents
from host.runtime.layers import LayerRequest, name_of
from host.runtime.mounts import MountRequest, allowed_mount, read_allow_list
from host.runtime.protocol import BuildFailed, LayerRuntime, RuntimeUnavailable
from host.services import Services
from host.sessions.folder import Owner
from host.supervision.decide import StopReason
from host.supervision.runs import plain_image_of
from shared_schema.errors import Conflict, DumbwaiterError, NotFound
from shared_schema.packages import Packages

log = logging.getLogger(__name__)

KEPT_IMAGES = 5
"""Layers of one agent group whose images are kept, to go back to."""
_LOOK_SECONDS = 0.5
_RETRY_SECONDS = 30.0
_GRACE_SECONDS = 60.0  # a turn that does not end by then is given back
_TOLD_LOG = 1_500


def require_layers(services: Services) -> LayerRuntime:
    """What builds images. Raises `Conflict` where agents have none."""
    if not isinstance(services.runtime, LayerRuntime):
        if services.runtime.name != "process":
            raise Conflict(
                "agents run on other machines, so nothing can be installed for one here",
                hint="the operator puts it into an image: `dumbwaiter agent-group set NAME --image IMAGE`",
            )
        raise Conflict(
            "agents run without images here, so nothing can be installed for one",
            hint="the operator installs it on the machine, or has agents run in containers",
        )
    return services.runtime


async def require_allowed(services: Services, arguments: Mapping[str, Any]) -> None:
    """Raises `Conflict` for a folder that cannot be mounted. An agent is not told whether there is such a folder."""
    if services.runtime.name == "process":
        raise Conflict("agents run without containers here, and see the machine's own folders")
    request = MountRequest(Path(str(arguments["path"])), str(arguments["name"]), arguments["access"] == "write")
    try:
        mount = await asyncio.to_thread(
            lambda: allowed_mount(request, read_allow_list(services.settings.layout.mounts))
        )
    except DumbwaiterError as error:
        raise Conflict(
            "this folder may not be mounted under that name",
            hint="the operator allows folders in mounts.toml of the data folder; names have letters, digits, . _ -",
        ) from error
    if request.writable and not mount.writable:
        raise Conflict("this folder may be mounted for reading only", hint="ask with access=read")


async def history(services: Services, *, name: str) -> list[dict[str, Any]]:
    """The images that were built for an agent group, the newest first. Raises `NotFound`."""

    def load(connection: Queryable) -> list[dict[str, Any]]:
        group = agent_groups.get_by_name(connection, name)
        return [_shown(each, group) for each in container_changes.history(connection, group.id)]

    return await services.central.read(load)


async def show_log(services: Services, *, name: str, number: int) -> dict[str, Any]:
    """What a build printed last: `{number, state, why, log}`. Raises `NotFound`."""

    def load(connection: Queryable) -> dict[str, Any]:
        found = _layer(connection, agent_groups.get_by_name(connection, name), number)
        return {"number": found.number, "state": found.state, "why": found.why, "log": found.log or ""}

    return await services.central.read(load)


async def rollback(services: Services, *, name: str, number: int | None = None) -> dict[str, Any]:
    """Go back to an earlier image: that of a number, 0 for the plain one; without one, the image before the present.

    Running agents give back their turns. Raises `NotFound`, `Conflict`.
    """

    def store(tx: Transaction) -> tuple[str, dict[str, Any]]:
        group = agent_groups.get_by_name(tx, name)
        target = _target(tx, group, number)
        present = group.layer or 0
        if (0 if target is None else target.number) == present:
            raise Conflict(f"'{name}' has that image already", hint=f"`dumbwaiter agent-group image history {name}`")
        chosen = (None, None) if target is None else (target.number, target.image)
        container_changes.set_layer(tx, group.id, *chosen)
        after = {"layer": chosen[0] or 0}
        audit.record(tx, "agent_group.image", name, before={"layer": present}, after=after)
        packages = Packages() if target is None else target.all_packages
        return group.id, {"agent_group": name, "number": after["layer"], **packages.as_json()}

    group_id, found = await services.central.write(store)
    await stop_agents(services, group_id)
    return found


def renew(tx: Transaction, group: AgentGroup) -> None:
    """The image below the packages of an agent group is another one: build them on it."""
    layer = None if group.layer is None else container_changes.get(tx, group.layer)
    if layer is not None:
        container_changes.add(tx, group.id, None, ChangeKind.PACKAGES, layer.all_packages.as_json())


@asynccontextmanager
async def changing_containers(services: Services) -> AsyncIterator[None]:
    """Make what waits, until the block ends."""
    async with in_background(_ChangeWorker(services).run(), name="changes of containers"):
        yield


class _ChangeWorker:
    """Builds one image at a time; replaces containers at the same time."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._finishing: dict[int, asyncio.Task[None]] = {}
        self._has_renewed = False

    async def run(self) -> None:
        """Until it is cancelled."""
        news = self._services.dispatcher.container_waits
        failure = "changes of containers wait"
        try:
            await repeat(self._work, log=log, failure=failure, retry_seconds=_RETRY_SECONDS, news=news)
        finally:
            for task in self._finishing.values():
                task.cancel()
            await asyncio.gather(*self._finishing.values(), return_exceptions=True)

    async def _work(self) -> float | None:
        """Do what waits; seconds after which to look again, None: when there is news."""
        services = self._services
        if not self._has_renewed:
            await self._renew_old()
            self._has_renewed = True
        for change in await services.central.read(container_changes.all_open):
            if change.state == ChangeState.MADE:
                if change.number not in self._finishing:
                    task = asyncio.create_task(self._finish(change), name=f"change {change.number}")
                    self._finishing[change.number] = task
                continue
            try:
                await (self._build(change) if change.kind == ChangeKind.PACKAGES else self._mount(change))
            except RuntimeUnavailable as error:
                log.error("an image cannot be built now", extra={"change": change.number, "error": str(error)})
                return _RETRY_SECONDS
            except DumbwaiterError as error:
                printed = error.log if isinstance(error, BuildFailed) else None
                log.warning("a change of containers failed", extra={"change": change.number, "error": error.what})
                await services.central.write(_fail, change, error.what, printed)
            return 0.0
        return None

    async def _build(self, change: ContainerChange) -> None:
        """Build the image of a change, and give it to its agent group. Raises `BuildFailed`, `RuntimeUnavailable`."""
        services = self._services
        runtime = require_layers(services)
        group = await self._group(change)
        present = None if group.layer is None else await services.central.read(container_changes.get, group.layer)
        packages = (Packages() if present is None else present.all_packages).with_more(
            Packages.from_json(change.wanted)
        )
        owner = Owner.of_agents(services.settings.agent_uid)
        request = LayerRequest(
            name_of(services.central.install_id, group.id, change.number),
            plain_image_of(group, services.settings),
            packages,
            services.central.install_id,
            f"{owner.uid}:{owner.gid}",
            services.settings.build_network,
            services.settings.pip_index,
        )
        await services.central.write(container_changes.building, change.number, packages, request.base)
        ids = {"agent_group": group.name, "image": request.image, "packages": [*packages.apt, *packages.pip]}
        log.info("building an image with packages", extra=ids)
        built = await runtime.build_layer(request)
        await services.central.write(container_changes.built, change, request.image, built.base_id, built.log)
        log.info("an image with packages is there", extra=ids)

    async def _mount(self, change: ContainerChange) -> None:
        """Give the agent group a folder. Raises what says that it may not have it."""
        services, wanted = self._services, change.wanted
        request = MountRequest(Path(wanted["path"]), wanted["name"], wanted["writable"])
        owner = Owner.of_agents(services.settings.agent_uid)
        await asyncio.to_thread(require_useful, request, services.settings.layout, owner)

        def store(tx: Transaction) -> None:
            group = agent_groups.by_id(tx, change.agent_group_id)
            if group is None:
                raise NotFound("that agent is gone")
            mounts = [*(mount for mount in group.mount_requests if mount["name"] != wanted["name"]), wanted]
            agent_groups.update(tx, replace(group, mounts=json.dumps(mounts)))
            container_changes.made(tx, change.number)

        await services.central.write(store)

    async def _finish(self, change: ContainerChange) -> None:
        """Replace the containers, tell the agent, and remove images that are not needed any more."""
        services, is_done = self._services, False
        with boundary(log, "containers cannot be replaced", change=change.number):
            living = await services.central.read(runs.living_of_agent_group, change.agent_group_id)
            await asyncio.gather(*(self._replace(session) for session in living))
            await services.central.write(_finished, change)
            is_done = True
            await self._remove_old()
        self._finishing.pop(change.number, None)
        if not is_done:
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, services.dispatcher.container_waits.set)

    async def _replace(self, session: Session) -> None:
        """Stop an agent between two turns; the next one starts as its agent group is now."""
        services = self._services
        until = services.clock.monotonic() + services.settings.turn_seconds + _GRACE_SECONDS
        while True:
            async with services.supervisor.holding(session.id):
                is_in_turn = bool(await services.central.read(turns.running, session.id))
                if not is_in_turn or services.clock.monotonic() > until:
                    await services.supervisor.termination.end(session, StopReason.CHANGED)
                    return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _renew_old(self) -> None:
        """Build anew, at the start, what was built on an image that has changed since, or is gone."""
        services = self._services
        if not isinstance(runtime := services.runtime, LayerRuntime):
            return
        for layer in await services.central.read(container_changes.layers):
            group = await self._group(layer)
            base = await runtime.image_id(plain_image_of(group, services.settings))
            is_there = layer.image is not None and await runtime.image_id(layer.image) is not None
            is_open = await services.central.read(container_changes.open_count, group.id)
            if base is not None and not is_open and (not is_there or base != layer.base_id):
                await services.central.write(renew, group)

    async def _remove_old(self) -> None:
        services = self._services
        if isinstance(runtime := services.runtime, LayerRuntime):
            for old in await services.central.read(container_changes.old_images, KEPT_IMAGES):
                await runtime.remove_image(str(old.image))
                await services.central.write(container_changes.forget_image, old.number)

    async def _group(self, change: ContainerChange) -> AgentGroup:
        group = await self._services.central.read(agent_groups.by_id, change.agent_group_id)
        if group is None:
            raise NotFound("that agent is gone")
        return group


def _finished(tx: Transaction, change: ContainerChange) -> None:
    container_changes.ready(tx, change.number)
    if change.kind == ChangeKind.MOUNT:
        wanted = change.wanted
        how = "for reading and writing" if wanted["writable"] else "for reading"
        text = f"Your container was replaced: {wanted['path']} is there as /mnt/{wanted['name']}, {how}."
    else:
        text = f"Your container was replaced by one that has what you asked for: {_named(change)}."
    _tell(tx, change, text)


def _fail(tx: Transaction, change: ContainerChange, why: str, printed: str | None) -> None:
    container_changes.failed(tx, change.number, why, printed)
    if change.kind == ChangeKind.MOUNT:
        text = f"You do not get the folder {change.wanted['path']}: {why}. Your container is as it was."
    else:
        text = f"{_named(change)} cannot be installed: {why}. Your container is as it was."
        if printed:
            text += f"\n\nThe end of the build's log:\n\n{printed[-_TOLD_LOG:].strip()}"
    _tell(tx, change, text)


def _tell(tx: Transaction, change: ContainerChange, text: str) -> None:
    if change.session_id is not None:
        tell(tx, change.session_id, f"container-change-{change.number}", text, {})


def _named(change: ContainerChange) -> str:
    asked = Packages.from_json(change.wanted)
    return ", ".join([*asked.apt, *asked.pip])


def _layer(connection: Queryable, group: AgentGroup, number: int) -> ContainerChange:
    found = container_changes.get(connection, number)
    if found is None or found.agent_group_id != group.id or found.kind != ChangeKind.PACKAGES:
        raise NotFound(
            f"'{group.name}' has no image {number}",
            hint=f"`dumbwaiter agent-group image history {group.name}` lists all",
        )
    return found


def _target(connection: Queryable, group: AgentGroup, number: int | None) -> ContainerChange | None:
    """The layer to go back to; None: the plain image."""
    if number == 0:
        return None
    if number is not None:
        found = _layer(connection, group, number)
        if found.state != ChangeState.READY or found.image is None:
            raise Conflict(f"the image {number} is not kept", hint="0 is the plain image")
        return found
    if group.layer is None:
        raise Conflict(f"'{group.name}' has the plain image, and there is none before it")
    before = [
        each
        for each in container_changes.history(connection, group.id)
        if each.number < group.layer and each.state == ChangeState.READY and each.image is not None
    ]
    return before[0] if before else None


def _shown(change: ContainerChange, group: AgentGroup) -> dict[str, Any]:
    return {
        "number": change.number,
        "state": change.state,
        "in_use": change.number == group.layer,
        **change.all_packages.as_json(),
        "base": change.base,
        "image": change.image,
        "why": change.why,
        "created_at": change.created_at,
        "finished_at": change.finished_at,
    }
