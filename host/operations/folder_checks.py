"""What `dumbwaiter doctor` looks at in the data folder: whose it is, who else may look, and whether it is a copy."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from host.install import chown_line, foreign, is_foreign, name_of, standing
from host.lease import here, holder
from host.operations import mount_verdicts
from host.operations.mount_verdict import MountVerdict
from host.operations.system_checks import Check
from host.secrets import OPEN, is_private, secrets_in
from host.settings import Settings
from host.start_line import start_line
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import DataLayout

_OTHERS = 0o007
_PRIVATE = (
    "central.db", "central.db-wal", "central.db-shm", "history.db", "history.db-wal", "history.db-shm", "host.lock",
    "host.sock", "install.json", "chat-history", "run", "spool", "backups", "lease", "mount.json",
    "upstreams.toml", ".env",
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


def check_mount(settings: Settings) -> list[Check]:
    """What was measured of the mount of a data folder that several machines share, and which host serves it."""
    layout = settings.layout
    checks = []
    if (other := holder(layout.lease)) is not None and other.here != here(layout.data):
        what = f"the last host that served the folder is {other}"
        checks.append(Check("lease", None, what, "while it runs, type commands there; where it is gone, start a host"))
    if not settings.shared:
        return checks
    kept = mount_verdicts.read(layout)
    if not kept:
        line = mount_verdicts.check_line(layout, settings.nodes[0].name if settings.nodes else "NODE")
        checks.append(Check("mount", None, "what the mount of the data folder does was not measured", line))
    for each in kept:
        ok = False if each.verdict == MountVerdict.LOSES else True if each.verdict != MountVerdict.ALONE else None
        what = f"{each.verdict}, with {each.other} ({each.at})"
        hint = None if ok else mount_verdicts.check_line(layout, "NODE" if ok is None else each.other)
        checks.append(Check("mount", ok, what, hint))
    return checks


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.lstat().st_mode)
    except OSError:
        return 0


def _chmod(mode: str, paths: list[Path]) -> str:
    return shlex.join(["chmod", mode, *map(str, paths)])
