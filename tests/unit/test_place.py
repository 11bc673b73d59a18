"""Which folder an install lives in, and that a copy is another."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from host.place import InstallRecord, Place, place_of, read_record, write_record
from tests.support.wait import until_sync


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    """A mount until the block ends; the test is skipped where that may not be."""
    target = arguments[-1]
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


def test_a_folder_that_was_renamed_is_the_same(folder: Path, tmp_path: Path) -> None:
    before = place_of(folder)
    (tmp_path / "elsewhere").mkdir()
    moved = folder.rename(tmp_path / "elsewhere" / "moved")
    assert place_of(moved).is_same(before)
    assert place_of(moved).path == str(moved)


def test_a_copy_is_another_folder_also_where_the_original_was(folder: Path, tmp_path: Path) -> None:
    before = place_of(folder)
    made = time.monotonic()
    until_sync(lambda: time.monotonic() - made > 0.05, "the kernel's clock of files has ticked")  # every 4 ms or 10
    subprocess.run(["cp", "-a", folder, tmp_path / "copy"], check=True)
    assert not place_of(tmp_path / "copy").is_same(before)
    shutil.rmtree(folder)
    (tmp_path / "copy").rename(folder)
    assert not place_of(folder).is_same(before)


def test_a_link_and_a_bind_mount_lead_to_the_same_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert place_of(tmp_path / "link") == place_of(folder)
    (tmp_path / "bound").mkdir()
    with mounted("--bind", folder, tmp_path / "bound"):
        assert place_of(tmp_path / "bound").is_same(place_of(folder))


def test_a_disk_that_was_unmounted_and_mounted_under_another_number_has_the_same_folders(tmp_path: Path) -> None:
    image, target, other = tmp_path / "disk.img", tmp_path / "target", tmp_path / "other"
    for each in (target, other):
        each.mkdir()
    with image.open("wb") as file:
        file.truncate(16 * 1024**2)
    if subprocess.run(["mkfs.ext4", "-q", image], capture_output=True, check=False).returncode != 0:
        pytest.skip("there is no mkfs.ext4")
    with mounted("-o", "loop", image, target):
        (target / "data").mkdir()
        before, device = place_of(target / "data"), target.stat().st_dev
    with image.with_name("second.img").open("wb") as file:
        file.truncate(16 * 1024**2)
    subprocess.run(["mkfs.ext4", "-q", image.with_name("second.img")], check=True)
    with mounted("-o", "loop", image.with_name("second.img"), other), mounted("-o", "loop", image, target):
        (other / "data").mkdir()
        assert target.stat().st_dev != device, "the disk has another number now"
        assert place_of(target / "data").is_same(before)
        assert not place_of(other / "data").is_same(before)


def test_without_birth_times_the_number_in_the_same_file_system_counts_or_else_the_path() -> None:
    place = Place("/a", inode=7, file_system="fuse.x y", birth=None)
    assert replace(place, path="/b").is_same(place), "it was moved"
    assert replace(place, inode=8).is_same(place), "a mount that numbers its folders anew"
    assert not replace(place, path="/b", inode=8).is_same(place)
    assert not replace(place, file_system="ext4").is_same(place)
    assert replace(place, birth=5).is_same(place), "one of them does not know"


def test_what_was_noted_is_read_again_and_anything_else_is_no_record(tmp_path: Path) -> None:
    file, record = tmp_path / "install.json", InstallRecord("ins_1", place_of(tmp_path))
    assert read_record(file) is None
    write_record(file, record)
    assert read_record(file) == record
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["install.json"]
    for text in ("", "[]", '{"install_id": 1}', '{"install_id": "ins_1", "place": {"x": 1}}', "\udcff"):
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert read_record(file) is None


def test_a_snapshot_is_a_copy_although_it_keeps_all_times_and_numbers() -> None:
    original = Place("/data", inode=257, file_system="a1", birth=1, snapshots=True)
    assert not replace(original, path="/snapshot", file_system="b2").is_same(original)
    assert replace(original, path="/elsewhere").is_same(original)
    xfs = replace(original, snapshots=False)
    assert replace(xfs, file_system="b2").is_same(xfs)  # there the id is the device's number of the moment


def test_a_snapshot_of_btrfs_is_a_copy_and_the_original_is_the_same_after_a_remount(tmp_path: Path) -> None:
    for program in ("mkfs.btrfs", "btrfs"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    disk, top = tmp_path / "disk", tmp_path / "top"
    disk.write_bytes(b"")
    os.truncate(disk, 120 * 1024**2)
    top.mkdir()
    subprocess.run(["mkfs.btrfs", "-q", disk], check=True, capture_output=True)
    with mounted("-o", "loop", disk, top):
        subprocess.run(["btrfs", "subvolume", "create", top / "first"], check=True, capture_output=True)
        (top / "first" / "data").mkdir()
        subprocess.run(
            ["btrfs", "subvolume", "snapshot", top / "first", top / "second"], check=True, capture_output=True
        )
        original, snapshot = place_of(top / "first" / "data"), place_of(top / "second" / "data")
        assert snapshot.birth == original.birth
        assert not snapshot.is_same(original)
        assert (top / "first" / "data").rename(top / "first" / "moved").is_dir()
        assert place_of(top / "first" / "moved").is_same(original)
    with mounted("-o", "loop", disk, top):
        assert place_of(top / "first" / "moved").is_same(original)
