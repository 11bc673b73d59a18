"""An install is a data folder on a file system: who may serve it, whether it is where it was, and what a copy becomes.

The order matters: first the owner (a host that may not be here changes nothing), then the locks, then the place, and
only then anything that would touch agents. A folder that was moved within its file system, mounted elsewhere or came
through a reboot goes on by itself. Any other is asked about once, by a refusal that says what to type.
"""

from __future__ import annotations

import os
import pwd
import tempfile
from enum import StrEnum
from pathlib import Path

from host.central import install
from host.lock import is_held
from host.place import InstallRecord, Place, place_of, read_record, write_record
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict
from shared_schema.layout import OUT, DataLayout


class Answer(StrEnum):
    """What a person says of a folder that is not where it was."""

    MOVED = "moved"
    COPY = "copy"


class FolderElsewhere(Conflict):
    """The folder was copied or moved, and the operator has not said yet which."""


class ForeignFolder(Conflict):
    """The folder, or a part of it, belongs to another user."""


@dataclass(frozen=True, slots=True)
class InstallStanding:
    """How it stands with a folder: where it is, where it was last used, and whether it is still that folder."""

    layout: DataLayout
    place: Place
    record: InstallRecord | None
    install_id: str | None
    is_at_home: bool

    @property
    def original(self) -> DataLayout | None:
        """The folder this one was made from, if it is still where it was."""
        if self.is_at_home or self.record is None:
            return None
        path = Path(self.record.place.path)
        if path == Path(self.place.path) or not path.is_dir():
            return None
        return DataLayout(path) if place_of(path).is_same(self.record.place) else None


def standing(layout: DataLayout) -> InstallStanding:
    """How it stands with a folder that is there; nothing is changed. Raises `FileTrouble`."""
    place, record, install_id = place_of(layout.data), read_record(layout.install), install.id_in(layout.central)
    at_home = record is None or (place.is_same(record.place) and install_id in (None, record.install_id))
    return InstallStanding(layout, place, record, install_id, at_home)


def becomes_a_copy(stands: InstallStanding, answer: Answer | None, command: str) -> bool:
    """Whether the folder is to become an install of its own; False when it goes on as the one it was.

    `command` is how a person calls this program on this folder. Raises `FolderElsewhere` when that is not said yet, or
    cannot be.
    """
    if stands.is_at_home:
        return False
    original = stands.original
    if answer is Answer.COPY:
        return True
    if answer is Answer.MOVED:
        if original is None:
            return False
        raise FolderElsewhere(
            f"it was not moved: the folder it was made from is still there, as {original.data}",
            where=stands.layout.data,
            hint=f"as a second install type `{command} --copy`, or remove {original.data} first",
        )
    assert stands.record is not None
    was = stands.record.place.path
    if original is not None:
        serving = ", where a host runs" if is_held(original) else ""
        raise FolderElsewhere(
            f"this data folder is a copy of {was}{serving}",
            where=stands.layout.data,
            hint=f"to use it as a second install, which leaves the agents of the first alone, type `{command} --copy`; "
            f"to go on here in place of the first, remove {was} and type `{command} --moved`",
        )
    raise FolderElsewhere(
        f"this data folder was copied or moved here; it was last used as {was}",
        where=stands.layout.data,
        hint=f"if it was moved, or the original is gone for good, type `{command} --moved`; if the original is still "
        f"used somewhere, type `{command} --copy`",
    )


def keep(layout: DataLayout, install_id: str) -> None:
    """Note that the install is at home here. Raises `FileTrouble`."""
    record = InstallRecord(install_id, place_of(layout.data))
    if record != read_record(layout.install):
        write_record(layout.install, record)


def clear_copied(layout: DataLayout) -> None:
    """Remove what a copy holds of the processes of its original."""
    for path in layout.run.glob("*"):
        path.unlink(missing_ok=True)


# Owners


def require_own(layout: DataLayout) -> None:
    """Refuse a folder of another user's, before anything is made in it: its owner could use none of that.

    Where a file system does not keep owners (some network and virtual mounts) there are none to differ. Raises
    `ForeignFolder`.
    """
    folder = layout.data
    if not folder.is_dir() or not is_foreign(folder):
        return
    owner = folder.stat().st_uid
    name = name_of(owner)
    if os.geteuid() == 0:
        hint = f"run it as that user, for instance `sudo -u {_for_sudo(owner)} …`; or give root a folder of its own"
    else:
        hint = f"run it as {name}, choose another folder with --data, or type `{chown_line(folder)}`"
    raise ForeignFolder(
        f"the data folder belongs to {name}, and this is {name_of(os.geteuid())}", where=folder, hint=hint
    )


def require_own_content(layout: DataLayout) -> None:
    """Refuse a folder in which another user's host left files that this one cannot use. Raises `ForeignFolder`."""
    found = foreign(layout)
    if not found:
        return
    owner = name_of(found[0].lstat().st_uid)
    others = f" and {len(found) - 1} others" if len(found) > 1 else ""
    raise ForeignFolder(
        f"{found[0]}{others} in the data folder belong to {owner}, and this host runs as {name_of(os.geteuid())}",
        hint=f"type `{chown_line(layout.data)}`",
    )


def foreign(layout: DataLayout) -> list[Path]:
    """Returns the host's files and folders that belong to another user. What agents own is not looked into."""
    me = os.geteuid()
    if not layout.data.is_dir() or is_foreign(layout.data) is None:
        return []
    found = [layout.central, layout.history, layout.lock, layout.install, layout.spool, layout.run, layout.backups]
    found.append(layout.downloads)
    found += [layout.sessions, layout.agents]
    for group in _entries(layout.sessions):
        found.append(Path(group.path))
        for session in _entries(group.path):
            found += [Path(session.path), Path(session.path, "inbound.db")]
            if me != 0:  # root gives these to the user of its agents
                found.append(Path(session.path, OUT))
    if me != 0:
        found += [Path(entry.path) for entry in _entries(layout.agents)]
    return [path for path in found if _owner(path) not in (None, me)]


def name_of(uid: int) -> str:
    """A user as people call it; not every one has a name."""
    try:
        return f"'{pwd.getpwuid(uid).pw_name}' (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def chown_line(path: Path) -> str:
    """What makes a folder this user's own."""
    return f"sudo chown -R {os.geteuid()}:{os.getegid()} '{path}'"


def _for_sudo(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"'#{uid}'"


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # it may not even be looked into; that it belongs to another is found by its own entry
        return []


def _owner(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except OSError:
        return None


def is_foreign(folder: Path) -> bool | None:
    """Whether a folder is another user's; None on a file system that keeps no owners."""
    owner = folder.stat().st_uid
    if owner == os.geteuid():
        return False
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return None if os.fstat(probe.fileno()).st_uid == owner else True
    except OSError:
        return True
