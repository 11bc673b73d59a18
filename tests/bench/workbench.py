"""Where figures are measured: a folder on a real disk, an engine if one answers, hosts; and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import platform
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from host.central.database import Central
from host.runtime.docker import DockerRuntime
from host.runtime.process import ProcessRuntime
from host.runtime.protocol import Runtime
from host.settings import Settings
from shared_schema.clock import SystemClock
from shared_schema.layout import DataLayout
from tests.bench.platform import Platform
from tests.conftest import ROOT, docker_url, missing_engine
from tests.support.host import Host, running

LABEL = "dumbwaiter.bench"
_IN_MEMORY = {"tmpfs", "ramfs"}


@dataclass(frozen=True, slots=True)
class Workbench:
    """`image` is the image of agents, None without an engine; `why_no_engine` says why then."""

    folder: Path
    image: str | None
    why_no_engine: str | None

    @property
    def runtimes(self) -> Sequence[str]:
        """What agents can be run by here."""
        return ("docker", "process") if self.image is not None else ("process",)

    def new_folder(self, name: str) -> Path:
        """The path of a folder of that kind, which is still to be made."""
        count = sum(1 for other in self.folder.iterdir() if other.name.startswith(f"{name}-"))
        return self.folder / f"{name}-{count}"

    @asynccontextmanager
    async def host(
        self, runtime: str, *, chats: int = 1, data: Path | None = None, **settings: Any
    ) -> AsyncIterator[BenchHost]:
        """A host in this process with the settings people have: provider `echo`, chats `0`, `1`, … of one agent group.

        `runtime` is `docker` or `process`; for another one, give `make_runtime` as well. `data` is another folder than
        one on the workbench.
        """
        data = data or self.new_folder("data")
        channel = Platform()
        options = {"heartbeat_seconds": _default("heartbeat_seconds"), "retry_seconds": _default("retry_seconds")}
        if runtime == "docker":
            options |= {"image": self.image, "make_runtime": lambda install_id: DockerRuntime(install_id, docker_url())}
        async with running(data, channel=channel, provider="echo", **options | settings) as host:
            for number in range(chats):
                await host.do("messaging_group.add", address=f"memory:{number}", is_group=True, unknown_sender="public")
                await host.do("wiring.add", messaging_group=f"memory:{number}", agent_group="assistant")
            yield BenchHost(host.services, channel)


class BenchHost(Host):
    """A running host, and how long things take on it."""

    channel: Platform

    async def round_trip(self, text: str, chat: str = "0") -> float:
        """Seconds from the event at the router to the channel's `deliver` with its answer."""
        began = self.channel.clock()
        await self.say(text, chat=chat)
        message, arrived = await self.channel.next_in(chat)
        assert message.text.startswith(text), f"{message.text!r} answers {text!r}"
        return arrived - began

    async def warm_up(self, chats: int = 1) -> None:
        """Start the agents of the first chats, and let everything come to rest."""
        await asyncio.gather(*(self.round_trip("warm up", str(number)) for number in range(chats)))
        await self.settled()


@contextmanager
def workbench() -> Iterator[Workbench]:
    """A workbench until the block ends; afterwards its agents, containers and files are gone."""
    reason = missing_engine()
    image = None if reason is not None else _image()
    with tempfile.TemporaryDirectory(prefix="dumbwaiter-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # agents reach their own folders as another user, as they do in a real installation
        try:
            yield Workbench(folder, image, reason)
        finally:
            asyncio.run(_clear(folder, has_engine=image is not None))


def machine(folder: Path) -> str:
    """What was measured on, in a line."""
    kind = _file_system(folder)
    kind = f"{kind}, which is in memory: the disk is not measured (set TMPDIR)" if kind in _IN_MEMORY else kind
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, files on {kind}, load {os.getloadavg()[0]:.2f} at the beginning"
    )


def docker(*arguments: str) -> str:
    """What a docker command prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def _default(setting: str) -> Any:
    return Settings.model_fields[setting].default


def _image() -> str:
    """The image of agents, built from this checkout if that has changed."""
    made = subprocess.run(
        ["sh", str(ROOT / "tests/docker/prepare.sh")], capture_output=True, text=True, check=True, timeout=900
    )
    return made.stdout.split()[0]


async def _clear(folder: Path, *, has_engine: bool) -> None:
    """Remove what hosts that were interrupted have left running."""
    for path in folder.glob("*/central.db"):
        central = Central.open(path, SystemClock())
        central.close()
        await _remove_all(ProcessRuntime(central.install_id, DataLayout(path.parent).run))
        if has_engine:
            await _remove_all(DockerRuntime(central.install_id, docker_url()))
    if has_engine:
        for container in docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}={os.getpid()}").split():
            docker("rm", "--force", container)


async def _remove_all(runtime: Runtime) -> None:
    for handle in await runtime.list():
        await runtime.remove(handle)
    await runtime.close()


def _file_system(folder: Path) -> str:
    places = [p for p in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(p.mountpoint)]
    return max(places, key=lambda place: len(place.mountpoint)).fstype if places else "an unknown file system"
