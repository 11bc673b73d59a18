"""A docker engine of the test's own, which can be killed, restarted and broken without touching anybody else's.

It lives in namespaces of its own: network (it never sees the machine's bridges and packet filters), mounts (its images
lie in memory and go with it) and processes (ending the first ends the engine, its containerd and all containers). What
it can see of the machine are the folders that agents are given. Needs root and `dockerd`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import cannot_run
from tests.support.wait import until_sync

_NEEDED = ("dockerd", "unshare", "nsenter", "setpriv", "mount")
_MEMORY_BYTES = 2 * 1024**3  # at most; an image of agents and a few containers take a fifth
_FIRST = "mount -t tmpfs -o size={size} tmpfs {data}; while :; do sleep 1000 & wait $!; done"  # and buries orphans
_ALONE = ("--bridge=none", "--iptables=false", "--ip-masq=false", "--ip-forward=false")
_CGROUPS = Path("/sys/fs/cgroup")


class Engine:
    """An engine at `url`. Made by `private_engine`. Everything here blocks."""

    def __init__(self, folder: Path) -> None:
        self.url = f"unix://{folder}/engine.sock"
        self._folder = folder
        self._group = f"dumbwaiter-test-{folder.name}"
        self._engine: subprocess.Popen[bytes] | None = None
        self._data = folder / "data"
        self._data.mkdir()
        first = _FIRST.format(size=_MEMORY_BYTES, data=self._data)
        alone = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "slave"]
        until_the_test_ends = ["setpriv", "--pdeathsig", "KILL"]  # however it ends
        self._namespaces = subprocess.Popen([*until_the_test_ends, *alone, "--mount", "sh", "-c", first])

    def start(self, *options: str) -> None:
        """Start the engine, or start it again, and wait until it answers."""
        self._begin(*options)
        until_sync(self.answers, "the engine answers")

    def make_sure(self) -> None:
        """It runs, whatever an earlier test left."""
        if self._engine is None or self._engine.poll() is not None:
            self.start()
        for container in self.containers():
            self.docker("rm", "--force", container)

    def _begin(self, *options: str) -> None:
        first = until_sync(self._first, "there are namespaces")
        enter = ["nsenter", "--target", str(first), "--net", "--mount", "--pid"]
        places = [f"--data-root={self._data}", f"--exec-root={self._folder}/run", f"--pidfile={self._folder}/pid"]
        limits = [f"--cgroup-parent=/{self._group}", "--exec-opt=native.cgroupdriver=cgroupfs"]
        (self._folder / "pid").unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._engine = subprocess.Popen(
                [*enter, "dockerd", f"--host={self.url}", *places, *limits, *_ALONE, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end(self, number: signal.Signals) -> None:
        """Signal the engine and wait until it is gone. Its containers live on, or not: that is the engine's matter."""
        assert self._engine is not None
        (engine,) = _children(self._engine.pid)
        os.kill(engine, number)
        self._engine.wait(60)
        self._engine = None

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """It does not move during the block: whoever calls it gets no answer."""
        assert self._engine is not None
        (engine,) = _children(self._engine.pid)
        os.kill(engine, signal.SIGSTOP)
        try:
            yield
        finally:
            for each in (self._engine.pid, engine):  # nsenter stops with what it started
                os.kill(each, signal.SIGCONT)

    def answers(self) -> bool:
        """Whether it does; fails when it has ended."""
        assert self._engine is not None
        assert self._engine.poll() is None, self.log()
        return self._docker("version").returncode == 0

    def docker(self, *arguments: str) -> str:
        """What a docker command prints. It must succeed."""
        done = self._docker(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def load(self, *images: str) -> None:
        """Copy images from the machine's engine."""
        saving = subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE)
        loading = ["docker", "--host", self.url, "load", "--quiet"]
        subprocess.run(loading, stdin=saving.stdout, check=True, capture_output=True)
        assert saving.stdout is not None
        saving.stdout.close()
        assert saving.wait() == 0

    def containers(self) -> list[str]:
        """The ids of all containers, alive or not."""
        return self.docker("ps", "--all", "--quiet", "--no-trunc").split()

    def log(self) -> str:
        """The end of what the engine printed."""
        return (self._folder / "log").read_text()[-2000:]

    def close(self) -> None:
        """End everything, and remove what is left in the machine's control groups."""
        for process in (self._namespaces, self._engine):
            if process is not None:
                process.kill()
                process.wait()
        until_sync(self._remove_groups, "the control groups are empty")

    def _first(self) -> int | None:
        """The first process of the namespaces, once its mount is there.

        That its network is another is not left to chance: an engine without a bridge removes the one it finds.
        """
        assert self._namespaces.poll() is None, "no namespaces can be made here"
        for child in _children(self._namespaces.pid):
            if str(self._data) in Path(f"/proc/{child}/mounts").read_text():
                assert os.readlink(f"/proc/{child}/ns/net") != os.readlink("/proc/self/ns/net")
                return child
        return None

    def _docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["docker", "--host", self.url, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def _remove_groups(self) -> bool:
        groups = [group for pattern in ("", "*/") for group in _CGROUPS.glob(f"{pattern}{self._group}")]
        for group in groups:
            for folder in (*group.glob("*/"), group):
                with suppress(OSError):
                    folder.rmdir()
        return not any(group.exists() for group in groups)


@contextmanager
def private_engine(*images: str) -> Iterator[Engine]:
    """An engine that runs and has these images of the machine's engine."""
    if os.geteuid() != 0 or any(shutil.which(each) is None for each in _NEEDED):
        pytest.skip("an engine of the test's own can only be started by root, with dockerd")
    folder = Path(tempfile.mkdtemp(prefix="dw-", dir="/tmp"))  # the paths of its sockets must be short
    engine = Engine(folder)
    try:
        try:
            engine.start()
            engine.load(*images)
        except (AssertionError, subprocess.SubprocessError) as error:
            cannot_run(f"an engine of the test's own does not start: {error}")
        yield engine
    finally:
        engine.close()
        shutil.rmtree(folder)


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]
