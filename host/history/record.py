"""The open history.db: one writer at a time, a reader in every thread, and a fresh file in place of a damaged one.

The file is derived, so nothing of it is worth failing for: `synchronous` is NORMAL, and what cannot be read is made
again. It is opened when it is used for the first time.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from shared_schema.database import open_reader, open_writer, snapshot, transaction, translate
from shared_schema.errors import FileBusy, FileDamaged, NewerSchema
from shared_schema.migrate import Schema, migrate

log = logging.getLogger(__name__)

T = TypeVar("T")

HISTORY = Schema("history.db", Path(__file__).parent / "migrations")
QUICK_COMMITS = "PRAGMA synchronous = NORMAL"
SMALL_CACHE = "PRAGMA cache_size = -8000"  # KiB

READ_SECONDS = 5.0
_PROGRESS_INSTRUCTIONS = 20_000

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Record:
    """The file and its connections. `lost` is called when a fresh file was begun: everything is to be read again.

    Every method blocks and raises `FileTrouble`.
    """

    def __init__(self, path: Path, lost: Callable[[], None]) -> None:
        self._path = path
        self._lost = lost
        self._lock = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._edition = 0  # counts the files that were opened under this name
        self._of_thread = threading.local()
        self._readers: list[sqlite3.Connection] = []

    def write(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in a transaction."""
        with self._lock:
            connection = self._open()
            try:
                with transaction(connection):
                    return run(connection)
            except sqlite3.Error as error:
                raise self._trouble(error, self._edition) from error

    def read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function on one snapshot, in the calling thread; a statement that goes on for long is ended."""
        with self._lock:
            self._open()
            edition = self._edition
        connection = self._reader(edition)
        deadline = time.monotonic() + READ_SECONDS
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_INSTRUCTIONS)
        try:
            with snapshot(connection):
                return run(connection)
        except sqlite3.Error as error:
            raise self._trouble(error, edition) from error
        finally:
            connection.set_progress_handler(None, 0)

    def replace(self, draft: Path) -> None:
        """Take another file in place of this one."""
        with self._lock:
            self._close()
            _remove(self._path)
            os.replace(draft, self._path)

    def close(self) -> None:
        """Close all connections. No reader may be left."""
        with self._lock:
            self._close()
            for connection in self._readers:
                connection.close()
            self._readers.clear()

    def _open(self) -> sqlite3.Connection:
        if self._writer is None:
            known = self._path.exists()
            try:
                self._writer = opened(self._path)
            except (FileDamaged, NewerSchema) as error:
                log.warning("history.db cannot be used and is made again", extra={"error": str(error)})
                _remove(self._path)
                self._writer, known = opened(self._path), False
            self._edition += 1
            if not known:
                self._lost()
        return self._writer

    def _reader(self, edition: int) -> sqlite3.Connection:
        kept: tuple[int, sqlite3.Connection] | None = getattr(self._of_thread, "reader", None)
        if kept is not None and kept[0] == edition:
            return kept[1]
        connection = open_reader(self._path)
        connection.execute(SMALL_CACHE)
        with self._lock:
            if kept is not None:
                self._readers.remove(kept[1])
                kept[1].close()
            self._readers.append(connection)
        self._of_thread.reader = (edition, connection)
        return connection

    def _trouble(self, error: sqlite3.Error, edition: int) -> Exception:
        """The error to raise; after damage the next call finds a fresh file."""
        if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF not in _DAMAGE:
            return translate(error, self._path)
        with self._lock:
            if edition == self._edition:
                log.warning("history.db is damaged and is made again", extra={"error": str(error)})
                self._close()
                _remove(self._path)
        return FileBusy("history is made again", where=self._path, hint="try again in a while")

    def _close(self) -> None:
        """Close the writer. A reader may be in use: its thread closes it when it finds another edition."""
        self._edition += 1
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def opened(path: Path) -> sqlite3.Connection:
    """A writer of a history file, which is made or brought up to date. Raises `FileTrouble`."""
    connection = open_writer(path, create=True, journal_mode="WAL")
    try:
        path.chmod(0o600)
        migrate(connection, HISTORY)
        connection.execute(QUICK_COMMITS)
    except sqlite3.Error as error:
        connection.close()
        raise translate(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _remove(path: Path) -> None:
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)
