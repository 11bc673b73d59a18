"""Several machines on this one: a docker engine each, in namespaces of its own, joined by a network that leads nowhere.

Nothing of the machine's own engine is touched: every engine here has its own network, mounts, host name, data, socket
and control group. What is started is noted, and ended in the opposite order.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_SWITCH = "dwk-switch"
_HERE = "dwk-here"
_NETWORK = "10.99.8"
_HOST = 254
_END_SECONDS = 20


def lacks() -> str | None:
    """What keeps machines from being started here; None when nothing does."""
    if os.geteuid() != 0:
        return "machines of their own need root"
    missing = [name for name in ("dockerd", "docker", "ip", "nsenter", "unshare") if shutil.which(name) is None]
    return f"machines of their own need {', '.join(missing)}" if missing else None


@dataclass
class Machine:
    """One machine. Its address is reached from here; its containers have addresses of their own behind it."""

    number: int
    root: Path
    engine: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        return f"dwk-n{self.number}"

    @property
    def address(self) -> str:
        return f"{_NETWORK}.{self.number}"

    @property
    def docker_host(self) -> str:
        return f"unix://{self.root}/docker.sock"

    def inside(self) -> list[str]:
        """What a command begins with that runs on this machine, in all of its namespaces."""
        process = f"/proc/{self.engine.pid}/ns"
        return ["nsenter", f"--net={process}/net", f"--mount={process}/mnt", f"--uts={process}/uts"]

    def docker(self, *arguments: str) -> str:
        """What `docker` prints, asked of this machine's engine."""
        return run("docker", "-H", self.docker_host, *arguments)

    def cut_off(self) -> None:
        """Take the machine off the network; what runs there goes on."""
        run("ip", "-n", _SWITCH, "link", "set", f"dwkv{self.number}", "down")

    def bring_back(self) -> None:
        """Put it back."""
        run("ip", "-n", _SWITCH, "link", "set", f"dwkv{self.number}", "up")


class Machines:
    """So many machines, and this one in their network as `host_address`. `down` undoes what `up` has done.

    `options` are more of them for each engine."""

    host_address = f"{_NETWORK}.{_HOST}"

    def __init__(self, count: int, options: str = "") -> None:
        self.count = count
        self._options = options
        self.root = Path(tempfile.mkdtemp(prefix="dwk-", dir="/tmp"))
        self.machines: list[Machine] = []
        self._undo = ExitStack()
        self._undo.callback(shutil.rmtree, self.root, ignore_errors=True)

    def up(self) -> None:
        """Start them all. Raises `CalledProcessError`, `TimeoutError`."""
        self.root.chmod(0o755)
        # A namespace for the bridge: in the first one the rules of the machine's own engine would drop its frames.
        self._namespace(_SWITCH)
        run("ip", "-n", _SWITCH, "link", "add", "dwkbr", "type", "bridge")
        run("ip", "-n", _SWITCH, "link", "set", "dwkbr", "up")
        run("ip", "link", "add", _HERE, "type", "veth", "peer", "name", "dwkv0", "netns", _SWITCH)
        self._undo.callback(_quietly, "ip", "link", "del", _HERE)
        run("ip", "-n", _SWITCH, "link", "set", "dwkv0", "master", "dwkbr", "up")
        run("ip", "addr", "add", f"{self.host_address}/24", "dev", _HERE)
        run("ip", "link", "set", _HERE, "up")
        for number in range(1, self.count + 1):
            self.machines.append(self._machine(number))
        for machine in self.machines:
            wait(partial(_answers, machine), f"the engine of {machine.name}")
            self._undo.callback(_empty, machine)
            run("ip", "route", "add", f"172.29.{machine.number}.0/24", "via", machine.address)

    @contextmanager
    def closed_but_for(self, address: str, port: int) -> Iterator[None]:
        """Let containers of all machines reach one port of one address and nothing else, as a network plugin does."""
        rules = [["-i", "docker0", "-p", "tcp", "-d", address, "--dport", str(port), "-j", "ACCEPT"]]
        rules.append(["-i", "docker0", "-j", "DROP"])
        with ExitStack() as undo:
            for machine in self.machines:
                for chain in ("FORWARD", "INPUT"):
                    for rule in rules:
                        command = [*machine.inside(), "iptables"]
                        run(*command, "-A", chain, *rule)
                        undo.callback(_quietly, *command, "-D", chain, *rule)
            yield

    def down(self) -> None:
        """End everything that was started."""
        self._undo.close()

    def start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """A process that is ended with the machines; what it prints is in `<name>.log`."""
        with open(self.root / f"{name}.log", "wb") as log:
            started = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._undo.callback(end_process, started)
        return started

    def _namespace(self, name: str) -> None:
        run("ip", "netns", "add", name)
        self._undo.callback(_quietly, "ip", "netns", "del", name)

    def _machine(self, number: int) -> Machine:
        name, root = f"dwk-n{number}", self.root / f"n{number}"
        root.mkdir()
        self._namespace(name)
        self._undo.callback(_remove_groups, name)
        run("ip", "-n", _SWITCH, "link", "add", f"dwkv{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "-n", _SWITCH, "link", "set", f"dwkv{number}", "master", "dwkbr", "up")
        run("ip", "-n", name, "addr", "add", f"{_NETWORK}.{number}/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        for other in range(1, self.count + 1):
            if other != number:
                run("ip", "-n", name, "route", "add", f"172.29.{other}.0/24", "via", f"{_NETWORK}.{other}")
        # Not `ip netns exec`: that one mounts another /sys, without the control groups.
        engine = (
            f"hostname {name}; exec dockerd --data-root {root}/data --exec-root {root}/exec "
            f"--pidfile {root}/docker.pid --host unix://{root}/docker.sock --group root --bip 172.29.{number}.1/24 "
            f"--iptables=false --ip6tables=false --ip-forward=true --ip-masq=false --cgroup-parent /{name} "
            f"{self._options}"
        )
        command = ["nsenter", f"--net=/run/netns/{name}", "unshare", "--uts", "--mount", "sh", "-c", engine]
        return Machine(number, root, self.start(name, command))


def run(*command: str) -> str:
    """What a command prints. Raises `CalledProcessError`."""
    done = subprocess.run(list(command), capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout.strip()


def wait(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Wait until a condition holds. Raises `TimeoutError`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come up within {seconds:g} seconds")
        time.sleep(0.1)


def _answers(machine: Machine) -> bool:
    try:
        return bool(machine.docker("version", "-f", "{{.Server.Version}}"))
    except subprocess.SubprocessError:
        return False


def _empty(machine: Machine) -> None:
    """Remove the containers: an engine that ends leaves them to a process that outlives it."""
    with suppress(subprocess.SubprocessError):
        if containers := machine.docker("ps", "-aq").split():
            machine.docker("rm", "-f", *containers)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force where it does not follow."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_END_SECONDS)


def _remove_groups(name: str) -> None:
    for group in [*Path("/sys/fs/cgroup").glob(f"*/{name}"), *Path("/sys/fs/cgroup").glob(name)]:
        folders = sorted((path for path in group.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
        for folder in [*folders, group]:
            with suppress(OSError):
                folder.rmdir()


def _quietly(*command: str) -> None:
    with suppress(subprocess.SubprocessError):
        run(*command)
