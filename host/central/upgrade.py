"""central.db as it was, kept before its schema is brought up to date: the one way back to an older version.

Migrations only add, but an older version refuses a newer file. So the file is kept whole, beside it in `backups/`, and
the refusal of the older version names it.
"""

from __future__ import annotations

import re
import sqlite3
from datetime import datetime
from pathlib import Path

from shared_schema.database import copy_whole
from shared_schema.errors import FileTrouble, NewerSchema
from shared_schema.migrate import Schema, version_of
from shared_schema.system_errors import words_of

_KEPT = re.compile(r"central-v([0-9]{1,6})-[0-9]{8}T[0-9]{6}Z\.db")
_MOST = 5


def keep_before_upgrade(connection: sqlite3.Connection, path: Path, schema: Schema, now: datetime) -> Path | None:
    """Keep the file, if it is about to be brought up to date; where. Raises `FileTrouble`: then nothing may change."""
    version = version_of(connection)
    if not 0 < version < schema.version:
        return None
    kept = place_for(path, version, now)
    copy_whole(connection, kept)
    for old in sorted(kept.parent.glob("central-v*.db"), key=lambda each: each.stat().st_mtime_ns)[:-_MOST]:
        old.unlink(missing_ok=True)
    return kept


def place_for(path: Path, version: int, now: datetime) -> Path:
    """Where a central.db of a version is kept. Makes the folder. Raises `FileTrouble`."""
    folder = path.parent / "backups"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise FileTrouble(f"the folder cannot be made: {words_of(error)}", where=folder) from error
    return folder / f"central-v{version}-{now:%Y%m%dT%H%M%SZ}.db"


def version_kept(path: Path) -> int | None:
    """The version of a kept file by its name; None for any other file."""
    found = _KEPT.fullmatch(path.name)
    return None if found is None else int(found[1])


def way_back(path: Path, schema: Schema) -> Path | None:
    """The newest kept file that this version can use; None where there is none."""
    kept = [each for each in (path.parent / "backups").glob("central-v*.db") if (version_kept(each) or 0) > 0]
    usable = [each for each in kept if (version_kept(each) or 0) <= schema.version]
    return max(usable, key=lambda each: (version_kept(each) or 0, each.name), default=None)


def too_new(version: int, path: Path, schema: Schema) -> NewerSchema:
    """What an older version says of a newer file: what it is, and the one way back."""
    what = f"central.db has schema version {version}, and this version of Dumbwaiter knows {schema.version} at most"
    kept = way_back(path, schema)
    if kept is None:
        return NewerSchema(what, where=path, hint="update Dumbwaiter, or restore a backup into another folder")
    hint = (
        f"update Dumbwaiter; or, to go back to how it was before the upgrade (what was said since is lost), type "
        f"`dumbwaiter --data {path.parent} restore {kept}`"
    )
    return NewerSchema(what, where=path, hint=hint)
