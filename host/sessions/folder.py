"""Making and removing session folders (DESIGN section 3).

The folder belongs to the host; the agent's user may read it and owns `out/` alone. When the host is root, agents run as
an unprivileged user and reach the folder by its group; otherwise both are the same user. Making is idempotent: what a
crash left half-made is completed.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Sequence, Set
from contextlib import closing
from dataclasses import astuple
from pathlib import Path

from host.sessions.initial_transcript import InitialStep
from host.sessions.untrusted_files import remove_tree, sync_folder
from shared_schema.database import open_writer, transaction
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.ids import Prefix, is_id
from shared_schema.layout import HEARTBEAT, OUT, OUTBOUND, DataLayout, SessionLayout
from shared_schema.migrate import INBOUND, Schema, migrate
from shared_schema.migrate import OUTBOUND as OUTBOUND_SCHEMA
from shared_schema.system_errors import words_of

INSERT_STEP = """
INSERT INTO steps (turn_id, role, content, tool_name, tool_call_id, tool_calls, reasoning, usage, timestamp)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_OF_A_FILE_SYSTEM = frozenset({"lost+found", ".snapshot", ".snapshots", ".zfs"})
"""What stands in the top folder of a file system that has nothing in it."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The user agents run as."""

    uid: int
    gid: int

    @classmethod
    def of_agents(cls, agent_uid: int) -> Owner:
        """The host's own user, or the unprivileged `agent_uid` when the host is root."""
        return cls(agent_uid, agent_uid) if os.geteuid() == 0 else cls(os.geteuid(), os.getegid())


def make_data_folder(layout: DataLayout, owner: Owner) -> None:
    """The data folder and what is always in it; closed to everybody but the host.

    Where `owner`, the user of agents, is another than the host's (the host is root), its group may pass through to what
    it was given: agents without a container reach their folders by their paths. A folder that was open to others is
    closed. Raises `DumbwaiterError` when it cannot be made or written.
    """
    try:
        _make_data_folder(layout, owner)
    except OSError as error:
        raise DumbwaiterError(
            f"the data folder cannot be used: {words_of(error)}", where=layout.data, hint="choose another with --data"
        ) from error


def require_no_other_things(layout: DataLayout) -> None:
    """Before it becomes the data folder: a name mistyped after `--data` must not close other people's files to them.

    Raises `InvalidValue` for a folder with other things in it and nothing of a data folder.
    """
    if not layout.data.is_dir():
        return
    files = {
        layout.central, layout.history, layout.install, layout.lock, layout.lease, layout.mount_verdicts,
        layout.settings, layout.upstreams, layout.mounts,
    }  # fmt: skip
    folders = {layout.sessions, layout.agents, layout.spool, layout.run}  # alone where the first start was cut off
    try:
        there = set(layout.data.iterdir())
    except OSError as error:
        raise DumbwaiterError(
            f"the data folder cannot be used: {words_of(error)}", where=layout.data, hint="choose another with --data"
        ) from error
    others = {path.name for path in there - folders} - _OF_A_FILE_SYSTEM
    if others and there.isdisjoint(files):
        below = shlex.quote(str(layout.data / "dumbwaiter"))
        raise InvalidValue(
            f"it is no data folder, and other things are in it, such as '{min(others)}'",
            where=layout.data,
            hint=f"choose a folder that is empty or not there yet, such as `--data {below}`; to have this one all the "
            f"same, and closed to other users, type `touch {shlex.quote(str(layout.settings))}` first",
        )


def _make_data_folder(layout: DataLayout, owner: Owner) -> None:
    for folder, mode in (
        (layout.data, 0o710),
        (layout.sessions, 0o710),
        (layout.agents, 0o710),
        (layout.spool, 0o700),
        (layout.run, 0o700),
    ):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        close(folder, owner if mode == 0o710 else None)


def close(folder: Path, owner: Owner | None) -> None:
    """Close a folder of the host's to others, but for the passage of the agents' group where that is another user's.

    A group that an administrator gave it, so that certain people may look, stays.
    """
    status = folder.stat()
    mode = stat.S_IMODE(status.st_mode) & ~0o007
    if status.st_uid != os.geteuid():
        return
    if owner is not None and owner.uid != os.geteuid() and status.st_gid in (os.getegid(), owner.gid):
        if status.st_gid != owner.gid:
            os.chown(folder, -1, owner.gid)
        mode |= 0o010
    elif mode == 0o710:
        mode = 0o700  # as an earlier version, or a host that was root, made it
    if mode != stat.S_IMODE(status.st_mode):
        folder.chmod(mode)


def make_workspace(workspace: Path, owner: Owner, instructions: str | None = None) -> None:
    """The workspace of an agent group, the agent's to write. One that is made anew has these instructions in it."""
    if not workspace.is_dir():
        if instructions is None:
            workspace.mkdir(parents=True, exist_ok=True)
        else:
            _with_instructions(workspace, owner, instructions)
    give(workspace, owner, 0o750)


def _with_instructions(workspace: Path, owner: Owner, instructions: str) -> None:
    """A workspace that is there with its instructions, or not at all: after a crash the next start makes it."""
    draft = workspace.with_name(f".{workspace.name}.new")
    draft.mkdir(parents=True, exist_ok=True)
    (draft / "AGENT.md").write_text(instructions, "utf-8", "replace")
    give(draft / "AGENT.md", owner, 0o640)
    draft.rename(workspace)
    sync_folder(workspace.parent)


def make_session_folder(
    layout: SessionLayout, owner: Owner, *, after_seq: int = 0, steps: Sequence[InitialStep] = ()
) -> None:
    """The session folder with both databases and the links for people. Blocks; raises `FileTrouble`, `OSError`.

    Messages in an `outbound.db` that is made here begin above `after_seq`, its transcript with `steps`.
    """
    _pass_through(layout.folder.parent, owner)
    share(layout.folder, owner)
    for folder in (layout.inbox, layout.sent):
        share(folder, owner)
    _private(layout.reading)
    if not layout.inbound.exists():
        _make_database(layout.reading / "inbound.new", layout.inbound, INBOUND, 0o640, owner, own=False)
    layout.out.mkdir(mode=0o750, exist_ok=True)
    give(layout.out, owner, 0o750)
    if not os.path.lexists(layout.outbound):
        make_outbound(layout, owner, after_seq=after_seq, steps=steps)
    for name in (OUTBOUND, HEARTBEAT):
        link = layout.folder / name
        if not link.is_symlink():
            link.symlink_to(f"{OUT}/{name}")
    sync_folder(layout.folder)
    sync_folder(layout.folder.parent)


def make_outbound(
    layout: SessionLayout, owner: Owner, *, after_seq: int = 0, steps: Sequence[InitialStep] = ()
) -> None:
    """An empty `outbound.db` whose first message will have a `seq` above `after_seq`. No agent may be running."""
    os.replace(draft_outbound(layout, owner, after_seq=after_seq, steps=steps), layout.outbound)
    sync_folder(layout.out)


def draft_outbound(
    layout: SessionLayout, owner: Owner, *, after_seq: int = 0, steps: Sequence[InitialStep] = ()
) -> Path:
    """Such a file, whole and not in its place yet.

    It is one version older than the newest, so that the agent may be one version older than the host; the agent brings
    it up.
    """
    draft, version = layout.reading / "outbound.new", max(1, OUTBOUND_SCHEMA.version - 1)
    _make_database(
        draft,
        None,
        OUTBOUND_SCHEMA,
        0o640,
        owner,
        own=True,
        version=version,
        after_seq=after_seq,
        steps=steps,
    )
    return draft


def remove_session_folder(layout: SessionLayout) -> None:
    """Remove a session folder. First it is renamed, so that a crash leaves nothing that looks like a session."""
    gone = layout.folder.with_name(f".removed-{layout.folder.name}")
    if layout.folder.is_dir():
        layout.folder.rename(gone)
        sync_folder(gone.parent)
    remove_tree(gone)


def clear_removed(layout: DataLayout, known: Set[str]) -> None:
    """Finish the removals that a crash interrupted: folders of sessions that are not `known` (by id) any more."""
    for folder in layout.sessions.glob("*/*"):
        name = folder.name.removeprefix(".removed-")
        if is_id(name, Prefix.SESSION) and (name != folder.name or name not in known):
            remove_tree(folder)


def _make_database(
    draft: Path,
    target: Path | None,
    schema: Schema,
    mode: int,
    owner: Owner,
    *,
    own: bool,
    version: int | None = None,
    after_seq: int = 0,
    steps: Sequence[InitialStep] = (),
) -> None:
    draft.unlink(missing_ok=True)
    with closing(open_writer(draft, create=True)) as connection:
        migrate(connection, schema, to=version)
        if after_seq:
            connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('messages_out', ?)", (after_seq,))
        if steps:
            with transaction(connection):
                connection.executemany(INSERT_STEP, [astuple(step) for step in steps])
    if own:
        give(draft, owner, mode)
    else:
        _let_read(draft, owner, mode)
    if target is not None:
        os.replace(draft, target)


def _pass_through(folder: Path, owner: Owner) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        close(folder, owner)
        sync_folder(folder.parent)
    else:
        close(folder, owner)


def share(folder: Path, owner: Owner) -> None:
    """A folder of the host's that the agent may read."""
    folder.mkdir(mode=0o750, exist_ok=True)
    _let_read(folder, owner, 0o750)


def _private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)


def _let_read(path: Path, owner: Owner, mode: int) -> None:
    """The host's, readable by the agent's group."""
    if os.geteuid() == 0:
        os.chown(path, 0, owner.gid, follow_symlinks=False)
    os.chmod(path, mode)


def give(path: Path, owner: Owner, mode: int) -> None:
    """The agent's own."""
    if os.geteuid() == 0:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    os.chmod(path, mode)
