"""What `dumbwaiter doctor` looks at on the machine: Python, SQLite, the data folder's disk, file notifications."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import stat
import sys
import tempfile
from pathlib import Path

from host.settings import Settings
from host.start_line import start_line
from shared_schema.dataclass import dataclass
from shared_schema.system_errors import words_of

OLDEST_SQLITE = (3, 35, 0)  # RETURNING
LITTLE_SPACE, NO_SPACE = 1024**3, 100 * 1024**2
QUEUES = Path("/proc/sys/fs/inotify/max_user_instances")
QUEUES_OF_OTHERS = 28  # what else runs as the same user


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, and what to do when it is not well."""

    name: str
    ok: bool | None
    what: str
    hint: str | None = None


def check_interpreter() -> Check:
    """Which Python runs, and as whom."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Check("interpreter", True, f"Python {version} ({sys.executable}), running as uid {os.geteuid()}")


def check_sqlite() -> Check:
    """Whether SQLite knows what the statements use."""
    ok = sqlite3.sqlite_version_info >= OLDEST_SQLITE
    oldest = ".".join(str(part) for part in OLDEST_SQLITE)
    hint = None if ok else f"use a Python that was built with SQLite {oldest} or newer"
    return Check("sqlite", ok, f"SQLite {sqlite3.sqlite_version}", hint)


def check_folder(data: Path) -> Check:
    """Check that the data folder is there (or can be made), is ours, and is closed to other users."""
    if not data.exists():
        parent = next(each for each in data.parents if each.exists())
        if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
            return Check("data folder", False, f"{data} cannot be made in {parent}", "choose another one with --data")
        return Check("data folder", None, f"{data} is not there yet", f"{start_line(data)} makes it")
    if not data.is_dir():
        return Check("data folder", False, f"{data} is not a folder", "choose another one with --data")
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        return Check("data folder", False, f"{data} is not writable", "run as its owner, or choose another with --data")
    status = data.stat()
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Check("data folder", None, f"{data} can be written by others", f"chmod go-w {shlex.quote(str(data))}")
    return Check("data folder", True, f"{data} (mode {stat.S_IMODE(status.st_mode):o})")


def check_space(data: Path) -> Check:
    """Whether the disk has room."""
    free = shutil.disk_usage(data).free
    ok = False if free < NO_SPACE else None if free < LITTLE_SPACE else True
    return Check("space", ok, f"{free / 1024**3:.1f} GiB free", None if ok else "free some space on that disk")


def check_links(data: Path) -> Check:
    """Whether the file system takes hard links, which the host needs to hold on to an agent's file while it reads."""
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=data) as folder:
            probe = Path(folder) / "probe"
            probe.touch()
            (Path(folder) / "link").hardlink_to(probe)
    except OSError as error:
        hint = "put the data folder on a local file system (--data)"
        return Check("hard links", False, f"the data folder takes no hard links: {words_of(error)}", hint)
    return Check("hard links", True, "work in the data folder")


def check_notifications(settings: Settings) -> Check:
    """Whether the kernel has a queue of events for every agent that may run at the same time (`man 7 inotify`)."""
    if settings.notify != "auto" or not QUEUES.exists():
        return Check("notifications", True, f"notify = {settings.notify}")
    limit = int(QUEUES.read_text("ascii"))
    if settings.max_agents <= limit - QUEUES_OF_OTHERS:
        return Check("notifications", True, f"the system allows {limit} queues of file events")
    what = f"the system allows {limit} queues of file events, and max_agents is {settings.max_agents}: some are polled"
    return Check("notifications", None, what, f"sysctl fs.inotify.max_user_instances={settings.max_agents * 2}")
