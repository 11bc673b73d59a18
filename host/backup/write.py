"""Writing a backup, while the host runs or not.

The order makes it consistent: the registry first, then history, then the sessions it knows. What a session's files have
beyond the registry is what they have after a crash between two steps, and is taken up in the same way. A database is
copied in one state: the host's two by SQLite's own backup, a session's when nothing was committed while it was read.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from host.backup.archive import CHECKSUMS, FORMAT, HEADER, Checksums, Hashing, Header, verify
from host.backup.contents import DATABASES, FILE_FLAGS, SECRET_FILES, SETTINGS, FoundFile, Walk, root_files
from host.central import install
from host.place import InstallRecord, place_of
from host.secrets import secrets_of
from host.sessions.untrusted_files import sync_folder
from shared_schema.clock import SystemClock, to_text
from shared_schema.database import copy_whole, open_reader, reader
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, FileDamaged, FileTrouble, InvalidValue, NotFound
from shared_schema.layout import DataLayout
from shared_schema.migrate import version_of
from shared_schema.system_errors import words_of

SESSIONS = "SELECT id, agent_group_id FROM sessions ORDER BY id"
_ATTEMPTS = 50
_PAUSE_SECONDS = 0.02
_LARGEST_SETTINGS = 1024**2


@dataclass(slots=True)
class _Writing:
    archive: tarfile.TarFile
    checksums: Checksums = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add_bytes(self, name: str, content: bytes, mode: int = 0o600) -> None:
        self.add(name, io.BytesIO(content), len(content), mode, 0)

    def add(self, name: str, stream: Any, size: int, mode: int, modified: float) -> None:
        entry = _entry(name, mode, modified)
        entry.size = size
        hashing = Hashing(stream, size)
        self.archive.addfile(entry, hashing)
        self.checksums[name] = [size, hashing.digest()]


def write_backup(layout: DataLayout, target: Path, *, with_secrets: bool = False) -> dict[str, Any]:
    """Write a backup of the data folder to a file that is not there yet, and read it again; what is in it.

    Raises `NotFound` where there is no install, `Conflict` where the file is there already, `InvalidValue` for a place
    that agents could read, `FileTrouble`, `FileDamaged`.
    """
    target = target.absolute()
    _require_free(layout, target)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".dumbwaiter-", dir=target.parent) as folder,
            open(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file,
        ):
            with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT, compresslevel=6) as archive:
                writing = _Writing(archive)
                header, sessions = _write(writing, layout, Path(folder), with_secrets=with_secrets)
            file.flush()
            os.fsync(file.fileno())
        _, files, size = verify(draft)
        _name(draft, target)
        sync_folder(target.parent)
    except FileExistsError as error:
        raise Conflict("the file is there already", where=target, hint="choose another name") from error
    except OSError as error:
        raise FileTrouble(f"the backup cannot be written: {words_of(error)}", where=target) from error
    finally:
        draft.unlink(missing_ok=True)
    return {
        "file": str(target),
        "bytes": target.stat().st_size,
        "files": files,
        "bytes_unpacked": size,
        "sessions": sessions,
        "install": header.install,
        "schema": header.schema,
        "secrets": with_secrets,
        "left_out": writing.left_out,
        "verified": True,
    }


def _name(draft: Path, target: Path) -> None:
    """Give the file its name. A link never takes the place of another file, unlike a rename; a USB stick has none."""
    try:
        os.link(draft, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) or os.path.lexists(target):
            raise
        draft.rename(target)


def _require_free(layout: DataLayout, target: Path) -> None:
    if not layout.central.exists():
        raise NotFound("there is nothing to back up", where=layout.data, hint="name the data folder with --data")
    if os.path.lexists(target):
        raise Conflict("the file is there already", where=target, hint="choose another name; nothing is overwritten")
    if not target.parent.is_dir():
        raise NotFound("there is no such folder", where=target.parent, hint="make it, or choose another one")
    if target.parent.resolve().is_relative_to(layout.data.resolve()):
        raise InvalidValue(
            "a backup does not belong in the data folder", where=target, hint="choose a place outside it"
        )


def _write(writing: _Writing, layout: DataLayout, staging: Path, *, with_secrets: bool) -> tuple[Header, int]:
    central = staging / "central.db"
    with closing(open_reader(layout.central)) as connection:
        copy_whole(connection, central)
    with reader(central) as connection:
        schema = version_of(connection)
        install_id = install.current(connection) or ""
        sessions = [(row["agent_group_id"], row["id"]) for row in connection.execute(SESSIONS)]
    now = to_text(SystemClock().now())
    header = Header(FORMAT, version("dumbwaiter"), install_id, schema, now, with_secrets)
    writing.archive.addfile(_sized(HEADER, header.to_json()), io.BytesIO(header.to_json()))
    _add_file(writing, "central.db", central)
    if layout.history.exists():
        history = staging / "history.db"
        try:
            with closing(open_reader(layout.history)) as connection:
                copy_whole(connection, history)
        except FileDamaged:  # it is made again of the sessions
            writing.left_out.append(layout.history.name)
        else:
            _add_file(writing, layout.history.name, history)
    _write_settings(writing, layout, with_secrets=with_secrets)
    if not layout.install.exists():  # of an earlier version: a backup knows where it comes from
        record = InstallRecord(install_id, place_of(layout.data))
        writing.add_bytes(layout.install.name, record.to_json())
    walk = Walk(layout.data, writing.left_out)
    for folder in (("spool",), ("agents",), *(("sessions", *session) for session in sessions)):
        _write_folder(writing, walk.below(*folder), staging)
    content = json.dumps(writing.checksums).encode()
    writing.archive.addfile(_sized(CHECKSUMS, content), io.BytesIO(content))
    return header, len(sessions)


def _write_folder(writing: _Writing, entries: Iterator[FoundFile], staging: Path) -> None:
    for found in entries:
        entry = _entry(found.name, found.status.st_mode, found.status.st_mtime)
        if found.link is not None:
            entry.type, entry.linkname = tarfile.SYMTYPE, found.link
            writing.archive.addfile(entry)
        elif found.descriptor is None:
            entry.type = tarfile.DIRTYPE
            writing.archive.addfile(entry)
        elif found.name.rpartition("/")[2] in DATABASES and found.name.startswith("sessions/"):
            _write_database(writing, found, staging)
        else:
            with open(found.descriptor, "rb", buffering=0, closefd=False) as stream:
                writing.add(found.name, stream, found.status.st_size, found.status.st_mode, found.status.st_mtime)


def _write_database(writing: _Writing, found: FoundFile, staging: Path) -> None:
    """Write a session's file in one state: nothing was committed, or being committed, while it was read.

    A journal that stays is of a writer that died in mid-commit: both are taken as they lie there, and the next writer
    rolls back. A file that is never at rest is left out, and named.
    """
    journal = f"{found.name}-journal"
    copies = {found.name: staging / "database", journal: staging / "journal"}
    for attempt in range(_ATTEMPTS):
        before = _state(found)
        has_journal = before is not None and before[1] is not None
        if before is not None and (not has_journal or attempt > _ATTEMPTS // 2):
            names = [found.name, *([journal] if has_journal else [])]
            try:
                for name in names:
                    _copy(found, name.rpartition("/")[2], copies[name])
                unchanged = _state(found) == before
            except FileNotFoundError:
                unchanged = False
            if unchanged:
                for name in names:
                    _add_file(writing, name, copies[name], found.status.st_mode)
                return
        time.sleep(_PAUSE_SECONDS)
    writing.left_out.append(found.name)


def _copy(found: FoundFile, name: str, target: Path) -> None:
    descriptor = os.open(name, FILE_FLAGS, dir_fd=found.folder)
    with open(descriptor, "rb", buffering=0) as stream, target.open("wb") as copy:
        shutil.copyfileobj(stream, copy, 1024**2)


def _state(found: FoundFile) -> tuple[tuple[int, ...], tuple[int, ...] | None, bytes] | None:
    """What changes with every commit: the database, its journal if there is one, and the counter in the header."""
    name = found.name.rpartition("/")[2]
    try:
        database = os.stat(name, dir_fd=found.folder, follow_symlinks=False)
        descriptor = os.open(name, FILE_FLAGS, dir_fd=found.folder)
        try:
            header = os.pread(descriptor, 100, 0)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return _of(database), _journal(f"{name}-journal", found.folder), header


def _journal(name: str, folder: int | None) -> tuple[int, ...] | None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return _of(status)


def _of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _write_settings(writing: _Writing, layout: DataLayout, *, with_secrets: bool) -> None:
    for path in root_files(layout):
        try:
            content = path.read_bytes()
        except OSError:
            writing.left_out.append(path.name)
            continue
        if not with_secrets and path.name in SECRET_FILES:
            writing.left_out.append(path.name)
        elif with_secrets or path.suffix != SETTINGS:
            writing.add_bytes(path.name, content)
        elif (clean := without_secrets(content)) is None:
            writing.left_out.append(path.name)
        else:
            writing.add_bytes(path.name, clean)


def without_secrets(content: bytes) -> bytes | None:
    """A settings file with empty texts in place of its secrets; None where that cannot be made sure of."""
    try:
        text = content[:_LARGEST_SETTINGS].decode("utf-8-sig")
        found = list(secrets_of(tomllib.loads(text)))
        for _, secret in sorted(found, key=lambda each: -len(each[1])):
            text = text.replace(secret, "")
        # Some spellings hide a secret from that (an escape, a text of several lines): then the file stays out.
        left = list(secrets_of(tomllib.loads(text)))
    except (ValueError, RecursionError):
        return None
    secret_words = {secret for _, secret in found}
    if left or any(re.search(re.escape(word), text) for word in secret_words):
        return None
    return content if not found else text.encode()


def _add_file(writing: _Writing, name: str, path: Path, mode: int = 0o600) -> None:
    with path.open("rb") as stream:
        status = os.fstat(stream.fileno())
        writing.add(name, stream, status.st_size, mode, status.st_mtime)


def _entry(name: str, mode: int, modified: float) -> tarfile.TarInfo:
    """Without owners: who restores it decides whose it is."""
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = mode & 0o777, int(modified)
    return entry


def _sized(name: str, content: bytes) -> tarfile.TarInfo:
    entry = _entry(name, 0o600, 0)
    entry.size = len(content)
    return entry
