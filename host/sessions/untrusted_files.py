"""Opening what lies in `out/` or a workspace, where a hostile agent may put anything at any moment.

Every step is relative to an open folder and follows no link; only regular files are opened, and nothing that could
block is ever waited for. Names are checked by the caller's types, not trusted for their content.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from host.sessions.filename import is_safe_component
from shared_schema.dataclass import dataclass
from shared_schema.descriptors import trouble
from shared_schema.errors import FileDamaged, FileTrouble

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What opening a folder says when the agent has removed it meanwhile, or put a file or a link in its place."""
_COPY_BYTES = 1024 * 1024
MAX_DATABASE_BYTES = 4 * 1024**3
MAX_DATABASE_DATA = 512 * 1024**2
MAX_JOURNAL_BYTES = 128 * 1024**2
"""Of an agent's file and its journal. One that says it is larger, or holds more data, is put aside, not recovered."""


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """What lies below an agent's folder: its path from there, and what the system says of it, no link followed."""

    path: str
    depth: int
    status: os.stat_result
    is_closed: bool = False
    """A folder that cannot be looked into."""

    @property
    def is_folder(self) -> bool:
        """Whether it was a folder; what lies in it comes next."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it was a regular file."""
        return stat.S_ISREG(self.status.st_mode)


@contextmanager
def opened_folder(path: Path, *components: str) -> Iterator[int]:
    """A descriptor of a folder whose parents are the host's own, or of one below it, which is the agent's.

    Raises `FileTrouble`; for what is no folder below it `FileDamaged`.
    """
    descriptor = _open(str(path), _FOLDER_FLAGS, None)
    try:
        for name in components:
            if not is_safe_component(name):
                raise FileDamaged(f"{name[:80]!r} is not a file name")
            # One after the other: what was a folder a moment ago may be a link now.
            parent, descriptor = descriptor, _open(name, _FOLDER_FLAGS, descriptor)
            os.close(parent)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened_file(folder: int, *components: str, max_bytes: int) -> Iterator[int]:
    """A descriptor of a regular file below an open folder. Raises `FileDamaged` for anything else.

    Trouble of the host's own (too many open files, a failing disk) is a plain `FileTrouble`: the agent is not to blame.
    """
    opened: list[int] = []
    try:
        current = folder
        for number, name in enumerate(components, start=1):
            if not is_safe_component(name):
                raise FileDamaged(f"{name[:80]!r} is not a file name")
            current = _open(name, _FILE_FLAGS if number == len(components) else _FOLDER_FLAGS, current)
            opened.append(current)
        status = os.fstat(current)
        if not stat.S_ISREG(status.st_mode):
            raise FileDamaged(f"{components[-1][:80]!r} is not a regular file")
        if status.st_size > max_bytes:
            raise FileDamaged(f"{components[-1][:80]!r} has {status.st_size} bytes, and {max_bytes} are allowed")
        yield current
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _open(name: str, flags: int, folder: int | None) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except UnicodeEncodeError as error:
        raise FileDamaged(f"{name[-80:]!r} is not a file name") from error
    except BlockingIOError as error:  # a lease: an honest agent that wants its file to be read does not hold one
        raise FileDamaged(f"{name[-80:]!r} cannot be opened: another program holds it (a lease)") from error
    except OSError as error:
        raise trouble(error, f"{name[-80:]!r} cannot be opened", None, of_agent=True) from error


def copy_file(source: int, target: Path, *, max_bytes: int, max_data: int | None = None, mode: int = 0o640) -> int:
    """Copy an open file to a new path of the host's, flushed to disk; its size. Never more than `max_bytes`.

    Holes stay holes: a size costs nothing. What is written in fact is `max_data` at most.
    """
    size = os.fstat(source).st_size
    if size > max_bytes:
        raise FileDamaged(f"'{target.name}' grew beyond {max_bytes} bytes while it was copied")
    left = size if max_data is None else max_data
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        for start, end in _data_of(source, size):
            position = start
            while position < end and (chunk := os.pread(source, min(_COPY_BYTES, end - position), position)):
                left -= len(chunk)
                if left < 0:
                    raise FileDamaged(f"'{target.name}' holds more than {max_data} bytes")
                position += _write(descriptor, chunk, position)
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return size


def _data_of(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data, as far as its system says: from, to. What lies between is a hole."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data behind here
                return
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            start, end = position, size  # this file system does not tell
        yield start, min(end, size)
        position = end


def _write(descriptor: int, data: bytes, position: int) -> int:
    view, written = memoryview(data), 0
    while view:
        count = os.pwrite(descriptor, view, position + written)
        view, written = view[count:], written + count
    return written


def entries_below(folder: int, *, max_depth: int, passed_over: Set[str] = frozenset()) -> Iterator[FoundEntry]:
    """What lies below an open folder, each folder before what is in it, `max_depth` folders down. Blocks.

    Folders that are `passed_over`, by name, are left out with what is in them. How many entries are wanted, the caller
    knows. Raises `OSError` when this folder cannot be read.
    """
    yield from _entries(folder, "", 0, max_depth, passed_over)


def _entries(folder: int, prefix: str, depth: int, max_depth: int, passed_over: Set[str]) -> Iterator[FoundEntry]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found = FoundEntry(prefix + entry.name, depth, entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                continue
            if not found.is_folder or depth >= max_depth:
                yield found
            elif entry.name not in passed_over:
                yield from _folder_and_below(found, entry.name, folder, max_depth, passed_over)


def _folder_and_below(
    found: FoundEntry, name: str, parent: int, max_depth: int, passed_over: Set[str]
) -> Iterator[FoundEntry]:
    try:
        folder = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
    except OSError as error:
        if error.errno not in _REPLACED:
            yield replace(found, is_closed=True)
        return
    try:
        yield found
        yield from _entries(folder, f"{found.path}/", found.depth + 1, max_depth, passed_over)
    finally:
        os.close(folder)


def folder_size(path: Path, *, max_entries: int = 20_000, max_depth: int = 32) -> int | None:
    """Bytes used below a folder, following no link; None when it is too large, too deep or too odd to be counted."""
    total = 0
    try:
        with opened_folder(path) as folder:
            for number, entry in enumerate(entries_below(folder, max_depth=max_depth), start=1):
                if number > max_entries or entry.is_closed or (entry.is_folder and entry.depth >= max_depth):
                    return None
                if not entry.is_folder:
                    total += entry.status.st_blocks * 512
    except (OSError, FileTrouble) as error:
        is_gone = isinstance(error.__cause__ or error, FileNotFoundError)
        return 0 if is_gone else None
    return total


def remove_tree(path: Path) -> bool:
    """Remove a folder that an agent filled, however deep; whether it is gone. Blocks.

    `rm` goes down by descriptors, without recursion and without a limit on the length of paths, and follows no link.
    """
    if not os.path.lexists(path):
        return True
    for command in (
        ["rm", "-rf", "--", str(path)],
        ["chmod", "-R", "u+rwX", "--", str(path)],
        ["rm", "-rf", "--", str(path)],
    ):
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if not os.path.lexists(path):
            return True
    return False


def sync_folder(path: Path) -> None:
    """Make a folder's entries survive a power cut."""
    descriptor = os.open(path, _FOLDER_FLAGS)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
