"""Ending every process that a program has started, for good.

Programs start others in process groups and sessions of their own, so no group has them all. Two things hold: a
variable in the environment (the *mark*) is inherited, and a process that has shed it still descends from one that has
not.
Works where there is a `/proc`; elsewhere nothing is found.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterator

RUN = "DUMBWAITER_RUN"
"""The mark of one agent, in its environment and in that of all that it starts; the value is the id of its run."""

_ROUNDS = 50  # what is found anew after each killing was being started just then
_PAUSE_SECONDS = 0.01


def end_marked(name: str, value: str) -> None:
    """Kill all processes with this variable in their environment and all their descendants, but not this one.

    Returns when none is left, or after half a second; blocks for as long.
    """
    for _ in range(_ROUNDS):
        found = descendants(_marked(f"{name}={value}".encode()))
        if not kill(found):
            return
        time.sleep(_PAUSE_SECONDS)


def descendants(of: Collection[int]) -> set[int]:
    """Those processes that live, and of the others all that descend from them."""
    found = set(of)
    children: dict[int, list[int]] = {}
    living = set()
    for process in _processes():
        status = _status(process)
        if status is not None:
            children.setdefault(status[1], []).append(process)
            if status[0] not in "ZX":
                living.add(process)
    new = list(found)
    while new:
        new = [child for parent in new for child in children.get(parent, ()) if child not in found]
        found.update(new)
    return found & living


def kill(processes: Collection[int]) -> int:
    """Kill processes, but not this one; returns how many there were to kill."""
    count = 0
    for process in processes:
        if process == os.getpid():
            continue
        try:
            os.kill(process, signal.SIGKILL)
            count += 1
        except (ProcessLookupError, PermissionError):  # it is gone, or another user's
            continue
    return count


def _processes() -> Iterator[int]:
    try:
        names = os.listdir("/proc")
    except OSError:  # there is none
        return
    yield from (int(name) for name in names if name.isdigit())


def _status(process: int) -> tuple[str, int] | None:
    """State and parent (proc(5): behind the name, which may hold anything); None when it is gone."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            state, parent = file.read().rpartition(b")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return state.decode("ascii"), int(parent)


def _marked(mark: bytes) -> set[int]:
    """The processes with that in their environment. One that is dead, or not ours to read, has none."""
    found = set()
    for process in _processes():
        try:
            with open(f"/proc/{process}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.add(process)
        except OSError:
            continue
    return found
