"""Fixtures for the providers' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.session import BareSession
from tests.platforms.model_server import ModelServer, model_server


@pytest.fixture
def session(tmp_path: Path) -> BareSession:
    """A session folder with both files and no rows."""
    return BareSession(tmp_path)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """A fake model service."""
    async with model_server() as running:
        yield running
