"""Looking at a host from outside: processes that note when something has happened, so that nothing in it is replaced.

`written`   when the ledger's newest message is the expected one and `written`
`journals`  when a commit on one of a session's two files was done: SQLite deletes its journal then

Times are those of `time.perf_counter`, which Linux counts alike in all processes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from shared_schema.layout import SessionLayout
from tests.bench import inotify

_LAST = "SELECT platform_message_id, state FROM ingest ORDER BY position DESC LIMIT 1"
_STEP_SECONDS = 0.000_05
_LIMIT_SECONDS = 30.0


class Observer:
    """The other end of such a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def expect(self, message: str) -> None:
        """Name the message that comes next."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{message}\n".encode())

    async def next(self) -> tuple[float, str]:
        """The next thing that happened: when, and what. Raises `TimeoutError`."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_LIMIT_SECONDS):
            when, _, what = (await self._process.stdout.readline()).decode().partition(" ")
        return float(when), what.strip()


@asynccontextmanager
async def observing(what: str, path: Path) -> AsyncIterator[Observer]:
    """An observer that is ready. `path` is that of central.db (`written`) or of a session's folder (`journals`)."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, what, str(path)),
        stdin=asyncio.subprocess.PIPE,
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


def _written(central: Path) -> None:
    with closing(sqlite3.connect(f"file:{central}?mode=ro", uri=True)) as connection:
        _say("ready")
        for line in sys.stdin:
            while connection.execute(_LAST).fetchone() != (line.strip(), "written"):
                time.sleep(_STEP_SECONDS)
            _say("written")


def _journals(folder: Path) -> None:
    layout = SessionLayout(folder)
    descriptor = inotify.watch(inotify.DELETE, layout.folder, layout.out)
    _say("ready")
    while True:
        for name in inotify.names(descriptor):
            if name.endswith("-journal"):
                _say(name.removesuffix("-journal"))


def _say(what: str) -> None:
    print(time.perf_counter(), what, flush=True)


if __name__ == "__main__":
    {"written": _written, "journals": _journals}[sys.argv[1]](Path(sys.argv[2]))
