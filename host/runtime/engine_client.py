"""The connection to a container engine, and its errors as ours. The only module that imports `docker`: import it when
it is needed (150 ms).

All of it blocks. Nothing is connected until the first call, and a lost connection is made anew by the next one.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import docker
from docker.errors import APIError, DockerException
from docker.tls import TLSConfig
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from host.runtime.engine_access import how_to_get_in, how_to_start
from host.runtime.engine_address import Certificates, EngineAddress
from host.runtime.protocol import RuntimeUnavailable
from shared_schema.system_errors import words_of

NOT_FOUND, CONFLICT = 404, 409


class EngineRefusal(RuntimeUnavailable):
    """The engine answers a call with an error: `status` is the HTTP status, `reason` its own words.

    A caller that knows what a status means for its call catches this. For all others the engine cannot be used.
    """

    def __init__(self, status: int, reason: str, where: str) -> None:
        super().__init__(f"the engine fails: {reason}", where=where)
        self.status = status
        self.reason = reason


class EngineClient:
    """Calls of one engine. `probe_seconds` is how long the first connection may take, `call_seconds` how long docker's
    client waits for one answer."""

    def __init__(self, address: EngineAddress, probe_seconds: float, call_seconds: float) -> None:
        self.address = address
        self._probe_seconds = probe_seconds
        self._call_seconds = call_seconds
        self._connection: docker.DockerClient | None = None

    @contextlib.contextmanager
    def calling(self) -> Iterator[docker.DockerClient]:
        """Docker's client, for calls inside the block, whose errors become `EngineRefusal` or `RuntimeUnavailable`."""
        try:
            yield self._connected()
        except APIError as error:
            reason = str(error.explanation or error)
            raise EngineRefusal(error.status_code or 0, reason, str(self.address)) from error
        except (RequestException, HTTPError, DockerException) as error:
            raise RuntimeUnavailable(
                f"no engine answers: {words_of(error)}", where=str(self.address), hint=how_to_start(self.address.socket)
            ) from error

    def remove_container(self, container: str) -> None:
        """Remove a container, whether it lives or not; one that is gone is no error."""
        try:
            with self.calling() as client:
                client.api.remove_container(container, force=True, v=True)
        except EngineRefusal as refusal:
            if refusal.status not in (NOT_FOUND, CONFLICT):  # CONFLICT: another call removes it just now
                raise

    def remove_volume(self, name: str) -> None:
        """Remove a volume; one that is gone, or still used, is no error."""
        try:
            with self.calling() as client:
                client.api.remove_volume(name)
        except EngineRefusal as refusal:
            if refusal.status not in (NOT_FOUND, CONFLICT):
                raise

    def close(self) -> None:
        """Release the connection."""
        if self._connection is not None:
            self._connection.close()

    def _connected(self) -> docker.DockerClient:
        """The connection; the first one finds out quickly whether an engine answers at all."""
        self._require_listener()
        if self._connection is None:
            made = docker.DockerClient(
                base_url=self.address.url,
                version="auto",
                timeout=max(1, int(self._probe_seconds)),
                tls=_tls(self.address.tls) or False,
                use_ssh_client=True,  # the system's ssh, with its keys and known hosts
            )
            made.api.timeout = int(self._call_seconds)
            if self._connection is None:
                self._connection = made
            else:  # another thread was quicker
                made.close()
        return self._connection

    def _require_listener(self) -> None:
        """Raise `RuntimeUnavailable` where no engine listens: docker's client leaves a socket open each time it finds
        none."""
        if self.address.problem is not None:
            raise RuntimeUnavailable(self.address.problem, where=self.address.url, hint=self.address.hint)
        path = self.address.socket
        if path is None:
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(self._probe_seconds)
            try:
                probe.connect(str(path))
            except PermissionError as error:
                what = "this user may not use the engine"
                raise RuntimeUnavailable(what, where=str(self.address), hint=how_to_get_in(path)) from error
            except OSError as error:
                what = f"no engine answers: {error.strerror or error}"
                raise RuntimeUnavailable(what, where=str(self.address), hint=how_to_start(path)) from error


def _tls(certificates: Certificates | None) -> TLSConfig | None:
    if certificates is None:
        return None
    pair = None
    if certificates.certificate is not None and certificates.key is not None:
        pair = (str(certificates.certificate), str(certificates.key))
    authority = None if certificates.authority is None else str(certificates.authority)
    return TLSConfig(client_cert=pair, ca_cert=authority, verify=certificates.verify)
