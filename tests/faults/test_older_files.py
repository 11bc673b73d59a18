"""Session files that are older than the ledger: a restored backup, a bad disk, a disk that lost power and lied.

The host finds it before an agent writes, repairs what can be repaired, and says so.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from host.operations.doctor import check_sessions
from shared_schema.layout import SessionLayout
from tests.support.chats import answers, folder_of
from tests.support.host import Host, rows, running

QUIET = {"poll_seconds": 0.1, "max_retries": 0}


@asynccontextmanager
async def earlier(data: Path) -> AsyncIterator[tuple[Host, SessionLayout]]:
    """A host that has answered two messages; its session's files as they were after the first are in `.earlier`."""
    async with running(data, **QUIET) as host:
        assert await host.ask("one") == "scripted: one"
        await host.settled()
        layout = await folder_of(host, "one")
        await host.do("session.stop", session=(await host.do("session.list"))[0]["id"])
        kept = data / "earlier"
        kept.mkdir()
        shutil.copy(layout.inbound, kept / "inbound.db")
        shutil.copy(layout.outbound, kept / "outbound.db")
        assert await host.ask("two") == "scripted: two"
        assert await host.ask("three") == "scripted: three"
        await host.settled()
        yield host, layout


def restore(data: Path, target: Path) -> None:
    """Put an earlier file in place of the present one, with the same owner and mode."""
    status = target.stat()
    shutil.copy(data / "earlier" / target.name, target)
    shutil.chown(target, status.st_uid, status.st_gid)
    target.chmod(status.st_mode & 0o777)


def texts(layout: SessionLayout) -> list[str]:
    asked = rows(layout.inbound, "SELECT content ->> 'text' AS text FROM messages_in ORDER BY seq")
    return [row["text"] for row in asked]


async def repairs(host: Host) -> list[str]:
    status = await host.do("status")
    said = [repair["what"] for repair in status["repairs"]]
    if said:
        (check,) = check_sessions(lambda: {"faults": [], "repairs": status["repairs"]})
        assert check.ok is None
        assert said[0] in check.what
    return said


async def test_an_outbound_db_that_is_older_than_what_was_read_from_it_loses_no_further_answer(tmp_path: Path) -> None:
    async with earlier(tmp_path) as (_, layout):
        pass
    restore(tmp_path, layout.outbound)
    async with running(tmp_path, **QUIET) as host:
        assert await host.ask("four") == "scripted: four"
        assert await host.ask("five") == "scripted: five"
        await host.settled()
        assert host.texts() == ["scripted: four", "scripted: five"], "and nothing is sent again"
        seqs = [row["seq"] for row in rows(layout.outbound, "SELECT seq FROM messages_out ORDER BY seq")]
        assert seqs == [1, 4, 5], "no number is given twice: files and people refer to it"
        said = await repairs(host)
        assert any("outbound.db is older than what was read from it (2 messages" in each for each in said)
        assert len(await host.central("SELECT 1 FROM turns WHERE status = 'completed'")) == 5, "every turn is known"
        shown = await host.do("session.show", session=(await host.do("session.list"))[0]["id"])
        assert any(refusal["what"] == "outbound.db" for refusal in shown["refusals"])


async def test_an_inbound_db_that_is_older_than_the_ledger_gets_back_what_it_lacks(tmp_path: Path) -> None:
    async with earlier(tmp_path) as (_, layout):
        pass
    restore(tmp_path, layout.inbound)
    async with running(tmp_path, **QUIET) as host:
        assert await host.ask("four") == "scripted: four"
        await host.settled()
        assert host.texts() == ["scripted: four"], "what was answered is not answered again"
        assert sorted(texts(layout)) == ["four", "one", "three", "two"]
        assert rows(layout.inbound, "SELECT DISTINCT status FROM messages_in") == [{"status": "completed"}]
        assert any("inbound.db lacked what was written to it (2 messages" in each for each in await repairs(host))


async def test_both_files_of_an_older_backup_are_not_answered_again(tmp_path: Path) -> None:
    async with earlier(tmp_path) as (_, layout):
        pass
    restore(tmp_path, layout.inbound)
    restore(tmp_path, layout.outbound)
    async with running(tmp_path, **QUIET) as host:
        assert await host.ask("four") == "scripted: four"
        await host.settled()
        assert host.texts() == ["scripted: four"]
        assert len(await repairs(host)) >= 2


def remove(path: Path) -> None:
    path.unlink()


def fill_with_garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


@pytest.mark.parametrize("harm", [remove, fill_with_garbage])
async def test_an_inbound_db_that_is_gone_or_damaged_is_made_anew_from_the_ledger(
    tmp_path: Path, harm: Callable[[Path], Any]
) -> None:
    async with earlier(tmp_path) as (_, layout):
        pass
    harm(layout.inbound)
    async with running(tmp_path, **QUIET) as host:
        assert await host.ask("four") == "scripted: four"
        await host.settled()
        assert sorted(texts(layout)) == ["four", "one", "three", "two"]
        assert any("inbound.db" in each for each in await repairs(host))
        kept = list(layout.folder.glob("inbound.db.unreadable-*"))
        assert bool(kept) == (harm is fill_with_garbage)


async def test_a_message_that_was_written_and_is_not_there_is_answered_by_the_next_host(tmp_path: Path) -> None:
    """As after a power cut on a disk that lies: the ledger says that the file has it."""
    async with earlier(tmp_path) as (_, layout):
        pass
    with closing(sqlite3.connect(tmp_path / "central.db")) as central, central:
        central.execute("UPDATE ingest SET status = 'pending' WHERE content LIKE '%three%'")
    with closing(sqlite3.connect(layout.inbound)) as inbound, inbound:
        inbound.execute("DELETE FROM messages_in WHERE content LIKE '%three%'")
    with closing(sqlite3.connect(layout.outbound)) as outbound, outbound:
        outbound.execute("DELETE FROM processing_ack")
    async with running(tmp_path, **QUIET) as host:
        assert (await answers(host, "one", 1))[0] == "scripted: three"
        await host.settled()
        assert any("inbound.db lacked what was written to it (1 messages" in each for each in await repairs(host))
