"""A MooseFS on this machine: a master, one chunk server, and mounts of it, each as that of a machine.

It lives in a network of its own (it refuses 127.0.0.1), and in one folder. Everything is ended by its process id.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.cluster.machines import end_process
from tests.support.wait import until_sync

_NETWORK = "dwm-mfs"
_ADDRESS = "10.99.6.1"
_MASTER, _CHUNKS, _CLIENTS, _DATA = 19419, 19420, 19421, 19422
_NEEDED = ("mfsmaster", "mfschunkserver", "mfsmount", "ip", "nsenter", "umount")
_EMPTY = Path("/var/lib/mfs/metadata.mfs.empty")
_END_SECONDS = 60.0

_MASTER_CONFIGURATION = """
WORKING_USER = root
WORKING_GROUP = root
DATA_PATH = {folder}/master
EXPORTS_FILENAME = {folder}/mfsexports.cfg
TOPOLOGY_FILENAME = {folder}/mfstopology.cfg
MATOML_LISTEN_HOST = {address}
MATOML_LISTEN_PORT = {master}
MATOCS_LISTEN_HOST = {address}
MATOCS_LISTEN_PORT = {chunks}
MATOCL_LISTEN_HOST = {address}
MATOCL_LISTEN_PORT = {clients}
LOCK_MEMORY = 0
"""
_CHUNKS_CONFIGURATION = """
WORKING_USER = root
WORKING_GROUP = root
DATA_PATH = {folder}/chunks
HDD_CONF_FILENAME = {folder}/mfshdd.cfg
MASTER_HOST = {address}
MASTER_PORT = {chunks}
CSSERV_LISTEN_HOST = {address}
CSSERV_LISTEN_PORT = {data}
HDD_TEST_FREQ = 3600
"""


class MooseFS:
    """A file system that each of `mounts` shows."""

    def __init__(self, folder: Path, mounts: int) -> None:
        self.mounts = [folder / f"machine-{number}" for number in range(mounts)]
        self._folder = folder
        self._chunks: subprocess.Popen[bytes] | None = None
        self._master: subprocess.Popen[bytes] | None = None

    @property
    def _serving(self) -> tuple[str, ...]:
        return ("mfschunkserver", "-f", "-c", f"{self._folder}/mfschunkserver.cfg", "start")

    def start_chunks(self) -> None:
        """Start the server that has what stands in the files."""
        self._chunks = self.run("chunks", *self._serving)

    def start_master(self) -> None:
        """Start the server that knows which files there are."""
        self._master = self.run("master", "mfsmaster", "-f", "-c", f"{self._folder}/mfsmaster.cfg", "start")

    @contextmanager
    def hanging(self, *, master: bool = False) -> Iterator[None]:
        """The chunk server, or the master, does not move during the block: what is read or written afresh waits."""
        server = self._master if master else self._chunks
        assert server is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(server.pid, signal.SIGCONT)

    @contextmanager
    def without_server(self) -> Iterator[None]:
        """It is killed, and another one takes its place after the block.

        That one waits ready before: whoever starts a process may have files open here, and a child that closes those
        waits for the server.
        """
        assert self._chunks is not None
        successor = self.run("chunks", "sh", "-c", 'read -r _; exec "$@"', "sh", *self._serving, stdin=subprocess.PIPE)
        assert successor.stdin is not None
        self._chunks.kill()
        self._chunks.wait(_END_SECONDS)
        self._chunks = successor
        with successor.stdin as going:
            yield
            going.write(b"go\n")

    def end(self) -> None:
        """End the servers, however they stand."""
        for server in (self._chunks, self._master):
            if server is not None:
                if server.poll() is None:
                    os.kill(server.pid, signal.SIGCONT)
                end_process(server)

    def run(self, name: str, *command: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """A process in its network, which prints into `<name>.log`."""
        with (self._folder / f"{name}.log").open("ab") as log:
            inside = ["nsenter", f"--net=/run/netns/{_NETWORK}", *command]
            return subprocess.Popen(inside, stdin=stdin, stdout=log, stderr=log)


def lacks() -> str | None:
    """What keeps a MooseFS from being started here; None when nothing does."""
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if os.geteuid() == 0 and Path("/dev/fuse").exists() and not missing:
        return None
    return f"a MooseFS of one's own needs root, /dev/fuse and {', '.join(missing or _NEEDED)}"


@contextmanager
def a_moosefs(mounts: int) -> Iterator[MooseFS]:
    """A MooseFS with so many mounts, where nothing `lacks`."""
    with ExitStack() as undo:
        folder = Path(tempfile.mkdtemp(prefix="dwm-", dir="/tmp"))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        found = MooseFS(folder, mounts)
        for path in (folder / "master", folder / "chunks", folder / "disk", *found.mounts):
            path.mkdir()
        (folder / "master" / "metadata.mfs").write_bytes(_EMPTY.read_bytes() if _EMPTY.exists() else b"MFSM NEW")
        (folder / "mfsexports.cfg").write_text("* / rw,alldirs,maproot=0:0\n")
        (folder / "mfstopology.cfg").write_text("")
        (folder / "mfshdd.cfg").write_text(f"{folder}/disk\n")
        places = {"folder": folder, "address": _ADDRESS, "master": _MASTER, "chunks": _CHUNKS}
        places |= {"clients": _CLIENTS, "data": _DATA}
        (folder / "mfsmaster.cfg").write_text(_MASTER_CONFIGURATION.format(**places))
        (folder / "mfschunkserver.cfg").write_text(_CHUNKS_CONFIGURATION.format(**places))
        subprocess.run(["ip", "netns", "add", _NETWORK], check=True, timeout=60)
        undo.callback(subprocess.run, ["ip", "netns", "del", _NETWORK], check=False, timeout=60)
        for command in (["link", "set", "lo", "up"], ["addr", "add", f"{_ADDRESS}/24", "dev", "lo"]):
            subprocess.run(["ip", "-n", _NETWORK, *command], check=True, timeout=60)
        undo.callback(found.end)
        found.start_master()
        found.start_chunks()
        for mount in found.mounts:
            command = ["mfsmount", "-f", str(mount), "-H", _ADDRESS, "-P", str(_CLIENTS), "-o", "allow_other"]
            undo.callback(end_process, _mounted(found, mount, command))
            undo.callback(subprocess.run, ["umount", "-l", str(mount)], check=False, timeout=60)
        until_sync(lambda: _takes_writes(found.mounts[0]), f"MooseFS takes writes: {folder}", 60)
        yield found


def _mounted(found: MooseFS, mount: Path, command: list[str]) -> subprocess.Popen[bytes]:
    """The process of a mount, once it is there: one that finds no master yet ends, and is started again."""
    for _ in range(100):
        process = found.run(mount.name, *command)
        until_sync(partial(_is_decided, mount, process), f"{mount} is mounted", 60)
        if mount.is_mount():
            return process
    raise TimeoutError(f"{mount} cannot be mounted: {mount}.log")


def _is_decided(mount: Path, process: subprocess.Popen[bytes]) -> bool:
    return mount.is_mount() or process.poll() is not None


def _takes_writes(mount: Path) -> bool:
    """Whether the chunk server has come to the master."""
    try:
        (mount / "tried").write_text("tried")
        (mount / "tried").unlink()
    except OSError:
        return False
    return True
