"""Hints: soon after an agent wrote, for its own session, and never lost to what happens at the same moment."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from host.watch.choose import choose
from host.watch.inotify import InotifyWatcher
from host.watch.protocol import Watcher
from host.watch.watchfiles_watcher import WatchfilesWatcher
from shared_schema.layout import OUTBOUND
from tests.support.wait import until

SESSION = "ses_0000000000000000"
OTHER = "ses_1111111111111111"
MAKERS: dict[str, Callable[[Callable[[str], None], Callable[[], bool]], Watcher]] = {
    "inotify": lambda hint, is_busy: InotifyWatcher(hint),
    "watchfiles": WatchfilesWatcher,
}
only_inotify = pytest.mark.parametrize("watched", ["inotify"], indirect=True)
only_watchfiles = pytest.mark.parametrize("watched", ["watchfiles"], indirect=True)


class Watched:
    """Folders with an agent's file in each, and the hints that came for them."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folders = {SESSION: folder / "one", OTHER: folder / "two"}
        for place in self.folders.values():
            place.mkdir()
            with closing(sqlite3.connect(place / OUTBOUND)) as connection:
                connection.execute("CREATE TABLE t (a)")
        self.is_busy = False
        self._watched: tuple[str, ...] = ()
        self.count: Counter[str] = Counter()
        self._hinted = asyncio.Event()
        self.watcher = MAKERS[kind](self._hint, lambda: self.is_busy)

    def _hint(self, session_id: str) -> None:
        self.count[session_id] += 1
        self._hinted.set()

    async def watch(self, *sessions: str) -> None:
        """Watch these from now on, and wait until the watch of the new ones has begun."""
        self.count.clear()
        self.watcher.watch({self.folders[session]: session for session in sessions})
        for session in sessions:
            if session not in self._watched:
                await self.hint(session)
        self._watched = sessions

    def write(self, session: str = SESSION) -> None:
        """As an agent that opens its file, writes and closes it."""
        with (self.folders[session] / OUTBOUND).open("ab") as file:
            file.write(b"x")

    async def hint(self, session: str = SESSION) -> None:
        """Wait for a hint about a session, and forget it."""
        async with asyncio.timeout(5):
            while not self.count[session]:
                await self._hinted.wait()
                self._hinted.clear()
        self.count[session] = 0


@pytest.fixture(params=list(MAKERS))
async def watched(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Watched]:
    place = Watched(tmp_path, request.param)
    await place.watch(SESSION)
    yield place
    await place.watcher.close()


async def test_each_change_is_hinted(watched: Watched) -> None:
    for _ in range(20):
        watched.write()
        await watched.hint()


async def test_each_commit_of_an_agent_that_keeps_its_file_open_is_hinted(watched: Watched) -> None:
    with closing(sqlite3.connect(watched.folders[SESSION] / OUTBOUND, isolation_level=None)) as connection:
        for number in range(20):
            connection.execute("INSERT INTO t VALUES (?)", (number,))
            await watched.hint()


async def test_other_files_are_not_hinted(watched: Watched) -> None:
    (watched.folders[SESSION] / ".heartbeat").touch()
    (watched.folders[SESSION] / f"{OUTBOUND}-journal").write_bytes(b"x")
    (watched.folders[SESSION] / "outbox").mkdir()
    watched.write(OTHER)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await watched.hint()


async def test_a_folder_that_is_not_watched_any_more_gives_no_hints(watched: Watched) -> None:
    await watched.watch(SESSION, OTHER)
    await watched.watch(OTHER)

    async def only_the_other_is_hinted() -> bool:
        watched.write(SESSION)
        watched.write(OTHER)
        await watched.hint(OTHER)
        return watched.count.pop(SESSION, 0) == 0

    await until(only_the_other_is_hinted, "the watch of the first has ended")


async def test_a_folder_that_does_not_exist_takes_no_hints_from_the_others(watched: Watched, tmp_path: Path) -> None:
    watched.watcher.watch({tmp_path / "nowhere": "ses_2222222222222222", watched.folders[SESSION]: SESSION})
    watched.write()
    await watched.hint()


@only_watchfiles
async def test_a_change_at_the_moment_of_a_poke_is_not_lost(watched: Watched) -> None:
    for number in range(100):
        watched.is_busy = number % 2 == 0
        watched.write()
        await asyncio.sleep(0.0003 * (number % 20))  # the poke meets the watcher in every one of its moments
        watched.count.clear()
        watched.write()
        watched.watcher.poll_now()
        await watched.hint()


@pytest.mark.alone
@only_inotify
async def test_an_agent_that_makes_events_without_end_is_heard_only_so_often_and_the_others_at_once(
    watched: Watched,
) -> None:
    await watched.watch(SESSION, OTHER)
    with flood(watched.folders[SESSION]):
        began = time.monotonic()
        for _ in range(20):
            watched.write(OTHER)
            await watched.hint(OTHER)
        longest = (time.monotonic() - began) / 20
        await asyncio.sleep(0.5)
        took = time.monotonic() - began
    assert longest < 0.1
    assert 0 < watched.count[SESSION] < 150 + 1100 * took


@contextmanager
def flood(folder: Path) -> Iterator[None]:
    """Somebody makes and removes two journals in turn, as fast as it goes."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            for name in (f"{OUTBOUND}-journal", "another"):
                (folder / name).touch()
                (folder / name).unlink()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(("notify", "made"), [("off", None), ("watchfiles", WatchfilesWatcher)])
async def test_a_person_chooses_what_gives_hints(notify: str, made: type[Watcher] | None) -> None:
    watcher = choose(notify, lambda session_id: None, lambda: False)  # type: ignore[arg-type]
    assert watcher is None if made is None else isinstance(watcher, made)
    if watcher is not None:
        await watcher.close()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is a thing of Linux")
async def test_on_linux_the_kernel_gives_them() -> None:
    watcher = choose("auto", lambda session_id: None, lambda: False)
    assert isinstance(watcher, InotifyWatcher)
    await watcher.close()
