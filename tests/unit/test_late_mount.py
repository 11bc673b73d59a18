"""Reading through a mount without locks, on which a file is late: one state, or nothing this time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from host.sessions import outbox, recovery
from host.supervision.polling import QUICK_SECONDS, REST_SECONDS, poll_after
from shared_schema.database import open_writer
from shared_schema.errors import FileBusy
from shared_schema.late_mount import change_counter, is_listed, unchanged
from shared_schema.layout import SessionLayout
from shared_schema.migrate import OUTBOUND, migrate


@pytest.fixture
def shared(tmp_path: Path) -> SessionLayout:
    layout = SessionLayout(tmp_path / "ses", shared=True)
    layout.out.mkdir(parents=True)
    layout.reading.mkdir()
    with closing(open_writer(layout.outbound, create=True)) as connection:
        migrate(connection, OUTBOUND)
    return layout


def commit(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT OR REPLACE INTO session_state (key, value, updated_at) VALUES ('k', random(), '')")


def read(layout: SessionLayout) -> outbox.OutboxSnapshot:
    return outbox.read(layout, out_cursor=0, turn_cursor=0, open_messages=[], running_turns=[])


def test_what_was_committed_meanwhile_is_read_again_later(shared: SessionLayout) -> None:
    with unchanged(shared.out, "outbound.db"):
        pass
    with pytest.raises(FileBusy, match="changed while it was read"), unchanged(shared.out, "outbound.db"):
        commit(shared.outbound)


def test_a_journal_is_found_by_the_listing_before_and_after(shared: SessionLayout) -> None:
    journal = shared.out / "outbound.db-journal"
    with pytest.raises(FileBusy, match="a commit is going on"), unchanged(shared.out, "outbound.db"):
        journal.write_bytes(b"x")
    with pytest.raises(FileBusy, match="a commit is going on"):
        read(shared)
    assert recovery.has_journal(shared)
    journal.unlink()
    assert not recovery.has_journal(shared)
    assert read(shared).is_empty


def test_a_signature_changes_with_every_commit_whatever_the_times_say(shared: SessionLayout) -> None:
    before = outbox.signature(shared), change_counter(shared.outbound)
    commit(shared.outbound)
    assert outbox.signature(shared) != before[0]
    assert change_counter(shared.outbound) != before[1]


def test_what_is_no_file_of_the_folder_s_own_is_no_heartbeat(shared: SessionLayout, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"1\n")
    makes: tuple[Callable[[], object], ...] = (
        lambda: os.mkfifo(shared.heartbeat),
        lambda: shared.heartbeat.mkdir(),
        lambda: shared.heartbeat.symlink_to(tmp_path / "elsewhere"),
    )
    for make in makes:
        make()
        assert outbox.heartbeat(shared) is None
        (shared.heartbeat.rmdir if shared.heartbeat.is_dir() else shared.heartbeat.unlink)()


def test_a_heartbeat_is_what_stands_in_the_file(shared: SessionLayout) -> None:
    assert outbox.heartbeat(shared) is None
    shared.heartbeat.write_bytes(b"1\n")
    first = outbox.heartbeat(shared)
    stamp = shared.heartbeat.stat().st_mtime_ns
    shared.heartbeat.write_bytes(b"2\n")
    os.utime(shared.heartbeat, ns=(stamp, stamp))  # what a mount may go on saying
    assert outbox.heartbeat(shared) not in (None, first)


def test_a_listing_ends_where_the_name_is(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    assert is_listed(tmp_path, "here")
    assert not is_listed(tmp_path, "there")


@pytest.mark.parametrize(
    ("since", "waits", "seconds"),
    [
        (0.0, True, QUICK_SECONDS),
        (0.0, False, QUICK_SECONDS),
        (2.0, True, 0.1),
        (8.0, True, 0.4),
        (600.0, True, 1.0),  # a person waits: as often as without adapting
        (5.0, False, 0.5),
        (600.0, False, REST_SECONDS),
    ],
)
def test_polling_is_quick_after_a_message_and_slow_at_rest(since: float, waits: bool, seconds: float) -> None:
    assert poll_after(since, waits=waits, poll_seconds=1.0) == pytest.approx(seconds)


def test_where_a_look_takes_long_there_are_fewer() -> None:
    assert poll_after(0.0, waits=True, poll_seconds=1.0, took=0.03) == pytest.approx(0.3)
    assert poll_after(0.0, waits=True, poll_seconds=1.0, took=5.0) == 1.0


def test_a_slow_setting_stays_slow_at_rest() -> None:
    assert poll_after(3600.0, waits=False, poll_seconds=30.0) == 30.0
