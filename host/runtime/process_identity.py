"""Which process a number means. A process id is used again after its process ended; id and start time are not.

The start time is the kernel's own count since boot where there is one: `psutil`'s wall-clock value moves when the
machine's clock is set, and a living agent would then be taken for a dead one.
"""

from __future__ import annotations

from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START_FIELD = 19  # of /proc/<pid>/stat, counted behind the name (proc(5): starttime is field 22)


def identity_of(pid: int) -> str | None:
    """A text that no other process of this machine ever has; None when there is no such process.

    A zombie has its identity until its parent takes note of it. Raises `OSError` where it cannot be looked at, as when
    no file can be opened.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()}:{fields[_START_FIELD]}"
    except (FileNotFoundError, ProcessLookupError, IndexError):
        pass  # no such process, or a system without /proc
    try:
        return f"{psutil.Process(pid).create_time():.2f}" if not _BOOT_ID.exists() else None
    except psutil.Error:
        return None


def is_alive(pid: int, identity: str) -> bool:
    """Whether that very process lives. A zombie does not. Raises `OSError` as `identity_of`."""
    if identity_of(pid) != identity:
        return False
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
