"""Reading `outbound.db` under a name of the host's own: a hard link in the session's `.reading/` folder.

SQLite opens files by path, and the agent can swap what a path in `out/` means at any moment. What this name means only
the host can change (docs/decisions/0001-reading-through-a-hard-link.md).

Under that name SQLite does not find the agent's rollback journal, so its absence is checked here, while the read lock
is held: with a journal the file is in mid-commit, or its writer died there, and there is nothing to read this time.

No open waits for the agent (a lease, a pipe), and what the agent can make the system say is never the host's trouble.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from host.sessions.untrusted_files import copy_file, opened_file, opened_folder
from shared_schema.database import untrusted_reader
from shared_schema.descriptors import hold, trouble
from shared_schema.errors import FileBusy, FileDamaged
from shared_schema.late_mount import unchanged
from shared_schema.layout import OUTBOUND, SessionLayout

JOURNAL = f"{OUTBOUND}-journal"
_WITHOUT_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV})
"""What a mount says that has no hard links (sshfs, SMB); there the file is read from a copy on the host's own disk."""
_MOST_COPIED = 512 * 1024**2


class _NoLinks(Exception):
    """The mount has no hard links."""


@contextmanager
def reading(layout: SessionLayout, tables: frozenset[str] = frozenset()) -> Iterator[sqlite3.Connection]:
    """One snapshot of the agent's file, of these tables or of the schema alone, as `untrusted_reader` gives it.

    Raises `FileBusy` when there is nothing to read this time, `FileDamaged` when the file is no good, `FileTrouble`.
    """
    still = unchanged(layout.out, OUTBOUND) if layout.shared else nullcontext()
    with still, opened_folder(layout.out) as out, ExitStack() as stack:
        name = stack.enter_context(_own(layout, out))
        with _held(name, layout) as descriptor:
            _require_rollback_mode(descriptor, layout)
            with untrusted_reader(name, tables=tables) as connection:
                if _status(JOURNAL, out) is not None:
                    raise FileBusy("a commit is going on, or was interrupted", where=layout.outbound)
                yield connection


def header(layout: SessionLayout) -> tuple[os.stat_result, bytes]:
    """The status and the first 32 bytes of the agent's file, without SQLite. Raises as `reading`."""
    if layout.shared:
        with opened_afresh(layout, OUTBOUND) as descriptor:
            return _header(descriptor, layout)
    with opened_folder(layout.out) as out, _held(OUTBOUND, layout, out) as descriptor:
        return _header(descriptor, layout)


def _header(descriptor: int, layout: SessionLayout) -> tuple[os.stat_result, bytes]:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise FileDamaged("it is not a regular file", where=layout.outbound)
    return status, _first_bytes(descriptor, 32, layout)


@contextmanager
def _held(name: str | Path, layout: SessionLayout, folder: int | None = None) -> Iterator[int]:
    try:
        file = hold(name, folder=folder)
    except OSError as error:
        raise trouble(error, "the file cannot be opened", layout.outbound, of_agent=True) from error
    try:
        yield file.descriptor
    finally:
        file.release()


@contextmanager
def opened_afresh(layout: SessionLayout, name: str) -> Iterator[int]:
    """A descriptor of what is `out/<name>` now, and of no other user: one that is open already may show an old state on
    a shared mount.

    By its path: the folders above are the host's, and to open them as well is as much as to open the file. It may be of
    anything but a link. Raises `FileTrouble`.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(layout.out / name, flags)
    except OSError as error:
        raise trouble(error, "the file cannot be opened", layout.out / name, of_agent=True) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _first_bytes(descriptor: int, count: int, layout: SessionLayout) -> bytes:
    try:
        return os.pread(descriptor, count, 0)
    except OSError as error:
        raise trouble(error, "the file cannot be read", layout.outbound, of_agent=True) from error


def _require_rollback_mode(descriptor: int, layout: SessionLayout) -> None:
    """A file in WAL mode cannot be read without writing beside it: no matter of waiting, but a breach of contract."""
    if 2 in _first_bytes(descriptor, 20, layout)[18:20]:
        raise FileDamaged("it is in WAL mode", where=layout.outbound)


@contextmanager
def _own(layout: SessionLayout, out: int) -> Iterator[Path]:
    """The host's own name for the file, for as long as the block lasts."""
    try:
        name = _own_name(layout, out)
    except _NoLinks:
        with (
            tempfile.TemporaryDirectory(prefix="dumbwaiter-") as folder,
            opened_file(out, OUTBOUND, max_bytes=_MOST_COPIED) as source,
        ):
            copy = Path(folder) / OUTBOUND
            copy_file(source, copy, max_bytes=_MOST_COPIED, max_data=_MOST_COPIED)
            yield copy
    else:
        yield name


def _own_name(layout: SessionLayout, out: int) -> Path:
    """The host's own name for the file that is `out/outbound.db` now, checked to be a regular file."""
    own = layout.reading / OUTBOUND
    there = _status(OUTBOUND, out)
    if there is None:
        raise FileDamaged("the file is missing", where=layout.outbound)
    if not stat.S_ISREG(there.st_mode):  # asked again of the link: this one the agent may still change
        raise FileDamaged("it is not a regular file", where=layout.outbound)
    here = _status(own)
    if here is None or (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
        draft = layout.reading / "outbound.link"
        try:
            draft.unlink(missing_ok=True)
            # An agent can make this fail: with a file that has all the names it may have (EMLINK), for instance.
            os.link(OUTBOUND, draft, src_dir_fd=out, follow_symlinks=False)
            os.replace(draft, own)
        except FileNotFoundError as error:
            raise FileDamaged("the file is missing", where=layout.outbound) from error
        except OSError as error:
            if layout.shared and error.errno in _WITHOUT_LINKS:
                raise _NoLinks from error
            raise trouble(error, "the file cannot be linked", layout.outbound, of_agent=True) from error
        here = _status(own)
    if here is None or not stat.S_ISREG(here.st_mode):
        own.unlink(missing_ok=True)
        raise FileDamaged("it is not a regular file", where=layout.outbound)
    return own


def _status(name: str | Path, folder: int | None = None) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
