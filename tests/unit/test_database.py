"""The one place that opens SQLite: files of the host's own making."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median

import pytest

from shared_schema.database import open_reader, open_writer, reader, snapshot, transaction, translate, writer
from shared_schema.errors import FileBusy, FileDamaged, FileTrouble


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with one table and one row."""
    path = tmp_path / "a file? with #odd%20 name.db"
    with writer(path, create=True) as connection:
        connection.execute(
            "CREATE TABLE t (n INTEGER PRIMARY KEY, other REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED)"
        )
        connection.execute("INSERT INTO t VALUES (1, NULL)")
    return path


def numbers(path: Path) -> list[int]:
    with reader(path) as connection:
        return [row["n"] for row in connection.execute("SELECT n FROM t ORDER BY n")]


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_what_a_writer_wrote_is_there_after_the_block(path: Path) -> None:
    with writer(path) as connection:
        connection.execute("INSERT INTO t VALUES (2, NULL)")
    assert numbers(path) == [1, 2]


def test_a_block_that_raises_leaves_the_file_as_it_was(path: Path) -> None:
    before = path.read_bytes()

    def write_half() -> None:
        with writer(path) as connection:
            connection.execute("INSERT INTO t VALUES (2, NULL)")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_half()
    assert path.read_bytes() == before


def test_a_commit_that_fails_is_rolled_back_and_leaves_no_transaction_open(path: Path) -> None:
    with closing(open_writer(path)) as connection:
        with pytest.raises(sqlite3.IntegrityError), transaction(connection):
            connection.execute("INSERT INTO t VALUES (2, 99)")
        assert not connection.in_transaction
        with transaction(connection):
            connection.execute("INSERT INTO t VALUES (3, 1)")
    assert numbers(path) == [1, 3]


def test_a_writer_does_not_make_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileTrouble, match="missing"), writer(tmp_path / "missing.db"):
        pytest.fail("there is nothing to write to")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_does_not_make_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileTrouble, match="missing"), reader(tmp_path / "missing.db"):
        pytest.fail("there is nothing to read")
    assert list(tmp_path.iterdir()) == []


def test_session_files_are_flushed_at_every_commit_and_keep_a_rollback_journal(path: Path) -> None:
    with closing(open_writer(path)) as connection:
        assert pragma(connection, "journal_mode") == "delete"
        # EXTRA: the folder is synced after the journal is removed, sqlite.org/pragma.html#pragma_synchronous
        assert pragma(connection, "synchronous") == 3
        assert pragma(connection, "foreign_keys") == 1
        assert connection.isolation_level is None


def test_a_file_that_was_left_in_wal_goes_back_to_a_rollback_journal(path: Path) -> None:
    with closing(open_writer(path, journal_mode="WAL")) as connection:
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "synchronous") == 2
    with closing(open_writer(path)) as connection:
        assert pragma(connection, "journal_mode") == "delete"
    assert path.read_bytes()[18:20] == b"\x01\x01"  # the header's read and write versions: no WAL


def test_a_reader_cannot_write(path: Path) -> None:
    with pytest.raises(FileTrouble), reader(path) as connection:
        connection.execute("INSERT INTO t VALUES (2, NULL)")
    assert numbers(path) == [1]


def test_a_snapshot_does_not_see_what_is_committed_meanwhile(path: Path) -> None:
    with closing(open_writer(path, journal_mode="WAL")) as other, closing(open_reader(path)) as connection:
        with snapshot(connection):
            assert pragma_count(connection) == 1
            other.execute("INSERT INTO t VALUES (2, NULL)")
            assert pragma_count(connection) == 1
        assert pragma_count(connection) == 2


def pragma_count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


def test_a_locked_file_is_busy_and_not_damaged(path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
            "c.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read()",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FileBusy), reader(path, busy_seconds=0.1) as connection:
            connection.execute("SELECT n FROM t").fetchall()
        holder.communicate()
    assert numbers(path) == [1]


@pytest.mark.parametrize("content", [b"this is no database at all, " * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.db").write_bytes(content)
    with pytest.raises(FileDamaged, match=r"x\.db"), reader(tmp_path / "x.db") as connection:
        connection.execute("SELECT * FROM sqlite_master").fetchall()


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("it says so")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "kind", "what"),
    [
        (sqlite3.SQLITE_BUSY, FileBusy, "cannot be used at the moment"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, FileBusy, "cannot be used at the moment"),
        (sqlite3.SQLITE_LOCKED, FileBusy, "cannot be used at the moment"),
        (sqlite3.SQLITE_CANTOPEN, FileBusy, "cannot be used at the moment"),
        (sqlite3.SQLITE_READONLY_ROLLBACK, FileBusy, "cannot be used at the moment"),
        (sqlite3.SQLITE_INTERRUPT, FileBusy, "cannot be used at the moment"),
        (sqlite3.SQLITE_CORRUPT, FileDamaged, "cannot be read"),
        (sqlite3.SQLITE_CORRUPT_INDEX, FileDamaged, "cannot be read"),
        (sqlite3.SQLITE_NOTADB, FileDamaged, "cannot be read"),
        (sqlite3.SQLITE_TOOBIG, FileDamaged, "cannot be read"),
        (sqlite3.SQLITE_ERROR, FileDamaged, "has not the expected form"),
        (sqlite3.SQLITE_FULL, FileTrouble, "the disk is full"),
        (sqlite3.SQLITE_IOERR, FileTrouble, "cannot be used"),
        (sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, FileTrouble, "cannot be used"),
    ],
)
def test_an_error_of_sqlite_says_whether_trying_again_helps(code: int, kind: type[FileTrouble], what: str) -> None:
    translated = translate(sqlite_error(code), Path("/some/file.db"))
    assert type(translated) is kind
    assert what in translated.what
    assert translated.where == "/some/file.db"


def test_a_reader_comes_in_sooner_behind_its_writer_than_sqlite_alone_would(path: Path) -> None:
    """A commit holds the file for some milliseconds more, once its journal is gone and readers are told of it."""

    def by_itself() -> None:
        with closing(open_reader(path)) as connection:
            connection.execute("SELECT count(*) FROM t").fetchone()

    def by_ours() -> None:
        with reader(path) as connection:
            connection.execute("SELECT count(*) FROM t").fetchone()

    late: dict[Callable[[], None], list[float]] = {by_itself: [], by_ours: []}
    for read in [by_itself, by_ours] * 15:
        with closing(open_writer(path)) as writing:
            writing.execute("BEGIN EXCLUSIVE")
            over: list[float] = []

            def end(writing: sqlite3.Connection = writing, over: list[float] = over) -> None:
                writing.execute("ROLLBACK")
                over.append(time.perf_counter())

            timer = threading.Timer(0.009, end)  # between two tries of SQLite: it comes 8 and 18 ms after the first
            timer.start()
            read()
            came = time.perf_counter()
            timer.join()
            late[read].append(came - over[0])
    assert median(late[by_ours]) < median(late[by_itself]) / 2, late
