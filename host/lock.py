"""One host per data folder, and one host per install.

`held` takes exclusive locks on `host.lock` and on the folder itself, for as long as the folder is used. Both belong to
the kernel's inodes, so a bind mount or a link leads to the same lock, and the folder's cannot be lost with the file.
Where a second path leads to other inodes (an overlay, a copy of the whole disk), `claimed` still finds the first host
of this machine: by the install's id, in a name that the kernel gives to one process at a time. Where other machines
see the folder as well, locks may end at each of them: there `held` takes a lease too (`lease.py`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from host import lease
from host.lease import Lease
from host.lease_rules import Timing
from shared_schema.errors import Conflict, DumbwaiterError
from shared_schema.layout import DataLayout
from shared_schema.system_errors import words_of

_STEP_SECONDS = 0.05
_NO_LOCKS = frozenset({errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""What a file system says that does not lock folders; NFS wants one that is open for writing. `host.lock` is left, and
where the file system locks nothing at all the lease."""
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): process, user, group


class FolderInUse(Conflict):
    """Another process holds the lock."""


@contextmanager
def held(
    layout: DataLayout, *, wait_seconds: float, timing: Timing | None = None, is_first_try: bool = True
) -> Iterator[Lease | None]:
    """Hold the locks, and the lease where the folder may be shared. Blocks.

    Waits that long for another process, because a command holds them for a moment only. Raises `FolderInUse` with the
    other's process id, `LeaseHeld` with the other machine, `DumbwaiterError` when the lock file cannot be made.
    """
    opened: list[int] = []
    try:
        opened.append(os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        opened.append(os.open(layout.data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        for descriptor in opened:
            os.close(descriptor)
        raise DumbwaiterError(
            f"the data folder cannot be used: {words_of(error)}", where=layout.data, hint="choose another with --data"
        ) from error
    file, folder = opened
    try:
        deadline = time.monotonic() + wait_seconds
        wants_lease = lease.is_wanted(layout.data, shared=layout.shared)
        is_locked = _acquire(file, file, layout, deadline)
        if not is_locked and not wants_lease:
            raise DumbwaiterError(
                "the file system has no locks, so that two hosts could serve the data folder",
                where=layout.data,
                hint="choose a folder elsewhere with --data, or set shared = true in dumbwaiter.toml there",
            )
        _acquire(folder, file, layout, deadline)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        taken = None
        if wants_lease:
            taken = lease.take(layout.lease, is_locked=is_locked, timing=timing, is_first_try=is_first_try)
        try:
            yield taken
        finally:
            if taken is not None:
                taken.release()
    finally:
        for descriptor in opened:
            os.close(descriptor)


@contextmanager
def claimed(install_id: str, layout: DataLayout, *, wait_seconds: float) -> Iterator[None]:
    """Be the one process of this machine that serves an install. Waits and blocks as `held`.

    It is an abstract Unix socket, which goes with its process. Without them (not Linux) this does nothing. Raises
    `FolderInUse`.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    deadline = time.monotonic() + wait_seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        while True:
            try:
                claim.bind(f"\0dumbwaiter-{install_id}")
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise DumbwaiterError(f"the install cannot be claimed: {words_of(error)}") from error
            if time.monotonic() >= deadline:
                claimant = _claimant(install_id)
                raise FolderInUse(
                    f"the install {install_id} is served from another folder, by process {claimant}",
                    where=layout.data,
                    hint=_one_of_two(claimant, layout),
                )
            time.sleep(_STEP_SECONDS)
        claim.listen(1)  # so that others can ask who it is
        yield


def _one_of_two(claimant: str, layout: DataLayout) -> str:
    """What a person may do. A copy of a whole disk has the disk's numbers, so `--copy` needs a copy of the folder."""
    stop = f" (`kill {claimant}`)" if claimant.isdecimal() else ""
    copy = layout.data.with_name(f"{layout.data.name}-copy")
    make = shlex.join(["cp", "-a", str(layout.data), str(copy)])
    run = shlex.join(["dumbwaiter", "run", "--data", str(copy), "--copy"])
    return f"stop that host{stop}, or make a second install of this folder: `{make} && {run}`"


def _claimant(install_id: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, suppress(OSError):
        asking.settimeout(_STEP_SECONDS)
        asking.connect(f"\0dumbwaiter-{install_id}")
        of_peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return str(_CREDENTIALS.unpack(of_peer)[0])
    return "unknown"


def is_held(layout: DataLayout) -> bool:
    """Whether another process uses the folder. Locks are taken shared and for an instant, and stop no host."""
    for path, flags in ((layout.lock, os.O_RDONLY), (layout.data, os.O_RDONLY | os.O_DIRECTORY)):
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            continue
        finally:
            os.close(descriptor)
    return False


def _acquire(descriptor: int, file: int, layout: DataLayout, deadline: float) -> bool:
    """Lock; False where the file system locks no such thing. Raises `FolderInUse`."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                owner = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
                raise FolderInUse(
                    f"the data folder is in use by process {owner}",
                    where=layout.data,
                    hint="stop the host that runs there, or choose another folder with --data; to have this one wait "
                    f"and take over: `{lease.standby_command(layout.data)}`",
                ) from None
            time.sleep(_STEP_SECONDS)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return False
        else:
            return True
