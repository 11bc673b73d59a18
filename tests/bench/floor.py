"""The floors that SQLite sets: what the machine needs for the commits and wake-ups no system of this design can avoid.

DELETE mode, `synchronous=FULL`, blocking inotify, plain `sqlite3`, nothing else.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Self

from tests.bench import inotify


class PingPong:
    """Two bare processes that pass a message back and forth through two files. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._there, self._back = folder / "there.db", folder / "back.db"
        folder.mkdir()
        for path in (self._there, self._back):
            make_file(path)

    def __enter__(self) -> Self:
        self._incoming = inotify.watch(inotify.CLOSE_WRITE, self._back)
        command = [sys.executable, "-m", __name__, str(self._there), str(self._back)]
        self._partner = subprocess.Popen(command, start_new_session=True)  # Ctrl-C is not for it
        inotify.wait(self._incoming)  # it has written its readiness
        return self

    def __exit__(self, *_: object) -> None:
        self._partner.kill()
        self._partner.wait()
        os.close(self._incoming)

    def round(self) -> float:
        """Seconds for one message there and its answer back."""
        began = time.perf_counter()
        write(self._there)
        inotify.wait(self._incoming)
        _read(self._back)
        return time.perf_counter() - began


def make_file(path: Path) -> None:
    """A file for `write`."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE m (seq INTEGER PRIMARY KEY, text)")


def write(path: Path) -> float:
    """One bare write: open, insert, commit, close. Seconds."""
    began = time.perf_counter()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO m (text) VALUES ('hello')")
        connection.execute("COMMIT")
    return time.perf_counter() - began


def _answer(there: Path, back: Path) -> None:
    """The other process, until it is killed."""
    incoming = inotify.watch(inotify.CLOSE_WRITE, there)
    write(back)
    while True:
        inotify.wait(incoming)
        _read(there)
        write(back)


def _read(path: Path) -> None:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.execute("SELECT seq, text FROM m ORDER BY seq DESC LIMIT 1").fetchone()


if __name__ == "__main__":
    _answer(Path(sys.argv[1]), Path(sys.argv[2]))
