"""Folders that other users of the machine can reach; those that pytest makes are closed to them."""

from __future__ import annotations

import ctypes
import os
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


def exchange(one: Path, other: Path) -> None:
    """Each takes the place of the other at once: nobody finds a place empty. Linux's."""
    libc = ctypes.CDLL(None, use_errno=True)
    here, at_once = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), at_once) != 0:
        raise OSError(ctypes.get_errno(), f"{one} and {other} cannot be exchanged")
