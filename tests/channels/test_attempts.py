"""What a channel has begun to send is known afterwards, however many others were begun meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from host.central.database import Central
from host.channels.attempts import KEPT, PLACES, Attempts
from host.channels.state import CentralState
from shared_schema.clock import SystemClock
from tests.support.registry import open_central


@pytest.fixture
def central(tmp_path: Path) -> Iterator[Central]:
    opened = open_central(tmp_path / "central.db", SystemClock())
    yield opened
    opened.close()


async def test_more_messages_than_there_are_places_are_all_known_by_the_next_host(central: Central) -> None:
    state = CentralState(central, SystemClock(), "email")
    marks = [f"<message-{number}@example.org>" for number in range(2 * PLACES)]
    attempts = Attempts(state)
    assert set(await asyncio.gather(*(attempts.begin(mark, f"note of {mark}") for mark in marks))) == {None}
    again = Attempts(state)
    assert await asyncio.gather(*(again.begin(mark) for mark in marks)) == [f"note of {mark}" for mark in marks]


async def test_what_is_kept_is_bounded_and_what_is_tried_again_stays(central: Central) -> None:
    attempts = Attempts(CentralState(central, SystemClock(), "email"))
    await attempts.begin("it rests", "since noon")
    for number in range(40):
        await asyncio.gather(*(attempts.begin(f"{number}/{each}") for each in range(4 * KEPT)))
        assert await attempts.begin("it rests") == "since noon"
    rows = await central.read(lambda c: c.execute("SELECT value FROM channel_state").fetchall())
    assert len(rows) <= PLACES
    assert sum(row["value"].count(": ") for row in rows) <= PLACES * KEPT
    assert max(row["value"].count(": ") for row in rows) <= KEPT
