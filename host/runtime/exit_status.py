"""Why an agent ended, in words. Pure; the same for every runtime."""

from __future__ import annotations

import signal

_SIGNALLED = 128  # a shell's (and docker's) exit code of a process ended by signal n is 128 + n


def exit_code_of(returncode: int) -> int:
    """Python's return code (-n for signal n) as docker counts it (128 + n)."""
    return _SIGNALLED - returncode if returncode < 0 else returncode


def reason_of(exit_code: int | None, *, out_of_memory: bool = False, error: str = "") -> str | None:
    """The reason for `AgentStatus`; None where an exit code says all there is (0, or the program's own)."""
    if exit_code == 0:
        return None
    if out_of_memory:
        return "out of memory"
    if error:
        return error
    if exit_code is None or exit_code <= _SIGNALLED:
        return None
    try:
        return f"ended by {signal.Signals(exit_code - _SIGNALLED).name}"
    except ValueError:
        return None
