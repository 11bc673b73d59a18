"""What a person does about an error of the system, as far as its number tells. Pure."""

from __future__ import annotations

import errno
import shlex
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_OTHER_KIND = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP})
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


def words_of(error: BaseException) -> str:
    """What an error says, without the number and the path that an `OSError` puts around it."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def how_to_mend(error: BaseException | None, where: str | Path | None) -> str | None:
    """What to type, for an `OSError` about a file or folder; None where its number says nothing of use."""
    if not isinstance(error, OSError) or error.errno is None:
        return None
    path = Path(where or error.filename) if isinstance(where or error.filename, str | Path) else Path()
    place = shlex.quote(str(path))
    folder = shlex.quote(str(path.parent))
    match error.errno:
        case number if number in _FULL:
            return f"free some space, `df -h {folder}` shows how much there is"
        case number if number in _FORBIDDEN:
            return f"`ls -ld {folder} {place}` shows who may use it: do it as that user, or change its owner or mode"
        case errno.EROFS:
            return f"`findmnt -T {folder}` shows how its file system is mounted: it has to be writable"
        case errno.ENOENT:
            return f"`ls {folder}` shows what is there"
        case number if number in _OTHER_KIND:
            return f"`ls -ld {place}` shows what is in the way"
        case errno.EIO:
            return "the disk fails: `sudo dmesg | tail` says how"
        case number if number in _NO_DESCRIPTORS:
            return "too many files are open: `ulimit -n 65536`, then start it again"
    return None
