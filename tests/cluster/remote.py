"""A machine whose engine is reached over the network: by TCP with TLS."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from host.runtime.engine_address import EngineAddress, of_node
from tests.cluster.machines import Machines, lacks, run

ENGINE = "10.99.8.1"
TLS_PORT = 2376


@dataclass
class Remote:
    """The machine. The files of TLS lie in `folder`."""

    folder: Path

    @property
    def url(self) -> str:
        return f"tcp://{ENGINE}:{TLS_PORT}"

    def tls(self, *, authority: str = "ca", certificate: str | None = "client") -> EngineAddress:
        """Its address, with these files."""
        key = None if certificate is None else self.folder / f"{certificate}-key.pem"
        ours = None if certificate is None else self.folder / f"{certificate}.pem"
        found = of_node("far", self.url, certificate=ours, key=key, authority=self.folder / f"{authority}.pem")
        return found


@contextmanager
def a_remote(*images: str) -> Iterator[Remote]:
    """A machine with these images; tests are skipped where there can be none."""
    missing = [name for name in ("openssl",) if shutil.which(name) is None]
    if (why := lacks()) is not None or missing:
        pytest.skip(why or f"an engine far away needs {', '.join(missing)}")
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
        yield Remote(folder)


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
