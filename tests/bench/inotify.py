"""The kernel's file notifications, read without anything in between."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

CLOSE_WRITE = 0x008
DELETE = 0x200
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_BYTES = 64 * 1024


def watch(mask: int, *paths: Path) -> int:
    """A descriptor from which the events of these files or folders can be read."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_CLOEXEC)
    for path in paths:
        if libc.inotify_add_watch(descriptor, os.fsencode(path), mask) < 0:
            raise OSError(ctypes.get_errno(), "cannot be watched", str(path))
    return descriptor


def wait(descriptor: int) -> None:
    """Wait for events, and forget them."""
    os.read(descriptor, _BYTES)


def names(descriptor: int) -> Iterator[str]:
    """Wait for events; the names of the files they are about."""
    data = os.read(descriptor, _BYTES)
    while data:
        _, _, _, length = _EVENT.unpack_from(data)
        yield data[_EVENT.size : _EVENT.size + length].rstrip(b"\0").decode()
        data = data[_EVENT.size + length :]
