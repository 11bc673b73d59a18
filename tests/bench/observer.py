"""Looking at a host from outside: a process that notes when a commit on one of a session's two files was done.

SQLite deletes the journal then, so nothing in the host is replaced. Times are those of `time.perf_counter`, which Linux
counts alike in all processes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from shared_schema.layout import OUTBOUND, SessionLayout
from tests.bench import inotify

LAST = "SELECT content FROM messages_out ORDER BY seq DESC LIMIT 1"
_LIMIT_SECONDS = 30.0
_STEP = 0.0001


class Observer:
    """The other end of such a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def next(self) -> tuple[float, str]:
        """The next commit: when it was done, and on which file. Raises `TimeoutError`."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_LIMIT_SECONDS):
            when, _, what = (await self._process.stdout.readline()).decode().partition(" ")
        return float(when), what.strip()


@asynccontextmanager
async def observing(folder: Path, *, reads: bool = False) -> AsyncIterator[Observer]:
    """An observer of a session's folder that is ready.

    With `reads` it is one of `outbound.db` alone, and says of each commit when it had read the file, and when it was
    told, in place of the name.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, str(folder), *(["reads"] if reads else [])),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is not for it
    )
    try:
        observer = Observer(process)
        await observer.next()
        yield observer
    finally:
        process.kill()
        await process.wait()


def _journals(folder: Path) -> None:
    layout = SessionLayout(folder)
    descriptor = inotify.watch(inotify.DELETE, layout.folder, layout.out)
    _say("ready")
    while True:
        for name in inotify.names(descriptor):
            if name.endswith("-journal"):
                _say(name.removesuffix("-journal"))


def _reads(folder: Path) -> None:
    layout = SessionLayout(folder)
    descriptor = inotify.watch(inotify.DELETE, layout.out)
    _say("ready")
    while True:
        for name in inotify.names(descriptor):
            if name == f"{OUTBOUND}-journal":
                told = time.perf_counter()
                _read(layout.out / OUTBOUND)
                _say(str(told))


def _read(path: Path) -> None:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)) as connection:
        while True:
            try:
                connection.execute(LAST).fetchone()
            except sqlite3.OperationalError:
                time.sleep(_STEP)
            else:
                return


def _say(what: str) -> None:
    print(time.perf_counter(), what, flush=True)


if __name__ == "__main__":
    (_reads if "reads" in sys.argv else _journals)(Path(sys.argv[1]))
