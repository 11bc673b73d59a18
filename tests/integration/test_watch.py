"""Hints: soon after an agent wrote, and never lost to what happens at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from host.watch import Watcher
from shared_schema.layout import OUTBOUND

SESSION = "ses_0000000000000000"


class Watched:
    """A watched folder; `write` changes the agent's file, `hinted` is set by each hint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_busy = False
        self.hinted = asyncio.Event()
        self.watcher = Watcher(lambda session_id: self.hinted.set(), lambda: self.is_busy)

    def write(self) -> None:
        with (self.folder / OUTBOUND).open("ab") as file:
            file.write(b"x")

    async def hint(self) -> None:
        async with asyncio.timeout(5):
            await self.hinted.wait()
        self.hinted.clear()


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    folder = Watched(tmp_path)
    folder.watcher.watch({tmp_path: SESSION})
    await folder.hint()  # the watch has begun
    yield folder
    folder.watcher.close()


async def test_each_change_is_hinted(watched: Watched) -> None:
    for _ in range(20):
        watched.write()
        await watched.hint()


async def test_a_change_at_the_moment_of_a_poke_is_not_lost(watched: Watched) -> None:
    for number in range(100):
        watched.is_busy = number % 2 == 0
        watched.write()
        await asyncio.sleep(0.0003 * (number % 20))  # the poke meets the watcher in every one of its moments
        watched.hinted.clear()
        watched.write()
        watched.watcher.poke()
        await watched.hint()


async def test_other_files_are_not_hinted(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / ".heartbeat").touch()
    (tmp_path / f"{OUTBOUND}-journal").write_bytes(b"x")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await watched.hinted.wait()


async def test_a_folder_that_does_not_exist_takes_no_hints_from_the_others(watched: Watched, tmp_path: Path) -> None:
    watched.watcher.watch({tmp_path: SESSION, tmp_path / "nowhere": "ses_1111111111111111"})
    await watched.hint()
    watched.write()
    await watched.hint()
