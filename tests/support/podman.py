"""A podman of the test's own, as root or without: its images, containers and socket lie in a folder that goes with it.

Needs root, and `podman`, `conmon`, `runc` and `catatonit`; without root's rights also `newuidmap` (uidmap).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.wait import until_sync

_NEEDED = ("podman", "conmon", "runc", "catatonit", "docker")
_NEEDED_ROOTLESS = ("newuidmap", "useradd", "userdel", "setpriv")
_USER = "dw-podman-test"


class Podman:
    """A service of podman at `url`. `uid` is the user that it runs as, 0 for root. Everything here blocks."""

    def __init__(self, folder: Path, uid: int = 0) -> None:
        self.uid = uid
        self.socket = folder / "podman.sock"
        self.url = f"unix://{self.socket}"
        self._folder = folder
        self._service: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            command = self._command("system", "service", "--time=0", self.url)
            self._service = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment(), cwd=self._folder
            )
        until_sync(self._answers, f"podman answers: {self._folder}/log")

    def stop(self) -> None:
        """End the service. Containers live on: podman has no process that they depend on."""
        if self._service is not None:
            # Without root podman runs once more below itself, and that one may outlive it. Containers are no children.
            below = psutil.Process(self._service.pid).children(recursive=True)
            self._service.terminate()
            self._service.wait(60)
            for process in below:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._service = None
            self.socket.unlink(missing_ok=True)

    def load(self, *images: str) -> None:
        """Copy images from the machine's docker, by the names they have there."""
        for image in images:
            with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
                self._podman("load", "--quiet", stdin=saving.stdout)

    def podman(self, *arguments: str) -> str:
        """What podman prints. It must succeed."""
        return self._podman(*arguments).stdout.strip()

    def close(self) -> None:
        """Remove all containers, and end the service."""
        with suppress(subprocess.SubprocessError):
            self._podman("rm", "--force", "--all", "--time", "0")
        self.stop()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((each for each in mounts if each.startswith(f"{self._folder}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, timeout=60)

    def _podman(self, *arguments: str, stdin: object = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments),
            stdin=stdin,  # type: ignore[call-overload]
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
            env=self._environment(),
            cwd="/",
        )

    def _command(self, *arguments: str) -> list[str]:
        places = [f"--{name}={self._folder}/{name}" for name in ("root", "runroot", "tmpdir")]
        # runc: crun knows no machine with both kinds of control groups. overlay: without root podman takes vfs where
        # no file says otherwise, whose images only root can read.
        options = ["--cgroup-manager=cgroupfs", "--runtime=runc", "--storage-driver=overlay"]
        user = [] if self.uid == 0 else ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--init-groups"]
        return [*user, "podman", *places, *options, *arguments]

    def _environment(self) -> dict[str, str]:
        home = str(self._folder)
        return {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "XDG_RUNTIME_DIR": home,
            "http_proxy": "http://user:secret@proxy.example.org",  # no agent may see it
        }

    def _answers(self) -> bool:
        assert self._service is not None
        assert self._service.poll() is None, (self._folder / "log").read_text()[-2000:]
        return self.socket.exists()


@contextmanager
def a_podman(*images: str, rootless: bool = False) -> Iterator[Podman]:
    """A podman that runs and has these images of the machine's docker. Tests are skipped where there can be none."""
    missing = [each for each in _NEEDED + (_NEEDED_ROOTLESS if rootless else ()) if shutil.which(each) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"a podman of the test's own needs root and {', '.join(missing or _NEEDED)}")
    folder = Path(tempfile.mkdtemp(prefix="dw-pod-", dir="/tmp"))  # the paths of its sockets must be short
    try:
        with a_user() if rootless else _root() as uid:
            folder.chmod(0o755)
            os.chown(folder, uid, uid)
            podman = Podman(folder, uid)
            try:
                podman.start()
                podman.load(*images)
                yield podman
            finally:
                podman.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def a_user() -> Iterator[int]:
    """A user of the machine for this time, with numbers of its own for containers; its uid, which is its gid."""
    subprocess.run(["useradd", "--no-create-home", "--user-group", _USER], check=True, timeout=60)
    try:
        yield pwd.getpwnam(_USER).pw_uid
    finally:
        subprocess.run(["userdel", "--force", _USER], check=False, capture_output=True, timeout=60)


@contextmanager
def _root() -> Iterator[int]:
    yield 0
