"""Which folders of the host an agent group may see besides its own.

The invariant: no folder is mounted that the allow-list does not name, however the request is spelled. The list is a
file that no agent can reach. Both sides are resolved (links, `.`) before they are compared, and what is handed on is
the resolved path; ask again before every start, because links change.

    [[allow]]                    # <data>/mounts.toml
    path = "/srv/books"          # this folder and everything beneath it
    writable = false             # the default; true lets a request ask for writing
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from host.runtime.protocol import Mount
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, InvalidValue
from shared_schema.foreign_text import decoded
from shared_schema.system_errors import words_of

_FORM = 'write such as: [[allow]], then path = "/srv/books", then writable = false, each in a line of its own'
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class MountRequest:
    """What an agent group's settings ask for: `path` of the host as /mnt/<name>."""

    path: Path
    name: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class AllowedFolder:
    """An entry of the allow-list; `path` is resolved."""

    path: Path
    writable: bool = False


def allowed_mount(request: MountRequest, allow_list: Sequence[AllowedFolder]) -> Mount:
    """The mount for a request; writable only where both the list and the request say so.

    Raises `InvalidValue` for a path or name that cannot be right, `Conflict` for one the list does not allow.
    """
    if _NAME.fullmatch(request.name) is None:
        raise InvalidValue(
            f"'{request.name}' cannot be the name of a mount",
            hint="use letters, digits, dots, hyphens and underscores, 64 at most",
        )
    source = _resolved(request.path)
    containing = [allowed for allowed in allow_list if source.is_relative_to(allowed.path)]
    if not containing:
        raise Conflict(
            "the folder may not be mounted",
            where=source,
            hint="add it, or a folder that contains it, to mounts.toml in the data folder",
        )
    closest = max(containing, key=lambda allowed: len(allowed.path.parts))
    return Mount(source=source, name=request.name, writable=request.writable and closest.writable)


def read_allow_list(path: Path) -> tuple[AllowedFolder, ...]:
    """The entries of an allow-list file; a missing file is an empty list.

    Raises `InvalidValue` for a file of another form, `Conflict` when the list would let an agent see or change itself.
    """
    try:
        document = tomllib.loads(decoded(path.read_bytes()))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidValue(f"the list of mounts cannot be read: {words_of(error)}", where=path, hint=_FORM) from error
    if unknown := sorted(set(document) - {"allow"}):
        raise InvalidValue(f"'{unknown[0]}' is not known here", where=path, hint="write [[allow]] entries only")
    entries = document.get("allow", [])
    if not isinstance(entries, list):
        raise InvalidValue("'allow' is not a list", where=path, hint="write [[allow]] with two brackets")
    folders = tuple(_entry(entry, path) for entry in entries)
    for folder in folders:
        if Path(os.path.realpath(path)).is_relative_to(folder.path):
            raise Conflict(
                f"the list of mounts lies within '{folder.path}', which it allows",
                where=path,
                hint="allow a folder beside it",
            )
    return folders


def _entry(entry: object, path: Path) -> AllowedFolder:
    match entry:
        case {"path": str(folder), **options} if set(options) <= {"writable"}:
            writable = options.get("writable", False)
            if not isinstance(writable, bool):
                raise InvalidValue(f"'writable' of '{folder}' is neither true nor false", where=path, hint=_FORM)
            if not Path(folder).is_absolute() or ".." in Path(folder).parts:
                raise InvalidValue(f"'{folder}' is not an absolute path", where=path, hint="write it in full")
            return AllowedFolder(Path(os.path.realpath(folder)), writable)
    raise InvalidValue("an entry is not of the expected form", where=path, hint=_FORM)


def _resolved(path: Path) -> Path:
    if not path.is_absolute() or ".." in path.parts:
        raise InvalidValue(f"'{path}' is not an absolute path", hint="write it in full, without '..'")
    try:
        source = Path(os.path.realpath(path, strict=True))
    except (OSError, ValueError) as error:
        raise InvalidValue(f"'{path}' cannot be mounted: {words_of(error)}") from error
    if not source.is_dir():
        raise InvalidValue(f"'{path}' is not a folder", hint="mount the folder that holds it")
    return source
