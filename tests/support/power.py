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
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.wait import until_sync

_MEGABYTE = 1024**2
_ATTEMPTS = 20


@dataclass(frozen=True)
class FileSystem:
    """How a file system is made and mounted, and what is different when its copy is mounted beside it."""

    make: list[str]
    megabytes: int
    options: str = "noatime"
    beside: str = ""
    """A further option for the copy: XFS refuses to mount one UUID twice without it."""


_EXT4 = FileSystem(["mkfs.ext4", "-q", "-F"], 64)
FILE_SYSTEMS = {
    "ext4": _EXT4,
    "ext4, data=writeback": replace(_EXT4, options="noatime,data=writeback"),
    "xfs": FileSystem(["mkfs.xfs", "-q", "-f"], 320, beside=",nouuid"),
    "btrfs": FileSystem(["mkfs.btrfs", "-q", "-f"], 160),
}


class LoopDisk:
    """A mounted disk whose power can be cut, as often as wanted: it goes on, and copies of it tell what was there."""

    def __init__(self, folder: Path, image: Path, device: str, kind: FileSystem, scratch: Path) -> None:
        self.folder = folder
        self.kind = kind
        self._image = image
        self._device = device
        self._scratch = scratch
        self._cuts = 0

    @contextmanager
    def cut(self, writers: Sequence[int]) -> Iterator[Path]:
        """The image of the disk as a power cut at this moment leaves it, until the block ends. `writers` are processes.

        They stand still while the image is copied, so that it is of one moment.
        """
        self._cuts += 1
        image = self._scratch / f"cut-{self._cuts}.img"
        statistics = Path("/sys/block") / Path(self._device).name / "stat"
        for writer in writers:
            with suppress(ProcessLookupError):
                os.kill(writer, signal.SIGSTOP)
        try:
            for _ in range(_ATTEMPTS):
                before = statistics.read_text()
                subprocess.run(["cp", "--sparse=always", str(self._image), str(image)], check=True)
                if statistics.read_text() == before:
                    break
            else:
                raise AssertionError("the disk does not come to rest, although nothing writes")
        finally:
            for writer in writers:
                with suppress(ProcessLookupError):
                    os.kill(writer, signal.SIGCONT)
        try:
            yield image
        finally:
            image.unlink()

    @contextmanager
    def mounted(self, image: Path) -> Iterator[Path]:
        """What a machine finds on the image of a cut."""
        found = image.with_suffix("")
        found.mkdir(exist_ok=True)
        subprocess.run(
            ["mount", "-o", f"loop,{self.kind.options}{self.kind.beside}", str(image), str(found)], check=True
        )
        try:
            yield found
        finally:
            _unmount(found)

    @contextmanager
    def away(self) -> Iterator[None]:
        """The disk itself is not there, as after a real cut: Linux gives a btrfs that is mounted twice another id."""
        _unmount(self.folder)
        try:
            yield
        finally:
            subprocess.run(["mount", "-o", self.kind.options, self._device, str(self.folder)], check=True)


@contextmanager
def loop_disk(name: str) -> Iterator[LoopDisk]:
    """A fresh disk with such a file system (of `FILE_SYSTEMS`)."""
    kind = FILE_SYSTEMS[name]
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        pytest.skip("a disk whose power can be cut needs root and loop devices")
    if shutil.which(kind.make[0]) is None:
        pytest.skip(f"{kind.make[0]} is not installed")
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="power-", dir=memory if memory.is_dir() else None) as made:
        scratch = Path(made)
        scratch.chmod(0o711)
        image, folder = scratch / "disk.img", scratch / "disk"
        with image.open("wb") as file:
            file.truncate(kind.megabytes * _MEGABYTE)
        subprocess.run([*kind.make, str(image)], check=True, capture_output=True)
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
                ["mount", "-o", kind.options, device, str(folder)], capture_output=True, text=True, check=False
            )
            if mounted.returncode != 0:
                pytest.skip(f"{name} cannot be mounted here: {mounted.stderr.strip()}")
            undo.append(lambda: subprocess.run(["umount", "-l", str(folder)], check=True))
            folder.chmod(0o711)
            yield LoopDisk(folder, image, device, kind, scratch)


def _unmount(folder: Path) -> None:
    """Unmount it for good: the last killed process may take a moment to be gone."""
    until_sync(
        lambda: subprocess.run(["umount", str(folder)], check=False, capture_output=True).returncode == 0,
        f"{folder} is unmounted",
    )


@contextmanager
def _undone() -> Iterator[list[Callable[[], object]]]:
    """A list of what is done at the end, the last first."""
    undo: list[Callable[[], object]] = []
    try:
        yield undo
    finally:
        for each in reversed(undo):
            each()
