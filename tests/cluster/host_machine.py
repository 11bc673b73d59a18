"""A machine with a name, a network and mounts of its own, on which the real command serves or stands by.

The data folder is at the same path on all of them, and on this machine, whose engine runs their agents as a third one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from host.runtime.specification import NODE_LABEL, RUN_LABEL
from tests.support.wait import until_sync

COMMAND = str(Path(sys.executable).parent / "dumbwaiter")
SETTINGS = """
runtime = "nodes"
shared = true
image = "{image}"
log_format = "json"

[[nodes]]
name = "third"
address = "unix:///var/run/docker.sock"
"""
_READY_SECONDS = 120


class HostMachine:
    """One machine: what runs on it sees the data folder as the command `mounting` has put it there."""

    def __init__(self, name: str, data: Path, mounting: str) -> None:
        self.data = data
        self.log = data.with_name(f"{name}.log")
        setup = f"hostname {name} && ip link set lo up && {mounting} && echo up && exec sleep infinity"
        command = ["unshare", "--uts", "--mount", "--net", "sh", "-c", setup]
        self.holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == "up\n"
        self.host: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start a host there."""
        with self.log.open("ab") as log:
            command = [*self._inside(), COMMAND, "run", "--data", str(self.data), *options]
            self.host = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, env=_environment())

    def said(self, what: str) -> datetime | None:
        """When its host logged that."""
        for line in self.log.read_text().splitlines():
            if line.startswith("{") and json.loads(line)["event"] == what:
                return datetime.fromisoformat(json.loads(line)["time"])
        return None

    def waits_for(self, what: str) -> datetime:
        until_sync(lambda: self.said(what), f"{self.log.name} says {what}", _READY_SECONDS)
        said = self.said(what)
        assert said is not None
        return said

    def run(self, *arguments: str) -> str:
        """What a command prints that is typed there."""
        command = [*self._inside(), COMMAND, "--data", str(self.data), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=_environment(), check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command that is typed there and not waited for."""
        command = [*self._inside(), COMMAND, "--data", str(self.data), *arguments]
        nothing = subprocess.DEVNULL
        return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, env=_environment())

    def kill(self) -> None:
        """SIGKILL for its host."""
        if self.host is not None:
            self.host.send_signal(signal.SIGKILL)
            self.host.wait(30)
            self.host = None

    def end(self) -> None:
        """Its host in order, its mount, and the machine."""
        if self.host is not None:
            self.host.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.host.wait(60)
        self.kill()
        subprocess.run([*self._inside(), "umount", "-l", str(self.data)], check=False, timeout=60)
        self.holder.kill()
        self.holder.communicate()

    def _inside(self) -> list[str]:
        return ["nsenter", "--target", str(self.holder.pid), "--uts", "--mount", "--net"]


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("DUMBWAITER_")}


def containers() -> set[str]:
    """The agents on the engine of the third machine."""
    command = ["docker", "ps", "-q", "--filter", f"label={RUN_LABEL}", "--filter", f"label={NODE_LABEL}=third"]
    return set(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split())


@contextmanager
def host_machine(name: str, data: Path, mounting: str) -> Iterator[HostMachine]:
    machine = HostMachine(name, data, mounting)
    try:
        yield machine
    finally:
        machine.end()
