"""Agents in containers of an engine. The only module that imports `docker`; import it when it is needed (150 ms).

Two invariants. The host's loop never waits for the engine: every call runs in a thread of this runtime and has a time
limit, after which it is `RuntimeUnavailable`, though the thread may still work. And no container is touched that does
not carry this install's label: other installs may share the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import posixpath
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.tls import TLSConfig
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from host.runtime.accounts import GROUP, PASSWD, Account, AccountFiles, account_in
from host.runtime.engine_access import how_to_get_in, how_to_start
from host.runtime.engine_address import DEFAULT_URL, Certificates, EngineAddress
from host.runtime.engine_facts import EngineFacts
from host.runtime.exit_status import reason_of
from host.runtime.image_names import how_to_build
from host.runtime.protocol import AgentHandle, AgentSpecification, AgentStatus, RuntimeUnavailable, StartFailed
from host.runtime.sources import digest
from host.runtime.specification import (
    HOME,
    INSTALL_LABEL,
    RUN_LABEL,
    SESSION_LABEL,
    accounts_arguments,
    container_arguments,
    with_account,
)
from host.runtime.waiting import BoundedThreads, ended_within

_Result = TypeVar("_Result")

_ANSWERS = frozenset({404, 409})
_MOST_LINKS = 8
_LARGEST_USERS_FILE = 4 * 1024**2  # bytes, of an image's /etc/passwd or /etc/group as a tar archive


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds. `probe` is also how long the first connection may take, `kill` how long a SIGKILL may."""

    probe: float = 2.0
    call: float = 15.0
    start: float = 60.0
    kill: float = 30.0
    build: float = 900.0


class DockerRuntime:
    """Runs each agent in a container of its own.

    `engine` is its address, as text (`unix:///…`, `tcp://…`) or with who named it; None for docker's default. Nothing
    is connected until the first call, and a lost connection is made anew by the next one. In `run_folder` it keeps the
    files that give users a name in their containers; without one they have the names that their image gives them.
    """

    name = "docker"

    def __init__(
        self,
        install_id: str,
        engine: EngineAddress | str | None = None,
        *,
        run_folder: Path | None = None,
        limits: TimeLimits | None = None,
        threads: int = 8,
    ) -> None:
        self.install_id = install_id
        self.engine = engine if isinstance(engine, EngineAddress) else EngineAddress(engine or DEFAULT_URL)
        self._url = str(self.engine)  # as errors name it
        self._limits = limits or TimeLimits()
        self._threads = BoundedThreads(threads, "docker")
        self._connection: docker.DockerClient | None = None
        self._account_files = None if run_folder is None else AccountFiles(run_folder)
        self._accounts: dict[tuple[str, int, int], Account] = {}  # by the id of an image, uid and gid
        self._looking_up_accounts = threading.Lock()

    # The seam

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        arguments = container_arguments(specification)
        future = self._threads.submit(lambda: self._create_and_start(arguments, specification.uid, specification.gid))
        try:
            reference = await self._threads.result(future, self._limits.start)
        except (RuntimeUnavailable, asyncio.CancelledError):
            future.add_done_callback(self._discard)
            raise
        return AgentHandle(specification.run_id, specification.session_id, reference)

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        for signal, seconds in (("SIGTERM", grace), ("SIGKILL", self._limits.kill)):
            if not await self._call(lambda signal=signal: self._kill(handle.reference, signal)):  # type: ignore[misc]
                return
            if await ended_within(self, handle, seconds):
                return
        raise RuntimeUnavailable("the engine does not end a container", where=handle.session_id)

    async def poll(self, handle: AgentHandle) -> AgentStatus:
        return await self._call(lambda: self._status(handle.reference))

    async def list(self) -> list[AgentHandle]:
        return list(await self._call(self._containers))

    async def logs(self, handle: AgentHandle, max_bytes: int = 1_000_000) -> bytes:
        return await self._call(lambda: self._log_tail(handle.reference, max_bytes))

    async def remove(self, handle: AgentHandle) -> None:
        await self._call(lambda: self._remove(handle.reference))

    async def close(self) -> None:
        self._threads.close()
        if self._connection is not None:
            self._connection.close()

    # What the choice of a runtime and the doctor ask

    async def engine_version(self) -> str:
        """The engine's version, within the probe limit. Raises `RuntimeUnavailable`."""
        return await self._call(lambda: str(self._client().api.version()["Version"]), self._limits.probe)

    async def facts(self) -> EngineFacts:
        """What the engine says of itself, within the probe limit. Raises `RuntimeUnavailable`."""
        return await self._call(self._facts, self._limits.probe)

    async def sees(self, folder: Path, image: str) -> bool:
        """Whether the engine finds a folder of this machine: one on another machine does not. Nothing is started."""
        return await self._call(lambda: self._sees(folder, image))

    async def image_labels(self, image: str) -> dict[str, str] | None:
        """The labels of an image; None when the engine has none of that name."""
        return await self._call(lambda: self._labels(image))

    async def build_image(self, tag: str, base_image: str, variant: str, context: Path) -> None:
        """Build `Dockerfile.agent` of a source checkout; the engine pulls a missing base image if it can.

        Raises `StartFailed` with the engine's reason.
        """
        await self._call(lambda: self._build(tag, base_image, variant, context), self._limits.build)

    async def _call(self, function: Callable[[], _Result], limit: float | None = None) -> _Result:
        return await self._threads.call(function, self._limits.call if limit is None else limit)

    # In the threads

    def _discard(self, future: Future[str]) -> None:
        """Remove a container whose start was given up before it succeeded. (After `close` the next host adopts it.)"""
        if not future.cancelled() and future.exception() is None:
            reference = future.result()
            with contextlib.suppress(RuntimeError):
                self._threads.submit(lambda: self._remove(reference))

    def _client(self) -> docker.DockerClient:
        """The connection; the first one finds out quickly whether an engine answers at all."""
        self._knock()
        if self._connection is None:
            with self._translated():
                made = docker.DockerClient(
                    base_url=self.engine.url,
                    version="auto",
                    timeout=max(1, int(self._limits.probe)),
                    tls=_tls(self.engine.tls) or False,
                )
            made.api.timeout = int(self._limits.start)
            if self._connection is None:
                self._connection = made
            else:
                made.close()
        return self._connection

    def _knock(self) -> None:
        """Raise when no engine listens; docker's client leaves a socket open for each time it finds none."""
        if self.engine.problem is not None:
            raise RuntimeUnavailable(self.engine.problem, where=self.engine.url, hint=self.engine.hint)
        path = self.engine.socket
        if path is None:
            return
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.settimeout(self._limits.probe)
            try:
                knocking.connect(str(path))
            except PermissionError as error:
                what = "this user may not use the engine"
                raise RuntimeUnavailable(what, where=self._url, hint=how_to_get_in(path)) from error
            except OSError as error:
                raise RuntimeUnavailable(
                    f"no engine answers: {error.strerror or error}",
                    where=self._url,
                    hint=how_to_start(self.engine.socket),
                ) from error

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """The errors of a call as ours. "There is none" and "not in this state" pass: they are answers."""
        try:
            yield
        except APIError as error:
            if error.status_code in _ANSWERS:
                raise
            raise RuntimeUnavailable(f"the engine fails: {error.explanation or error}", where=self._url) from error
        except (RequestException, HTTPError, DockerException) as error:
            raise RuntimeUnavailable(
                f"no engine answers: {error}", where=self._url, hint=how_to_start(self.engine.socket)
            ) from error

    def _create_and_start(self, arguments: dict[str, Any], uid: int, gid: int) -> str:
        client = self._client()
        reference = None
        try:
            arguments = self._named(arguments, uid, gid)
            reference = str(client.containers.create(**arguments).id)
            client.api.start(reference)
        except ImageNotFound as error:
            image = str(arguments["image"])
            raise StartFailed(f"the image '{image}' is missing", hint=how_to_build(image)) from error
        except (APIError, RequestException, HTTPError) as error:
            if reference is not None:  # created and not started; what cannot be removed now is found by `list`
                with contextlib.suppress(RuntimeUnavailable):
                    self._remove(reference)
            if isinstance(error, APIError):
                raise StartFailed(f"the engine refuses the agent: {error.explanation or error}") from error
            raise RuntimeUnavailable(f"the engine went away during a start: {error}", where=self._url) from error
        return reference

    def _named(self, arguments: dict[str, Any], uid: int, gid: int) -> dict[str, Any]:
        """The same container, with a name for its user."""
        if self._account_files is None:
            return arguments
        image = str(arguments["image"])
        account = self._account(image, uid, gid)
        try:
            files = {at: self._account_files.keep(content) for at, content in account.files.items()}
        except OSError as error:
            raise StartFailed(f"the file with the agent's user cannot be written: {error}") from error
        return with_account(arguments, account.name, files)

    def _account(self, image: str, uid: int, gid: int) -> Account:
        """What a user is called in an image; each image is looked into once. Raises `ImageNotFound`, `APIError`."""
        known = (str(self._client().images.get(image).id), uid, gid)  # a tag may be another image tomorrow
        with self._looking_up_accounts:  # many agents may start at once, and the container for it has one name
            if known not in self._accounts:
                passwd, group = self._files_of(image, (PASSWD, GROUP))
                self._accounts[known] = account_in(passwd, group, uid=uid, gid=gid, home=HOME)
            return self._accounts[known]

    def _files_of(self, image: str, paths: Sequence[str]) -> Sequence[bytes]:
        """Files of an image, read from a container that is never started."""
        create = self._client().containers.create
        arguments = accounts_arguments(image, self.install_id)
        try:
            container = str(create(**arguments).id)
        except APIError as error:
            if error.status_code != 409:
                raise
            self._remove(str(arguments["name"]))  # a host was killed between making and removing it
            container = str(create(**arguments).id)
        try:
            return [self._file_of(container, path) for path in paths]
        finally:
            self._remove(container)

    def _file_of(self, container: str, path: str) -> bytes:
        """A file of a container, empty when there is none; links are followed."""
        for _ in range(_MOST_LINKS):
            try:
                chunks, _ = self._client().api.get_archive(container, path)
            except NotFound:
                return b""
            packed = bytearray()
            for chunk in chunks:
                packed += chunk
                if len(packed) > _LARGEST_USERS_FILE:
                    raise StartFailed(f"{path} of the image is larger than {_LARGEST_USERS_FILE} bytes")
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                entry = archive.next()
                if entry is not None and entry.issym():
                    path = posixpath.join(posixpath.dirname(path), entry.linkname)
                    continue
                content = None if entry is None else archive.extractfile(entry)
                return b"" if content is None else content.read()
        raise StartFailed(f"{path} of the image is a link that leads to no file")

    def _kill(self, reference: str, signal: str) -> bool:
        """Send a signal; False when there is nothing that lives."""
        try:
            with self._translated():
                self._client().api.kill(reference, signal)
        except APIError:  # it does not exist, or it does not run
            return False
        return True

    def _status(self, reference: str) -> AgentStatus:
        try:
            with self._translated():
                state = self._client().api.inspect_container(reference)["State"]
        except NotFound:
            return AgentStatus(alive=False)
        if state["Running"]:
            return AgentStatus(alive=True)
        error = str(state.get("Error") or "")
        if state["Status"] == "created":
            return AgentStatus(alive=False, reason=error or "never started")
        exit_code = int(state["ExitCode"])
        return AgentStatus(
            alive=False,
            exit_code=exit_code,
            reason=reason_of(exit_code, out_of_memory=bool(state.get("OOMKilled")), error=error),
        )

    def _containers(self) -> Sequence[AgentHandle]:
        with self._translated():
            found = self._client().api.containers(all=True, filters={"label": f"{INSTALL_LABEL}={self.install_id}"})
        return [
            AgentHandle(labels[RUN_LABEL], labels[SESSION_LABEL], container["Id"])
            for container in found
            if (labels := container["Labels"]).keys() >= {RUN_LABEL, SESSION_LABEL}
        ]

    def _log_tail(self, reference: str, max_bytes: int) -> bytes:
        """The engine keeps 10 MB of an agent's output at most (`specification.LOG_FILE_SIZE`), so this is bounded."""
        try:
            with self._translated():
                output = bytes(self._client().api.logs(reference, tail=max_bytes))  # a line has a byte at least
        except NotFound:
            return b""
        return output[-max_bytes:]

    def _remove(self, reference: str) -> None:
        # NotFound: it is gone. Conflict: another client is removing it just now.
        with contextlib.suppress(APIError), self._translated():
            self._client().api.remove_container(reference, force=True, v=True)

    def _facts(self) -> EngineFacts:
        with self._translated():
            return EngineFacts.of(self._client().api.info())

    def _sees(self, folder: Path, image: str) -> bool:
        mount: Any = {"Type": "bind", "Source": str(folder), "Target": "/mnt", "ReadOnly": True}
        try:
            with self._translated():
                made = self._client().containers.create(image, mounts=[mount], network_mode="none")
        except RuntimeUnavailable as error:
            if isinstance(error.__cause__, APIError) and "bind" in str(error.__cause__.explanation):
                return False
            raise
        self._remove(str(made.id))
        return True

    def _labels(self, image: str) -> dict[str, str] | None:
        try:
            with self._translated():
                return dict(self._client().images.get(image).labels)
        except NotFound:
            return None

    def _build(self, tag: str, base_image: str, variant: str, context: Path) -> None:
        failure = None
        try:
            progress = self._client().api.build(
                path=str(context),
                dockerfile="Dockerfile.agent",
                tag=tag,
                buildargs={
                    "BASE_IMAGE": base_image,
                    "VARIANT": variant,
                    "VERSION": tag.rpartition(":")[2].removesuffix(f"-{variant}"),
                    "SOURCES": digest(context),
                },
                rm=True,
                forcerm=True,
                decode=True,
            )
            for line in progress:  # to the end, also after a failure: only then is the connection free again
                failure = line.get("error", failure)
        except DockerException as error:
            failure = str(error)
        except (RequestException, HTTPError) as error:
            raise RuntimeUnavailable(f"the engine went away during a build: {error}", where=self._url) from error
        if failure is not None:
            raise StartFailed(f"the image '{tag}' cannot be built: {failure.strip()}", hint=how_to_build(tag, context))


def _tls(certificates: Certificates | None) -> TLSConfig | None:
    if certificates is None:
        return None
    pair = None
    if certificates.certificate is not None and certificates.key is not None:
        pair = (str(certificates.certificate), str(certificates.key))
    authority = None if certificates.authority is None else str(certificates.authority)
    return TLSConfig(client_cert=pair, ca_cert=authority, verify=certificates.verify)
