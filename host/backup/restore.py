"""Making a data folder of a backup, and putting back the registry that was kept before an upgrade.

Nothing is overwritten: a folder that has something in it is refused, and a registry that is replaced is kept. A backup
is read and checked as a whole before anything is made; the folder then appears under its name in one step.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from host.backup.archive import Header, members, verify
from host.backup.contents import is_agents, is_shared
from host.central.database import CENTRAL
from host.central.upgrade import place_for
from host.lock import held
from host.sessions.folder import Owner, make_data_folder
from host.sessions.untrusted_files import remove_tree, sync_folder
from shared_schema.clock import SystemClock
from shared_schema.database import copy_whole, open_reader, open_writer, reader, require_sound
from shared_schema.errors import Conflict, FileDamaged, FileTrouble, InvalidValue, NewerSchema, NotFound
from shared_schema.layout import DataLayout
from shared_schema.migrate import version_of
from shared_schema.system_errors import words_of

_SQLITE = b"SQLite format 3\0"
_WHICH = "name one that `dumbwaiter backup FILE` wrote, or a `central.db` of the folder upgrades/"
_LOCK_SECONDS = 0.3


def restore(path: Path, layout: DataLayout, agent_uid: int) -> dict[str, Any]:
    """Restore a backup, or a registry that was kept before an upgrade; what was done.

    Raises `NotFound`, `InvalidValue` for a file that is neither, `Conflict` where something is in the way,
    `FileDamaged`, `NewerSchema`, `FileTrouble`.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(len(_SQLITE))
    except FileNotFoundError:
        raise NotFound("there is no such file", where=path, hint="`dumbwaiter backup FILE` makes one") from None
    except OSError as error:
        raise FileTrouble(f"the file cannot be read: {words_of(error)}", where=path) from error
    if beginning == _SQLITE:
        return _put_back_registry(path, layout)
    return _restore_folder(path, layout, Owner.of_agents(agent_uid))


def _restore_folder(path: Path, layout: DataLayout, owner: Owner) -> dict[str, Any]:
    data = layout.data
    _require_empty(data)
    header, files, _ = verify(path)
    _require_known(header, path)
    try:
        data.parent.mkdir(parents=True, exist_ok=True)
        draft = DataLayout(data.with_name(f".{data.name}.restoring-{os.getpid()}"))
        remove_tree(draft.data)
        try:
            make_data_folder(draft, owner)
            sessions = _unpack(path, draft, owner)
            require_sound(draft.central)
            os.sync()  # all of it is on the disk before it has its name
            if data.is_dir():
                data.rmdir()  # only an empty one goes
            draft.data.rename(data)
            sync_folder(data.parent)
        finally:
            remove_tree(draft.data)
    except OSError as error:
        raise FileTrouble(f"the folder cannot be made: {words_of(error)}", where=data) from error
    quoted = shlex.quote(str(data))
    return {
        "data": str(data),
        "sessions": sessions,
        "files": files,
        "install": header.install,
        "made_at": header.created_at,
        "secrets": header.secrets,
        "next": [f"dumbwaiter --data {quoted} run --moved", f"dumbwaiter --data {quoted} run --copy"],
    }


def _require_empty(data: Path) -> None:
    try:
        there = os.path.lexists(data) and (not data.is_dir() or any(data.iterdir()))
    except OSError as error:
        raise FileTrouble(f"the folder cannot be read: {words_of(error)}", where=data) from error
    if there:
        hint = "name a folder that is not there yet with --data, or move this one away first; nothing is overwritten"
        raise Conflict("there is something in the data folder already", where=data, hint=hint)


def _require_known(header: Header, path: Path) -> None:
    if header.schema > CENTRAL.version:
        raise NewerSchema(
            f"the backup was made by version {header.version}, with schema version {header.schema}, and this version "
            f"knows {CENTRAL.version} at most",
            where=path,
            hint="update Dumbwaiter first",
        )


def _unpack(path: Path, layout: DataLayout, owner: Owner) -> int:
    """Write all files, then make the links, so that nothing is ever written through one; how many sessions."""
    links: list[tuple[Path, str, str]] = []
    folders: list[tuple[Path, str, int]] = []
    for member, stream in members(path):
        target = layout.data / member.name
        if member.issym():
            links.append((target, member.name, member.linkname))
        elif stream is None:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            folders.append((target, member.name, member.mode))
        else:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(target, flags, 0o600), "wb") as file:
                shutil.copyfileobj(stream, file, 1024**2)
            _give(target, member.name, member.mode, owner)
    for target, name, link in links:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.symlink_to(link)
        _give(target, name, None, owner)
    for target, name, mode in reversed(folders):
        _give(target, name, mode, owner)
    sessions = 0
    for session in layout.sessions.glob("*/*"):
        (session / ".reading").mkdir(mode=0o700, exist_ok=True)
        _give(session.parent, "sessions/group", 0o700, owner)
        sessions += 1
    return sessions


def _give(path: Path, name: str, mode: int | None, owner: Owner) -> None:
    """To whom the host would have given it: owners are not in a backup, because it may be another user's now."""
    if os.geteuid() == 0:
        if is_agents(name):
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
        elif is_shared(name):
            os.chown(path, 0, owner.gid, follow_symlinks=False)
    if mode is not None:
        os.chmod(path, mode & 0o777 & ~(0 if is_agents(name) else 0o007))


def _put_back_registry(path: Path, layout: DataLayout) -> dict[str, Any]:
    if not layout.data.is_dir():
        raise NotFound(
            "there is no data folder to put the registry back in", where=layout.data, hint="name it with --data"
        )
    with _registry(path) as connection:
        version = version_of(connection)
    if version > CENTRAL.version:
        raise NewerSchema(
            f"the file has schema version {version}, and this version knows {CENTRAL.version} at most",
            where=path,
            hint="update Dumbwaiter first",
        )
    with held(layout, wait_seconds=_LOCK_SECONDS):
        aside = None
        draft = layout.central.with_suffix(".restoring")
        try:
            with closing(open_reader(path)) as connection:
                copy_whole(connection, draft)
            if layout.central.exists():
                aside = _set_aside(layout)
            os.replace(draft, layout.central)
            sync_folder(layout.data)
        except OSError as error:
            raise FileTrouble(f"the registry cannot be put back: {words_of(error)}", where=layout.central) from error
        finally:
            draft.unlink(missing_ok=True)
    return {
        "data": str(layout.data),
        "schema": version,
        "set_aside": None if aside is None else str(aside),
        "next": [f"dumbwaiter --data {shlex.quote(str(layout.data))} run"],
    }


@contextmanager
def _registry(path: Path) -> Iterator[sqlite3.Connection]:
    require_sound(path)
    with reader(path) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'install'").fetchone() is None:
            raise InvalidValue("the file is neither a backup nor a registry that was kept", where=path, hint=_WHICH)
        yield connection


def _set_aside(layout: DataLayout) -> Path:
    """Keep the registry that is there, with what its write-ahead log has; a damaged one as it lies there.

    Then another file can take its name in one step: no log of this one lies beside that.
    """
    companions = [layout.central.with_name(f"{layout.central.name}{suffix}") for suffix in ("-wal", "-shm")]
    now = SystemClock().now()
    try:
        with reader(layout.central) as connection:
            version = version_of(connection)
        kept = _aside(layout, version, now)
        with closing(open_reader(layout.central)) as connection:
            copy_whole(connection, kept)
        with closing(open_writer(layout.central)):
            pass  # it takes its log into the file: should this end here, the registry is there, and whole
    except FileDamaged:
        kept = _aside(layout, 0, now)
        for file in (layout.central, *companions):
            if file.exists():
                copy = kept.with_name(kept.name + file.name.removeprefix(layout.central.name))
                shutil.copyfile(file, copy)
                copy.chmod(0o600)
    for file in companions:
        file.unlink(missing_ok=True)
    return kept


def _aside(layout: DataLayout, version: int, now: datetime) -> Path:
    kept = place_for(layout.central, version, now)
    return kept.with_name(kept.name.removesuffix(".db") + "-set-aside.db")
