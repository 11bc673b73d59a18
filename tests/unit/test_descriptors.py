"""Opening session files: nobody can make it wait, and no close drops the locks of a connection."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from shared_schema.database import open_reader, open_writer, untrusted_reader
from shared_schema.descriptors import hold
from shared_schema.errors import FileBusy

PROMPT = 2.0  # seconds; a lease is taken away after 45

LEASE = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDONLY)
try:
    fcntl.fcntl(file, fcntl.F_SETLEASE, getattr(fcntl, sys.argv[2]))
except OSError as error:
    print(error.strerror, flush=True)
else:
    print("leased", flush=True)
    sys.stdin.read()
"""

WRITES = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], timeout=0) as connection:
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("INSERT INTO t VALUES (2)")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(open_writer(tmp_path / "a.db", create=True)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (1)")
    return tmp_path / "a.db"


@contextmanager
def leased(path: Path, kind: str) -> Iterator[str]:
    """Somebody holds a lease on the file, or says why he cannot."""
    with subprocess.Popen(
        [sys.executable, "-c", LEASE, str(path), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def descriptors_of(path: Path) -> int:
    """How many descriptors this process has of a file."""
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sum(os.path.exists(link) and os.path.samefile(link, path) for link in links)


needs_leases = pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="this system has no leases")


@needs_leases
def test_a_lease_on_a_file_makes_no_reader_wait(path: Path) -> None:
    with leased(path, "F_WRLCK") as said:
        assert said == "leased"
        began = time.monotonic()
        with pytest.raises(FileBusy, match="lease"):
            open_reader(path)
        with pytest.raises(FileBusy, match="lease"), untrusted_reader(path, tables=frozenset({"t"})):
            pass
        assert time.monotonic() - began < PROMPT


@needs_leases
@pytest.mark.parametrize("kind", ["F_RDLCK", "F_WRLCK"])
def test_a_lease_on_a_file_makes_no_writer_wait(path: Path, kind: str) -> None:
    with leased(path, kind) as said:
        assert said == "leased"
        began = time.monotonic()
        with pytest.raises(FileBusy, match="lease"):
            open_writer(path)
        assert time.monotonic() - began < PROMPT


@needs_leases
def test_no_lease_can_be_taken_between_our_open_and_that_of_sqlite(path: Path) -> None:
    held = hold(path, write=True)
    for kind in ("F_RDLCK", "F_WRLCK"):
        with leased(path, kind) as said:
            assert said == "Resource temporarily unavailable"
    held.release()


def test_a_second_look_at_a_file_leaves_the_lock_of_the_first_in_place(path: Path) -> None:
    """POSIX drops all locks of a process on a file when any descriptor of it is closed."""
    with untrusted_reader(path, tables=frozenset({"t"})) as connection:
        assert connection.execute("SELECT count(*) AS n FROM t").fetchone()["n"] == 1
        hold(path).release()
        with closing(open_reader(path)) as other:
            other.execute("SELECT * FROM t").fetchall()
        done = subprocess.run([sys.executable, "-c", WRITES, str(path)], capture_output=True, text=True, check=False)
        assert "locked" in done.stderr, "the lock of the first reader is gone"
    done = subprocess.run([sys.executable, "-c", WRITES, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_whatever_is_opened_is_closed_when_the_last_one_leaves(path: Path) -> None:
    first, second, third = hold(path), hold(path), hold(path, write=True)
    with closing(open_writer(path)), closing(open_reader(path)):
        assert descriptors_of(path) == 4  # ours for reading, ours for writing, and one of each connection
    assert first.descriptor == second.descriptor
    for held in (first, first, second, third):
        held.release()
    assert descriptors_of(path) == 0


def test_a_name_that_means_another_file_now_is_opened_anew(path: Path, tmp_path: Path) -> None:
    with closing(open_reader(path)):
        with closing(sqlite3.connect(tmp_path / "b.db")) as other:
            other.execute("CREATE TABLE other (a)")
        os.replace(tmp_path / "b.db", path)
        with closing(open_reader(path)) as connection:
            assert [row["name"] for row in connection.execute("SELECT name FROM sqlite_master")] == ["other"]
