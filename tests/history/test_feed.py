"""History follows the files: while a host runs, after one died, and when its own file is no good."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from host.history import reading
from host.history.feed import History
from shared_schema.errors import FileTrouble
from shared_schema.layout import DataLayout
from tests.history.sessions import AGENT_GROUP, Folder, everything, history, rebuilt
from tests.support.host import running
from tests.support.wait import until, until_sync

TEXTS = "SELECT text FROM entries WHERE session_id = ? AND place IS NOT NULL ORDER BY place, source, seq"


def texts(opened: History, folder: Folder) -> list[str]:
    """What was said, in order, as far as history knows."""
    return opened.read_here(lambda c: [row["text"] for row in c.execute(TEXTS, (folder.id,))])


def caught_up(opened: History, *folders: Folder) -> None:
    for folder in folders:
        opened.catch_up_here(folder.id, folder.agent_group_id)


async def test_what_is_said_is_in_history_without_being_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("reply 1 hello")
        session = Path((await host.session()).folder).name

        async def fed() -> bool:
            rows = await host.services.history.read(lambda c: c.execute(TEXTS, (session,)).fetchall())
            return [row["text"] for row in rows] == ["reply 1 hello", "hello 1"]

        await until(fed, "both messages are in history")
        assert (tmp_path / "history.db").stat().st_mode & 0o777 == 0o600


def test_an_answer_stands_behind_what_it_answers_whenever_it_came(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with history(tmp_path) as opened:
        first, _ = folder.hears("one"), folder.hears("two")
        caught_up(opened, folder)
        folder.says("to one", first)
        third = folder.hears("three")
        folder.says("to three", third)
        folder.says("to one again", first)
        caught_up(opened, folder)

        assert texts(opened, folder) == ["one", "to one", "two", "three", "to three", "to one again"]


def test_reading_in_pieces_and_making_it_again_give_the_same(tmp_path: Path) -> None:
    one, two, broken = Folder(tmp_path), Folder(tmp_path, 2), Folder(tmp_path, 3)
    with history(tmp_path) as opened:
        for number in range(3):
            asked = one.hears(f"message {number} 中文字")
            one.hears("a command", kind="control")
            one.steps("assistant", None, f"trn_{number}", tool_calls='[{"name": "read", "arguments": "{\\"p\\": 1}"}]')
            one.steps("tool", '[{"type": "text", "text": "part"}]', f"trn_{number}", tool_name="read")
            one.says(f"answer {number}", asked, f"trn_{number}")
            one.says("for the host", asked, kind="system")
            caught_up(opened, one)
            two.says("unasked", "msg_nobody", destination="elsewhere")
            two.writes("messages_out", id=b"blob %d" % number, generation="x", timestamp=5, kind="chat", content="{}")
            two.writes("messages_out", id=f"list {number}", generation=1, timestamp="z", kind="chat", content="[]")
            caught_up(opened, two)
            broken.hears("somebody said this")
            broken.layout.outbound.write_bytes(b"no database" * 1000)
            caught_up(opened, broken)
        opened.close_here()

    found = everything(tmp_path / "history.db")
    assert [len(found["sessions"]), len(found["entries"])] == [3, 3 + 3 + 6 + 3 + 3]
    assert everything(rebuilt(tmp_path)) == found


def test_sessions_that_are_read_together_stand_in_the_order_of_time(tmp_path: Path) -> None:
    for number in range(1, 5):
        folder = Folder(tmp_path, number)
        for message in range(number):
            folder.hears(f"message {message}")
    with history(tmp_path) as opened:
        assert opened.catch_up_all_here()
        times = opened.read_here(
            lambda c: [row["time"] for row in c.execute("SELECT * FROM entries ORDER BY position")]
        )

    assert len(times) == 1 + 2 + 3 + 4
    assert times == sorted(times)


def test_a_session_that_cannot_be_read_delays_no_other(tmp_path: Path) -> None:
    folders = [Folder(tmp_path, number) for number in range(1, 6)]
    for folder in folders:
        folder.hears("hello")
    folders[0].layout.inbound.unlink()
    folders[1].layout.outbound.unlink()
    with history(tmp_path) as opened:
        opened.start()
        until_sync(lambda: all(texts(opened, folder) == ["hello"] for folder in folders[1:]), "the others are read")
        assert opened.unreadable >= 2


def test_what_changed_while_no_host_ran_is_found_at_the_start(tmp_path: Path) -> None:
    folder, gone = Folder(tmp_path), Folder(tmp_path, 2)
    folder.hears("before")
    gone.hears("of a session whose folder is removed")
    with history(tmp_path) as opened:
        caught_up(opened, folder, gone)
    folder.says("meanwhile")
    gone.layout.folder.rename(tmp_path / "elsewhere")
    with history(tmp_path) as opened:
        opened.start()
        until_sync(lambda: texts(opened, folder) == ["meanwhile", "before"], "the new message is there")
        until_sync(lambda: texts(opened, gone) == [], "the removed session is forgotten")


@pytest.mark.parametrize("unseen", ["sessions", AGENT_GROUP])
def test_sessions_that_cannot_be_seen_for_a_moment_are_not_taken_for_gone(unseen: str, tmp_path: Path) -> None:
    """A mount that is away for a moment."""
    folder = Folder(tmp_path)
    folder.hears("before")
    place = folder.layout.folder.parent if unseen == AGENT_GROUP else folder.layout.folder.parent.parent
    assert place.name == unseen

    with history(tmp_path) as opened:
        caught_up(opened, folder)
        place.rename(tmp_path / "elsewhere")
        place.symlink_to(place)  # too many links: what is behind it cannot be seen, by root either
        with suppress(FileTrouble):
            opened.catch_up_all_here()
        with pytest.raises(FileTrouble, match="cannot be looked into"):
            rebuilt(tmp_path)
        assert texts(opened, folder) == ["before"]


def test_a_damaged_history_is_made_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.hears("hello")
    (tmp_path / "history.db").write_bytes(b"no database" * 1000)
    with history(tmp_path) as opened:
        opened.start()
        until_sync(lambda: texts(opened, folder) == ["hello"], "history is there again")


def test_a_history_of_a_newer_version_is_made_again(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "history.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    folder = Folder(tmp_path)
    folder.hears("hello")
    with history(tmp_path) as opened:
        caught_up(opened, folder)
        assert texts(opened, folder) == ["hello"]


def test_a_session_is_forgotten_with_all_that_could_be_found_of_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.hears("unf get unforgettable 中文")
    folder.steps("tool", "result", tool_name="forgettable_tool")
    with history(tmp_path) as opened:
        caught_up(opened, folder)
        opened.forget_here(folder.id)
        assert texts(opened, folder) == []
        for table in ("words", "pieces"):
            with closing(sqlite3.connect(DataLayout(tmp_path).history)) as connection:
                connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('integrity-check', 1)")
            words = f"SELECT count(*) AS n FROM {table} WHERE {table} MATCH 'unf OR get'"
            assert opened.read_here(lambda c, words=words: c.execute(words).fetchone()["n"]) == 0


def test_steps_of_a_fresh_file_in_place_of_an_unreadable_one_are_taken(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.steps("tool", "old one")
    folder.steps("tool", "old two")
    with history(tmp_path) as opened:
        caught_up(opened, folder)
        with closing(sqlite3.connect(folder.layout.outbound)) as connection, connection:
            connection.execute("DELETE FROM steps")
            connection.execute("DELETE FROM sqlite_sequence")
        folder.steps("tool", "new")
        caught_up(opened, folder)
        steps = opened.read_here(lambda c: [row["text"] for row in c.execute("SELECT text FROM entries")])
        assert steps == ["new"]


def test_a_value_that_is_too_large_is_left_out_and_what_follows_is_read(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for text in ("one", "x" * 1_100_000, "three"):
        folder.says(text)
        folder.steps("tool", text)
    with history(tmp_path) as opened:
        caught_up(opened, folder)
        assert texts(opened, folder) == ["one", "three"]
        assert opened.skipped == 2


def test_more_than_one_pass_can_take_is_read_in_several(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    count = reading.MAX_ROWS * 2 + 10
    with closing(sqlite3.connect(folder.layout.outbound)) as connection, connection:
        connection.execute(
            """
            INSERT INTO messages_out (id, generation, timestamp, kind, content)
            WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ?)
            SELECT 'msg_' || value, 1, '', 'chat', '{"text":"' || value || '"}' FROM n
            """,
            (count,),
        )
    with history(tmp_path) as opened:
        until_sync(lambda: opened.catch_up_here(folder.id, folder.agent_group_id), "all of it is read")
        assert texts(opened, folder) == [str(number) for number in range(1, count + 1)]


@pytest.mark.parametrize("journal", [True, False])
def test_a_file_in_mid_commit_is_read_once_it_is_whole(tmp_path: Path, journal: bool) -> None:
    folder = Folder(tmp_path)
    folder.says("hello")
    mark = folder.layout.out / "outbound.db-journal"
    if journal:
        mark.touch()
    with history(tmp_path) as opened:
        caught_up(opened, folder)
        assert texts(opened, folder) == ([] if journal else ["hello"])
        mark.unlink(missing_ok=True)
        caught_up(opened, folder)
        assert texts(opened, folder) == ["hello"]
        assert opened.read_here(lambda c: c.execute("SELECT agent_group_id FROM sessions").fetchone()[0]) == AGENT_GROUP
