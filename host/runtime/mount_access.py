"""Whether agents may read, and write, a folder that is mounted for them. In a container their user's number counts.

The mode decides, and an access list where there is one cannot be judged from here: it is taken to allow what is asked.
"""

from __future__ import annotations

import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from host.runtime.protocol import Mount
from shared_schema.dataclass import dataclass
from shared_schema.system_errors import words_of

_ACCESS_LIST = "system.posix_acl_access"


@dataclass(frozen=True, slots=True)
class MountTrouble:
    """What agents may not do there, and what to type."""

    what: str
    hint: str


def trouble_with(mount: Mount, uid: int, gid: int) -> MountTrouble | None:
    """What keeps agents of that user from doing in a folder what was asked for; None when nothing does."""
    try:
        status = mount.source.stat()
    except OSError as error:
        return MountTrouble(f"{mount.source} cannot be looked at: {words_of(error)}", "mount another folder")
    asked, letters = (0o7, "rwx") if mount.writable else (0o5, "rx")
    if mount.writable and os.statvfs(mount.source).f_flag & os.ST_RDONLY:
        return MountTrouble(f"no user may write in {mount.source}: its file system is read-only", "leave out ':rw'")
    if _has_access_list(mount.source) or _bits(status, uid, gid) & asked == asked:
        return None
    doing = "write" if _bits(status, uid, gid) & 0o5 == 0o5 else "read"
    place = shlex.quote(str(mount.source))
    give = f"sudo setfacl -m u:{uid}:{letters} {place}"
    whole = f"`sudo chown -R {uid} {place}`" if mount.writable else f"`chmod -R o+rX {place}`"
    without = ", or leave out ':rw'" if mount.writable and doing == "write" else ""
    what = f"agents, which are uid {uid}, may not {doing} in {mount.source}"
    return MountTrouble(what, f"type `{give}` or {whole}{without}")


def _bits(status: os.stat_result, uid: int, gid: int) -> int:
    shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
    return stat.S_IMODE(status.st_mode) >> shift & 0o7


def _has_access_list(path: Path) -> bool:
    with suppress(OSError, AttributeError):  # AttributeError: not Linux
        return _ACCESS_LIST in os.listxattr(path)
    return False
