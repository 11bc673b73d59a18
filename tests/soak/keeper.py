"""Keeps a host running on a data folder: starts it, ends it in every way there is, and measures it while it lives."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from host.api.client import HostClient, HostGone, NoHost
from shared_schema.layout import DataLayout

_READY_SECONDS = 60.0
_STOP_SECONDS = 60.0
_STEP_SECONDS = 0.05


class HostFailed(Exception):
    """The host did something no host may: it ended by itself, never got ready, or would not stop."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """One measurement of a host: seconds since the run began and since the host was ready, and its size then."""

    at: float
    life: int
    age: float
    descriptors: int
    resident: int
    threads: int

    @property
    def other_descriptors(self) -> int:
        """Without the threads': each has central.db open for itself (two), and the pool makes them as needed."""
        return self.descriptors - 2 * self.threads


class Keeper:
    """One host at a time. `lives` counts those that got ready."""

    def __init__(self, data: Path, sockets: Path, settings: dict[str, str]) -> None:
        self.layout = DataLayout(data)
        self.log = data.with_name("host.log")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("DUMBWAITER_")}
        self.environment |= {f"DUMBWAITER_{key}": value for key, value in settings.items()}
        self.lives = 0
        self.measured: list[Vitals] = []
        self.ended: Counter[str] = Counter()
        self.start_seconds: list[float] = []
        self.thawed_at: list[float] = []
        """When a host went on after it was frozen (seconds since 1970)."""
        self._command = [sys.executable, "-m", "tests.soak.host", str(data), str(sockets)]
        self._process: subprocess.Popen[bytes] | None = None
        self._began = time.monotonic()
        self._ready_at: float | None = None
        self._client = HostClient(self.layout.socket, seconds=30.0)

    @property
    def is_up(self) -> bool:
        """Whether a host is there that got ready."""
        return self._ready_at is not None

    async def start(self) -> None:
        """Start a host and wait until it answers. A command that holds the folder at the moment is waited for."""
        began = time.monotonic()
        self.begin()
        while not await self._answers():
            if self._process is None or self._process.poll() is not None:
                if not self._was_refused():
                    raise HostFailed(f"the host ended by itself, see {self.log}")
                self.ended["had to wait for a command"] += 1
                self.begin()
            if time.monotonic() - began > _READY_SECONDS:
                raise HostFailed(f"the host did not get ready, see {self.log}")
            await asyncio.sleep(_STEP_SECONDS)
        self.lives += 1
        self._ready_at = time.monotonic()
        self.start_seconds.append(self._ready_at - began)

    def begin(self) -> None:
        """Start a host and do not wait."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )

    async def kill(self) -> None:
        """SIGKILL, whatever it is doing; also one that is just starting."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM: it stops its agents and leaves."""
        await self._end(signal.SIGTERM)

    async def freeze(self, seconds: float) -> None:
        """The machine is suspended, for the host alone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)
        self.thawed_at.append(time.time())

    async def call(self, operation: str, **parameters: Any) -> Any:
        """One operation, as a program does it. Raises `NoHost`, `HostGone`, and what the operation raises."""
        return await asyncio.to_thread(self._client.call, operation, parameters)

    def measure(self) -> Vitals | None:
        """How large the host is now; None when there is none. Raises `HostFailed` when it has ended by itself."""
        if self._process is None or self._ready_at is None:
            return None
        now = time.monotonic()
        try:
            process = psutil.Process(self._process.pid)
            with process.oneshot():
                vitals = Vitals(
                    at=now - self._began,
                    life=self.lives,
                    age=now - self._ready_at,
                    descriptors=process.num_fds(),
                    resident=process.memory_info().rss,
                    threads=process.num_threads(),
                )
        except psutil.Error:
            raise HostFailed(f"the host ended by itself, see {self.log}") from None
        self.measured.append(vitals)
        return vitals

    async def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        process, self._process = self._process, None
        was_up, self._ready_at = self.is_up, None
        if was_up and process.poll() is not None:
            raise HostFailed(f"the host ended by itself with status {process.returncode}, see {self.log}")
        process.send_signal(number)
        try:
            status = await asyncio.to_thread(process.wait, _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise HostFailed(f"the host did not stop within {_STOP_SECONDS:g} s, see {self.log}") from None
        self.ended[number.name if was_up else f"{number.name} while it started"] += 1
        if was_up and number == signal.SIGTERM and status != 0:
            raise HostFailed(f"the host stopped with status {status}, see {self.log}")

    async def _answers(self) -> bool:
        try:
            shown = await self.call("status")
        except (NoHost, HostGone):
            return False
        return bool(shown["host"]["running"])

    def _was_refused(self) -> bool:
        with self.log.open("rb") as log:
            log.seek(-min(self.log.stat().st_size, 4000), os.SEEK_END)
            return b"FolderInUse" in log.read().rpartition(b"Traceback")[2]
