"""What unit tests share: a clock that stands still, and central.db as an open file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from host.central.database import CENTRAL, Central, Transaction
from shared_schema.clock import ManualClock, from_text
from shared_schema.database import open_writer
from shared_schema.migrate import migrate


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves when told to."""
    return ManualClock()


@pytest.fixture
async def central(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Central]:
    """The open registry in `tmp_path/central.db`."""
    opened = await asyncio.to_thread(Central.open, tmp_path / "central.db", clock)
    yield opened
    await asyncio.to_thread(opened.close)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Transaction]:
    """One transaction after the other on a fresh central.db, for the functions that take one."""
    with closing(open_writer(tmp_path / "central.db", create=True, journal_mode="WAL")) as connection:
        migrate(connection, CENTRAL)
        yield Transaction(connection, from_text("2026-02-28T12:00:00.000Z"))
