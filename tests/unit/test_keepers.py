"""What the host does again and again goes on after a time at which it failed, whatever that was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from host.central.container_changes import ChangeState
from host.http_api import hook_sender
from host.http_api.hook_sender import _Sender
from host.operations import approvals, containers, delegate, nodes, prune
from host.runtime.placement import InspectedNodes
from host.runtime.protocol import RuntimeUnavailable
from host.supervision import strays
from shared_schema.errors import FileTrouble


def _a_hook(services: Any) -> Coroutine[Any, Any, None]:
    return _Sender(services)._serve("hok_1")


@pytest.mark.parametrize(
    ("owner", "look", "seconds", "begin"),
    [
        (hook_sender._Sender, "_post_some", (hook_sender, "_RETRY_SECONDS"), _a_hook),
        (delegate, "_look_after", (delegate, "_LOOK_SECONDS"), delegate._follow),
        (
            approvals._ApprovalWorker,
            "_expire",
            (approvals, "_RETRY_SECONDS"),
            lambda s: approvals._ApprovalWorker(s).run(),
        ),
        (
            containers._ChangeWorker,
            "_renew_old",
            (containers, "_RETRY_SECONDS"),
            lambda s: containers._ChangeWorker(s).run(),
        ),
        (nodes, "_look", (nodes, "_LOOK_SECONDS"), nodes._keep_looking),
        (prune, "remove_deleted", (prune, "_LOOK_SECONDS"), prune._keep_clearing),
        (strays, "end_strays", (strays, "_SECONDS"), lambda s: strays.keep_ending_strays(s.central, s.runtime)),
    ],
    ids=["a hook", "tasks", "approvals", "containers", "nodes", "old", "strays"],
)
@pytest.mark.parametrize("error", [FileTrouble("the disk is full"), RuntimeError("nobody has foreseen it")], ids=str)
async def test_it_goes_on(
    owner: Any,
    look: str,
    seconds: tuple[Any, str],
    begin: Callable[[Any], Coroutine[Any, Any, None]],
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls, has_gone_on = 0, asyncio.Event()

    async def fails_at_first(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise error
        has_gone_on.set()
        await asyncio.sleep(3600)

    monkeypatch.setattr(owner, look, fails_at_first)
    monkeypatch.setattr(*seconds, 0.01)
    keeper = asyncio.create_task(begin(_services()))
    try:
        async with asyncio.timeout(5):
            await has_gone_on.wait()
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


@pytest.mark.parametrize("error", [FileTrouble("the disk is full"), RuntimeError("nobody has foreseen it")], ids=str)
async def test_hooks_are_looked_for_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = asyncio.Event()

    async def keep(_: Any, wanted: set[str]) -> None:
        if wanted:
            kept.set()

    monkeypatch.setattr(_Sender, "_keep", keep)
    monkeypatch.setattr(hook_sender, "_RETRY_SECONDS", 0.01)
    services = _services()
    services.central.read = AsyncMock(side_effect=[error, ["hok_1"]])
    keeper = asyncio.create_task(_Sender(services).run())
    try:
        async with asyncio.timeout(5):
            await kept.wait()
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


async def test_a_task_that_cannot_be_looked_after_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = asyncio.Event()

    async def look_after(_: Any, task: Any) -> None:
        if task.id == "first":
            raise RuntimeUnavailable("its node is away")
        looked.set()

    monkeypatch.setattr(delegate, "_look_after", look_after)
    keeper = asyncio.create_task(delegate._follow(_services()))
    try:
        async with asyncio.timeout(5):
            await looked.wait()
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


async def test_containers_that_could_not_be_replaced_are_replaced_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    tries, is_done = 0, asyncio.Event()

    async def read(load: Any, *_: Any) -> list[Any]:
        nonlocal tries
        if load is containers.container_changes.all_open:
            return [] if is_done.is_set() else [MagicMock(state=ChangeState.MADE, number=1)]
        tries += 1
        if tries == 1:
            raise RuntimeUnavailable("the engine does not answer")
        return []

    async def write(*_: Any) -> None:
        is_done.set()

    monkeypatch.setattr(containers._ChangeWorker, "_renew_old", AsyncMock())
    monkeypatch.setattr(containers._ChangeWorker, "_remove_old", AsyncMock())
    monkeypatch.setattr(containers, "_RETRY_SECONDS", 0.01)
    services = _services()
    services.central.read, services.central.write = read, write
    keeper = asyncio.create_task(containers._ChangeWorker(services).run())
    try:
        async with asyncio.timeout(5):
            await is_done.wait()
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


def _services() -> Any:
    """Services of a host in which two delegated tasks are open, and nothing else happens."""
    services = MagicMock()
    services.central.read = AsyncMock(return_value=[MagicMock(id="first"), MagicMock(id="second")])
    services.runtime = MagicMock(spec=InspectedNodes)
    services.delegated = asyncio.Event()
    services.hooks.changed = asyncio.Event()
    services.dispatcher.decided = asyncio.Event()
    services.dispatcher.container_waits = asyncio.Event()
    services.dispatcher.following.return_value.__enter__.return_value = asyncio.Event()
    return services
