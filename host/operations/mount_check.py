"""Checking a mount for agents on other machines: measured, judged, and what cures it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from host.operations import mount_verdicts
from host.operations.mount_measure import OBSERVER, Observe, beside, measure
from host.operations.mount_verdict import MountVerdict, verdict_of
from host.operations.nodes import nodes_for_a_moment
from host.runtime.placement import InspectedNodes
from host.services import Services
from shared_schema.errors import DumbwaiterError, NotFound

_SECONDS = 180.0


async def check(
    services: Services, *, path: str, nodes: list[str] | None = None, other: str | None = None
) -> list[dict[str, Any]]:
    """What a mount does, seen from this machine and each of some nodes: with, verdict, sentences, and the figures.

    `other` is another mount of the same folder on this machine; without it and without nodes two processes of this
    machine are compared, which says nothing of a second one. Where the data folder lies on that mount, the host heeds
    the verdict at its next start. Raises `NotFound`, `DumbwaiterError`.
    """
    mount = Path(path)
    if not mount.is_dir():
        raise NotFound(f"there is no folder {mount}", hint="name the folder that the machines share")
    shown = await _measured(services, mount, nodes or [], other)
    found = [(each["with"], each["verdict"], each["sentences"]) for each in shown]
    await asyncio.to_thread(mount_verdicts.keep, services.settings.layout, mount, found, services.clock)
    return shown


async def _measured(services: Services, mount: Path, nodes: Sequence[str], other: str | None) -> list[dict[str, Any]]:
    if not nodes:
        found = await asyncio.to_thread(measure, mount, beside(Path(other) if other else mount))
        return [_shown(other or mount_verdicts.ALONE, found, alone=other is None)]
    async with nodes_for_a_moment(services) as runtime:
        known = set() if runtime is None else {each.name for each in await runtime.facts()}
        if runtime is None or (unknown := [name for name in nodes if name not in known]):
            named = nodes[0] if runtime is None else unknown[0]
            raise NotFound(f"there is no node '{named}'", hint="`dumbwaiter node list` shows all")
        shown = []
        for name in nodes:  # one after the other: they would measure each other
            observe = _on(runtime, name, services.settings.image, mount, asyncio.get_running_loop())
            shown.append(_shown(name, await asyncio.to_thread(measure, mount, observe)))
        return shown


def _on(runtime: InspectedNodes, name: str, image: str, mount: Path, loop: asyncio.AbstractEventLoop) -> Observe:
    """The observer in a container of a node, which sees the mount and nothing else."""
    script = OBSERVER.read_text(encoding="utf-8")

    def observe(folder: str, arguments: Sequence[str]) -> str:
        command = ["-c", script, f"/mnt/{folder}", *arguments]
        run = partial(runtime.run_once, name, image, mount, command, seconds=_SECONDS, writable=True)
        output = asyncio.run_coroutine_threadsafe(run(), loop).result(_SECONDS + 30)
        text = output.decode("utf-8", "replace").strip()
        if not text.startswith("{"):
            raise DumbwaiterError(f"the check failed on the node {name}: {text[-300:]}", where=mount)
        return text

    return observe


def _shown(other: str, measured: Any, *, alone: bool = False) -> dict[str, Any]:
    verdict, sentences = verdict_of(measured)
    if alone and verdict is not MountVerdict.LOSES:
        verdict = MountVerdict.ALONE
        sentences = ["two machines were not compared: name one with --with, or another mount with --beside"]
    return {"with": other, "verdict": str(verdict), "sentences": sentences, **asdict(measured)}
