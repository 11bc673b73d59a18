"""A machine whose engine is reached over the network: by TCP with TLS, and by ssh."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from host.runtime.engine_address import EngineAddress, of_node
from tests.cluster.machines import Machines, lacks, run
from tests.support.wait import until_sync

ENGINE = "10.99.8.1"
TLS_PORT = 2376


@dataclass
class Remote:
    """The machine. `tls` and `ssh` are its engine's addresses; the files of TLS and of ssh lie in `folder`."""

    folder: Path
    ssh_port: int

    @property
    def url(self) -> str:
        return f"tcp://{ENGINE}:{TLS_PORT}"

    def tls(self, *, authority: str = "ca", certificate: str | None = "client") -> EngineAddress:
        """Its address, with these files."""
        key = None if certificate is None else self.folder / f"{certificate}-key.pem"
        ours = None if certificate is None else self.folder / f"{certificate}.pem"
        found = of_node("far", self.url, certificate=ours, key=key, authority=self.folder / f"{authority}.pem")
        return found

    @property
    def ssh(self) -> EngineAddress:
        return of_node("far", f"ssh://root@127.0.0.1:{self.ssh_port}")

    def command(self, key: str = "key", known: str = "known") -> Path:
        """A folder with an `ssh` that has this key and these known hosts, for PATH."""
        folder = self.folder / f"bin-{key}-{known}"
        folder.mkdir(exist_ok=True)
        options = (
            f"-F none -i {self.folder}/{key} -o IdentitiesOnly=yes -o IdentityAgent=none "
            f"-o UserKnownHostsFile={self.folder}/{known} -o GlobalKnownHostsFile=none -o StrictHostKeyChecking=yes"
        )
        (folder / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {options} "$@"\n')
        (folder / "ssh").chmod(0o755)
        return folder


@contextmanager
def a_remote(*images: str) -> Iterator[Remote]:
    """A machine with these images; tests are skipped where there can be none."""
    missing = [name for name in ("openssl", "ssh", "ssh-keygen") if shutil.which(name) is None]
    if (why := lacks()) is not None or missing or not Path("/usr/sbin/sshd").exists():
        pytest.skip(why or f"an engine far away needs sshd, {', '.join(missing)}")
    with ExitStack() as undo:
        folder = Path(tempfile.mkdtemp(prefix="dwr-", dir="/tmp"))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        _make_certificates(folder)
        machines = Machines(
            1,
            f"--host tcp://{ENGINE}:{TLS_PORT} --tlsverify --tlscacert {folder}/ca.pem "
            f"--tlscert {folder}/server.pem --tlskey {folder}/server-key.pem",
        )
        undo.callback(machines.down)
        machines.up()
        archive = folder / "images.tar"
        run("docker", "save", "-o", str(archive), *images)
        machines.machines[0].docker("load", "-q", "-i", str(archive))
        archive.unlink()
        found = Remote(folder, _free_port())
        _make_keys(found)
        configuration = folder / "sshd_config"
        configuration.write_text(
            f"Port {found.ssh_port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPermitRootLogin prohibit-password\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"SetEnv DOCKER_HOST={machines.machines[0].docker_host}\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd puts a process that it takes all rights from
        server = machines.start("sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", str(configuration)])
        until_sync(lambda: server.poll() is None and _listens(found.ssh_port), "sshd listens", 60)
        yield found


def _make_certificates(folder: Path) -> None:
    """Two authorities. The first one signs for the engine and for the host, the other one for a stranger."""
    for authority in ("ca", "other-ca"):
        _certificate(folder, authority)
    _certificate(folder, "server", "ca", f"subjectAltName=IP:{ENGINE}")
    _certificate(folder, "client", "ca", "extendedKeyUsage=clientAuth")
    _certificate(folder, "stranger", "other-ca", "extendedKeyUsage=clientAuth")


def _certificate(folder: Path, name: str, authority: str | None = None, extension: str | None = None) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-keyout", f"{folder}/{name}-key.pem"]
    command += ["-out", f"{folder}/{name}.pem"]
    if authority is not None:
        command += ["-CA", f"{folder}/{authority}.pem", "-CAkey", f"{folder}/{authority}-key.pem"]
    if extension is not None:
        command += ["-addext", extension]
    run(*command)


def _make_keys(found: Remote) -> None:
    """A key of the machine, one that it accepts and one that it does not, and three files of known hosts."""
    folder = found.folder
    for name in ("host", "other-host", "key", "other-key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    (folder / "authorized").write_text((folder / "key.pub").read_text())
    for file, key in (("known", "host"), ("changed", "other-host")):
        (folder / file).write_text(f"[127.0.0.1]:{found.ssh_port} {(folder / f'{key}.pub').read_text()}")
    (folder / "unknown").write_text("")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.settimeout(1)
        probe.connect(("127.0.0.1", port))
        return True
    return False
