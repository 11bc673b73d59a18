"""One operation without a running host: take the lock for the moment, do it, leave."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from host import install
from host.central import runs
from host.central.audit import Actor, acting
from host.central.database import Central
from host.lock import held
from host.operations.registry import call, only_looks, stream
from host.runtime.absent import AbsentRuntime
from host.runtime.protocol import Runtime
from host.services import Services, runtimes_of
from host.sessions.folder import Owner, make_data_folder, require_no_other_things
from host.settings import Settings
from host.start_line import start_line
from shared_schema.clock import SystemClock
from shared_schema.errors import FileTrouble, NotFound

_WAIT_SECONDS = 0.3


def call_once(settings: Settings, name: str, parameters: Mapping[str, Any]) -> Any:
    """Do one operation on the data folder; its result.

    Raises `FolderInUse` when another process holds the folder, `NotFound` where there is none and the operation only
    looks, and any `DumbwaiterError` of the operation.
    """
    with _folder(settings, name):
        return asyncio.run(_call(settings, name, parameters))


def stream_once(settings: Settings, name: str, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same for a stream that comes to an end by itself. Raises as `call_once`."""
    with _folder(settings, name), asyncio.Runner() as runner:
        services = runner.run(_open(settings))
        try:
            objects = stream(services, name, parameters)
            while (item := runner.run(_next(objects))) is not None:
                yield item
        finally:
            runner.run(services.close(stop_agents=False))


@contextmanager
def _folder(settings: Settings, name: str) -> Iterator[None]:
    """The data folder to oneself, for the moment. Raises `ForeignFolder`, `FolderInUse`, `NotFound`."""
    os.umask(0o077)
    if only_looks(name) and not settings.layout.central.exists():
        raise NotFound(
            f"there is no data folder {settings.data}, or no host has run in it yet",
            hint=f"name another with --data, or start the host: {start_line(settings.data)}",
        )
    install.require_own(settings.layout)
    require_no_other_things(settings.layout)
    make_data_folder(settings.layout, Owner.of_agents(settings.agent_uid))
    with held(settings.layout, wait_seconds=_WAIT_SECONDS):
        yield


async def _next(objects: AsyncIterator[dict[str, Any]]) -> dict[str, Any] | None:
    return await anext(objects, None)


async def _open(settings: Settings) -> Services:
    clock = SystemClock()
    # Until the operator has said what a copied folder is, it has no agents, for they may be the original's.
    is_at_home = await asyncio.to_thread(lambda: install.standing(settings.layout).is_at_home)
    central = await asyncio.to_thread(Central.open, settings.layout.central, clock)
    runtime, *rest = (await _runtimes(settings, central) if is_at_home else []) or [AbsentRuntime()]
    if is_at_home:
        await asyncio.to_thread(install.keep, settings.layout, central.install_id)
    return Services(settings, clock, central, runtime, "", others=rest)


async def _call(settings: Settings, name: str, parameters: Mapping[str, Any]) -> Any:
    services = await _open(settings)
    try:
        await services.find_agents()
        with acting(Actor(f"uid {os.getuid()}", "command line")):
            result = await call(services, name, parameters)
        with suppress(FileTrouble):  # it is accepted; the next host writes it
            await services.write_accepted()
        return result
    finally:
        await services.close(stop_agents=False)


async def _runtimes(settings: Settings, central: Central) -> list[Runtime]:
    """The runtimes in which a dead host may have left agents; nothing is started here."""
    return runtimes_of(await central.read(runs.unsettled_runtimes), settings, central.install_id)
