"""What unit tests share: a clock that stands still, and central.db as an open file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from host.central.database import Central, Transaction
from shared_schema.clock import ManualClock, from_text
from shared_schema.database import open_writer
from tests.support.registry import make_registry, open_central


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves when told to."""
    return ManualClock()


@pytest.fixture
async def central(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Central]:
    """The open registry in `tmp_path/central.db`."""
    opened = await asyncio.to_thread(open_central, tmp_path / "central.db", clock)
    yield opened
    await asyncio.to_thread(opened.close)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Transaction]:
    """One transaction after the other on a fresh central.db, for the functions that take one."""
    make_registry(tmp_path / "central.db")
    with closing(open_writer(tmp_path / "central.db", journal_mode="WAL")) as connection:
        yield Transaction(connection, from_text("2026-02-28T12:00:00.000Z"))
