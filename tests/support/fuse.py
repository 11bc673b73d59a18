"""A file system that mirrors a folder and does to writes what it is told: fail, or take long.

The kernel speaks to this process through /dev/fuse, so what the programs above meet are real errors of real system
calls, also those of SQLite in C, of other processes and of containers. It needs root, and no package: the protocol is
the kernel's own (linux/fuse.h), and as much of it stands here as a mirror needs.

    python -m tests.support.fuse MIRRORED MOUNTPOINT

Each line on standard input is a JSON list of faults that replaces the one before; each is answered with `ok`. A fault
is `{"on": […], "errno": number, "seconds": number, "within": path}`: the kinds of operation it is about (`write`,
`sync`, `read`, `make`, `change`, `remove`), the error they end with (0: none), how long they take, and the path below
the mountpoint it is limited to (empty: everything). The end of standard input unmounts.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

_THREADS = 16
_MAX_WRITE = 128 * 1024
_ROOT = 1
_VALID_SECONDS = 1  # how long the kernel may believe a name or an attribute; every change passes through it anyway

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
_ATTR_HEAD = struct.Struct("<QII")
_OPENED = struct.Struct("<QII")
_SETATTR = struct.Struct("<IIQQQQQQIIIIIIII")
_RW = struct.Struct("<QQIIQII")
_DIRENT = struct.Struct("<QQII")

_LOOKUP, _FORGET, _GETATTR, _SETATTR_OP, _READLINK, _SYMLINK = 1, 2, 3, 4, 5, 6
_MKDIR, _UNLINK, _RMDIR, _RENAME, _LINK, _OPEN, _READ, _WRITE, _STATFS, _RELEASE = 9, 10, 11, 12, 13, 14, 15, 16, 17, 18
_FSYNC, _INIT, _OPENDIR, _READDIR, _RELEASEDIR, _FSYNCDIR, _CREATE, _INTERRUPT = 20, 26, 27, 28, 29, 30, 35, 36
_BATCH_FORGET, _RENAME2 = 42, 45

_KINDS = {
    _WRITE: "write",
    _FSYNC: "sync",
    _FSYNCDIR: "sync",
    _READ: "read",
    _CREATE: "make",
    _MKDIR: "make",
    _SYMLINK: "make",
    _LINK: "make",
    _SETATTR_OP: "change",
    _RENAME: "change",
    _RENAME2: "change",
    _UNLINK: "remove",
    _RMDIR: "remove",
}
_IN_A_FOLDER = frozenset({_CREATE, _MKDIR, _SYMLINK, _LINK, _RENAME, _RENAME2, _UNLINK, _RMDIR})
_WAYS_TO_OPEN = os.O_ACCMODE


class Fault(NamedTuple):
    """See the head of this module."""

    on: frozenset[str]
    errno: int
    seconds: float
    within: str


@dataclass
class _Node:
    """A file the kernel knows: a descriptor that only names it, how often it was told, and its names so far."""

    descriptor: int
    lookups: int = 0
    names: set[str] = field(default_factory=set)

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self.descriptor}"


class Mirror:
    """Answers the kernel's requests. A node's number is its inode number; the root's is 1."""

    def __init__(self, folder: str, device: int) -> None:
        self.faults: tuple[Fault, ...] = ()
        self._device = device
        self._nodes = {_ROOT: _Node(os.open(folder, os.O_PATH | os.O_DIRECTORY), 1, {""})}
        self._listings: dict[int, list[tuple[str, int, int]]] = {}
        self._lock = threading.Lock()
        self._operations: dict[int, Callable[[_Node, bytes, tuple[int, int]], bytes]] = {
            _LOOKUP: lambda node, body, _: self._entry(node, _name(body)),
            _GETATTR: lambda node, body, _: _attributes(os.fstat(node.descriptor)),
            _SETATTR_OP: lambda node, body, _: self._set_attributes(node, body),
            _READLINK: lambda node, body, _: os.fsencode(os.readlink("", dir_fd=node.descriptor)),
            _SYMLINK: self._symlink,
            _MKDIR: self._mkdir,
            _UNLINK: lambda node, body, _: _done(os.unlink, _name(body), dir_fd=node.descriptor),
            _RMDIR: lambda node, body, _: _done(os.rmdir, _name(body), dir_fd=node.descriptor),
            _RENAME: lambda node, body, _: self._rename(node, body[:8], body[8:]),
            _RENAME2: lambda node, body, _: self._rename(node, body[:8], body[16:]),
            _LINK: lambda node, body, _: self._link(node, body),
            _OPEN: lambda node, body, _: _OPENED.pack(self._open(node, body), 0, 0),
            _CREATE: self._create,
            _READ: lambda node, body, _: self._read(body),
            _WRITE: lambda node, body, _: self._write(body),
            _FSYNC: lambda node, body, _: _done(os.fsync, _handle(body)),
            _RELEASE: lambda node, body, _: _done(os.close, _handle(body)),
            _STATFS: lambda node, body, _: _space(os.statvfs(node.path)),
            _OPENDIR: lambda node, body, _: _OPENED.pack(self._list(node), 0, 0),
            _READDIR: lambda node, body, _: self._read_list(body),
            _RELEASEDIR: lambda node, body, _: _done(self._listings.pop, _handle(body)),
            _FSYNCDIR: lambda node, body, _: b"",
        }

    def serve(self) -> None:
        """Answer requests until the file system is unmounted."""
        while True:
            try:
                request = os.read(self._device, _MAX_WRITE + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                continue  # ENOENT: the request was withdrawn
            _, operation, unique, number, uid, gid, *_ = _IN.unpack_from(request)
            body = request[_IN.size :]
            if operation == _FORGET:
                self._forget(number, *struct.unpack_from("<Q", body))
            elif operation == _BATCH_FORGET:
                (count,) = struct.unpack_from("<I", body)
                for place in range(count):
                    self._forget(*struct.unpack_from("<QQ", body, 8 + 16 * place))
            elif operation != _INTERRUPT:
                self._answer(unique, operation, number, body, (uid, gid))

    def _answer(self, unique: int, operation: int, number: int, body: bytes, user: tuple[int, int]) -> None:
        code, result = 0, b""
        try:
            if operation == _INIT:
                result = _accept(body)
            elif operation not in self._operations:
                code = errno.ENOSYS
            else:
                node = self._nodes[number]
                self._meet_faults(operation, node, body)
                result = self._operations[operation](node, body, user)
        except OSError as error:
            code = error.errno or errno.EIO
        os.write(self._device, _OUT.pack(_OUT.size + len(result), -code, unique) + result)

    def _meet_faults(self, operation: int, node: _Node, body: bytes) -> None:
        kind = _KINDS.get(operation)
        if operation == _OPEN and struct.unpack_from("<I", body)[0] & _WAYS_TO_OPEN != os.O_RDONLY:
            kind = "open"
        names = node.names
        if operation in _IN_A_FOLDER:
            names = {f"{name}/x" for name in names}
        for fault in self.faults:
            if kind in fault.on and any(f"/{name}".startswith(f"/{fault.within}") for name in names):
                time.sleep(fault.seconds)
                if fault.errno:
                    raise OSError(fault.errno, os.strerror(fault.errno))

    # Names

    def _entry(self, folder: _Node, name: str) -> bytes:
        """What the kernel is told of a name in a folder; the node is known from then on."""
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder.descriptor)
        status = os.fstat(descriptor)
        with self._lock:
            node = self._nodes.setdefault(status.st_ino, _Node(descriptor))
            node.lookups += 1
            node.names |= {f"{parent}/{name}".lstrip("/") for parent in folder.names}
        if node.descriptor != descriptor:
            os.close(descriptor)
        return _ENTRY.pack(status.st_ino, 0, _VALID_SECONDS, _VALID_SECONDS, 0, 0) + _attribute(status)

    def _forget(self, number: int, count: int) -> None:
        with self._lock:
            node = self._nodes[number]
            node.lookups -= count
            if node.lookups <= 0 and number != _ROOT:
                del self._nodes[number]
                os.close(node.descriptor)

    def _mkdir(self, node: _Node, body: bytes, user: tuple[int, int]) -> bytes:
        name = _name(body[8:])
        os.mkdir(name, struct.unpack_from("<I", body)[0], dir_fd=node.descriptor)
        os.chown(name, *user, dir_fd=node.descriptor, follow_symlinks=False)
        return self._entry(node, name)

    def _symlink(self, node: _Node, body: bytes, user: tuple[int, int]) -> bytes:
        name, target = body.split(b"\0")[:2]
        os.symlink(target, name, dir_fd=node.descriptor)
        os.chown(name, *user, dir_fd=node.descriptor, follow_symlinks=False)
        return self._entry(node, os.fsdecode(name))

    def _link(self, node: _Node, body: bytes) -> bytes:
        (number,) = struct.unpack_from("<Q", body)
        name = _name(body[8:])
        os.link(self._nodes[number].path, name, dst_dir_fd=node.descriptor, follow_symlinks=True)
        return self._entry(node, name)

    def _rename(self, node: _Node, head: bytes, names: bytes) -> bytes:
        target = self._nodes[struct.unpack("<Q", head)[0]]
        old, new = map(os.fsdecode, names.split(b"\0")[:2])
        os.rename(old, new, src_dir_fd=node.descriptor, dst_dir_fd=target.descriptor)
        with self._lock:
            moved = self._nodes.get(os.stat(new, dir_fd=target.descriptor, follow_symlinks=False).st_ino)
            if moved is not None:
                moved.names |= {f"{parent}/{new}".lstrip("/") for parent in target.names}
        return b""

    # Files

    def _open(self, node: _Node, body: bytes) -> int:
        return os.open(node.path, struct.unpack_from("<I", body)[0] & _WAYS_TO_OPEN)

    def _create(self, node: _Node, body: bytes, user: tuple[int, int]) -> bytes:
        flags, mode = struct.unpack_from("<II", body)
        name = _name(body[16:])
        ways = flags & (_WAYS_TO_OPEN | os.O_EXCL) | os.O_CREAT | os.O_NOFOLLOW
        handle = os.open(name, ways, mode, dir_fd=node.descriptor)
        os.fchown(handle, *user)
        return self._entry(node, name) + _OPENED.pack(handle, 0, 0)

    def _read(self, body: bytes) -> bytes:
        handle, offset, size, *_ = _RW.unpack_from(body)
        return os.pread(handle, size, offset)

    def _write(self, body: bytes) -> bytes:
        handle, offset, size, *_ = _RW.unpack_from(body)
        written = os.pwrite(handle, body[_RW.size : _RW.size + size], offset)
        return struct.pack("<II", written, 0)

    def _set_attributes(self, node: _Node, body: bytes) -> bytes:
        valid, _, _, size, _, atime, mtime, _, atimensec, mtimensec, _, mode, _, uid, gid, _ = _SETATTR.unpack_from(
            body
        )
        if valid & 1:
            os.chmod(node.path, mode & 0o7777)
        if valid & 6:
            os.chown(node.path, uid if valid & 2 else -1, gid if valid & 4 else -1)
        if valid & 8:
            os.truncate(node.path, size)
        if valid & 0x30:
            now, status = time.time_ns(), os.fstat(node.descriptor)
            accessed = now if valid & 0x80 else atime * 10**9 + atimensec if valid & 0x10 else status.st_atime_ns
            modified = now if valid & 0x100 else mtime * 10**9 + mtimensec if valid & 0x20 else status.st_mtime_ns
            os.utime(node.path, ns=(accessed, modified))
        return _attributes(os.fstat(node.descriptor))

    # Folders

    def _list(self, node: _Node) -> int:
        with os.scandir(node.path) as entries:
            listing = [(entry.name, entry.inode(), entry.stat(follow_symlinks=False).st_mode) for entry in entries]
        with self._lock:
            handle = max(self._listings, default=0) + 1
            self._listings[handle] = listing
        return handle

    def _read_list(self, body: bytes) -> bytes:
        handle, offset, size, *_ = _RW.unpack_from(body)
        result = b""
        for place, (name, number, mode) in enumerate(self._listings[handle][offset:], start=offset + 1):
            encoded = os.fsencode(name)
            entry = _DIRENT.pack(number, place, len(encoded), mode >> 12) + encoded
            entry += bytes(-len(entry) % 8)
            if len(result) + len(entry) > size:
                break
            result += entry
        return result


def _accept(body: bytes) -> bytes:
    """The answer to the kernel's first request: version 7.31, no extras, whole writes."""
    _, _, readahead, _ = struct.unpack_from("<IIII", body)
    big_writes = 1 << 5
    return struct.pack("<IIIIHHIIHHI28x", 7, 31, readahead, big_writes, 0, 0, _MAX_WRITE, 1, 0, 0, 0)


def _attribute(status: os.stat_result) -> bytes:
    times = (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
    return _ATTR.pack(
        status.st_ino,
        status.st_size,
        status.st_blocks,
        *(each // 10**9 for each in times),
        *(each % 10**9 for each in times),
        status.st_mode,
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        0,
        4096,
        0,
    )


def _attributes(status: os.stat_result) -> bytes:
    return _ATTR_HEAD.pack(_VALID_SECONDS, 0, 0) + _attribute(status)


def _space(status: os.statvfs_result) -> bytes:
    counts = (status.f_blocks, status.f_bfree, status.f_bavail, status.f_files, status.f_ffree)
    return struct.pack("<QQQQQIII28x", *counts, status.f_bsize, status.f_namemax, status.f_frsize)


def _name(body: bytes) -> str:
    return os.fsdecode(body.split(b"\0")[0])


def _handle(body: bytes) -> int:
    return int(struct.unpack_from("<Q", body)[0])


def _done(function: Callable[..., object], *arguments: object, **options: object) -> bytes:
    """Call a function; the empty answer."""
    function(*arguments, **options)
    return b""


def main(mirrored: str, mountpoint: str) -> None:
    """Mount, answer, and take faults from standard input until it ends."""
    os.umask(0)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other".encode()
    if libc.mount(b"mirror", os.fsencode(mountpoint), b"fuse", 6, options) != 0:  # nosuid, nodev
        sys.exit(f"the mirror cannot be mounted: {os.strerror(ctypes.get_errno())}")
    mirror = Mirror(mirrored, device)
    for _ in range(_THREADS):
        threading.Thread(target=mirror.serve, daemon=True).start()
    print("ok", flush=True)
    for line in sys.stdin:
        mirror.faults = tuple(
            Fault(frozenset(each["on"]), each["errno"], each["seconds"], each["within"]) for each in json.loads(line)
        )
        print("ok", flush=True)
    libc.umount2(os.fsencode(mountpoint), 2)  # detached: whoever still uses it may


if __name__ == "__main__":
    main(*sys.argv[1:])
