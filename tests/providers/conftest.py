"""Fixtures for the providers' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.agent.session import BareSession
from tests.platforms.model_server import ModelServer, model_server

_SLOW_TO_LOAD = ("anthropic", "openai", "google", "ollama")


@pytest.fixture(scope="session", autouse=True)
def _loaded() -> None:
    """The vendors' libraries take seconds to load, and much longer on a busy machine: that is nobody's turn."""
    for name in _SLOW_TO_LOAD:
        import_module(f"pydantic_ai.models.{name}")


@pytest.fixture
def session(tmp_path: Path) -> BareSession:
    """A session folder with both files and no rows."""
    return BareSession(tmp_path)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """A fake model service."""
    async with model_server() as running:
        yield running
