"""The connection to a container engine, and its errors as ours. The only module that imports `docker`: import it when
it is needed (150 ms).

All of it blocks. Nothing is connected until the first call, and a lost connection is made anew by the next one.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException
from docker.tls import TLSConfig
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from host.runtime.engine_access import how_to_get_in, how_to_start
from host.runtime.engine_address import Certificates, EngineAddress
from host.runtime.engine_facts import EngineFacts
from host.runtime.engine_refusals import refusal_of_tls
from host.runtime.engine_ssh import require_ssh
from host.runtime.podman import KEEP_USER, HardLimits, as_podman_takes, bind_sources
from host.runtime.protocol import RuntimeUnavailable
from shared_schema.system_errors import words_of

BAD_REQUEST, NOT_FOUND, CONFLICT = 400, 404, 409
_LARGEST_ID = Path("/proc/sys/kernel/pid_max")


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
        self._connection: _Client | None = None
        self._rootless: bool | None = None  # of podman: known from the first container on

    @contextlib.contextmanager
    def calling(self) -> Iterator[docker.DockerClient]:
        """Docker's client, for calls inside the block, whose errors become `EngineRefusal` or `RuntimeUnavailable`."""
        try:
            yield self._connected()
        except APIError as error:
            reason = str(error.explanation or error)
            self._require_tls(reason, error)
            raise EngineRefusal(error.status_code or 0, reason, str(self.address)) from error
        except (RequestException, HTTPError, DockerException) as error:
            if self.address.is_ssh:
                self.close()  # the next call asks ssh why
            self._require_tls(_with_answer(error), error)
            raise RuntimeUnavailable(
                f"no engine answers: {words_of(error)}", where=str(self.address), hint=how_to_start(self.address.socket)
            ) from error

    def ping(self) -> None:
        """Return once the engine has answered. Raises `RuntimeUnavailable`."""
        with self.calling() as client:
            client.api.ping()

    @property
    def is_podman(self) -> bool:
        """Whether the engine is podman. Raises `RuntimeUnavailable`."""
        with self.calling():
            return self._connection is not None and self._connection.api.is_podman

    def facts(self) -> EngineFacts:
        """What the engine says of itself: podman takes two seconds to say it."""
        with self.calling() as client:
            return EngineFacts.of(client.api.info(), socket_owner=self.address.owner)

    def create(self, arguments: Mapping[str, Any]) -> str:
        """Create a container; its id. `arguments` are those of docker-py's `containers.create`."""
        if self.is_podman:
            arguments = as_podman_takes(arguments, _hard_limits(), is_rootless=self._is_rootless())
            for source in bind_sources(arguments):
                if not os.path.lexists(source):
                    raise EngineRefusal(BAD_REQUEST, f"bind source path does not exist: {source}", str(self.address))
        with self.calling() as client:
            return str(client.containers.create(**arguments).id)

    @property
    def folder_user(self) -> str:
        """Who may read the host's folders in a container: root, and in a rootless podman its own user."""
        if self.is_podman and self._is_rootless():
            owner = os.geteuid() if self.address.owner is None else self.address.owner
            return f"{owner}:{owner}"
        return "0:0"

    def _is_rootless(self) -> bool:
        if self._rootless is None:
            self._rootless = self.facts().is_rootless
            assert self._connection is not None
            self._connection.api.user_namespace = KEEP_USER if self._rootless else None
        return self._rootless

    def _require_tls(self, words: str, error: Exception) -> None:
        """Raise `RuntimeUnavailable` with a sentence where TLS is the reason."""
        if self.address.socket is not None or self.address.is_ssh:
            return
        # One that has answered and ends a connection is restarted, or has gone.
        is_first = self._connection is None
        refusal = refusal_of_tls(words, is_tls=is_first and self.address.tls is not None)
        if refusal is not None:
            raise RuntimeUnavailable(refusal.what, where=str(self.address), hint=refusal.hint) from error

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
        """Release the connection; the next call makes another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):  # docker's client says goodbye to an ssh that has ended
                connection.close()

    def _connected(self) -> docker.DockerClient:
        """The connection; the first one finds out quickly whether an engine answers at all."""
        self._require_listener()
        if self._connection is None:
            if self.address.is_ssh:
                require_ssh(self.address.url, str(self.address), self._probe_seconds)
            made = _Client(
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
                what = f"no engine answers: {words_of(error)}"
                raise RuntimeUnavailable(what, where=str(self.address), hint=how_to_start(path)) from error


class _Api(docker.APIClient):
    """Docker's client, but for two things that podman needs. It asks for the version of the API with a ping, as the
    docker command line does: podman takes up to two seconds for /version. And it lets a user namespace through."""

    is_podman = False
    user_namespace: str | None = None

    def _retrieve_server_version(self) -> str:
        answer = self.get(f"{self.base_url}/_ping", timeout=self.timeout)
        answer.raise_for_status()
        self.is_podman = "Libpod-Api-Version" in answer.headers
        return answer.headers.get("Api-Version") or super()._retrieve_server_version()  # type: ignore[misc]

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Requests lets REQUESTS_CA_BUNDLE win over the authority that is given for this engine."""
        verify = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def create_container_from_config(self, config: Any, name: Any = None, platform: Any = None) -> Any:
        if self.user_namespace is not None:
            config["HostConfig"]["UsernsMode"] = self.user_namespace  # docker's client knows `host` alone
        return super().create_container_from_config(config, name, platform)  # type: ignore[no-untyped-call]


class _Client(docker.DockerClient):
    api: _Api

    def __init__(self, **options: Any) -> None:
        self.api = _Api(**options)


def _with_answer(error: Exception) -> str:
    """What an error says, with what the engine answered: it tells someone who speaks no TLS that it wants it."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, RequestException):
        found = found.__cause__
    answer = None if found is None else found.response
    return str(error) if answer is None else f"{error} {answer.text[:500]}"


def _hard_limits() -> HardLimits:
    """Those of this process, which stand for those of an engine on this machine. Podman's own limit of processes is
    never above the largest process id."""
    files, processes = (resource.getrlimit(each)[1] for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC))
    with contextlib.suppress(OSError, ValueError):
        largest = int(_LARGEST_ID.read_text())
        processes = largest if processes < 0 else min(processes, largest)
    return HardLimits(files, processes)


def _tls(certificates: Certificates | None) -> TLSConfig | None:
    if certificates is None:
        return None
    pair = None
    if certificates.certificate is not None and certificates.key is not None:
        pair = (str(certificates.certificate), str(certificates.key))
    authority = None if certificates.authority is None else str(certificates.authority)
    return TLSConfig(client_cert=pair, ca_cert=authority, verify=certificates.verify)
