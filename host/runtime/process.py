"""Agents as plain processes of this machine, for where there is no engine. NO ISOLATION: an agent can do what its user
can.

The invariants. An agent gets nothing of the host's environment. A process is recorded on disk before it becomes the
agent, so that a restarted host finds every one, and is signalled only when id *and* start time are those of the record.
An agent that ended takes what it started with it, wherever that has gone, and leaves no zombie. Only a program that has
shed its environment *and* lost its parent *and* left the group is not found: `shared_schema/processes.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from host.runtime.accounts import AGENT_NAME
from host.runtime.exit_status import reason_of
from host.runtime.process_child import ChildProcess, signal_group
from host.runtime.process_identity import identity_of, is_alive
from host.runtime.process_record import ProcessRecord, RecordFolder
from host.runtime.process_user import ProcessUsers, python_path
from host.runtime.protocol import AgentHandle, AgentSpecification, AgentStatus, RuntimeUnavailable, StartFailed
from host.runtime.sources import SOURCE_ROOT
from host.runtime.waiting import ended_within
from shared_schema import processes
from shared_schema.system_errors import words_of

_KILL_SECONDS = 10.0

_Result = TypeVar("_Result")


class ProcessRuntime:
    """Runs each agent as a process in a session (process group) of its own.

    `run_folder` is `DataLayout.run`; `command` replaces the agent's program (a test's ten lines).
    """

    name = "process"

    def __init__(self, install_id: str, run_folder: Path, *, command: Sequence[str] | None = None) -> None:
        self._install_id = install_id
        self._records = RecordFolder(run_folder, install_id)
        self._command = None if command is None else list(command)
        self._users = ProcessUsers(SOURCE_ROOT)
        self._children: dict[str, ChildProcess] = {}
        self._adopted: set[str] = set()  # run ids of agents of another host process that were seen alive
        self._settled: set[str] = set()  # and of those that have ended, with what they had started
        self._lock = threading.Lock()  # of these two
        self._is_cleared = False  # of what a host left that was killed in the middle of a start

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        return await asyncio.to_thread(self._start, specification)

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILL_SECONDS)):
            await self._in_thread(self._signal, handle, number)
            if await ended_within(self, handle, seconds):
                return
        raise RuntimeUnavailable(f"process {handle.reference} does not end", where=handle.session_id)

    async def poll(self, handle: AgentHandle, max_age: float = 0.0) -> AgentStatus:
        return await self._in_thread(self._status, handle)

    async def list(self) -> list[AgentHandle]:
        return list(await self._in_thread(self._handles))

    async def logs(self, handle: AgentHandle, max_bytes: int = 1_000_000) -> bytes:
        return await self._in_thread(self._log_tail, handle, max_bytes)

    async def remove(self, handle: AgentHandle) -> None:
        await self.stop(handle, grace=0)
        await self._in_thread(self._forget, handle)

    async def close(self) -> None:
        """Nothing is held: the processes go on, and their records stay."""

    async def _in_thread(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """An error of the system says nothing of the agents: one that cannot be looked at is not dead."""
        try:
            return await asyncio.to_thread(function, *arguments)
        except OSError as error:
            raise RuntimeUnavailable(
                f"the processes of agents cannot be looked at: {words_of(error)}", where=self._records.path
            ) from error

    # In threads

    def _start(self, specification: AgentSpecification) -> AgentHandle:
        run_id = specification.run_id
        command, user, packages = self._command_and_user(specification)
        try:
            child = ChildProcess(
                command,
                run_id=run_id,
                environment=agent_environment(specification, packages),
                folder=specification.workspace,
                log=self._records.log(run_id),
                user=user,
                file_bytes=specification.limits.file_bytes,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise StartFailed(
                f"the process cannot be started: {words_of(error)}", where=specification.session_id
            ) from error
        self._children[run_id] = child
        try:
            identity = identity_of(child.pid) or "unknown"
            self._records.write(ProcessRecord(run_id, specification.session_id, self._install_id, child.pid, identity))
        except OSError as error:
            child.kill()
            del self._children[run_id]
            raise StartFailed(f"the process cannot be recorded: {words_of(error)}", where=self._records.path) from error
        child.go()
        return AgentHandle(run_id, specification.session_id, str(child.pid), specification.node)

    def _command_and_user(
        self, specification: AgentSpecification
    ) -> tuple[Sequence[str], tuple[int, int] | None, Path | None]:
        """The command, as whom to run it (None is the host's own user), and the libraries it is lent."""
        command = self._command or [sys.executable, "-m", "container_agent"]
        uid, gid = specification.uid, specification.gid
        if os.geteuid() != 0 or uid == 0:
            return command, None, None
        folders = (specification.folder.folder, specification.folder.out, specification.workspace)
        if self._command is None:
            found = self._users.interpreter(uid, gid, folders)
            program, packages = (None, None) if found is None else (found.program, found.packages)
        else:
            program, packages = self._users.program(command[0], uid, gid, folders), None
        return (command, None, None) if program is None else ([program, *command[1:]], (uid, gid), packages)

    def _signal(self, handle: AgentHandle, number: signal.Signals) -> None:
        record = self._records.read(handle.run_id)
        if record is not None and self._is_alive(record):
            if number == signal.SIGKILL:
                processes.end_marked(processes.RUN, record.run_id)  # the family first, while it has its parents
            if self._is_alive(record):
                signal_group(record.pid, number)

    def _status(self, handle: AgentHandle) -> AgentStatus:
        record = self._records.read(handle.run_id)
        if record is None:
            return AgentStatus(alive=False)
        if self._is_alive(record):
            return AgentStatus(alive=True)
        child = self._children.get(handle.run_id)
        exit_code = None if child is None else child.exit_code
        return AgentStatus(alive=False, exit_code=exit_code, reason=reason_of(exit_code))

    def _is_alive(self, record: ProcessRecord) -> bool:
        """Whether the agent lives; of one that is seen to have ended, what it started is ended, once."""
        if (child := self._children.get(record.run_id)) is not None:
            return not child.has_ended()
        with self._lock:
            alive = is_alive(record.pid, record.create_time)
            if alive:
                self._adopted.add(record.run_id)
            elif record.run_id not in self._settled:
                self._settled.add(record.run_id)
                processes.end_marked(processes.RUN, record.run_id)
                # Just after its end alone: a group's number is given to no new process while the group has members.
                if record.run_id in self._adopted and not psutil.pid_exists(record.pid):
                    signal_group(record.pid, signal.SIGKILL)
            return alive

    def _handles(self) -> Sequence[AgentHandle]:
        """The first one comes before anything is started: a host begins with it."""
        if not self._is_cleared:
            self._is_cleared = True
            self._records.clear_unrecorded()
        records = list(self._records.all())
        for record in records:
            self._is_alive(record)
        return [AgentHandle(record.run_id, record.session_id, str(record.pid)) for record in records]

    def _log_tail(self, handle: AgentHandle, max_bytes: int) -> bytes:
        try:
            with self._records.log(handle.run_id).open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(0, size - max_bytes))
                return log.read(max_bytes)
        except FileNotFoundError:
            return b""

    def _forget(self, handle: AgentHandle) -> None:
        self._children.pop(handle.run_id, None)
        with self._lock:
            self._adopted.discard(handle.run_id)
            self._settled.discard(handle.run_id)
        self._records.forget(handle.run_id)


def agent_environment(specification: AgentSpecification, packages: Path | None = None) -> dict[str, str]:
    """The whole environment of an agent without a container: what the specification says and what any program needs.

    Nothing is inherited. The home folder is the workspace, not the host user's, where credentials lie.
    """
    return {
        **specification.environment,
        processes.RUN: specification.run_id,
        "DUMBWAITER_SESSION": str(specification.folder.folder),
        "DUMBWAITER_WORKSPACE": str(specification.workspace),
        "HOME": str(specification.workspace),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin")),
        "LANG": "C.UTF-8",
        "USER": AGENT_NAME,
        "LOGNAME": AGENT_NAME,
        "TZ": "UTC",
        "PYTHONPATH": python_path(SOURCE_ROOT, packages),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
