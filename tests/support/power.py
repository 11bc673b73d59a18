"""A disk from under which the power is taken: what a machine finds on it after a cut.

A real file system on a loop device. What has reached the device at a moment is in its image, and a copy of the image is
what would be there if the power failed at that moment; what the file system holds back in memory is not in it. The copy
is mounted, which makes the file system recover as after a cut.

Needs root and loop devices; without them a test is skipped, in one sentence.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_MEGABYTE = 1024**2
_ATTEMPTS = 20

# How each file system is made, how large it has to be, and how it is mounted.
FILE_SYSTEMS: dict[str, tuple[list[str], int, str]] = {
    "ext4": (["mkfs.ext4", "-q", "-F"], 64, "noatime"),
    "ext4, data=writeback": (["mkfs.ext4", "-q", "-F"], 64, "noatime,data=writeback"),
    "xfs": (["mkfs.xfs", "-q", "-f"], 320, "noatime"),
    "btrfs": (["mkfs.btrfs", "-q", "-f"], 160, "noatime"),
}


class LoopDisk:
    """A mounted disk whose power can be cut, as often as wanted: it goes on, and copies of it tell what was there."""

    def __init__(self, folder: Path, image: Path, device: str, options: str, scratch: Path) -> None:
        self.folder = folder
        self._image = image
        self._statistics = Path("/sys/block") / Path(device).name / "stat"
        self._options = options
        self._scratch = scratch
        self._cuts = 0

    @contextmanager
    def after_a_cut(self, writers: Sequence[int]) -> Iterator[Path]:
        """The disk as it is found after a power cut at this moment, until the block ends. `writers` are process ids.

        They stand still while the image is copied, so that it is of one moment.
        """
        self._cuts += 1
        image = self._scratch / f"cut-{self._cuts}.img"
        for writer in writers:
            with suppress(ProcessLookupError):
                os.kill(writer, signal.SIGSTOP)
        try:
            for _ in range(_ATTEMPTS):
                before = self._statistics.read_text()
                subprocess.run(["cp", "--sparse=always", str(self._image), str(image)], check=True)
                if self._statistics.read_text() == before:
                    break
            else:
                raise AssertionError("the disk does not come to rest, although nobody writes")
        finally:
            for writer in writers:
                with suppress(ProcessLookupError):
                    os.kill(writer, signal.SIGCONT)
        found = self._scratch / f"cut-{self._cuts}"
        found.mkdir()
        try:
            subprocess.run(["mount", "-o", f"loop,{self._options}", str(image), str(found)], check=True)
            try:
                yield found
            finally:
                subprocess.run(["umount", "-l", str(found)], check=True)
        finally:
            image.unlink()


@contextmanager
def loop_disk(kind: str) -> Iterator[LoopDisk]:
    """A fresh disk with such a file system (of `FILE_SYSTEMS`)."""
    make, megabytes, options = FILE_SYSTEMS[kind]
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        pytest.skip("a disk whose power can be cut needs root and loop devices")
    if shutil.which(make[0]) is None:
        pytest.skip(f"{make[0]} is not installed")
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="power-", dir=memory if memory.is_dir() else None) as name:
        scratch = Path(name)
        scratch.chmod(0o711)
        image, folder = scratch / "disk.img", scratch / "disk"
        with image.open("wb") as file:
            file.truncate(megabytes * _MEGABYTE)
        subprocess.run([*make, str(image)], check=True, capture_output=True)
        folder.mkdir()
        with _undone() as undo:
            attached = subprocess.run(
                ["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=False
            )
            if attached.returncode != 0:
                pytest.skip(f"no loop device can be had: {attached.stderr.strip()}")
            device = attached.stdout.strip()
            undo.append(lambda: subprocess.run(["losetup", "-d", device], check=True))
            mounted = subprocess.run(
                ["mount", "-o", options, device, str(folder)], capture_output=True, text=True, check=False
            )
            if mounted.returncode != 0:
                pytest.skip(f"{kind} cannot be mounted here: {mounted.stderr.strip()}")
            undo.append(lambda: subprocess.run(["umount", "-l", str(folder)], check=True))
            folder.chmod(0o711)
            yield LoopDisk(folder, image, device, options, scratch)


@contextmanager
def _undone() -> Iterator[list[Callable[[], object]]]:
    """A list of what is done at the end, the last first."""
    undo: list[Callable[[], object]] = []
    try:
        yield undo
    finally:
        for each in reversed(undo):
            each()
