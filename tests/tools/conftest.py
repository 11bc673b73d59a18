"""Fixtures for the tests of tools."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.session import BareSession
from tests.support.wait import until
from tests.tools.bench import Turn


@pytest.fixture
def session(tmp_path: Path) -> BareSession:
    """A session folder with both files and no rows."""
    return BareSession(tmp_path)


@pytest.fixture
async def turn(session: BareSession) -> AsyncIterator[Turn]:
    """A turn over one message."""
    turn = Turn(session)
    async with turn.at_end:
        yield turn
    await turn.processes.close()
    await until(lambda: turn.processes.are_gone, "its processes are gone")
