"""Disks that fail: real ones that are too small, and one that does to writes what it is told. All need root.

Where they cannot be had the test is skipped, in one sentence.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_WRITES = ("write", "make")
_CHANGES = ("write", "make", "change", "remove", "open")


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of so many bytes on a folder, which is made if need be."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0711", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all the space that is left; the file that holds it."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


class TroubledDisk:
    """A disk in perfect order until it is told otherwise. Made by `troubled_disk`.

    `within` limits a trouble to what lies below a path, given from the disk's root.
    """

    def __init__(self, folder: Path, server: subprocess.Popen[str]) -> None:
        self.folder = folder
        self._server = server

    def is_full(self, within: Path | str = "") -> None:
        """Nothing can be written or made any more; what is there can be renamed and removed."""
        self._set(_fault(_WRITES, errno.ENOSPC, within))

    def is_read_only(self, within: Path | str = "") -> None:
        """As when the kernel takes a failing disk read-only under everybody who writes to it."""
        self._set(_fault(_CHANGES, errno.EROFS, within))

    def fails(self, within: Path | str = "", *, on: Collection[str] = ("write", "sync")) -> None:
        """Input/output errors."""
        self._set(_fault(on, errno.EIO, within))

    def is_slow(self, seconds: float, *, on: Collection[str] = ("write", "sync")) -> None:
        """Every write, and every flush, takes so long."""
        self._set(_fault(on, 0, "", seconds))

    def is_well(self) -> None:
        """The trouble is over."""
        self._set()

    def close(self) -> None:
        """Unmount it."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(10)

    def _set(self, *faults: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(faults) + "\n")
        self._server.stdin.flush()
        assert self._server.stdout.readline() == "ok\n"


@contextmanager
def troubled_disk(folder: Path) -> Iterator[TroubledDisk]:
    """A disk on a folder, which is made; what is on it lies beside it."""
    mirrored = folder.with_name(f"{folder.name}.mirrored")
    for each in (mirrored, folder):
        each.mkdir()
        each.chmod(0o755)
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("a disk that fails can only be made by root, with /dev/fuse")
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.fuse", str(mirrored), str(folder)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    disk = TroubledDisk(folder, server)
    try:
        if server.stdout.readline() != "ok\n":
            pytest.skip("a disk that fails cannot be mounted here")
        yield disk
    finally:
        disk.close()
        server.stdout.close()


def _fault(on: Collection[str], number: int, within: Path | str, seconds: float = 0.0) -> dict[str, Any]:
    return {"on": list(on), "errno": number, "seconds": seconds, "within": str(within)}
