"""One process that this host started, from its start until it was waited for.

The invariant: a child is waited for here and nowhere else, and only after all that it has started was killed: its
process group, while the group's number cannot yet mean another one, and every process that has left that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from host.runtime.exit_status import exit_code_of
from shared_schema import processes

_BLOCK = 512  # bytes; the unit of POSIX's `ulimit -f`
_WITH_LIMIT = ("/bin/sh", "-c", 'read -r go && ulimit -f "$0" && exec "$@" </dev/null')
"""Waits for a line, limits itself, then becomes the command: the same process id, and no Python code before exec."""


class ChildProcess:
    """Starts a process in a session and process group of its own. Raises `OSError` or `SubprocessError`.

    It becomes the command with `go`, and ends if this host dies before: so that no agent runs that is not on record.
    `user` is (uid, gid), None for the host's own; `file_bytes` bounds the largest file it can write, its log included.
    `run_id` is in the environment as `processes.RUN`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        run_id: str,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        user: tuple[int, int] | None,
        file_bytes: int,
    ) -> None:
        if not os.access(command[0], os.X_OK):
            raise FileNotFoundError(f"'{command[0]}' cannot be executed")
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*_WITH_LIMIT, str(max(1, file_bytes // _BLOCK)), *command],
                env=environment,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=None if user is None else user[0],
                group=None if user is None else user[1],
                extra_groups=None if user is None else [],
            )
        process.returncode = 0  # it is waited for below; `subprocess` would do it at some moment of its own choice
        assert process.stdin is not None
        self._gate = process.stdin
        self._run_id = run_id
        self.pid = process.pid
        self.exit_code: int | None = None
        self._ended = False
        self._lock = threading.Lock()

    def go(self) -> None:
        """Let it become the command."""
        with contextlib.suppress(BrokenPipeError), self._gate:  # it may have been killed
            self._gate.write(b"go\n")

    def has_ended(self) -> bool:
        """Whether it ended; if so, `exit_code` is set, what it started is gone, and it is no zombie any more."""
        with self._lock:
            if not self._ended and self._is_zombie():
                self._end_family()
                self._wait(0)
            return self._ended

    def kill(self) -> None:
        """End it and all that it started now, and wait for it."""
        with self._lock, self._gate:
            if not self._ended:
                self._end_family()
                self._wait(0)

    def _end_family(self) -> None:
        """Kill it, if it lives, and all that it started; first what has left its group, while that has its parents."""
        processes.end_marked(processes.RUN, self._run_id)
        signal_group(self.pid, signal.SIGKILL)

    def _is_zombie(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            self._wait(os.WNOHANG)
            return self._ended
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _wait(self, options: int) -> None:
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:  # it was waited for already
            self._ended = True
            return
        if pid == self.pid:
            self._ended = True
            self.exit_code = exit_code_of(os.waitstatus_to_exitcode(status))


def signal_group(group: int, number: signal.Signals) -> None:
    """Signal a process group, if it exists."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
