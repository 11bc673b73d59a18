"""Fixtures for the agent's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.session import BareSession


@pytest.fixture
def session(tmp_path: Path) -> BareSession:
    """A session folder with both files and no rows."""
    return BareSession(tmp_path)
