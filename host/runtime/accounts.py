"""The name of an agent's user in a container: `ssh`, `git commit` and many libraries refuse a user without one.

The host decides as which uid an agent runs, and an image names its own users only. So /etc/passwd and /etc/group of
the image get a line more for the agent, and these copies are mounted over the image's files. `account_in` is pure,
`AccountFiles` keeps the copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import field
from itertools import chain, count
from pathlib import Path

from shared_schema.dataclass import dataclass
from shared_schema.ids import Prefix, new_id

PASSWD, GROUP = "/etc/passwd", "/etc/group"
AGENT_NAME = "agent"
_SHELL = "/bin/sh"


@dataclass(frozen=True, slots=True)
class Account:
    """What a user is called in an image. `files` holds completed copies of the image's files, by their path there; a
    file that names the number already is not among them."""

    name: str
    files: Mapping[str, bytes] = field(default_factory=dict)


def account_in(passwd: bytes, group: bytes, *, uid: int, gid: int, home: str) -> Account:
    """The account of a user in an image that has these files."""
    files: dict[str, bytes] = {}
    name = _name_of(passwd, uid)
    if name is None:
        name = _free_name(passwd, uid)
        files[PASSWD] = _with_line(passwd, f"{name}:x:{uid}:{gid}:{AGENT_NAME}:{home}:{_SHELL}")
    if _name_of(group, gid) is None:
        files[GROUP] = _with_line(group, f"{_free_name(group, gid)}:x:{gid}:")
    return Account(name, files)


class AccountFiles:
    """The copies in a folder. A file is named after its content: images with the same users share one, and it stays as
    it is while containers have it open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, content: bytes) -> Path:
        """The file with that content; it is made where it is missing. Raises `OSError`."""
        path = self._folder / f"account-{hashlib.sha256(content).hexdigest()[:32]}"
        if not _has(path, content):
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{new_id(Prefix.RUN)}")  # another thread may be making the same file
            draft.write_bytes(content)
            draft.chmod(0o644)  # against the umask: where the host is root, agents are another user
            draft.replace(path)
        return path


def _has(path: Path, content: bytes) -> bool:
    """Whether a file is there and whole: after a power cut it may be empty."""
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False


def _name_of(content: bytes, number: int) -> str | None:
    """The first name a file gives to a number, as the system looks it up."""
    return next((name for name, found in _entries(content) if found == str(number)), None)


def _free_name(content: bytes, number: int) -> str:
    taken = {name for name, _ in _entries(content)}
    tried = chain([AGENT_NAME], (f"{AGENT_NAME}-{number + more}" for more in count()))
    return next(name for name in tried if name not in taken)


def _entries(content: bytes) -> Iterator[tuple[str, str]]:
    """Names with their numbers: both files have them in the first and the third field."""
    for line in content.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and not line.startswith("#"):
            yield fields[0], fields[2]


def _with_line(content: bytes, line: str) -> bytes:
    separator = b"" if not content or content.endswith(b"\n") else b"\n"
    return content + separator + line.encode() + b"\n"
