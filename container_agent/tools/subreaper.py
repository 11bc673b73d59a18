"""The process above a command of `bash`, which has all that the command starts beneath it, and ends it.

It adopts every process that loses its parent, so none gets away: not by a session of its own, not by an empty
environment. It ends all when the agent closes its standard input, which an agent also does by dying; and leaves when
nothing is left.
Run by `program.py`; needs Linux to adopt and to find, elsewhere it ends the command's process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time

from shared_schema import processes

_PR_SET_CHILD_SUBREAPER = 36
_PAUSE_SECONDS = 0.01


def run(output: int, command: list[str]) -> None:
    """Start a command that prints to a descriptor, print its exit status (-n for signal n), stay until all is gone."""
    _adopt()
    child = _begin(output, command)
    os.close(output)
    is_over = False

    def reap(*_: object) -> None:
        nonlocal is_over
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(0)
            if process == 0:
                return
            if process == child:
                is_over = True
                with contextlib.suppress(BrokenPipeError):
                    os.write(1, b"%d\n" % os.waitstatus_to_exitcode(status))

    signal.signal(signal.SIGCHLD, reap)
    reap()  # what ended before that
    os.read(0, 1)
    while True:
        if not is_over:  # else the number may mean another group
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
        processes.kill(processes.descendants({os.getpid()}))
        time.sleep(_PAUSE_SECONDS)


def _begin(output: int, command: list[str]) -> int:
    """The command's process, in a group of its own, with nothing to read and nothing of ours held open."""
    child = os.fork()
    if child != 0:
        return child
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.set_inheritable(output, False)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
            signal.signal(number, signal.SIG_DFL)
        os.execv(command[0], command)
    finally:
        os._exit(127)


def _adopt() -> None:
    """Become the parent of all orphans beneath."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
