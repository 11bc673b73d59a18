"""What `dumbwaiter doctor` looks at in the data folder: whose it is, who else may look, and whether it is a copy."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from host.install import chown_line, foreign, is_foreign, name_of, standing
from host.operations.system_checks import Check
from host.secrets import OPEN, is_private, secrets_in
from host.start_line import start_line
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import DataLayout

_OTHERS = 0o007
_PRIVATE = (
    "central.db", "central.db-wal", "central.db-shm", "history.db", "history.db-wal", "history.db-shm", "host.lock",
    "host.sock", "install.json", "chat-history", "run", "spool", "backups", "upstreams.toml", ".env",
)  # fmt: skip


def check_owner(layout: DataLayout) -> Check:
    """Whether the folder and what the host keeps in it belong to the user who asks."""
    data = layout.data
    if is_foreign(data):
        owner = data.stat().st_uid
        what = f"{data} belongs to {name_of(owner)}, and this is {name_of(os.geteuid())}"
        return Check("owner", False, what, "run host and commands as its owner, or choose another folder with --data")
    if found := foreign(layout):
        others = f" and {len(found) - 1} others" if len(found) > 1 else ""
        what = f"{found[0]}{others} belong to {name_of(found[0].lstat().st_uid)}: this user's host cannot use them"
        return Check("owner", False, what, chown_line(data))
    return Check("owner", True, f"all of it belongs to {name_of(os.geteuid())}")


def check_privacy(layout: DataLayout) -> Check:
    """Whether other local users may look into what is the host's."""
    keys = [path for path in sorted(layout.data.glob("*.toml")) if secrets_in(path) and not is_private(path)]
    if keys:
        names = ", ".join(path.name for path in keys)
        return Check("privacy", False, f"others may read {names}, with keys in it", _chmod("600", keys))
    is_open = bool(stat.S_IMODE(layout.data.stat().st_mode) & _OTHERS)
    exposed = [path for path in (layout.data / name for name in _PRIVATE) if _mode(path) & OPEN]
    if is_open:
        return Check("privacy", None, f"other users may pass through {layout.data}", _chmod("o=", [layout.data]))
    if exposed:
        names = ", ".join(path.name for path in exposed)
        return Check("privacy", None, f"the group may use {names}", _chmod("go=", exposed))
    return Check("privacy", True, "closed to other users")


def check_install(layout: DataLayout) -> Check:
    """Whether the folder is where the install was last used."""
    try:
        stands = standing(layout)
        if stands.is_at_home:
            return Check("install", True, stands.install_id or "a new one")
        assert stands.record is not None
        what = f"the folder was copied or moved; it was last used as {stands.record.place.path}"
    except DumbwaiterError as error:
        return Check("install", False, error.what, error.hint)
    moved, copy = start_line(layout.data, "--moved"), start_line(layout.data, "--copy")
    hint = f"{moved} goes on with it, {copy} makes a second install of it"
    return Check("install", None, what, hint)


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.lstat().st_mode)
    except OSError:
        return 0


def _chmod(mode: str, paths: list[Path]) -> str:
    return shlex.join(["chmod", mode, *map(str, paths)])
