"""Taking `out/` away from an agent whose end is only the admin's word: its node was given up for lost.

Should that agent still run, or wake some day, it goes on writing: into the folder it was given. So the session gets
another one. `out/` is put aside whole, under a name of its own, and a copy takes its place: of the database with its
journal, and the files that wait to be sent. A container keeps the folder that was put aside, under any name,
and reaches no other; nothing that it writes there is ever read.

A crash anywhere in here is repaired by doing it again: the copy is whole before anything is moved, and takes the place
of `out/` last, so where that is missing the folder that was put aside latest is the one that was begun with.
"""

from __future__ import annotations

import os
from pathlib import Path

from host.sessions.folder import Owner, give
from host.sessions.hard_link import JOURNAL
from host.sessions.untrusted_files import (
    MAX_DATABASE_BYTES,
    MAX_DATABASE_DATA,
    MAX_JOURNAL_BYTES,
    copy_file,
    opened_file,
    opened_folder,
    remove_tree,
    sync_folder,
)
from shared_schema.errors import FileTrouble
from shared_schema.layout import OUTBOUND, OUTBOX, SessionLayout
from shared_schema.system_errors import words_of

_NEXT = ".out-next"
_KEPT = ".out-lost-"


def cut_off(layout: SessionLayout, owner: Owner, *, stamp: str) -> str:
    """Give a session another `out/`; the name under which the old one is kept. Blocks.

    Raises `FileTrouble` (`FileDamaged` for a database that cannot be copied): then try again, or put it aside.
    """
    following = layout.folder / _NEXT
    kept = f"{_KEPT}{stamp}"
    try:
        if os.path.lexists(layout.out):
            remove_tree(following)
            _copied(layout, following, owner)
            os.rename(layout.out, layout.folder / kept)
            sync_folder(layout.folder)
        elif following.is_dir():  # a crash in the middle
            kept = max((name for name in os.listdir(layout.folder) if name.startswith(_KEPT)), default=kept)
        else:
            return kept
        waiting = layout.folder / kept / OUTBOX
        if waiting.is_dir() and not waiting.is_symlink():
            os.rename(waiting, following / OUTBOX)
            sync_folder(following)
        os.rename(following, layout.out)
        sync_folder(layout.folder)
    except OSError as error:
        raise FileTrouble(f"the folder cannot be put aside: {words_of(error)}", where=layout.out) from error
    return kept


def _is_listed(folder: int, name: str) -> bool:
    """Asked by a listing, since a mount may remember for long that there was none; millions of names are not kept."""
    with os.scandir(folder) as entries:
        return any(entry.name == name for entry in entries)


def _copied(layout: SessionLayout, following: Path, owner: Owner) -> None:
    following.mkdir(mode=0o700)
    with opened_folder(layout.out) as out:
        for name, most, data in (
            (OUTBOUND, MAX_DATABASE_BYTES, MAX_DATABASE_DATA),
            (JOURNAL, MAX_JOURNAL_BYTES, None),
        ):
            if not _is_listed(out, name):
                continue
            with opened_file(out, name, max_bytes=most) as source:
                copy_file(source, following / name, max_bytes=most, max_data=data)
            give(following / name, owner, 0o640)
    sync_folder(following)
    give(following, owner, 0o750)
