"""Agents in containers of an engine. It brings docker's client with it: import it when it is needed (150 ms).

Two invariants. The host's loop never waits for the engine: every call runs in a thread of this runtime and has a time
limit, after which it is `RuntimeUnavailable` though the thread may still wait. And no container is touched that does
not carry this install's label: other installs may use the same engine.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from host.runtime.accounts import AccountFiles
from host.runtime.engine_address import DEFAULT_URL, EngineAddress
from host.runtime.engine_client import CONFLICT, NOT_FOUND, EngineClient, EngineRefusal
from host.runtime.engine_facts import EngineFacts
from host.runtime.engine_gpus import is_about_gpus, refusal_of_gpus, try_gpus
from host.runtime.engine_images import build, build_layer, id_of, labels_of, remove_image
from host.runtime.exit_status import reason_of
from host.runtime.image_accounts import ImageAccounts
from host.runtime.image_names import how_to_build
from host.runtime.layers import BuiltLayer, LayerRequest
from host.runtime.living import LivingAgents
from host.runtime.podman import HOSTS, hint_for
from host.runtime.protocol import AgentHandle, AgentSpecification, AgentStatus, RuntimeUnavailable, StartFailed
from host.runtime.specification import (
    INSTALL_LABEL,
    NODE_LABEL,
    RELAY_LABEL,
    RUN_LABEL,
    SESSION_LABEL,
    container_arguments,
    relay_arguments,
    trial_arguments,
    way_name,
    with_account,
)
from host.runtime.waiting import BoundedThreads, ended_within
from shared_schema.dataclass import dataclass
from shared_schema.system_errors import words_of

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds. `probe` is also how long the first connection may take, by ssh `ssh`; `kill` how long a SIGKILL may."""

    probe: float = 2.0
    ssh: float = 15.0
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
        self._limits = limits or TimeLimits()
        self._first = self._limits.ssh if self.engine.is_ssh else self._limits.probe
        self._threads = BoundedThreads(threads, "docker")
        self._client = EngineClient(self.engine, self._limits.probe, self._limits.start)
        self._living_agents = LivingAgents(lambda: self._call(self._running))
        self._accounts = ImageAccounts(self._client, install_id)
        self._account_files = None if run_folder is None else AccountFiles(run_folder)

    # The seam

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        arguments = container_arguments(specification)
        way = specification.way
        relay = None if way is None else relay_arguments(specification, way)
        future = self._threads.submit(
            lambda: self._create_and_start(arguments, specification.uid, specification.gid, relay)
        )
        try:
            reference = await self._threads.result(future, self._limits.start)
        except (RuntimeUnavailable, asyncio.CancelledError):
            future.add_done_callback(lambda done: self._discard(done, relay))
            raise
        return AgentHandle(specification.run_id, specification.session_id, reference, specification.node)

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        for signal, seconds in (("SIGTERM", grace), ("SIGKILL", self._limits.kill)):
            if not await self._call(lambda signal=signal: self._kill(handle.reference, signal)):  # type: ignore[misc]
                return
            if await ended_within(self, handle, seconds):
                return
        raise RuntimeUnavailable(
            "the engine does not end a container",
            where=handle.session_id,
            hint=f"`docker rm -f {handle.reference[:12]}` ends it, or a restart of the engine does",
        )

    async def poll(self, handle: AgentHandle, max_age: float = 0.0) -> AgentStatus:
        if await self._living_agents.have(handle.reference, max_age):
            return AgentStatus(alive=True)
        return await self._call(lambda: self._status(handle.reference))

    async def list(self) -> list[AgentHandle]:
        return list(await self._call(self._containers))

    async def logs(self, handle: AgentHandle, max_bytes: int = 1_000_000) -> bytes:
        return await self._call(lambda: self._log_tail(handle.reference, max_bytes))

    async def remove(self, handle: AgentHandle) -> None:
        way = way_name(handle.run_id) if handle.node else None
        await self._call(lambda: self._remove(handle.reference, way))

    async def close(self) -> None:
        self._living_agents.close()
        self._threads.close()
        self._client.close()

    # What the choice of a runtime and the doctor ask

    async def engine_version(self) -> str:
        """The engine's version. Raises `RuntimeUnavailable`, within the probe limit where no engine answers."""
        await self._call(self._client.ping, self._first)
        return await self._call(self._version)

    async def facts(self) -> EngineFacts:
        """What the engine says of itself. Raises `RuntimeUnavailable`, within the probe limit where no engine answers:
        one that does answer may take longer to say all of it."""
        await self._call(self._client.ping, self._first)
        return await self._call(self._client.facts)

    async def living(self) -> int:
        """How many agents of all installs run there. Raises `RuntimeUnavailable` within the probe limit."""
        return await self._call(self._living, self._limits.probe)

    async def sees(self, folder: Path, image: str) -> bool:
        """Whether the engine finds a folder of this machine: one on another machine does not. Nothing is started."""
        return await self._call(lambda: self._sees(folder, image))

    async def try_container(self, image: str) -> None:
        """Make a container as agents need it, which is never started: podman lacks programs for it where docker brings
        its own. Raises `StartFailed` with what is missing."""
        await self._call(lambda: self._try_container(image))

    async def remove_stray_relays(self) -> None:
        """Remove what a host that was killed left beside no agent. Nothing may be starting. Raises as `list`."""
        await self._call(self._remove_stray_relays)

    async def run_once(
        self, image: str, folder: Path, arguments: Sequence[str], *, seconds: float = 30.0, writable: bool = False
    ) -> bytes:
        """What Python prints in a container that sees a folder as /mnt, read-only or not, and nothing else.

        Raises `RuntimeUnavailable`, `StartFailed` where the image is missing, or the folder.
        """
        return await self._call(lambda: self._run_once(image, folder, arguments, seconds, writable), seconds)

    async def require_gpus(self, count: int, image: str, labels: Mapping[str, str]) -> None:
        await self._call(lambda: try_gpus(self._client, image, count))

    async def image_labels(self, image: str) -> dict[str, str] | None:
        """The labels of an image; None when the engine has none of that name."""
        return await self._call(lambda: labels_of(self._client, image))

    async def build_image(self, tag: str, base_image: str, variant: str, context: Path) -> None:
        """Build `Dockerfile.agent` of a source checkout; the engine pulls a missing base image if it can.

        Raises `StartFailed` with the engine's reason.
        """
        await self._call(lambda: build(self._client, tag, base_image, variant, context), self._limits.build)

    async def image_id(self, image: str) -> str | None:
        return await self._call(lambda: id_of(self._client, image))

    async def build_layer(self, request: LayerRequest) -> BuiltLayer:
        return await self._call(lambda: build_layer(self._client, request), self._limits.build)

    async def remove_image(self, image: str) -> None:
        await self._call(lambda: remove_image(self._client, image))

    async def _call(self, function: Callable[[], _Result], limit: float | None = None) -> _Result:
        return await self._threads.call(function, self._limits.call if limit is None else limit)

    # In the threads

    def _discard(self, future: Future[str], relay: dict[str, Any] | None) -> None:
        """Remove what was begun of a start that was given up before it succeeded. (After `close` the next host adopts
        it.)"""
        if not future.cancelled() and future.exception() is None:
            reference, way = future.result(), None if relay is None else str(relay["name"])
            with contextlib.suppress(RuntimeError):
                self._threads.submit(lambda: self._remove(reference, way))

    def _remove(self, reference: str, way: str | None) -> None:
        self._client.remove_container(reference)
        if way is not None:
            self._client.remove_container(way)
            self._client.remove_volume(way)

    def _create_and_start(
        self, arguments: dict[str, Any], uid: int, gid: int, relay: dict[str, Any] | None = None
    ) -> str:
        reference = None
        try:
            arguments = self._with_user_name(arguments, uid, gid)
            if relay is not None:  # first: an agent that finds no way out works on without
                self._start_made(self._client.create(relay))
            reference = self._client.create(arguments)
            self._start_made(reference)
        except (RuntimeUnavailable, StartFailed) as error:
            if reference is not None:  # created and not started; what cannot be removed now is found by `list`
                with contextlib.suppress(RuntimeUnavailable):
                    self._client.remove_container(reference)
            if relay is not None:
                with contextlib.suppress(RuntimeUnavailable):
                    self._client.remove_container(str(relay["name"]))
                    self._client.remove_volume(str(relay["name"]))
            if not isinstance(error, EngineRefusal):
                raise
            image = str(arguments["image"])
            if reference is None and self._is_missing(image, error):
                raise StartFailed(f"the image '{image}' is missing", hint=how_to_build(image)) from error
            if "device_requests" in arguments and is_about_gpus(error.reason):
                raise refusal_of_gpus(error.reason) from error
            raise StartFailed(
                f"the engine refuses the agent: {error.reason}",
                hint=hint_for(error.reason) or "`dumbwaiter doctor` checks engine and image",
            ) from error
        return reference

    def _start_made(self, reference: str) -> None:
        with self._client.calling() as client:
            client.api.start(reference)

    def _is_missing(self, image: str, refusal: EngineRefusal) -> bool:
        """Whether an image is what was not found."""
        return refusal.status == NOT_FOUND and labels_of(self._client, image) is None

    def _with_user_name(self, arguments: dict[str, Any], uid: int, gid: int) -> dict[str, Any]:
        """The same container, with a name for its user."""
        if self._account_files is None:
            return arguments
        account = self._accounts.account(str(arguments["image"]), uid, gid)
        contents = dict(account.files) | ({"/etc/hosts": HOSTS} if self._client.is_podman else {})
        try:
            files = {at: self._account_files.keep(content) for at, content in contents.items()}
        except OSError as error:
            raise StartFailed(f"the file with the agent's user cannot be written: {words_of(error)}") from error
        return with_account(arguments, account.name, files)

    def _kill(self, reference: str, signal: str) -> bool:
        """Send a signal; False when there is nothing that lives."""
        try:
            with self._client.calling() as client:
                client.api.kill(reference, signal)
        except EngineRefusal as refusal:
            if refusal.status not in (NOT_FOUND, CONFLICT):  # CONFLICT: it does not run
                raise
            return False
        return True

    def _status(self, reference: str) -> AgentStatus:
        try:
            with self._client.calling() as client:
                state = client.api.inspect_container(reference)["State"]
        except EngineRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
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

    def _running(self) -> Set[str]:
        """The ids of this install's containers that run."""
        with self._client.calling() as client:
            found = client.api.containers(filters={"label": f"{INSTALL_LABEL}={self.install_id}"})
        return {str(container["Id"]) for container in found}

    def _containers(self) -> Sequence[AgentHandle]:
        with self._client.calling() as client:
            found = client.api.containers(all=True, filters={"label": f"{INSTALL_LABEL}={self.install_id}"})
        return [
            AgentHandle(labels[RUN_LABEL], labels[SESSION_LABEL], container["Id"], labels.get(NODE_LABEL, ""))
            for container in found
            if (labels := container["Labels"]).keys() >= {RUN_LABEL, SESSION_LABEL}
        ]

    def _remove_stray_relays(self) -> None:
        kept = {way_name(handle.run_id) for handle in self._containers()}
        with self._client.calling() as client:
            found = client.api.containers(all=True, filters={"label": f"{RELAY_LABEL}={self.install_id}"})
        for container in found:
            name = str(container["Names"][0]).lstrip("/")
            if name not in kept:
                self._client.remove_container(str(container["Id"]))
                self._client.remove_volume(name)

    def _run_once(self, image: str, folder: Path, arguments: Sequence[str], seconds: float, writable: bool) -> bytes:
        mount: Any = {"Type": "bind", "Source": str(folder), "Target": "/mnt", "ReadOnly": not writable}
        made = None
        try:
            made = self._client.create(
                {
                    "image": image,
                    "command": list(arguments),
                    "entrypoint": ["python3"],
                    "mounts": [mount],
                    "user": self._client.folder_user,
                    "network_mode": "none",
                    "use_config_proxy": False,
                }
            )
            with self._client.calling() as client:
                client.api.start(made)
                client.api.wait(made, timeout=int(seconds))
                return bytes(client.api.logs(made))
        except EngineRefusal as refusal:
            if refusal.status == NOT_FOUND and made is None and self._is_missing(image, refusal):
                raise StartFailed(f"the image '{image}' is missing", hint=how_to_build(image)) from refusal
            raise StartFailed(f"the engine refuses a container: {refusal.reason}") from refusal
        finally:
            if made is not None:
                with contextlib.suppress(RuntimeUnavailable):
                    self._client.remove_container(made)

    def _living(self) -> int:
        with self._client.calling() as client:
            return len(client.api.containers(filters={"label": RUN_LABEL}))

    def _log_tail(self, reference: str, max_bytes: int) -> bytes:
        """The engine keeps 10 MB of an agent's output at most (`specification.LOG_FILE_SIZE`), so this is bounded."""
        try:
            # A line has a byte at least. Podman's `tail` loses and swaps what was not written as a whole line.
            tail: Any = "all" if self._client.is_podman else max_bytes
            with self._client.calling() as client:
                output = bytes(client.api.logs(reference, tail=tail))
        except EngineRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return b""
        return output[-max_bytes:]

    def _version(self) -> str:
        with self._client.calling() as client:
            return str(client.api.version()["Version"])

    def _try_container(self, image: str) -> None:
        try:
            made = self._client.create(trial_arguments(image))
        except EngineRefusal as refusal:
            if refusal.status == NOT_FOUND and self._is_missing(image, refusal):
                raise StartFailed(f"the image '{image}' is missing", hint=how_to_build(image)) from refusal
            raise StartFailed(
                f"the engine refuses a container: {refusal.reason}", hint=hint_for(refusal.reason)
            ) from refusal
        self._client.remove_container(made)

    def _sees(self, folder: Path, image: str) -> bool:
        mount: Any = {"Type": "bind", "Source": str(folder), "Target": "/mnt", "ReadOnly": True}
        try:
            made = self._client.create({"image": image, "mounts": [mount], "network_mode": "none"})
        except EngineRefusal as refusal:
            if "bind" in refusal.reason:
                return False
            raise
        self._client.remove_container(made)
        return True
