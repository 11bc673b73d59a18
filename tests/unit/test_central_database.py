"""central.db: one writing thread, whose commits carry whatever waits; what is reported is on the disk."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from host.central.database import CENTRAL, Central, Effect, Transaction, one
from shared_schema.clock import ManualClock
from shared_schema.database import reader
from shared_schema.errors import FileDamaged, FileTrouble, NotFound
from shared_schema.ids import Prefix, is_id
from shared_schema.migrate import version_of

ADD = "INSERT INTO dropped_messages (channel_type, platform_id, reason, created_at) VALUES ('memory', ?, 'r', 't')"


def add(name: str) -> Callable[[sqlite3.Connection], str]:
    """A job that adds one row of that name."""

    def job(connection: sqlite3.Connection) -> str:
        connection.execute(ADD, (name,))
        return name

    return job


def seen_outside(path: Path) -> list[str]:
    """The rows that another connection sees."""
    with reader(path) as connection:
        return [row[0] for row in connection.execute("SELECT platform_id FROM dropped_messages ORDER BY position")]


@asynccontextmanager
async def held_up(central: Central) -> AsyncIterator[None]:
    """The writing thread is kept busy for the block, so that what is asked for meanwhile becomes one transaction."""
    entered, leave = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait(connection: sqlite3.Connection) -> bool:
        loop.call_soon_threadsafe(entered.set)
        return leave.wait(20)

    waiting = asyncio.create_task(central.write(wait))
    await entered.wait()
    try:
        yield
    finally:
        leave.set()
        assert await waiting


async def test_many_writes_at_once_all_land(central: Central, tmp_path: Path) -> None:
    names = [f"chat {number}" for number in range(500)]
    assert await asyncio.gather(*(central.write(add(name)) for name in names)) == names
    assert seen_outside(tmp_path / "central.db") == names


async def test_what_waits_is_committed_together(central: Central, tmp_path: Path) -> None:
    path = tmp_path / "central.db"
    async with held_up(central):
        first = asyncio.create_task(central.write(add("first")))
        look = asyncio.create_task(central.write(lambda c: (_count(c), len(seen_outside(path)))))
        await asyncio.sleep(0)
    assert await first == "first"
    assert await look == (1, 0)  # inside the transaction it is there, outside not yet
    assert seen_outside(path) == ["first"]


async def test_a_job_that_raises_is_undone_alone(central: Central, tmp_path: Path) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute(ADD, ("half done",))
        raise NotFound("there is no such thing")

    async with held_up(central):
        tasks = [asyncio.create_task(central.write(job)) for job in (add("before"), fail, add("after"))]
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [results[0], results[2]] == ["before", "after"]
    assert isinstance(results[1], NotFound)
    assert results[1].what == "there is no such thing"
    assert seen_outside(tmp_path / "central.db") == ["before", "after"]


async def test_several_that_raise_before_and_behind_another_are_each_undone_alone(
    central: Central, tmp_path: Path
) -> None:
    seen: list[Sequence[Effect]] = []
    central.dispatch = seen.append

    def fail(tx: Transaction) -> None:
        tx.execute(ADD, ("half done",))
        tx.add(Happened("half done"))
        raise NotFound("there is no such thing")

    async with held_up(central):
        jobs = (fail, fail, add("one"), fail, add("two"), fail)
        tasks = [asyncio.create_task(central.write(job)) for job in jobs]
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, NotFound) for result in results] == [True, True, False, True, False, True]
    assert seen_outside(tmp_path / "central.db") == ["one", "two"]
    assert not any(seen)


async def test_what_is_alone_in_failing_beside_others_leaves_nothing(central: Central, tmp_path: Path) -> None:
    def fail(tx: Transaction) -> None:
        tx.execute(ADD, ("half done",))
        raise NotFound("there is no such thing")

    async with held_up(central):
        tasks = [asyncio.create_task(central.write(fail)) for _ in range(3)]
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, NotFound) for result in results)
    assert seen_outside(tmp_path / "central.db") == []


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_job_that_ends_the_transaction_itself_fails_with_its_companions(
    central: Central, tmp_path: Path, place: int
) -> None:
    jobs = [add("before"), add("after")]
    jobs.insert(place, lambda c: c.execute("ROLLBACK"))
    async with held_up(central):
        tasks = [asyncio.create_task(central.write(job)) for job in jobs]
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, FileTrouble) for result in results)
    assert await central.write(add("later")) == "later"
    assert seen_outside(tmp_path / "central.db") == ["later"]


async def test_a_write_that_has_returned_is_seen_by_everybody(central: Central, tmp_path: Path) -> None:
    for number in range(50):
        await central.write(add(f"chat {number}"))
        assert len(seen_outside(tmp_path / "central.db")) == number + 1
        assert await central.read(_count) == number + 1


async def test_a_caller_who_was_cancelled_has_written_nevertheless(central: Central, tmp_path: Path) -> None:
    async with held_up(central):
        task = asyncio.create_task(central.write(add("cancelled")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.wait_for(central.write(lambda c: None), 20)
    assert seen_outside(tmp_path / "central.db") == ["cancelled"]


async def test_reading_does_not_wait_for_writing(central: Central) -> None:
    await central.write(add("one"))
    async with held_up(central):
        assert await asyncio.wait_for(central.read(_count), 10) == 1


async def test_a_reader_cannot_write(central: Central) -> None:
    with pytest.raises(FileTrouble):
        await central.read(add("never"))
    assert await central.read(_count) == 0


async def test_a_reader_s_own_error_reaches_its_caller(central: Central) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        raise NotFound("not there")

    with pytest.raises(NotFound, match="not there"):
        await central.read(fail)
    assert await central.read(_count) == 0


async def test_broken_sql_is_file_trouble_with_the_path(central: Central, tmp_path: Path) -> None:
    for ask in (central.write, central.read):
        with pytest.raises(FileDamaged, match="no such table") as caught:
            await ask(lambda c: c.execute("SELECT * FROM nowhere").fetchall())
        assert caught.value.where == str(tmp_path / "central.db")


async def test_a_wiring_of_nothing_is_refused_by_the_foreign_keys(central: Central) -> None:
    with pytest.raises(FileTrouble, match="FOREIGN KEY"):
        await central.write(
            lambda c: c.execute(
                "INSERT INTO wirings (id, messaging_group_id, agent_group_id, session_mode, per_user, engage, "
                "created_at) VALUES ('w', 'nobody', 'nothing', 'shared', 0, 'all', 't')"
            )
        )


async def test_the_registry_keeps_a_log_and_flushes_every_commit(central: Central) -> None:
    def settings(connection: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await central.write(settings) == ["wal", 2, 1]


async def test_the_install_id_stays(tmp_path: Path, clock: ManualClock) -> None:
    ids = []
    for _ in range(3):
        opened = await asyncio.to_thread(Central.open, tmp_path / "central.db", clock)
        ids.append(opened.install_id)
        assert await opened.read(version_of) == CENTRAL.version
        await asyncio.to_thread(opened.close)
    assert is_id(ids[0], Prefix.INSTALL)
    assert ids == [ids[0]] * 3


async def test_nobody_else_may_read_the_registry(central: Central, tmp_path: Path) -> None:
    await central.write(add("one"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("central.db*")} == {0o600}


async def test_closing_finishes_what_was_asked_for(tmp_path: Path, clock: ManualClock) -> None:
    opened = await asyncio.to_thread(Central.open, tmp_path / "central.db", clock)
    tasks = [asyncio.create_task(opened.write(add(str(number)))) for number in range(200)]
    await asyncio.sleep(0)
    await asyncio.to_thread(opened.close)
    assert await asyncio.gather(*tasks) == [str(number) for number in range(200)]
    assert len(seen_outside(tmp_path / "central.db")) == 200


@pytest.mark.parametrize("content", [b"no database, " * 500, b"SQLite format 3\x00" + b"\xff" * 4096])
async def test_a_broken_registry_is_refused_with_its_path(tmp_path: Path, clock: ManualClock, content: bytes) -> None:
    (tmp_path / "central.db").write_bytes(content)
    with pytest.raises(FileDamaged, match=r"central\.db"):
        await asyncio.to_thread(Central.open, tmp_path / "central.db", clock)
    assert (tmp_path / "central.db").read_bytes() == content


def _count(connection: sqlite3.Connection) -> int:
    row = one(connection, "SELECT count(*) AS n FROM dropped_messages")
    assert row is not None
    return int(row["n"])


async def test_what_fails_alone_leaves_nothing_behind(central: Central, tmp_path: Path) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        connection.execute(ADD, ("half",))
        raise NotFound("there is no such thing")

    with pytest.raises(NotFound):
        await central.write(fails)
    await central.write(add("whole"))
    assert seen_outside(tmp_path / "central.db") == ["whole"]


async def test_what_can_wait_is_done_before_the_next_job_and_committed_with_it(
    central: Central, tmp_path: Path
) -> None:
    commits: list[Sequence[Effect]] = []
    central.dispatch = commits.append

    def tell(tx: Transaction) -> int:
        tx.add(Happened("counted"))
        return _count(tx)

    def wait(tx: Transaction) -> str:
        tx.add(Happened("waited"))
        return add("waits")(tx)

    async with held_up(central):
        waiting = central.submit_with_next(wait)
        seen = asyncio.create_task(central.write(tell))
        await asyncio.sleep(0)
    assert await seen == 1
    assert waiting.done()
    assert [each for each in commits if each] == [[Happened("waited"), Happened("counted")]]  # one for both
    assert seen_outside(tmp_path / "central.db") == ["waits"]


async def test_what_can_wait_is_committed_by_itself_when_nothing_follows(central: Central, tmp_path: Path) -> None:
    assert await asyncio.wrap_future(central.submit_with_next(add("alone"))) == "alone"
    assert seen_outside(tmp_path / "central.db") == ["alone"]


async def test_what_can_wait_is_committed_before_the_file_is_closed(tmp_path: Path) -> None:
    central = Central.open(tmp_path / "other.db", ManualClock())
    waiting = central.submit_with_next(add("last"))
    await asyncio.to_thread(central.close)
    assert waiting.result() == "last"
    assert seen_outside(tmp_path / "other.db") == ["last"]


async def test_a_waiter_that_is_cancelled_does_not_undo_its_write(central: Central, tmp_path: Path) -> None:
    async with held_up(central):
        waiter = asyncio.create_task(central.write(add("kept")))
        await asyncio.sleep(0)
        waiter.cancel()
    await central.write(_count)
    assert waiter.cancelled()
    assert seen_outside(tmp_path / "central.db") == ["kept"]


@dataclass(frozen=True)
class Happened(Effect):
    what: str


def happen(tx: Transaction, what: str, *, fails: bool = False) -> str:
    tx.add(Happened(what))
    if fails:
        raise NotFound("it is not there")
    return what


async def test_what_follows_from_a_write_is_dispatched_after_its_commit_and_before_its_writer_goes_on(
    central: Central, tmp_path: Path
) -> None:
    seen: list[tuple[list[Effect], list[str]]] = []
    central.dispatch = lambda effects: seen.append((list(effects), seen_outside(tmp_path / "central.db")))

    def both(tx: Transaction) -> None:
        happen(tx, "once")
        happen(tx, "once")
        add("kept")(tx)

    await central.write(both)
    assert seen == [([Happened("once")], ["kept"])]


async def test_nothing_follows_from_a_write_that_fails_alone_or_beside_others(central: Central) -> None:
    seen: list[Effect] = []
    central.dispatch = seen.extend
    with pytest.raises(NotFound):
        await central.write(happen, "alone", fails=True)
    async with held_up(central):
        jobs = [
            central.submit(happen, "one"),
            central.submit(happen, "two", fails=True),
            central.submit(happen, "three"),
        ]
    await asyncio.gather(*map(asyncio.wrap_future, jobs), return_exceptions=True)
    assert seen == [Happened("one"), Happened("three")]


async def test_a_part_that_fails_is_undone_with_what_follows_from_it(central: Central, tmp_path: Path) -> None:
    seen: list[Effect] = []
    central.dispatch = seen.extend

    def some(tx: Transaction) -> None:
        happen(tx, "before")
        add("before")(tx)
        with suppress(NotFound), tx.part("one"):
            add("in it")(tx)
            happen(tx, "in it", fails=True)

    await central.write(some)
    assert (seen, seen_outside(tmp_path / "central.db")) == ([Happened("before")], ["before"])
