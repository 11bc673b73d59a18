"""A MooseFS of one master and one chunk server, mounted several times, as each machine mounts it, and agents on them.

All of it is in a network namespace of its own and in one temporary folder; the mounts are seen by the whole machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from host.runtime.process import ProcessRuntime
from host.runtime.protocol import AgentHandle, AgentSpecification
from shared_schema.layout import SessionLayout
from tests.support.wait import until_sync

_ADDRESS = "10.99.11.1"  # it refuses 127.0.0.1
_PORT = 19430
_SPACE = "dwb-mfs"
_END_SECONDS = 5.0
_PROGRAMS = ("mfsmaster", "mfschunkserver", "mfsmount", "ip", "nsenter")
_MASTER = """
WORKING_USER = root
WORKING_GROUP = root
DATA_PATH = {root}/master
EXPORTS_FILENAME = {root}/exports
TOPOLOGY_FILENAME = {root}/topology
MATOML_LISTEN_HOST = {address}
MATOML_LISTEN_PORT = {port}
MATOCS_LISTEN_HOST = {address}
MATOCS_LISTEN_PORT = {chunks}
MATOCL_LISTEN_HOST = {address}
MATOCL_LISTEN_PORT = {clients}
LOCK_MEMORY = 0
"""
_CHUNKS = """
WORKING_USER = root
WORKING_GROUP = root
DATA_PATH = {root}/server
HDD_CONF_FILENAME = {root}/disks
MASTER_HOST = {address}
MASTER_PORT = {chunks}
CSSERV_LISTEN_HOST = {address}
CSSERV_LISTEN_PORT = {served}
HDD_TEST_FREQ = 3600
"""


def lacks() -> str | None:
    """What keeps a MooseFS from being started here; None when nothing does."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        return "a MooseFS needs root and /dev/fuse"
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    return f"a MooseFS needs {', '.join(missing)}" if missing else None


@contextmanager
def moosefs(mounts: int) -> Iterator[Sequence[Path]]:
    """The same file system under so many paths, each a mount of its own. Raises `CalledProcessError`."""
    with ExitStack() as undo:
        root = Path(tempfile.mkdtemp(prefix="dwb-", dir=tempfile.gettempdir()))
        undo.callback(shutil.rmtree, root, ignore_errors=True)
        root.chmod(0o755)
        values = {
            "root": root,
            "address": _ADDRESS,
            "port": _PORT,
            "chunks": _PORT + 1,
            "clients": _PORT + 2,
            "served": _PORT + 3,
        }
        for name in ("master", "server", "disk"):
            (root / name).mkdir()
        (root / "master" / "metadata.mfs").write_text("MFSM NEW")
        (root / "exports").write_text("* / rw,alldirs,maproot=0:0\n")
        (root / "topology").touch()
        (root / "disks").write_text(f"{root}/disk\n")
        _run("ip", "netns", "add", _SPACE)
        undo.callback(_quietly, "ip", "netns", "del", _SPACE)
        _run("ip", "-n", _SPACE, "link", "set", "lo", "up")
        _run("ip", "-n", _SPACE, "addr", "add", f"{_ADDRESS}/24", "dev", "lo")
        inside = ("nsenter", f"--net=/run/netns/{_SPACE}")
        for program, configuration in (("mfsmaster", _MASTER), ("mfschunkserver", _CHUNKS)):
            file = root / f"{program}.cfg"
            file.write_text(configuration.format(**values))
            _run(*inside, program, "-c", str(file), "start")
            undo.callback(_quietly, program, "-c", str(file), "stop")
        paths = []
        for number in range(mounts):
            path = root / f"machine-{number}"
            path.mkdir()
            undo.callback(_end, _mount(path, [*inside, "mfsmount", "-f", str(path), "-H", _ADDRESS], values["clients"]))
            undo.callback(_quietly, "umount", "-l", str(path))
            path.chmod(0o755)
            paths.append(path)
        until_sync(lambda: _takes_files(paths[0]), "the chunk server serves", 60)
        yield paths


def _takes_files(mounted: Path) -> bool:
    try:
        (mounted / ".first").write_bytes(b"x")
        (mounted / ".first").unlink()
    except OSError:
        return False
    return True


def _mount(path: Path, command: list[str], port: object) -> subprocess.Popen[bytes]:
    """Its process, which would outlive the mount."""
    nothing = subprocess.DEVNULL
    command = [*command, "-P", str(port), "-o", "allow_other"]
    process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    until_sync(lambda: path.is_mount() or process.poll() is not None, f"{path} is mounted", 60)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run(*command: str) -> None:
    """Not with pipes: the daemons that it leaves behind would hold them open."""
    nothing = subprocess.DEVNULL
    subprocess.run(command, stdin=nothing, stdout=nothing, stderr=nothing, check=True, timeout=120)


def _quietly(*command: str) -> None:
    with suppress(subprocess.SubprocessError):
        _run(*command)


class RuntimeOnMounts(ProcessRuntime):
    """Agents that see the data folder through other mounts in turn, as those of other machines do."""

    def __init__(self, install_id: str, data: Path, *mounted: Path, command: Sequence[str] | None = None) -> None:
        super().__init__(install_id, data / "run", command=command)
        self._data, self._mounted = data, cycle(mounted)

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        mounted = next(self._mounted)
        folder = SessionLayout(mounted / specification.folder.folder.relative_to(self._data), shared=True)
        workspace = mounted / specification.workspace.relative_to(self._data)
        return await super().start(replace(specification, folder=folder, workspace=workspace))
