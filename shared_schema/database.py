"""The only place that opens SQLite.

Session files are opened, used in one transaction and closed; both keep `journal_mode=DELETE`, because WAL needs shared
memory, which crosses neither a VM mount nor a network mount. A commit that was reported survives a power cut: with WAL
that takes `synchronous=FULL`; with a rollback journal, whose removal is the commit, it takes `EXTRA`, which syncs the
folder as well (with FULL the journal comes back and the commit is rolled back). Every connection is in autocommit
mode; transactions are explicit (`transaction`, `snapshot`). No open waits for a lease (`descriptors.py`).

`writer`, `reader`      a file of this side, or one the host wrote
`untrusted_reader`      a file an agent wrote: read-only, bounded in time and size, no schema of its own is run
`Deadline`              how long one pass over an untrusted file may take

Every failure is a `FileTrouble`: `FileBusy` where trying again helps, `FileDamaged` where it does not.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from shared_schema.descriptors import HeldFile, hold, trouble
from shared_schema.errors import FileBusy, FileDamaged, FileTrouble
from shared_schema.system_errors import words_of

BUSY_SECONDS = 5.0
UNTRUSTED_BUSY_SECONDS = 0.05
UNTRUSTED_SECONDS = 1.0
UNTRUSTED_VALUE_BYTES = 1_000_000
_PROGRESS_INSTRUCTIONS = 10_000
_BUSY_STEP = 0.0003
_BUSY_SHARE = 0.1
"""Who waits for a writer tries again after that many seconds, or that share of the time it has waited already."""

_BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
# A reader without write access meets these while a writer makes the file, and when a killed writer left a hot journal.
_HALF_MADE_CODES = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT})
_DAMAGED_CODES = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_FORMAT}
)

# What the real schema needs, and little more: a schema is parsed before anything can interrupt it.
_UNTRUSTED_LIMITS = {
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 8_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 50,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 20,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 8,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 2,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
}

# Which of some names are ordinary tables, each with the number of its columns that a reader would compute.
ORDINARY_TABLES = """
SELECT t.name, (SELECT count(*) FROM pragma_table_xinfo(t.name) AS c WHERE c.hidden <> 0) AS computed
FROM sqlite_master AS t WHERE t.type = 'table' AND upper(t.sql) NOT LIKE 'CREATE VIRTUAL%'
    AND t.name IN (SELECT value FROM json_each(?))
"""

_COLUMNS = frozenset({"pragma_table_xinfo"})
_SCHEMA = frozenset({"sqlite_master"}) | _COLUMNS
_READ_ACTIONS = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_PRAGMA,
    }
)


def open_writer(
    path: Path, *, create: bool = False, journal_mode: str = "DELETE", busy_seconds: float = BUSY_SECONDS
) -> sqlite3.Connection:
    """A connection that may write. `create` makes a missing file; otherwise that is a `FileTrouble`.

    `busy_seconds` is how long it waits for a reader or writer that holds the file.
    """
    with _translated(path):
        is_wal = journal_mode == "WAL"
        connection = _connect(path, "rwc" if create else "rw", busy_seconds)
        try:
            connection.execute(f"PRAGMA journal_mode = {'WAL' if is_wal else 'DELETE'}")
            connection.execute(f"PRAGMA synchronous = {'FULL' if is_wal else 'EXTRA'}")
            connection.execute("PRAGMA foreign_keys = ON")
            # An UPDATE keeps a statement journal, and without this it opens a file in the system's folder for that.
            connection.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            connection.close()
            raise
        return connection


def open_reader(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A read-only connection to a file of the host's own making."""
    with _translated(path):
        return _connect(path, "ro", busy_seconds)  # SQLite refuses to write what was opened so


@contextmanager
def writer(path: Path, *, create: bool = False, busy_seconds: float = BUSY_SECONDS) -> Iterator[sqlite3.Connection]:
    """Open, one `BEGIN IMMEDIATE` transaction, close. Rolls back when the block raises."""
    with (
        _translated(path),
        closing(open_writer(path, create=create, busy_seconds=busy_seconds)) as connection,
        transaction(connection),
    ):
        yield connection


@contextmanager
def reader(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> Iterator[sqlite3.Connection]:
    """Open read-only, one snapshot, close."""
    with (
        _translated(path),
        closing(open_reader(path, busy_seconds=0)) as connection,
        snapshot(connection, busy_seconds=busy_seconds),
    ):
        yield connection


@contextmanager
def untrusted_reader(
    path: Path,
    *,
    seconds: float = UNTRUSTED_SECONDS,
    value_bytes: int = UNTRUSTED_VALUE_BYTES,
    tables: frozenset[str] = frozenset(),
) -> Iterator[sqlite3.Connection]:
    """One snapshot of a file that an attacker may have written.

    Read-only, no memory mapping, no trust in the file's schema. Only `tables` can be read, each an ordinary table (no
    view, no virtual table, no computed column), or without any the schema alone; no value longer than `value_bytes`; a
    statement that runs beyond `seconds` from the beginning of the block ends with `FileBusy`. SQLite asks for that
    between its steps only, so schemas whose single steps are slow are refused by size. Text that is not UTF-8 gets
    replacement characters.
    """
    with _translated(path), closing(_connect(path, "ro", 0, of_agent=True)) as connection:
        deadline = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_INSTRUCTIONS)
        for limit, value in (_UNTRUSTED_LIMITS | {sqlite3.SQLITE_LIMIT_LENGTH: value_bytes}).items():
            connection.setlimit(limit, value)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        for pragma in ("trusted_schema = OFF", "mmap_size = 0", "query_only = ON", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {pragma}")
        readable = tables | _COLUMNS if tables else _SCHEMA
        with snapshot(connection, busy_seconds=UNTRUSTED_BUSY_SECONDS):
            _require_ordinary_tables(connection, tables, path)
            connection.set_authorizer(
                lambda action, first, _second, _database, source: (
                    sqlite3.SQLITE_OK
                    if action in _READ_ACTIONS
                    and source is None
                    and (action != sqlite3.SQLITE_READ or first in readable)
                    else sqlite3.SQLITE_DENY
                )
            )
            yield connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """`BEGIN IMMEDIATE` to `COMMIT`; `ROLLBACK` when the block or the commit raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection, *, busy_seconds: float | None = None) -> Iterator[sqlite3.Connection]:
    """A read transaction: all reads in the block see one state of the file.

    `busy_seconds` is how long a writer is waited for, of a connection that was opened with 0.
    """
    connection.execute("BEGIN")
    try:
        if busy_seconds is not None:
            _take_read_lock(connection, busy_seconds)
        yield connection
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _take_read_lock(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Wait for a writer in short steps.

    Who reads at a notification of a commit, which is the end of its journal, always meets the writer: it syncs the
    folder before it lets readers in. SQLite would try again after 1, 3, 8 and 18 ms.
    """
    began = time.monotonic()
    while True:
        try:
            connection.execute("PRAGMA schema_version")
            return
        except sqlite3.OperationalError as error:
            waited = time.monotonic() - began
            if error.sqlite_errorcode & 0xFF not in _BUSY_CODES or waited >= busy_seconds:
                raise
        time.sleep(min(max(_BUSY_STEP, waited * _BUSY_SHARE), busy_seconds - waited))


@contextmanager
def in_memory() -> Iterator[sqlite3.Connection]:
    """A database without a file, for as long as the block lasts."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def copy_whole(source: sqlite3.Connection, target: Path) -> None:
    """One state of a database as a file of its own, while others write; on the disk and checked when this returns.

    The file is made, with mode 0600, or emptied. Raises `FileTrouble`; then there is no file.
    """
    try:
        with _translated(target):
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            with closing(_connect(target, "rw", BUSY_SECONDS)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a companion
            require_sound(target)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise FileTrouble(f"the copy cannot be written: {words_of(error)}", where=target) from error
    except FileTrouble:
        target.unlink(missing_ok=True)
        raise


def require_sound(path: Path) -> None:
    """Check that a file of the host's own making is whole. Raises `FileDamaged`, `FileTrouble`."""
    with _translated(path), closing(_connect(path, "ro", BUSY_SECONDS)) as connection:
        found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if found != "ok":
        raise FileDamaged(f"the file is damaged: {found}", where=path)


RAISE_SEQUENCE = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?"
BEGIN_SEQUENCE = """
INSERT INTO sqlite_sequence (name, seq) SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?)
"""


def mend(path: Path, *, sequence: tuple[str, int] | None = None) -> None:
    """Undo the interrupted commit of a copy of an untrusted file, if a journal lies beside it. Nothing of it is run.

    `sequence` names a table and a number above which its next row is numbered. The path must be the caller's own.
    Raises `FileTrouble`.
    """
    with _translated(path), closing(_connect(path, "rw", BUSY_SECONDS)) as connection:
        for limit, value in _UNTRUSTED_LIMITS.items():
            connection.setlimit(limit, value)
        try:
            connection.execute("BEGIN IMMEDIATE")  # taking the lock rolls back; the schema is not even read
            if sequence is not None:
                table, number = sequence
                connection.set_authorizer(_only_the_sequence)
                connection.execute(RAISE_SEQUENCE, (number, table))
                connection.execute(BEGIN_SEQUENCE, (table, number, table))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY:
                raise
            # The disk is not: the copy was just written there. The header says so, and will tomorrow.
            raise FileDamaged("its header forbids writing", where=path) from error
        connection.execute("COMMIT")


class _Connection(sqlite3.Connection):
    """A connection whose file is held open beside it, until after SQLite has closed it."""

    held: HeldFile | None = None

    def close(self) -> None:
        super().close()
        if self.held is not None:
            self.held.release()


def _only_the_sequence(action: int, first: str | None, *_: str | None) -> int:
    """What `mend` does, and nothing that the file's schema would like to be done as well."""
    if action in (sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_READ):
        return sqlite3.SQLITE_OK if first == "sqlite_sequence" else sqlite3.SQLITE_DENY
    harmless = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_TRANSACTION)
    return sqlite3.SQLITE_OK if action in harmless else sqlite3.SQLITE_DENY


def _connect(path: Path, mode: str, busy_seconds: float, *, of_agent: bool = False) -> sqlite3.Connection:
    # A file that is to be made is held once SQLite has made it.
    held = None if mode == "rwc" else _hold(path, write=mode == "rw", of_agent=of_agent)
    try:
        connection = sqlite3.connect(
            f"file:{_quoted(path)}?mode={mode}",
            uri=True,
            timeout=busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        connection.held = held if held is not None else _hold(path, write=True, of_agent=False)
    except BaseException:
        if held is not None:
            held.release()
        raise
    connection.row_factory = sqlite3.Row
    return connection


def _quoted(path: Path) -> str:
    """A path as SQLite reads it in a URI: three characters mean something there. (`urllib` is a tenth of a start.)"""
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _hold(path: Path, *, write: bool, of_agent: bool) -> HeldFile:
    try:
        return hold(path, write=write, follow=not of_agent)
    except FileNotFoundError as error:
        raise FileBusy("the file cannot be used at the moment: it is not there", where=path) from error
    except OSError as error:
        raise trouble(error, "the file cannot be opened", path, of_agent=of_agent) from error


def _require_ordinary_tables(connection: sqlite3.Connection, tables: frozenset[str], path: Path) -> None:
    found = {row["name"]: row["computed"] for row in connection.execute(ORDINARY_TABLES, (json.dumps(sorted(tables)),))}
    if missing := sorted(tables - found.keys()):
        raise FileDamaged(f"the table {missing[0]} is missing", where=path)
    if computed := sorted(name for name, columns in found.items() if columns):
        raise FileDamaged(f"the table {computed[0]} has computed columns", where=path)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours. A `FileTrouble` from within passes unchanged."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error
    except UnicodeDecodeError as error:  # the sqlite3 module could not read SQLite's own message
        raise FileDamaged("the file cannot be read: its schema is no text", where=path) from error


def translate(error: sqlite3.Error, path: Path) -> FileTrouble:
    """The `FileTrouble` that says the same as an error of the sqlite3 module."""
    extended = getattr(error, "sqlite_errorcode", None)
    code = None if extended is None else extended & 0xFF
    if extended == sqlite3.SQLITE_READONLY:  # its kinds are journals that only a writer can roll back
        return FileTrouble("the file is read-only", where=path, hint="see whether its disk was mounted read-only")
    if code in _BUSY_CODES or code in _HALF_MADE_CODES:
        return FileBusy(f"the file cannot be used at the moment: {error}", where=path)
    if code in _DAMAGED_CODES or extended == sqlite3.SQLITE_IOERR_SHORT_READ or isinstance(error, sqlite3.DataError):
        return FileDamaged(f"the file cannot be read: {error}", where=path)
    if code == sqlite3.SQLITE_FULL:
        return FileTrouble("the disk is full", where=path, hint="free some space; nothing that was accepted is lost")
    if code == sqlite3.SQLITE_ERROR:
        return FileDamaged(f"the file has not the expected form: {error}", where=path)
    return FileTrouble(f"the file cannot be used: {error}", where=path)
