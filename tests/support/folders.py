"""Folders that other users of the machine can reach; those that pytest makes are closed to them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may pass through."""
    with tempfile.TemporaryDirectory(prefix="dw-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
