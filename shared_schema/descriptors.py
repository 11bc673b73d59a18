"""Descriptors of session files, opened without waiting and shared with the SQLite connections of this process.

Two rules of POSIX make this necessary:

- An open can wait. The owner of a file may hold a *lease* on it (fcntl(2), F_SETLEASE), and an open then waits up
  to 45 s until the owner gives it up. SQLite opens that way. So a file is opened here first, without waiting, and
  stays open for as long as SQLite has it: meanwhile no process can take a lease that would make SQLite wait.
- A close drops locks. Closing *any* descriptor of a file drops all locks that the process holds on it (fcntl(2)),
  also those of SQLite connections in other threads. So the descriptors of a file are shared, and closed when its last
  user in this process leaves.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path

from shared_schema.dataclass import dataclass
from shared_schema.errors import FileBusy, FileDamaged, FileTrouble
from shared_schema.system_errors import words_of

_FLAGS = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# Trouble of the machine. All other errors of an open, a link or a read are something that the owner of the file can
# cause: modes, links, leases, names, sizes.
_OF_THE_MACHINE = frozenset(
    {
        errno.EIO,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ENODEV,
        errno.ETIMEDOUT,
        errno.EINTR,
    }
)

_Key = tuple[int, int]


@dataclass(slots=True)
class _Shared:
    """The descriptors of one file, by whether they can write, and how many use the file now."""

    users: int = 0
    by_mode: dict[bool, int] = field(default_factory=dict)
    more: list[int] = field(default_factory=list)  # two threads opened it at the same moment


class HeldFile:
    """A file that is held open. `descriptor` may be read from with `pread` until `release`; do not close it."""

    def __init__(self, key: _Key, descriptor: int) -> None:
        self._key: _Key | None = key
        self.descriptor = descriptor

    def release(self) -> None:
        """Give it back. Callable more than once."""
        key, self._key = self._key, None
        if key is not None:
            _release(key)


_lock = threading.Lock()
_files: dict[_Key, _Shared] = {}


def hold(name: str | Path, *, write: bool = False, folder: int | None = None, follow: bool = False) -> HeldFile:
    """Open a file without waiting, or share the descriptor that is open already. Raises `OSError`.

    `folder` is an open folder that the name is below; a link is followed only with `follow`. `BlockingIOError` says
    that another process holds a lease. Asking makes the kernel take the lease from it, after 45 s at most.
    """
    status = os.stat(name, dir_fd=folder, follow_symlinks=follow)
    if (joined := _join((status.st_dev, status.st_ino), write)) is not None:
        return joined
    flags = (os.O_RDWR if write else os.O_RDONLY) | (0 if follow else os.O_NOFOLLOW) | _FLAGS
    descriptor = os.open(name, flags, dir_fd=folder)
    status = os.fstat(descriptor)  # of what was opened: the name may mean something else by now
    key = (status.st_dev, status.st_ino)
    with _lock:
        shared = _files.setdefault(key, _Shared())
        shared.users += 1
        if shared.by_mode.setdefault(write, descriptor) != descriptor:
            shared.more.append(descriptor)  # not closed here: that would drop the locks of the other one
    return HeldFile(key, descriptor)


@contextmanager
def held(name: str | Path, *, write: bool = False, folder: int | None = None) -> Iterator[int]:
    """`hold` for as long as the block lasts; the descriptor."""
    file = hold(name, write=write, folder=folder)
    try:
        yield file.descriptor
    finally:
        file.release()


def trouble(error: OSError, what: str, where: str | Path | None, *, of_agent: bool = False) -> FileTrouble:
    """An error of the system as ours: `what` says what was attempted, `of_agent` that an agent owns the file.

    What the owner of a file can cause is `FileDamaged`: it is not the machine's trouble and waiting does not help.
    """
    reason = words_of(error)
    if isinstance(error, BlockingIOError):
        return FileBusy(f"{what}: another program holds it (a lease)", where=where)
    kind = FileDamaged if of_agent and error.errno not in _OF_THE_MACHINE else FileTrouble
    return kind(f"{what}: {reason}", where=where)


def _join(key: _Key, write: bool) -> HeldFile | None:
    with _lock:
        shared = _files.get(key)
        if shared is None or write not in shared.by_mode:
            return None
        shared.users += 1
        return HeldFile(key, shared.by_mode[write])


def _release(key: _Key) -> None:
    with _lock:  # no thread may join a file between the count and the close
        shared = _files[key]
        shared.users -= 1
        if shared.users == 0:
            del _files[key]
            for descriptor in (*shared.by_mode.values(), *shared.more):
                os.close(descriptor)
