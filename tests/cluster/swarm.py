"""A Docker Swarm of three machines on this one: an engine each, in namespaces of its own.

Nothing of the machine's own engine is touched: every engine has its own network, host name, mounts, data, socket and
control group, and their network leads nowhere but to this machine. What is started is noted and ended in the opposite
order, by its process id. `DUMBWAITER_TEST_SWARM` names the socket of a manager of another Swarm, which is then used.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from host.runtime.engine_address import EngineAddress
from tests.support.wait import until_sync

SWITCH = "dws-switch"
HERE = "dws-here"
NETWORK = "10.99.7"
HOST = f"{NETWORK}.254"
LOCKED_DOWN = '{"bridge": "none", "no-new-privileges": true}'
_END_SECONDS = 20.0


@dataclass
class Machine:
    """One of them, with a docker engine."""

    number: int
    root: Path
    configuration: str = LOCKED_DOWN
    engine: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return f"dws-n{self.number}"

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    @property
    def socket(self) -> Path:
        return self.root / "docker.sock"

    def docker(self, *arguments: str) -> str:
        """What `docker` prints, asked of this machine's engine."""
        return run("docker", "-H", f"unix://{self.socket}", *arguments)

    def cut_off(self) -> None:
        """Take the machine off the network; what runs there goes on."""
        run("ip", "-n", SWITCH, "link", "set", f"dwsv{self.number}", "down")

    def bring_back(self) -> None:
        """Put it back."""
        run("ip", "-n", SWITCH, "link", "set", f"dwsv{self.number}", "up")

    def start(self) -> None:
        """Start its engine, with its configuration. Not by `ip netns exec`, which hides the control groups."""
        (self.root / "daemon.json").write_text(self.configuration)
        engine = (
            f"hostname {self.name}; exec dockerd --config-file {self.root}/daemon.json --data-root {self.root}/data "
            f"--exec-root {self.root}/exec --pidfile {self.root}/docker.pid --host unix://{self.socket} --group root "
            f"--iptables=false --ip6tables=false --ip-forward=false --cgroup-parent /{self.name}"
        )
        command = ["nsenter", f"--net=/run/netns/{self.name}", "unshare", "--uts", "--mount", "sh", "-c", engine]
        with open(self.root / "log", "ab") as log:
            self.engine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until_sync(self._answers, f"the engine of {self.name} answers: {self.root}/log", 120)

    def stop(self) -> None:
        """End its engine; containers are ended before, by `empty`."""
        if self.engine is not None:
            self.engine.terminate()
            try:
                self.engine.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self.engine.kill()
                self.engine.wait(_END_SECONDS)
            self.engine = None

    def empty(self) -> None:
        """Remove all containers: an engine that ends leaves them to a process that outlives it."""
        with suppress(subprocess.SubprocessError):
            self.docker("swarm", "leave", "--force")
            if containers := self.docker("ps", "-aq").split():
                self.docker("rm", "-f", *containers)

    def _answers(self) -> bool:
        try:
            return bool(self.docker("version", "-f", "{{.Server.Version}}"))
        except subprocess.SubprocessError:
            return False


@dataclass
class Swarm:
    """A Swarm, whose first machine is the manager. `machines` is empty where it is not our own."""

    manager: EngineAddress
    machines: list[Machine] = field(default_factory=list)

    def load(self, *images: str) -> None:
        """Give every machine images that this machine's own engine has."""
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            run("docker", "save", "-o", archive.name, *images)
            for machine in self.machines:
                machine.docker("load", "-q", "-i", archive.name)

    def until_ready(self) -> None:
        """Wait until all machines are there: one that was cut off comes back a moment later."""
        if self.machines:
            until_sync(lambda: _ready(self.machines[0]) == len(self.machines), "all nodes are ready", 60)

    def machine(self, name: str) -> Machine:
        """A machine by its name."""
        return next(each for each in self.machines if each.name == name)


def why_not() -> str | None:
    """What keeps machines from being started here."""
    if os.geteuid() != 0:
        return "machines of their own need root"
    missing = [name for name in ("dockerd", "docker", "ip", "nsenter", "unshare") if shutil.which(name) is None]
    return f"machines of their own need {', '.join(missing)}" if missing else None


@contextmanager
def a_swarm(count: int = 3) -> Iterator[Swarm]:
    """A Swarm for tests; they are skipped where there can be none."""
    if given := os.environ.get("DUMBWAITER_TEST_SWARM"):
        yield Swarm(EngineAddress(given, "DUMBWAITER_TEST_SWARM"))
        return
    if (missing := why_not()) is not None:
        pytest.skip(f"no Swarm: {missing}")
    with ExitStack() as undo:
        root = Path(tempfile.mkdtemp(prefix="dws-", dir="/tmp"))
        undo.callback(shutil.rmtree, root, ignore_errors=True)
        root.chmod(0o755)
        _namespace(SWITCH, undo)  # of its own: in the first one the rules of the machine's engine drop its frames
        run("ip", "-n", SWITCH, "link", "add", "dwsbr", "type", "bridge")
        run("ip", "-n", SWITCH, "link", "set", "dwsbr", "up")
        run("ip", "link", "add", HERE, "type", "veth", "peer", "name", "dwsv0", "netns", SWITCH)
        undo.callback(_quietly, "ip", "link", "del", HERE)
        run("ip", "-n", SWITCH, "link", "set", "dwsv0", "master", "dwsbr", "up")
        run("ip", "addr", "add", f"{HOST}/24", "dev", HERE)
        run("ip", "link", "set", HERE, "up")
        machines = [_machine(number, root, undo) for number in range(1, count + 1)]
        first = machines[0]
        first.docker("swarm", "init", "--advertise-addr", first.address)
        token = first.docker("swarm", "join-token", "-q", "worker")
        for machine in machines[1:]:
            machine.docker("swarm", "join", "--advertise-addr", machine.address, "--token", token, first.address)
        made = Swarm(EngineAddress(f"unix://{first.socket}", "the Swarm of the tests"), machines)
        made.until_ready()
        yield made


def _ready(manager: Machine) -> int:
    return manager.docker("node", "ls", "--format", "{{.Status}}").split().count("Ready")


def _machine(number: int, root: Path, undo: ExitStack) -> Machine:
    machine = Machine(number, root / f"n{number}")
    machine.root.mkdir()
    name = machine.name
    _namespace(name, undo)
    undo.callback(_remove_groups, name)
    run("ip", "-n", SWITCH, "link", "add", f"dwsv{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "-n", SWITCH, "link", "set", f"dwsv{number}", "master", "dwsbr", "up")
    run("ip", "-n", name, "addr", "add", f"{machine.address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        run("ip", "-n", name, "link", "set", device, "up")
    undo.callback(_unmount, machine.root)
    undo.callback(machine.stop)
    machine.start()
    undo.callback(machine.empty)
    return machine


def _namespace(name: str, undo: ExitStack) -> None:
    run("ip", "netns", "add", name)
    undo.callback(_quietly, "ip", "netns", "del", name)


def _unmount(root: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((each for each in mounts if each.startswith(f"{root}/")), reverse=True):
        _quietly("umount", "-l", mount)


def _remove_groups(name: str) -> None:
    for group in [*Path("/sys/fs/cgroup").glob(f"*/{name}"), *Path("/sys/fs/cgroup").glob(name)]:
        below = sorted((path for path in group.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
        for folder in [*below, group]:
            with suppress(OSError):
                folder.rmdir()


def run(*command: str) -> str:
    """What a command prints. Raises `CalledProcessError` with what it said."""
    done = subprocess.run(list(command), capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout.strip()


def _quietly(*command: str) -> None:
    with suppress(subprocess.SubprocessError):
        run(*command)


def tasks_of(manager: Machine, service: str) -> list[dict[str, str]]:
    """The tasks of a service as the manager shows them."""
    shown = manager.docker("service", "ps", "--no-trunc", "--format", "{{json .}}", service)
    return [json.loads(line) for line in shown.splitlines()]
