"""A mount as between machines: bindfs with NFS's caches and without locks, over a folder of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CACHES = "attr_timeout=3,entry_timeout=3,negative_timeout=3"


@contextmanager
def late_mount(folder: Path, at: Path) -> Iterator[Path]:
    """`folder` as another machine sees it: sizes, new names and deletions are three seconds late, no lock crosses."""
    if shutil.which("bindfs") is None or os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("a late mount needs root, bindfs and /dev/fuse")
    at.mkdir()
    subprocess.run(["bindfs", "-o", CACHES, str(folder), str(at)], check=True, timeout=60)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True, timeout=60)
