"""Reading a database file through a mount that shows changes late and may have no locks between machines.

What such a mount keeps (measured on NFS, MooseFS, sshfs and a FUSE mount with caches): a file that is opened afresh is
read as it is, and a listing of a folder is never old. What it does not keep: a `stat`, also of a file that was not
there a moment ago, is seconds late; an open descriptor may be stale for ever; locks may end at the machine.

So a read is one state of the file when, before it and after it, the folder lists no journal and the file's change
counter, read from a fresh descriptor, is the same: SQLite makes its journal before it changes the first page, counts
the commit in the header, and removes the journal after the last page is on the disk. No lock is needed for that.

Should a mount show a new header beside old pages all the same, what was read lacks something, and nothing changes
afterwards that would tell: so each side reads a file again that has not changed since (`sure_after`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared_schema.errors import FileBusy, FileDamaged
from shared_schema.system_errors import words_of

FRESH_SECONDS = 1.0
"""How long ago an agent that writes has looked, at most, whether it is the present run (`container_agent/fence.py`)."""
_POLLS_UNTIL_SURE = 5
_COUNTER = (4, 24)  # bytes and offset, sqlite.org/fileformat2.html#file_change_counter
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MOST_ENTRIES = 50_000


def sure_after(poll_seconds: float, since: float) -> float:
    """Seconds after a read until a file is read again that has not changed for `since` seconds. Pure.

    At first after some polls, then after as long as it has not changed: rest costs next to nothing.
    """
    return max(_POLLS_UNTIL_SURE * poll_seconds, since)


@contextmanager
def unchanged(folder: Path, name: str) -> Iterator[None]:
    """What the block reads of a file is one state of it. Raises `FileBusy` when it may not be: read again later."""
    before = _standing(folder, name)
    yield
    if _standing(folder, name) != before:
        raise FileBusy("the file changed while it was read", where=folder / name)


def is_listed(folder: Path, name: str) -> bool:
    """Whether a folder has an entry, by its listing. Raises `FileDamaged` for a folder that has too many."""
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if entry.name == name:
                return True
            if number > _MOST_ENTRIES:
                raise FileDamaged(f"the folder has more than {_MOST_ENTRIES} entries", where=folder)
    return False


def change_counter(path: Path) -> bytes:
    """SQLite's count of commits, from a descriptor opened for that. Raises `OSError`."""
    descriptor = os.open(path, _FLAGS)
    try:
        return os.pread(descriptor, *_COUNTER)
    finally:
        os.close(descriptor)


def _standing(folder: Path, name: str) -> bytes:
    try:
        if is_listed(folder, f"{name}-journal"):
            raise FileBusy("a commit is going on, or was interrupted", where=folder / name)
        return change_counter(folder / name)
    except OSError as error:
        raise FileBusy(f"the file cannot be used at the moment: {words_of(error)}", where=folder / name) from error
