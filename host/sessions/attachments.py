"""Files that come in with a message, and files that go out with one. Nothing here trusts a name.

In: the bytes are kept under `spool/` before the event is accepted, and moved into the session's `inbox/<message_id>/`
when the message is written; both steps can be repeated. Out: a file the agent put in `out/outbox/<message_id>/` is
copied to the host's `sent/out-<seq>/` before its message is queued: the agent cannot change what was checked.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from host.sessions.filename import safe_name
from host.sessions.folder import Owner, share
from host.sessions.untrusted_files import copy_file, folder_size, opened_file, opened_folder, remove_tree, sync_folder
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError, FileTrouble, InvalidValue
from shared_schema.layout import OUTBOX, SessionLayout
from shared_schema.system_errors import words_of


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How many files one message may have, how large each may be, and how much a session may send (bytes)."""

    max_files: int
    max_bytes: int
    max_total_bytes: int


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with an event: the name the platform gave it (not to be trusted) and where its bytes are."""

    name: str
    source: Path


class AttachmentRefused(DumbwaiterError):
    """A file is too large, or there are too many."""


def spool(attachments: Sequence[Attachment], folder: Path, limits: FileLimits) -> list[str]:
    """Keep the bytes of an event's files until they are in a session; their safe names. Blocks.

    Raises `AttachmentRefused`, `InvalidValue` for a source that is no regular file, `FileTrouble`.
    """
    if len(attachments) > limits.max_files:
        raise AttachmentRefused(f"{len(attachments)} files came with one message, and {limits.max_files} are allowed")
    names: list[str] = []
    try:
        folder.mkdir(mode=0o700)
        for attachment in attachments:
            name = safe_name(attachment.name, set(names))
            _spool_one(attachment, folder / name, limits)
            names.append(name)
        sync_folder(folder)
        sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise FileTrouble(f"the files cannot be kept: {words_of(error)}", where=folder.parent) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return names


def spool_text(text: str, name: str, folder: Path, names: Sequence[str]) -> str:
    """Keep a text that came with an event as a file beside its others, which are called `names`; its name. Blocks.

    Raises `FileTrouble`. It is the person's own message: how large it may be, its platform says.
    """
    name = safe_name(name, set(names))
    try:
        with (folder / name).open("xb") as file:
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise FileTrouble(f"the files cannot be kept: {words_of(error)}", where=folder.parent) from error
    return name


def unspool(folder: Path, names: Sequence[str], layout: SessionLayout, message_id: str, owner: Owner) -> None:
    """Bring an event's files into `inbox/<message_id>/`. Repeatable: what is there already is made again. Blocks."""
    target = layout.inbox / message_id
    try:
        if target.is_dir():
            shutil.rmtree(target)
        share(target, owner)
        for name in names:
            with opened_folder(folder) as source, opened_file(source, name, max_bytes=2**63 - 1) as file:
                copy_file(file, target / name, max_bytes=2**63 - 1)
            share_file(target / name, owner)
        sync_folder(target)
        sync_folder(layout.inbox)
    except OSError as error:
        raise FileTrouble(f"the files cannot be kept: {words_of(error)}", where=layout.inbox) from error


def take(layout: SessionLayout, seq: int, message_id: str, names: Sequence[str], limits: FileLimits) -> list[str]:
    """Copy what an agent sends to `sent/out-<seq>/`; the paths below the session folder. Blocks.

    A `seq` is taken once, so nothing that is queued is ever replaced. `message_id` has been checked to be an id. Raises
    `AttachmentRefused` and `FileDamaged` for what the agent did, `FileTrouble` for what the host's disk did.
    """
    if len(names) > limits.max_files:
        raise AttachmentRefused(f"it has {len(names)} files, and {limits.max_files} are allowed")
    target = layout.sent / f"out-{seq}"
    remove_tree(target)  # of an earlier attempt that did not get as far as the ledger
    kept = folder_size(layout.sent)
    room = limits.max_total_bytes - (limits.max_total_bytes if kept is None else kept)
    try:
        target.mkdir(mode=0o750)
        taken: list[str] = []
        with opened_folder(layout.out) as out:
            for name in names:
                with opened_file(out, OUTBOX, message_id, name, max_bytes=limits.max_bytes) as source:
                    room -= os.fstat(source).st_size
                    if room < 0:
                        raise AttachmentRefused("the session has sent more files than it may")
                    safe = safe_name(name, set(taken))
                    copy_file(source, target / safe, max_bytes=limits.max_bytes)
                    taken.append(safe)
        sync_folder(target)
        sync_folder(layout.sent)  # the folder's own name: the ledger is about to rely on it
    except OSError as error:
        remove_tree(target)
        raise FileTrouble(f"the files cannot be kept: {words_of(error)}", where=layout.sent) from error
    except BaseException:
        remove_tree(target)
        raise
    return [f"sent/out-{seq}/{name}" for name in taken]


def share_file(path: Path, owner: Owner) -> None:
    """Let the agent read a file of the host's."""
    if os.geteuid() == 0:
        os.chown(path, 0, owner.gid, follow_symlinks=False)
    path.chmod(0o640)


def _spool_one(attachment: Attachment, target: Path, limits: FileLimits) -> None:
    try:
        source = os.open(attachment.source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise InvalidValue(f"the file cannot be read: {reason}", where=attachment.source) from error
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidValue("it is not a file", where=attachment.source)
        if status.st_size > limits.max_bytes:
            raise AttachmentRefused(
                f"the file has {status.st_size} bytes, and {limits.max_bytes} are allowed", where=attachment.source
            )
        copy_file(source, target, max_bytes=limits.max_bytes)
    finally:
        os.close(source)
