"""Looking at a host from outside: a process that notes when a commit on one of a session's two files was done.

SQLite deletes the journal then, so nothing in the host is replaced. Times are those of `time.perf_counter`, which Linux
counts alike in all processes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from shared_schema.layout import SessionLayout
from tests.bench import inotify

_LIMIT_SECONDS = 30.0


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
async def observing(folder: Path) -> AsyncIterator[Observer]:
    """An observer of a session's folder that is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, str(folder)),
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


def _say(what: str) -> None:
    print(time.perf_counter(), what, flush=True)


if __name__ == "__main__":
    _journals(Path(sys.argv[1]))
