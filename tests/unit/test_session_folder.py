"""Session folders: who owns what, and that making one again completes it."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from host.sessions.folder import (
    Owner,
    clear_removed,
    make_data_folder,
    make_outbound,
    make_session_folder,
    make_workspace,
    remove_session_folder,
    require_no_other_things,
)
from shared_schema.database import reader, writer
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import DataLayout, SessionLayout
from shared_schema.migrate import INBOUND, OUTBOUND, version_of
from tests.support.folders import open_folder

__all__ = ["open_folder"]

AGENT_UID = 10001
OWNER = Owner.of_agents(AGENT_UID)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

INSERT_OUT = "INSERT INTO messages_out (id, generation, timestamp, kind, content) VALUES (?, 1, 't', 'chat', '{}')"


@pytest.fixture
def session(tmp_path: Path) -> SessionLayout:
    """A freshly made session folder."""
    layout = DataLayout(tmp_path / "data")
    make_data_folder(layout, OWNER)
    folder = layout.session("agr_1", "ses_1")
    make_session_folder(folder, OWNER)
    return folder


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Owner, group and mode of everything below a folder."""
    return {
        str(path.relative_to(folder)): (status.st_uid, status.st_gid, status.st_mode)
        for path in [folder, *folder.rglob("*")]
        for status in [path.lstat()]
    }


def may(path: Path, bit: int) -> bool:
    """Whether the agent's user has that right (4 read, 2 write, 1 enter) on a path."""
    status = path.lstat()
    shift = 6 if status.st_uid == OWNER.uid else 3 if status.st_gid == OWNER.gid else 0
    return bool(status.st_mode >> shift & bit)


def test_the_folder_has_all_that_section_3_says(session: SessionLayout) -> None:
    assert sorted(path.name for path in session.folder.iterdir()) == [
        ".heartbeat",
        ".reading",
        "inbound.db",
        "inbox",
        "out",
        "outbound.db",
        "sent",
    ]
    assert [path.name for path in session.out.iterdir()] == ["outbound.db"]
    assert list(session.reading.iterdir()) == []


def test_the_links_for_people_lead_into_out(session: SessionLayout) -> None:
    links = {path.name: os.readlink(path) for path in session.folder.iterdir() if path.is_symlink()}
    assert links == {"outbound.db": "out/outbound.db", ".heartbeat": "out/.heartbeat"}
    with reader(session.folder / "outbound.db") as connection:
        assert version_of(connection) == OUTBOUND.version - 1


def test_the_agents_file_is_one_version_older_for_older_agents_and_both_keep_a_rollback_journal(
    session: SessionLayout,
) -> None:
    for path, version in ((session.inbound, INBOUND.version), (session.outbound, OUTBOUND.version - 1)):
        with reader(path) as connection:
            assert version_of(connection) == version
            assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"


@needs_root
def test_out_is_the_agent_s_and_everything_else_is_the_host_s(session: SessionLayout) -> None:
    owners = {name: uid for name, (uid, _, _) in tree(session.folder).items()}
    assert {name for name, uid in owners.items() if uid == AGENT_UID} == {"out", "out/outbound.db"}
    assert set(owners.values()) == {0, AGENT_UID}


@needs_root
def test_the_agent_can_read_what_is_for_it_and_write_only_in_out(session: SessionLayout) -> None:
    rights = {
        str(path.relative_to(session.folder)): "".join(
            letter for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if may(path, bit)
        )
        for path in [session.folder, *session.folder.rglob("*")]
        if not path.is_symlink()
    }
    assert rights == {
        ".": "rx",
        "inbound.db": "r",
        "inbox": "rx",
        "sent": "rx",
        ".reading": "",
        "out": "rwx",
        "out/outbound.db": "rw",
    }


def test_others_can_do_nothing_in_a_session_folder(session: SessionLayout) -> None:
    assert {
        path for path in session.folder.rglob("*") if path.lstat().st_mode & 0o007 and not path.is_symlink()
    } == set()
    assert stat.S_IMODE(session.folder.stat().st_mode) == 0o750


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_rights_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        layout = DataLayout(tmp_path / "data")
        make_data_folder(layout, OWNER)
        make_session_folder(layout.session("agr_1", "ses_1"), OWNER)
    finally:
        os.umask(before)
    modes = {
        name: oct(stat.S_IMODE(mode)) for name, (_, _, mode) in tree(layout.data).items() if "heartbeat" not in name
    }
    passage = "0o710" if os.geteuid() == 0 else "0o700"  # for the group of agents, where they are another user
    assert modes == {
        ".": passage,
        "agents": passage,
        "run": "0o700",
        "sessions": passage,
        "spool": "0o700",
        "sessions/agr_1": passage,
        "sessions/agr_1/ses_1": "0o750",
        "sessions/agr_1/ses_1/.reading": "0o700",
        "sessions/agr_1/ses_1/inbox": "0o750",
        "sessions/agr_1/ses_1/sent": "0o750",
        "sessions/agr_1/ses_1/inbound.db": "0o640",
        "sessions/agr_1/ses_1/outbound.db": "0o777",
        "sessions/agr_1/ses_1/out": "0o750",
        "sessions/agr_1/ses_1/out/outbound.db": "0o640",
    }


def test_making_it_again_changes_nothing(session: SessionLayout) -> None:
    with writer(session.outbound) as connection:
        connection.execute(INSERT_OUT, ("msg_1",))
    before = tree(session.folder), session.inbound.read_bytes(), session.outbound.read_bytes()
    make_session_folder(session, OWNER)
    assert (tree(session.folder), session.inbound.read_bytes(), session.outbound.read_bytes()) == before


def leave_draft(layout: SessionLayout) -> None:
    layout.inbound.unlink()
    (layout.reading / "inbound.new").write_bytes(b"half a database")


@pytest.mark.parametrize(
    "damage",
    [
        lambda layout: layout.inbound.unlink(),
        leave_draft,
        lambda layout: layout.outbound.unlink(),
        lambda layout: (layout.outbound.unlink(), layout.out.rmdir()),
        lambda layout: layout.inbox.rmdir(),
        lambda layout: (layout.folder / "outbound.db").unlink(),
        lambda layout: layout.reading.rmdir(),
        lambda layout: layout.out.chmod(0o777),
        lambda layout: layout.folder.chmod(0o755),
    ],
    ids=[
        "no inbound",
        "draft",
        "no outbound",
        "no out",
        "no inbox",
        "no link",
        "no reading",
        "open out",
        "open folder",
    ],
)
def test_a_half_made_folder_is_completed(session: SessionLayout, damage: Callable[[SessionLayout], object]) -> None:
    whole = tree(session.folder)
    damage(session)
    assert tree(session.folder) != whole or (session.reading / "inbound.new").exists()
    make_session_folder(session, OWNER)
    (session.reading / "inbound.new").unlink(missing_ok=True)
    assert tree(session.folder) == whole


@needs_root
def test_out_that_fell_to_the_host_is_given_back(session: SessionLayout) -> None:
    os.chown(session.out, 0, 0)
    make_session_folder(session, OWNER)
    assert (session.out.stat().st_uid, session.out.stat().st_gid) == (OWNER.uid, OWNER.gid)


def test_a_dangling_link_of_the_agent_s_is_not_followed_and_not_replaced(
    session: SessionLayout, tmp_path: Path
) -> None:
    session.outbound.unlink()
    session.outbound.symlink_to(tmp_path / "elsewhere.db")
    make_session_folder(session, OWNER)
    assert session.outbound.is_symlink()
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_fresh_outbound_file_goes_on_counting_where_the_host_stopped(session: SessionLayout) -> None:
    make_outbound(session, OWNER, after_seq=41)
    with writer(session.outbound) as connection:
        connection.execute(INSERT_OUT, ("msg_1",))
        assert connection.execute("SELECT seq FROM messages_out").fetchone()["seq"] == 42


def test_a_removed_folder_is_gone_and_its_neighbour_stays(session: SessionLayout) -> None:
    neighbour = SessionLayout(session.folder.with_name("ses_2"))
    make_session_folder(neighbour, OWNER)
    remove_session_folder(session)
    remove_session_folder(session)
    assert [path.name for path in session.folder.parent.iterdir()] == ["ses_2"]


def test_what_a_crash_left_of_a_removal_is_cleared(session: SessionLayout) -> None:
    layout = DataLayout(session.folder.parents[2])
    ids = [new_id(Prefix.SESSION) for _ in range(3)]
    for session_id in ids:
        make_session_folder(layout.session("agr_1", session_id), OWNER)
    renamed, forgotten, known = (layout.session("agr_1", session_id).folder for session_id in ids)
    renamed.rename(renamed.with_name(f".removed-{renamed.name}"))
    clear_removed(layout, {known.name})
    assert not forgotten.exists()
    assert sorted(path.name for path in known.parent.iterdir()) == sorted([known.name, session.folder.name])


def test_a_removal_follows_no_link_of_the_agent_s(session: SessionLayout, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("stays")
    (session.out / "outbox").symlink_to(precious)
    remove_session_folder(session)
    assert not session.folder.exists()
    assert (precious / "file").read_text() == "stays"


def test_the_workspace_is_the_agent_s(tmp_path: Path) -> None:
    for _ in range(2):
        make_workspace(tmp_path / "agents" / "assistant", OWNER)
    status = (tmp_path / "agents" / "assistant").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (OWNER.uid, OWNER.gid, 0o750)


def test_a_data_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DumbwaiterError, match=r"the data folder cannot be used: .* choose another with --data"):
        make_data_folder(DataLayout(tmp_path / "file" / "data"), OWNER)


def test_a_data_folder_that_was_open_is_closed_to_others_and_what_a_person_gave_a_group_stays(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path / "data")
    make_data_folder(layout, OWNER)
    layout.data.chmod(0o755)
    layout.run.chmod(0o711)  # as an earlier version made it
    make_data_folder(layout, OWNER)
    assert stat.S_IMODE(layout.data.stat().st_mode) == 0o750
    assert stat.S_IMODE(layout.run.stat().st_mode) == 0o700


@needs_root
def test_of_all_local_users_only_the_agents_pass_through_the_data_folder_of_root(open_folder: Path) -> None:
    layout = DataLayout(open_folder / "data")
    make_data_folder(layout, OWNER)
    workspace = layout.workspace("helper")
    make_workspace(workspace, OWNER)

    def may_list(uid: int, folder: Path) -> bool:
        listing = subprocess.run(["ls", folder], user=uid, group=uid, extra_groups=[], capture_output=True, check=False)
        return listing.returncode == 0

    assert may_list(AGENT_UID, workspace)
    assert not may_list(4242, workspace)
    assert not may_list(AGENT_UID, layout.data)


def test_agents_run_as_the_unprivileged_user_only_where_the_host_can_arrange_it() -> None:
    expected = (AGENT_UID, AGENT_UID) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    assert (OWNER.uid, OWNER.gid) == expected


@pytest.mark.parametrize("other", ["notes.md", ".bashrc"])
def test_a_folder_with_other_things_in_it_is_no_data_folder_and_stays_as_it_is(tmp_path: Path, other: str) -> None:
    layout = DataLayout(tmp_path / "home")
    layout.data.mkdir(mode=0o755)
    (layout.data / other).touch()

    with pytest.raises(InvalidValue, match=f"such as '{other}'") as refused:
        require_no_other_things(layout)

    assert str(refused.value.hint).endswith(f"type `touch {layout.settings}` first")
    assert stat.S_IMODE(layout.data.stat().st_mode) == 0o755
    assert [path.name for path in layout.data.iterdir()] == [other]
    layout.settings.touch()
    require_no_other_things(layout)


def test_a_file_system_with_nothing_in_it_and_a_first_start_that_was_cut_off_are_no_other_things(
    tmp_path: Path,
) -> None:
    layout = DataLayout(tmp_path / "data")
    require_no_other_things(layout)
    make_data_folder(layout, OWNER)
    (layout.data / "lost+found").mkdir()

    require_no_other_things(layout)
