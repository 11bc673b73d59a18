"""The host's own name for an agent's file: a hard link in the session's `.reading/` folder.

SQLite opens files by path, and the agent can swap what a path in `out/` means at any moment. What this name means only
the host can change (docs/decisions/0001-reading-through-a-hard-link.md).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from shared_schema.errors import FileDamaged, FileTrouble
from shared_schema.layout import OUTBOUND, SessionLayout


def require_rollback_mode(name: Path, layout: SessionLayout) -> None:
    """A file in WAL mode cannot be read without writing beside it: no matter of waiting, but a breach of contract."""
    try:
        with name.open("rb") as file:
            versions = file.read(20)[18:20]
    except OSError as error:
        raise FileTrouble(f"the file cannot be read: {error.strerror}", where=layout.outbound) from error
    if 2 in versions:
        raise FileDamaged("it is in WAL mode", where=layout.outbound)


def own_name(layout: SessionLayout, out: int) -> Path:
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


def exists_in(name: str, folder: int) -> bool:
    return _status(name, folder) is not None
