"""One host per data folder: an exclusive lock on `host.lock`, held for as long as the folder is used."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared_schema.errors import Conflict, DumbwaiterError
from shared_schema.layout import DataLayout

_STEP_SECONDS = 0.05


class FolderInUse(Conflict):
    """Another process holds the lock."""


@contextmanager
def held(layout: DataLayout, *, wait_seconds: float) -> Iterator[None]:
    """Hold the lock. Waits that long for another process, because a command holds it for a moment only; blocks.

    Raises `FolderInUse` with the other's process id, `DumbwaiterError` when the lock file cannot be made.
    """
    try:
        descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DumbwaiterError(
            f"the data folder cannot be used: {error.strerror}", where=layout.data, hint="choose another with --data"
        ) from error
    try:
        _acquire(descriptor, layout, time.monotonic() + wait_seconds)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, layout: DataLayout, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
                raise FolderInUse(
                    f"the data folder is in use by process {owner}",
                    where=layout.data,
                    hint="stop the host that runs there, or choose another folder with --data",
                ) from None
            time.sleep(_STEP_SECONDS)
        else:
            return
