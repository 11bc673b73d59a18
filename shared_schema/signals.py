"""The signals that end a process: all of them ask for the same orderly end.

A closed terminal sends SIGHUP, `Ctrl-\\` sends SIGQUIT, a failing power supply SIGPWR, a script any of them. What is
left out: SIGKILL cannot be caught; SIGSEGV and its like are faults of the program, after which nothing is orderly; and
SIGPIPE and SIGXFSZ arrive as errors of the call that caused them.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

_NAMES = (
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGTERM",
    "SIGUSR1",
    "SIGUSR2",
    "SIGALRM",
    "SIGVTALRM",
    "SIGPROF",
    "SIGIO",
    "SIGPWR",
    "SIGSTKFLT",
    "SIGXCPU",
)
# A signal that is ignored at the start stays ignored: `nohup` works that way. But shells ignore SIGINT for every
# `program &`, and people send it by hand all the same.
_NEVER_IGNORED = frozenset({signal.SIGINT, signal.SIGTERM})


def ending_signals() -> frozenset[int]:
    """Every signal of this system whose default is to end the process and that a program can act on in good order."""
    named = {int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name)}
    first, last = getattr(signal, "SIGRTMIN", None), getattr(signal, "SIGRTMAX", None)
    real_time = range(int(first), int(last) + 1) if first is not None and last is not None else range(0)
    return frozenset(named.union(real_time))


def end_with(loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> None:
    """Call `stop` at each of these signals that is not ignored. From the main thread."""
    loop.add_signal_handler(signal.SIGTERM, stop)  # from now on every signal wakes the loop

    def ask(number: int, frame: object) -> None:
        if not loop.is_closed():  # else it ends already
            loop.call_soon_threadsafe(stop)

    for number in ending_signals() - {signal.SIGTERM}:
        if number in _NEVER_IGNORED or signal.getsignal(number) is not signal.SIG_IGN:
            # Not `add_signal_handler`: it makes a list of all signals each time, a fifth of an agent's start.
            signal.signal(number, ask)
            signal.siginterrupt(number, False)  # as that does: no call of the system ends early
