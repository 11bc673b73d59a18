"""Reading `outbound.db` under a name of the host's own: a hard link in the session's `.reading/` folder.

SQLite opens files by path, and the agent can swap what a path in `out/` means at any moment. What this name means only
the host can change (docs/decisions/0001-reading-through-a-hard-link.md).

Under that name SQLite does not find the agent's rollback journal, so its absence is checked here, while the read lock
is held: with a journal the file is in mid-commit, or its writer died there, and there is nothing to read this time.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host.sessions.beneath import opened_folder
from shared_schema.database import untrusted_reader
from shared_schema.errors import FileBusy, FileDamaged, FileTrouble
from shared_schema.layout import OUTBOUND, SessionLayout

JOURNAL = f"{OUTBOUND}-journal"


@contextmanager
def reading(layout: SessionLayout, tables: frozenset[str] = frozenset()) -> Iterator[sqlite3.Connection]:
    """One snapshot of the agent's file, of these tables or of the schema alone, as `untrusted_reader` gives it.

    Raises `FileBusy` when there is nothing to read this time, `FileDamaged` when the file is no good, `FileTrouble`.
    """
    with opened_folder(layout.out) as out:
        name = _own_name(layout, out)
        _require_rollback_mode(name, layout)
        with untrusted_reader(name, tables=tables) as connection:
            if _status(JOURNAL, out) is not None:
                raise FileBusy("a commit is going on, or was interrupted", where=layout.outbound)
            yield connection


def _require_rollback_mode(name: Path, layout: SessionLayout) -> None:
    """A file in WAL mode cannot be read without writing beside it: no matter of waiting, but a breach of contract."""
    try:
        with name.open("rb") as file:
            versions = file.read(20)[18:20]
    except OSError as error:
        raise FileTrouble(f"the file cannot be read: {error.strerror}", where=layout.outbound) from error
    if 2 in versions:
        raise FileDamaged("it is in WAL mode", where=layout.outbound)


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
        draft.unlink(missing_ok=True)
        try:
            os.link(OUTBOUND, draft, src_dir_fd=out, follow_symlinks=False)
        except FileNotFoundError as error:
            raise FileDamaged("the file is missing", where=layout.outbound) from error
        except OSError as error:
            raise FileTrouble(f"the file cannot be linked: {error.strerror}", where=layout.outbound) from error
        os.replace(draft, own)
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
