"""Where an install lives: which folder of which file system, recognised after a reboot, a remount or a move.

What a folder is known by:

birth        when it was made, in nanoseconds. A rename, a remount and a bind mount keep it, nothing can set it, and
             `cp -a` makes a new one. Where both times are known, nothing else counts, but for snapshots.
inode        its number in its file system; where there are no birth times.
file_system  the id that `statvfs` gives, which comes from the superblock; where that is 0 (NFS, FUSE), what is mounted.
             Never `st_dev`: its numbers are dealt out anew at every boot.
snapshots    whether the file system makes snapshots that keep every time and number (btrfs, ZFS, bcachefs). There
             the id counts as well: it is another one for each subvolume or data set, and the same after a remount.
             Elsewhere it does not, because that of XFS comes from the device's number.
path         where it was last used: for people, and where a file system numbers its folders anew at every mount.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from host.sessions.untrusted_files import sync_folder
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileTrouble
from shared_schema.system_errors import words_of

_MOUNTS = Path("/proc/self/mountinfo")
_AT_FDCWD = -100
_STATX_BTIME = 0x800
_STATX_BYTES = 256  # of struct statx, linux/stat.h
_STATFS_BYTES = 256  # of struct statfs, which begins with the type
_WITH_SNAPSHOTS = frozenset({0x9123683E, 0x2FC12FC1, 0xCA451A4E})  # btrfs, ZFS, bcachefs: linux/magic.h, OpenZFS
_MASK, _BIRTH, _BIRTH_OFFSET = struct.Struct("=I"), struct.Struct("=qI"), 0x50


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of a file system. `birth` is nanoseconds since 1970, None where the file system does not say."""

    path: str
    inode: int
    file_system: str
    birth: int | None = None
    snapshots: bool = False

    def is_same(self, other: Place) -> bool:
        """Whether both are the same folder, wherever it is mounted or was moved to."""
        if self.birth is not None and other.birth is not None:
            may_be_snapshots = self.snapshots and other.snapshots
            return self.birth == other.birth and (self.file_system == other.file_system or not may_be_snapshots)
        return self.file_system == other.file_system and (self.inode == other.inode or self.path == other.path)


def place_of(folder: Path) -> Place:
    """The place of a folder that is there. Raises `FileTrouble`."""
    try:
        path = folder.resolve(strict=True)
        return Place(str(path), path.stat().st_ino, _file_system(path), _birth(path), _has_snapshots(path))
    except OSError as error:
        raise FileTrouble(f"the data folder cannot be used: {words_of(error)}", where=folder) from error


@dataclass(frozen=True, slots=True)
class InstallRecord:
    """What `install.json` says: which install was last used, and where."""

    install_id: str
    place: Place

    def to_json(self) -> bytes:
        """As the file has it."""
        return json.dumps(asdict(self)).encode()


def read_record(path: Path) -> InstallRecord | None:
    """The record; None where there is none, or none that can be read: a folder of an earlier version."""
    try:
        match json.loads(path.read_text(encoding="utf-8")):
            case {"install_id": str(install_id), "place": Mapping() as place}:
                return InstallRecord(install_id, Place(**place))
    except (OSError, ValueError, TypeError, RecursionError):
        pass
    return None


def write_record(path: Path, record: InstallRecord) -> None:
    """Keep the record; it is on the disk when this returns. Raises `FileTrouble`."""
    draft = path.with_suffix(".new")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(record.to_json())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise FileTrouble(f"the file cannot be written: {words_of(error)}", where=path) from error


def _birth(path: Path) -> int | None:
    """`statx` by hand: Python's `os.stat` does not tell the birth time on Linux."""
    try:
        statx = ctypes.CDLL(None, use_errno=True).statx
    except (OSError, AttributeError):  # another system, or an old libc
        return getattr(path.stat(), "st_birthtime_ns", None)
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, buffer) != 0:
        return None
    if not _MASK.unpack_from(buffer)[0] & _STATX_BTIME:
        return None
    seconds, nanoseconds = _BIRTH.unpack_from(buffer, _BIRTH_OFFSET)
    birth: int = seconds * 10**9 + nanoseconds
    return birth or None  # 0: a file system that has the field and does not keep it


def _has_snapshots(path: Path) -> bool:
    return type_number(path) in _WITH_SNAPSHOTS


def type_number(path: Path) -> int | None:
    """The number of a file system's type, by `statfs`; Python's `os.statvfs` leaves it out. None: not Linux."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    try:
        done = ctypes.CDLL(None).statfs(os.fsencode(path), buffer)
    except (OSError, AttributeError):
        return None
    return ctypes.c_ulong.from_buffer(buffer).value & 0xFFFFFFFF if done == 0 else None


def _file_system(path: Path) -> str:
    if number := os.statvfs(path).f_fsid:
        return f"{number:x}"
    return mounted(path)


def mounted(path: Path, *, with_options: bool = False) -> str:
    """What is mounted where a path is, as type and source, and with its options; empty where that is not told."""
    try:
        return _mounted(path, _MOUNTS.read_text(encoding="utf-8", errors="replace"), with_options)
    except OSError:
        return ""


def _mounted(path: Path, mounts: str, with_options: bool = False) -> str:
    """By proc(5)'s mountinfo; the last mount hides the others."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in reversed(mounts.splitlines()):
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [number]:
            options = [before.split()[5], *after.split()[2:3]] if with_options else []
            return " ".join([*after.split()[:2], *options])
    return ""
