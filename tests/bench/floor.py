"""The floor of a round trip: two bare processes that pass a message back and forth through two SQLite files.

DELETE mode, `synchronous=FULL`, blocking inotify, nothing else: what the machine needs for the two commits and two
wake-ups that no system of this design can do without.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

_IN_CLOSE_WRITE = 0x8
_EVENT_BYTES = 4096


def measure(rounds: int) -> list[float]:
    """Seconds of each round."""
    with tempfile.TemporaryDirectory() as name:
        there, back = Path(name, "there"), Path(name, "back")
        for folder in (there, back):
            folder.mkdir()
            with closing(sqlite3.connect(folder / "m.db")) as connection:
                connection.execute("CREATE TABLE m (seq INTEGER PRIMARY KEY, text)")
        incoming = _watched(back)
        partner = subprocess.Popen([sys.executable, "-m", "tests.bench.floor", str(there), str(back), str(rounds)])
        os.read(incoming, _EVENT_BYTES)  # it has written its readiness
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            _write(there)
            os.read(incoming, _EVENT_BYTES)
            _read(back)
            times.append(time.perf_counter() - began)
        partner.wait(10)
        os.close(incoming)
        return times


def answer(there: Path, back: Path, rounds: int) -> None:
    """The other process."""
    incoming = _watched(there)
    _write(back)
    for _ in range(rounds):
        os.read(incoming, _EVENT_BYTES)
        _read(there)
        _write(back)


def _watched(folder: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_CLOEXEC)
    libc.inotify_add_watch(descriptor, os.fsencode(folder / "m.db"), _IN_CLOSE_WRITE)
    return descriptor


def _write(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "m.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO m (text) VALUES ('hello')")
        connection.execute("COMMIT")


def _read(folder: Path) -> None:
    with closing(sqlite3.connect(f"file:{folder / 'm.db'}?mode=ro", uri=True)) as connection:
        connection.execute("SELECT seq, text FROM m ORDER BY seq DESC LIMIT 1").fetchone()


if __name__ == "__main__":
    answer(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
