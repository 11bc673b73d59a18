"""What an agent is told by files of its workspace: its instructions, memory and skills, read and changed by a person.

The workspace is the agent's, which may put anything there at any moment: no link is followed, nothing but regular files
of bounded size is read, and what is written takes its place by a rename, whole or not at all. A revision is the hash of
a text: a change says which text it changes, so that what the agent wrote meanwhile is not lost unseen.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from host.central import agent_groups, audit
from host.central.database import Transaction
from host.services import Services
from host.sessions.filename import is_safe_component
from host.sessions.folder import Owner, make_workspace
from host.sessions.untrusted_files import opened_file, opened_folder
from shared_schema.errors import Conflict, DumbwaiterError, FileDamaged, FileTrouble, InvalidValue, NotFound
from shared_schema.system_errors import words_of
from shared_schema.text import is_all_shown, without_lone_surrogates

ALWAYS = ("AGENT.md", "HEARTBEAT.md", "memory/MEMORY.md")
"""Files that are listed also when they are not there: a person can begin them."""
_LARGEST = 200_000
_MOST = 200
_MOST_LINES = 5_000
_CONTEXT = 3
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = "AGENT.md, HEARTBEAT.md, memory/NAME.md or skills/NAME/SKILL.md"


async def list_all(services: Services, *, agent_group: str) -> list[dict[str, Any]]:
    """The files from which an agent is told: path, kind (instructions, heartbeat, memory, skill), bytes, revision.

    `bytes` and `revision` are None for one that is not there; `problem` says why one cannot be read. Raises `NotFound`.
    """
    workspace, _, _ = await _workspace(services, agent_group)
    return await asyncio.to_thread(lambda: [_shown(workspace, path) for path in _paths(workspace)])


async def show(services: Services, *, agent_group: str, path: str) -> dict[str, Any]:
    """One of these files with its `text`: '' and no revision where it is not there.

    Raises `InvalidValue`, `NotFound`.
    """
    parts = _parts(path)
    workspace, _, _ = await _workspace(services, agent_group)
    text = await asyncio.to_thread(_read, workspace, parts)
    return {
        "agent_group": agent_group,
        "path": path,
        "kind": _kind(parts),
        "text": text or "",
        "revision": None if text is None else revision_of(text),
    }


async def change(
    services: Services,
    *,
    agent_group: str,
    path: str,
    text: str,
    revision: str | None = None,
    only_look: bool = False,
) -> dict[str, Any]:
    """Write one of these files, for the next turn; with `only_look` say what would change.

    `revision` is that of the text which is changed; None: there is no such file. Returns path, revision, and `diff`:
    lines with `kind` (same, added, removed, place). Raises `InvalidValue`, and `Conflict` when the file has another
    revision.
    """
    parts = _parts(path)
    wanted = without_lone_surrogates(text).replace("\r\n", "\n")
    if len(wanted.encode()) > _LARGEST or "\0" in wanted:
        raise InvalidValue(f"a file is text of at most {_LARGEST:,} bytes", hint="shorten it")
    workspace, owner, folder = await _workspace(services, agent_group)
    before = await asyncio.to_thread(_read, workspace, parts)
    diff = await asyncio.to_thread(difference, before or "", wanted)
    found = None if before is None else revision_of(before)
    result = {"agent_group": agent_group, "path": path, "revision": revision_of(wanted), "diff": diff}
    if only_look:
        return result | {"revision": found}
    _require_revision(agent_group, path, found, revision)
    if before == wanted:
        return result

    def write() -> None:
        make_workspace(workspace, owner)
        with _folder_of(workspace, parts, owner) as descriptor:
            _replace(descriptor, parts[-1], wanted.encode(), owner)

    await asyncio.to_thread(write)
    await _audited(services, "agent_file.set", f"{folder} {path}", diff)
    return result


async def remove(services: Services, *, agent_group: str, path: str, revision: str) -> dict[str, Any]:
    """Remove one of these files; of a skill its `SKILL.md`, what lies beside it stays. Raises as `change`."""
    parts = _parts(path)
    workspace, _, folder = await _workspace(services, agent_group)
    before = await asyncio.to_thread(_read, workspace, parts)
    if before is None:
        raise NotFound(f"{agent_group} has no file {path}")
    _require_revision(agent_group, path, revision_of(before), revision)

    def drop() -> None:
        with _folder_of(workspace, parts, None) as descriptor, suppress(FileNotFoundError):
            os.unlink(parts[-1], dir_fd=descriptor)

    await asyncio.to_thread(drop)
    await _audited(services, "agent_file.remove", f"{folder} {path}", difference(before, ""))
    return {"removed": path, "agent_group": agent_group}


def revision_of(text: str) -> str:
    """The revision of a text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def difference(before: str, after: str) -> list[dict[str, str]]:
    """What makes one text of another, as lines with `kind` (same, added, removed, place) and `text`. Pure.

    Of very long texts nothing is compared: a single line says so.
    """
    old, new = before.splitlines(), after.splitlines()
    if len(old) + len(new) > _MOST_LINES:
        return [{"kind": "place", "text": f"{len(old)} lines become {len(new)}"}]
    kinds = {"+": "added", "-": "removed", "@": "place", " ": "same"}
    lines = list(difflib.unified_diff(old, new, n=_CONTEXT, lineterm=""))[2:]
    return [
        {"kind": kinds[line[0]], "text": line if line[0] == "@" else line[1:]} for line in lines if line[:1] in kinds
    ]


def _require_revision(agent_group: str, path: str, found: str | None, given: str | None) -> None:
    if found != given:
        what = "is there already" if given is None else "is gone" if found is None else "was changed meanwhile"
        raise Conflict(
            f"{path} of {agent_group} {what}",
            hint="look at it again; `dumbwaiter agent-group file show` prints its revision with --json",
        )


async def _workspace(services: Services, agent_group: str) -> tuple[Path, Owner, str]:
    group = await services.central.read(agent_groups.get_by_name, agent_group)
    settings = services.settings
    return settings.layout.workspace(group.folder), Owner.of_agents(settings.agent_uid), group.name


async def _audited(services: Services, action: str, subject: str, diff: list[dict[str, str]]) -> None:
    counts = {kind: sum(line["kind"] == kind for line in diff) for kind in ("added", "removed")}

    def store(tx: Transaction) -> None:
        audit.record(tx, action, subject, after={"lines": f"+{counts['added']} -{counts['removed']}"})

    await services.central.write(store)


def _parts(path: str) -> tuple[str, ...]:
    """The components of a path that a person may change. Raises `InvalidValue`."""
    parts = PurePosixPath(path).parts
    fits = "/".join(parts) == path and all(
        is_safe_component(part) and is_all_shown(part) and not part.startswith(".") for part in parts
    )
    match parts:
        case ("AGENT.md",) | ("HEARTBEAT.md",) if fits:
            return parts
        case ("memory", name) if fits and name.endswith(".md"):
            return parts
        case ("skills", _, "SKILL.md") if fits:
            return parts
    raise InvalidValue(f"'{path[:80]}' is no file of an agent that can be changed here", hint=f"it is {_KINDS}")


def _kind(parts: tuple[str, ...]) -> str:
    return {"AGENT.md": "instructions", "HEARTBEAT.md": "heartbeat", "memory": "memory"}.get(parts[0], "skill")


def _paths(workspace: Path) -> list[str]:
    found = dict.fromkeys(ALWAYS)
    for name in _names(workspace, "memory"):
        found |= {f"memory/{name}": None}
    for name in _names(workspace, "skills"):
        found |= {f"skills/{name}/SKILL.md": None}
    paths = []
    for path in found:
        with suppress(InvalidValue):
            paths.append((_kind(_parts(path)), path))
    order = ("instructions", "heartbeat", "memory", "skill")
    return [path for _, path in sorted(paths, key=lambda each: (order.index(each[0]), each[1] not in found, each[1]))]


def _names(workspace: Path, folder: str) -> list[str]:
    try:
        with opened_folder(workspace, folder) as descriptor, os.scandir(descriptor) as entries:
            names = [entry.name for entry in islice(entries, _MOST)]
    except (OSError, DumbwaiterError):
        return []
    return sorted(name for name in names if is_safe_component(name) and is_all_shown(name))


def _shown(workspace: Path, path: str) -> dict[str, Any]:
    parts = _parts(path)
    shown: dict[str, Any] = {"path": path, "kind": _kind(parts), "bytes": None, "revision": None, "problem": None}
    try:
        text = _read(workspace, parts)
    except DumbwaiterError as error:
        return shown | {"problem": error.what}
    return shown if text is None else shown | {"bytes": len(text.encode()), "revision": revision_of(text)}


def _read(workspace: Path, parts: tuple[str, ...]) -> str | None:
    """The text of a file; None: it is not there. Raises `FileDamaged`, `FileTrouble`."""
    try:
        with opened_folder(workspace) as folder, opened_file(folder, *parts, max_bytes=_LARGEST) as descriptor:
            data = os.read(descriptor, _LARGEST)
    except DumbwaiterError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileDamaged(f"{'/'.join(parts)} is no text in UTF-8") from error


@contextmanager
def _folder_of(workspace: Path, parts: tuple[str, ...], owner: Owner | None) -> Iterator[int]:
    """The folder of a file, as a descriptor; with an owner it is made where it is missing. Raises `FileTrouble`."""
    opened: list[int] = []
    try:
        current = os.open(workspace, _FOLDER)
        opened.append(current)
        for name in parts[:-1]:
            made = False
            if owner is not None:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o750, dir_fd=current)
                    made = True
            current = os.open(name, _FOLDER, dir_fd=current)
            opened.append(current)
            # By the descriptor: the agent may have put something else under that name meanwhile.
            if made and owner is not None and owner.uid != os.geteuid():
                os.fchown(current, owner.uid, owner.gid)
        yield current
    except OSError as error:
        raise FileTrouble(f"{'/'.join(parts)} cannot be written: {words_of(error)}", where=workspace) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _replace(folder: int, name: str, data: bytes, owner: Owner) -> None:
    """Put a file in its place, whole: what stands under that name, be it a link, is not followed but replaced."""
    draft = f".{secrets.token_hex(8)}.new"
    descriptor = os.open(
        draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640, dir_fd=folder
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if owner.uid != os.geteuid():
                os.fchown(file.fileno(), owner.uid, owner.gid)
            os.fsync(file.fileno())
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft, dir_fd=folder)
        raise
    os.fsync(folder)
