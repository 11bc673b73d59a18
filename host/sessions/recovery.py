"""Mending `outbound.db` while it has no writer: the runtime has confirmed that no agent of the session lives.

A writer killed in mid-commit leaves a hot journal. Rolling it back needs write access, and a journal is as hostile as
any file of the agent's (one that names a super-journal makes SQLite delete the file of that name). So the host
never opens anything in `out/` for writing: it copies database and journal to a folder of its own, recovers the copy
there, checks it, and puts it in place of the original (docs/decisions/0002-recovering-a-copy.md). `recover` is the one
function that does so. A size that the agent names is not believed: holes are not copied, and what is written at a death
is bounded.
"""

from __future__ import annotations

import os
from pathlib import Path

from host.sessions.folder import Owner, draft_outbound, give, make_session_folder
from host.sessions.hard_link import JOURNAL
from host.sessions.untrusted_files import (
    MAX_DATABASE_BYTES,
    MAX_DATABASE_DATA,
    MAX_JOURNAL_BYTES,
    copy_file,
    opened_file,
    opened_folder,
    sync_folder,
)
from shared_schema.database import mend
from shared_schema.errors import FileDamaged, FileTrouble
from shared_schema.late_mount import is_listed
from shared_schema.layout import OUTBOUND, SessionLayout
from shared_schema.system_errors import words_of

# The last bytes of a journal that names a super-journal, sqlite.org/fileformat2.html#the_rollback_journal and pager.c.
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_ROOM = 1024**2  # for what SQLite adds itself: a page or two


def has_journal(layout: SessionLayout) -> bool:
    """Whether a commit was interrupted."""
    if layout.shared:  # a mount may remember for long that there was none
        try:
            return is_listed(layout.out, JOURNAL)
        except FileNotFoundError:
            return False
    return os.path.lexists(layout.out / JOURNAL)


def recover(layout: SessionLayout, owner: Owner, *, after_seq: int = 0) -> None:
    """Roll back what a killed writer left half-done, and number further messages above `after_seq`. Blocks.

    No agent of the session may live. Raises `FileDamaged` when database or journal are no good; then nothing was
    changed.
    """
    draft = layout.reading / "recover.db"
    journal = layout.reading / "recover.db-journal"
    _remove(draft, journal)
    try:
        interrupted = has_journal(layout)
        most = 0
        with opened_folder(layout.out) as out:
            with opened_file(out, OUTBOUND, max_bytes=MAX_DATABASE_BYTES) as source:
                most += copy_file(source, draft, max_bytes=MAX_DATABASE_BYTES, max_data=MAX_DATABASE_DATA)
            if interrupted:
                with opened_file(out, JOURNAL, max_bytes=MAX_JOURNAL_BYTES) as source:
                    most += copy_file(source, journal, max_bytes=MAX_JOURNAL_BYTES)
                _refuse_super_journal(journal, layout)
        mend(draft, sequence=("messages_out", after_seq) if after_seq else None)
        # A journal names the size to go back to, and the pages it has; SQLite believes both.
        if draft.stat().st_size > most + _ROOM:
            raise FileDamaged("its journal makes it larger than it was", where=layout.outbound)
        give(draft, owner, 0o640)
        with opened_folder(layout.out) as out:
            os.replace(draft, OUTBOUND, dst_dir_fd=out)
            sync_folder(layout.out)  # first: the journal must not be gone while the old file is still there
            if interrupted:
                os.unlink(JOURNAL, dir_fd=out)
        sync_folder(layout.out)
    except OSError as error:
        raise FileTrouble(f"the file cannot be recovered: {words_of(error)}", where=layout.outbound) from error
    finally:
        _remove(draft, journal)


def quarantine(layout: SessionLayout, owner: Owner, *, stamp: str, after_seq: int) -> str:
    """Put an unreadable `outbound.db` aside and a fresh one in its place; the name it is kept under.

    No agent of the session may live. Messages in the fresh file begin above `after_seq`, the host's cursor.
    """
    kept = f"{OUTBOUND}.unreadable-{stamp}"
    try:
        make_session_folder(layout, owner, after_seq=after_seq)  # it may have been removed
        draft = draft_outbound(layout, owner, after_seq=after_seq)  # before anything is moved: the disk may be full
        with opened_folder(layout.out) as out:
            for name, new_name in ((OUTBOUND, kept), (JOURNAL, f"{kept}-journal")):
                if os.path.lexists(layout.out / name):
                    os.rename(name, new_name, src_dir_fd=out, dst_dir_fd=out)
            os.replace(draft, OUTBOUND, dst_dir_fd=out)
        sync_folder(layout.out)
    except OSError as error:
        raise FileTrouble(f"the file cannot be put aside: {words_of(error)}", where=layout.outbound) from error
    return kept


def _refuse_super_journal(journal: Path, layout: SessionLayout) -> None:
    """SQLite looks for the name of a super-journal before the last bytes of a journal of any size."""
    with journal.open("rb") as file:
        file.seek(max(0, journal.stat().st_size - len(_JOURNAL_MAGIC)))
        if file.read() == _JOURNAL_MAGIC:
            raise FileDamaged("its journal names another file", where=layout.outbound)


def _remove(*paths: os.PathLike[str]) -> None:
    for path in paths:
        if os.path.lexists(path):
            os.unlink(path)
