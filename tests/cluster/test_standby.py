"""Two whole hosts on two machines, over a mount whose caches are late and that has no locks between them.

Each machine has a name, a network and a mount of its own; the data folder is at the same path on both. Agents run in an
engine that outlives both hosts, which sees the folder without caches, as a third machine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from host.lease_rules import Timing
from host.runtime.specification import NODE_LABEL, RUN_LABEL
from tests.cluster.late import CACHES
from tests.conftest import AgentImage
from tests.support.wait import until_sync

pytestmark = [pytest.mark.full, pytest.mark.docker]

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
    """One machine: what runs on it sees the data folder through its own mount."""

    def __init__(self, name: str, data: Path) -> None:
        self.data = data
        self.log = data.with_name(f"{name}.log")
        real = data.with_name("server")  # one name on all machines, as of a server: it is what the mount is known by
        real.mkdir(exist_ok=True)
        setup = (
            f"hostname {name} && ip link set lo up && mount --bind {data} {real} && "
            f"bindfs -o {CACHES},nonempty {real} {data} && echo up && exec sleep infinity"
        )
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
def host_machine(name: str, data: Path) -> Iterator[HostMachine]:
    machine = HostMachine(name, data)
    try:
        yield machine
    finally:
        machine.end()


def test_a_host_on_another_machine_takes_over_when_the_first_is_killed(tmp_path: Path, agent_image: AgentImage) -> None:
    if os.geteuid() != 0 or shutil.which("bindfs") is None or not Path("/dev/fuse").exists():
        pytest.skip("machines of their own need root, bindfs and /dev/fuse")
    data = tmp_path / "data"
    data.mkdir()
    for folder in (tmp_path, data):
        folder.chmod(0o755)
    (data / "dumbwaiter.toml").write_text(SETTINGS.format(image=agent_image.name))
    with host_machine("one", data) as one, host_machine("two", data) as two:
        one.start()
        one.waits_for("ready")
        two.start("--standby")
        two.waits_for("on standby")
        assert one.run("chat", "-m", "hello").startswith("hello\n")
        agents = containers()
        one.kill()
        renewed = datetime.fromtimestamp(max(file.stat().st_mtime for file in (data / "lease").iterdir()), UTC)
        took = (two.waits_for("taking over") - renewed).total_seconds()
        ready = (two.waits_for("ready") - renewed).total_seconds()
        print(f"\ntaken over {took:.1f} s after the last renewal, ready {ready:.1f} s after it")
        assert Timing().limit < took < Timing().wait + 10
        assert two.said("taking over a running agent") is not None
        assert containers() == agents, "the agent of the first host goes on"
        assert two.run("chat", "-m", "and now?").startswith("and now?\n")
        assert two.run("chat", "-m", "once more").startswith("once more\n")
