"""Mending what a dead agent left, without ever doing what a hostile file asks for."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from host.sessions.folder import Owner, make_session_folder
from host.sessions.hard_link import JOURNAL
from host.sessions.outbox import MAX_CHARACTERS, read, standing
from host.sessions.recovery import has_journal, quarantine, recover
from host.sessions.untrusted_files import copy_file, folder_size, opened_file, opened_folder, remove_tree
from shared_schema.errors import FileBusy, FileDamaged, FileTrouble
from shared_schema.layout import SessionLayout

OWNER = Owner.of_agents(10001)
MAGIC = bytes.fromhex("d9d505f920a163d7")

KILLED_IN_MID_COMMIT = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
for number in range(200):
    connection.execute("INSERT INTO session_state VALUES (?, ?, '')", (f"half-{number}", "x" * 2000))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def session(tmp_path: Path) -> SessionLayout:
    layout = SessionLayout(tmp_path / "agr" / "ses_0000000000000000")
    make_session_folder(layout, OWNER)
    return layout


def write(session: SessionLayout, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(session.outbound)) as connection, connection:
        connection.execute(statement, parameters)


def look(session: SessionLayout, out_cursor: int = 0) -> object:
    return read(session, out_cursor=out_cursor, turn_cursor=0, open_messages=[], running_turns=[])


def super_journal_record(name: bytes) -> bytes:
    """The end of a journal that names a super-journal: page number, name, length, checksum, magic."""
    checksum = sum(name) & 0xFFFFFFFF
    return (b"\0\0\0\1" + name + len(name).to_bytes(4, "big") + checksum.to_bytes(4, "big")) + MAGIC


@pytest.mark.parametrize("padding", [0, 4096])
def test_a_journal_cannot_make_the_host_delete_a_file(session: SessionLayout, tmp_path: Path, padding: int) -> None:
    victim = tmp_path / "victim.db"
    victim.write_bytes(b"")
    (session.out / JOURNAL).write_bytes(b"\0" * padding + super_journal_record(str(victim).encode()))
    with pytest.raises(FileDamaged, match="names another file"):
        recover(session, OWNER)
    assert victim.exists()


def test_a_hot_journal_is_rolled_back(session: SessionLayout) -> None:
    write(session, "INSERT INTO session_state VALUES ('kept', 'v', '')")
    subprocess.run([sys.executable, "-c", KILLED_IN_MID_COMMIT, str(session.outbound)], check=False)
    assert has_journal(session)
    with pytest.raises(FileBusy):
        look(session)
    recover(session, OWNER)
    assert not has_journal(session)
    with closing(sqlite3.connect(session.outbound)) as connection:
        assert connection.execute("SELECT key FROM session_state").fetchall() == [("kept",)]
    look(session)


def test_a_schema_that_would_run_for_ever_does_not_run_in_a_recovery(session: SessionLayout) -> None:
    slow = "+".join(["length(replace(hex(zeroblob(900000)), '0', 'ab'))"] * 20)
    write(session, f"CREATE TABLE trap (a, b GENERATED ALWAYS AS ({slow}) STORED, CHECK ({slow} > 0))")
    subprocess.run([sys.executable, "-c", KILLED_IN_MID_COMMIT, str(session.outbound)], check=False)
    recover(session, OWNER)
    assert not has_journal(session)


def test_what_is_put_aside_is_kept_and_numbers_go_on(session: SessionLayout) -> None:
    session.outbound.write_bytes(b"garbage")
    kept = quarantine(session, OWNER, stamp="now", after_seq=41)
    assert (session.out / kept).read_bytes() == b"garbage"
    write(
        session,
        "INSERT INTO messages_out (id, generation, timestamp, kind, content) VALUES ('a', 1, '', 'chat', '{}')",
    )
    with closing(sqlite3.connect(session.outbound)) as connection:
        assert connection.execute("SELECT seq FROM messages_out").fetchone() == (42,)


def test_a_folder_that_somebody_removed_is_made_again(session: SessionLayout) -> None:
    assert remove_tree(session.folder)
    quarantine(session, OWNER, stamp="now", after_seq=3)
    look(session, out_cursor=3)


def test_one_look_is_bounded_in_characters(session: SessionLayout) -> None:
    text = '{"text":"' + "é" * 900_000 + '"}'
    with closing(sqlite3.connect(session.outbound)) as connection, connection:
        connection.executemany(
            "INSERT INTO messages_out (id, generation, timestamp, kind, content) VALUES (?, 1, '', 'chat', ?)",
            [(f"m{number}", text[: 400_000 - 2] + '"}') for number in range(40)],
        )
    seen, cursor, looks = 0, 0, 0
    while True:
        snapshot = read(session, out_cursor=cursor, turn_cursor=0, open_messages=[], running_turns=[])
        assert sum(len(message.content) for message in snapshot.messages) <= MAX_CHARACTERS + 400_000
        seen, cursor, looks = seen + len(snapshot.messages), snapshot.out_cursor, looks + 1
        if not snapshot.more:
            break
    assert seen == 40
    assert looks > 3


def test_a_tree_of_any_depth_can_be_removed_and_is_not_counted_as_small(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    script = """
import os, sys
os.mkdir(sys.argv[1])
os.chdir(sys.argv[1])
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
"""
    subprocess.run([sys.executable, "-c", script, str(deep)], check=True)
    assert folder_size(deep) is None
    assert remove_tree(deep)
    assert not deep.exists()


def test_a_link_in_a_tree_is_removed_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    assert remove_tree(inside)
    assert (outside / "kept").read_text() == "kept"


@pytest.mark.parametrize("version", [3, 255])
def test_a_file_that_forbids_writing_by_its_header_is_damaged_and_not_for_later(
    session: SessionLayout, version: int
) -> None:
    """Found by fuzzing: its session waited for ever for a disk that was never read-only."""
    (session.out / JOURNAL).write_bytes(bytes(600))
    with session.outbound.open("r+b") as file:
        file.seek(18)
        file.write(bytes([version]))
    with pytest.raises(FileDamaged, match="forbids"):
        recover(session, OWNER)


def test_a_size_that_a_journal_names_is_not_believed(session: SessionLayout) -> None:
    """SQLite makes the file as large as the journal says it was: 8.8 TB."""
    head = MAGIC + (0).to_bytes(8, "big") + (2**31 - 1).to_bytes(4, "big") + bytes([0, 0, 2, 0, 0, 0, 16, 0])
    (session.out / JOURNAL).write_bytes(head.ljust(512, b"\0"))
    before = session.outbound.read_bytes()
    with pytest.raises(FileDamaged, match="larger than it was"):
        recover(session, OWNER)
    assert session.outbound.read_bytes() == before
    assert list(session.reading.glob("recover*")) == []


def test_a_hole_is_not_copied_as_data(session: SessionLayout) -> None:
    write(session, "INSERT INTO session_state VALUES ('kept', 'v', '')")
    subprocess.run([sys.executable, "-c", KILLED_IN_MID_COMMIT, str(session.outbound)], check=False)
    os.truncate(session.outbound, 3 * 1024**3)
    free = os.statvfs(session.reading)
    recover(session, OWNER)
    assert session.outbound.stat().st_blocks * 512 < 10 * 1024**2
    after = os.statvfs(session.reading)
    assert (free.f_bavail - after.f_bavail) * free.f_frsize < 1024**3
    with closing(sqlite3.connect(session.outbound)) as connection:
        assert connection.execute("SELECT key FROM session_state").fetchall() == [("kept",)]


def test_what_a_copy_writes_is_bounded_whatever_its_size(session: SessionLayout) -> None:
    (session.out / "data").write_bytes(os.urandom(300_000))
    with (
        opened_folder(session.out) as out,
        opened_file(out, "data", max_bytes=10**6) as source,
        pytest.raises(FileDamaged, match="holds more than 200000 bytes"),
    ):
        copy_file(source, session.reading / "copy", max_bytes=10**6, max_data=200_000)
    assert not (session.reading / "copy").exists()


def test_a_file_that_is_older_than_what_was_read_from_it_numbers_on_behind_that(session: SessionLayout) -> None:
    insert = "INSERT INTO messages_out (id, generation, timestamp, kind, content) VALUES (?, 1, '', 'chat', '{}')"
    write(session, insert, "a")
    assert standing(session).last_seq == 1
    recover(session, OWNER, after_seq=41)
    assert standing(session).last_seq == 41
    write(session, insert, "b")
    with closing(sqlite3.connect(session.outbound)) as connection:
        assert connection.execute("SELECT seq FROM messages_out").fetchall() == [(1,), (42,)]


def test_a_full_disk_puts_nothing_aside(session: SessionLayout) -> None:
    """The fresh file is made first: where there is no room for it, the old one stays where it is."""
    (session.reading / "outbound.new").mkdir()
    (session.reading / "outbound.new" / "in the way").write_bytes(b"")
    with pytest.raises(FileTrouble):
        quarantine(session, OWNER, stamp="now", after_seq=3)
    look(session)
