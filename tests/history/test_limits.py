"""Reading for history and of it: the work itself has an end, in time and bytes, and says where something is missing."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from host.history import reading, search, store
from host.history.entry import COLUMNS, Entry
from host.history.feed import History
from host.history.reading import MAX_BYTES, Cursors
from host.history.record import opened
from host.history.search import Filters
from shared_schema.database import transaction
from shared_schema.ids import Prefix, new_id
from tests.history.sessions import AGENT_GROUP, Folder, history
from tests.support.host import running
from tests.support.wait import until_sync

OTHER_GROUP = "agr_000000000000000b"


def found(opened: History, query: str) -> int:
    return len(opened.read_here(lambda c: search.search(c, query, Filters(), 100)).hits)


@contextmanager
def nobody_can_write(data: Path) -> Iterator[None]:
    """history.db is locked, as by a slow disk."""
    with closing(sqlite3.connect(data / "history.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def test_what_is_taken_off_the_list_and_not_yet_stored_is_not_complete(tmp_path: Path) -> None:
    """FAILURES 56."""
    folder = Folder(tmp_path)
    with history(tmp_path) as opened:
        opened.start()
        folder.hears("before")
        opened.touched(folder.id, folder.agent_group_id)
        until_sync(lambda: found(opened, "before") == 1, "history is there")
        assert opened.catch_up_all_here()
        folder.hears("a moment ago")
        with nobody_can_write(tmp_path):
            opened.touched(folder.id, folder.agent_group_id)
            until_sync(lambda: not opened._dirty, "the feeder has it under way")
            began = time.monotonic()
            assert not opened.catch_up_all_here(seconds=0.3)
            assert time.monotonic() - began < 2
            assert opened.catch_up_all_here([OTHER_GROUP], seconds=0.3)  # nothing of them is under way
        assert opened.catch_up_all_here()
        assert found(opened, "ago") == 1


def test_whoever_searches_waits_for_what_is_on_its_way_into_the_index(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with history(tmp_path) as opened:
        opened.start()
        until_sync(opened.catch_up_all_here, "history is there")
        folder.hears("a moment ago")
        answers: list[tuple[bool, int]] = []
        with nobody_can_write(tmp_path):
            opened.touched(folder.id, folder.agent_group_id)
            until_sync(lambda: not opened._dirty, "the feeder has it under way")
            asking = threading.Thread(
                target=lambda: answers.append((opened.catch_up_all_here(seconds=20), found(opened, "ago")))
            )
            asking.start()
        asking.join()
        assert answers == [(True, 1)]


def test_a_session_in_mid_commit_is_missing_and_is_read_when_it_can_be(tmp_path: Path) -> None:
    folder, other = Folder(tmp_path), Folder(tmp_path, 2, OTHER_GROUP)
    journal = folder.layout.out / "outbound.db-journal"
    with history(tmp_path) as opened:
        folder.hears("hello")
        folder.says("answer")
        journal.write_bytes(b"of a commit")
        other.hears("elsewhere")
        opened.start()
        until_sync(lambda: found(opened, "elsewhere") == 1, "the others are read")
        assert not opened.catch_up_all_here()
        assert opened.catch_up_all_here([OTHER_GROUP])
        journal.unlink()
        assert opened.catch_up_all_here()
        assert found(opened, "answer") == 1


def test_a_host_that_just_started_does_not_say_complete_before_it_has_compared(tmp_path: Path) -> None:
    folders = [Folder(tmp_path, number) for number in range(1, 30)]
    for folder in folders:
        folder.hears("needle")
    with history(tmp_path) as opened:
        opened.start()
        complete = opened.catch_up_all_here(seconds=30)
        assert not complete or found(opened, "needle") == 29
        until_sync(lambda: opened.catch_up_all_here() and found(opened, "needle") == 29, "all of it is there")


def test_a_record_without_end_is_left_at_the_deadline_and_read_on_later(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    rows = [("trn_1", "tool", "x" * 2_000, "2026-02-28T12:00:00.000Z") for _ in range(8_000)]
    with closing(sqlite3.connect(folder.layout.outbound)) as connection, connection:
        connection.executemany("INSERT INTO steps (turn_id, role, content, timestamp) VALUES (?, ?, ?, ?)", rows)
    with history(tmp_path) as opened:
        began = time.monotonic()
        assert not opened.catch_up_here(folder.id, AGENT_GROUP, seconds=0.05)
        assert time.monotonic() - began < 20
        until_sync(lambda: opened.catch_up_here(folder.id, AGENT_GROUP), "it is read to its end", 180)
        assert opened.read_here(lambda c: c.execute("SELECT count(*) AS n FROM entries").fetchone()["n"]) == 8_000


def test_all_columns_of_all_rows_count_towards_what_is_read_at_a_time(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    rows = [("trn_1", "tool", "x", "r" * 100_000, "c" * 100_000, "é" * 10_000) for _ in range(100)]
    with closing(sqlite3.connect(folder.layout.outbound)) as connection, connection:
        connection.executemany(
            "INSERT INTO steps (turn_id, role, content, reasoning, tool_calls, usage, timestamp)"
            " VALUES (?, ?, ?, ?, ?, ?, 'now')",
            rows,
        )
    passes, cursors, more = 0, Cursors(), True
    while more:
        read = reading.read(folder.layout, folder.id, cursors)
        assert read.bytes < MAX_BYTES + 300_000
        passes, cursors, more = passes + 1, read.cursors, read.more
    assert passes >= 100 * 240_000 // (MAX_BYTES + 300_000)
    assert cursors.steps == 100


def test_a_transcript_that_is_too_much_says_that_something_is_left_out(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for number in range(12):
        folder.says(f"{number} " + "x" * 90_000)
    with history(tmp_path) as opened:
        opened.catch_up_here(folder.id, AGENT_GROUP)
        room = store.Room(500_000, 10.0)
        last = opened.read_here(lambda c: store.last_messages(c, folder.id, 100, room))
        assert room.cut
        assert 2 <= len(last) < 6  # text and JSON of each
        assert last[-1]["text"].startswith("11 ")
        all_room = store.Room(50_000_000, 10.0)
        assert len(opened.read_here(lambda c: store.last_messages(c, folder.id, 100, all_room))) == 12
        assert not all_room.cut


def test_a_search_of_a_million_characters_a_hit_shows_them_within_its_time(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for _ in range(60):
        folder.says("é " + "a " * 199_000)
    with history(tmp_path) as opened:
        assert opened.catch_up_here(folder.id, AGENT_GROUP, seconds=60)
        query = " ".join(['"' + "a " * 30 + 'b"', "OR", "a"] * 8)
        began = time.thread_time()
        results = opened.read_here(lambda c: search.search(c, query, Filters(), 200))
        assert time.thread_time() - began < 2 * search.SECONDS
        assert results.hits
        assert all(len(hit.entry["text"]) <= 20_000 for hit in results.hits)


def test_what_tools_found_in_a_long_conversation_is_found_within_the_time(tmp_path: Path) -> None:
    """Where a step stands is asked of the messages of its turn, and not of all of them for each step."""
    turns, session_id = 8_000, new_id(Prefix.SESSION)
    empty: dict[str, Any] = {**dict.fromkeys(COLUMNS), "session_id": session_id}
    entries = []
    for number in range(1, turns + 1):
        turn = {"seq": number, "turn_id": f"trn_{number}"}
        said = {"source": "messages_out", "role": "assistant", "place": number, "channel_type": "telegram"}
        entries.append(Entry(**empty | turn | said | {"text": "an answer", "message_id": f"msg_{number}"}))
        entries.append(Entry(**empty | turn | {"source": "steps", "role": "tool", "text": "needle"}))
    with closing(opened(tmp_path / "history.db")) as connection:
        with transaction(connection):
            state = store.State(AGENT_GROUP, None, Cursors())
            store.add(connection, [store.StoredStep(session_id, None, state, entries)])
        for channel in (None, "telegram"):
            results = search.search(connection, "needle", Filters(channel_type=channel), 200)
            assert (len(results.hits), results.complete) == (200, True)
            assert [hit.after["message_id"] for hit in results.hits[:1] if hit.after] == [f"msg_{turns}"]
        assert search.search(connection, "needle", Filters(channel_type="discord"), 200).complete


async def test_the_steps_of_a_turn_that_failed_are_told_before_those_of_the_next(tmp_path: Path) -> None:
    async with running(tmp_path, max_retries=0) as host:
        await host.ask("steps 1\nfail")
        await host.ask("steps 2\nreply 1 done")
        session = (await host.do("session.list"))[0]["id"]
        for limit in (1000, 2):
            told = await host.do("session.transcript", session=session, steps=True, limit=limit)
            tools = [entry["turn_id"] for entry in told if entry.get("role") == "tool"]
            assert len(tools) == 3
            assert len(set(tools)) == 2


def test_of_a_session_so_much_is_kept_in_all_and_a_search_says_that_there_may_be_more(tmp_path: Path) -> None:
    folder, other = Folder(tmp_path), Folder(tmp_path, 2)
    with history(tmp_path, rows=3) as opened:
        for number in range(3):
            folder.hears(f"early {number}")
        other.hears("early as well")
        assert opened.catch_up_all_here()
        folder.hears("late")
        assert not opened.catch_up_all_here(seconds=0.5)
        assert not opened.catch_up_here(folder.id, folder.agent_group_id, seconds=0.5)
        assert (found(opened, "early"), found(opened, "late")) == (4, 0)
        assert opened.intake.full(time.monotonic()) == [folder.id]
    with history(tmp_path, rows=3) as opened:  # also for the next host
        other.hears("late, and of another session")
        assert not opened.catch_up_all_here(seconds=0.5)
        assert found(opened, "late") == 1
        opened.forget_here(folder.id)
        assert opened.intake.full(time.monotonic()) == []
