"""FAILURES 13: the disk is full. Needs root, for a small disk of its own."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from host.routing.event import Receipt
from host.sessions.attachments import Attachment
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import DataLayout
from tests.support import disks
from tests.support.chats import answers, is_working_on, refusals
from tests.support.clocks import FastClock
from tests.support.disks import fill
from tests.support.host import Host, running
from tests.support.script import script
from tests.support.wait import until

SIZE = 12 * 1024**2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data folder on a disk of a few megabytes."""
    with disks.small_disk(tmp_path / "disk", SIZE) as folder:
        yield folder


async def attempt(host: Host, text: str, files: tuple[Attachment, ...] = ()) -> Receipt | DumbwaiterError:
    """What the platform would be told."""
    try:
        return await host.say(text, files=files)
    except DumbwaiterError as error:
        return error


@pytest.mark.parametrize("agent_runs", [True, False], ids=["with an agent that runs", "with none"])
async def test_failure_13_on_a_full_disk_a_message_is_refused_or_kept_and_what_is_kept_is_answered(
    tmp_path: Path, small_disk: Path, agent_runs: bool
) -> None:
    settings = {"max_retries": 50, "poll_seconds": 0.1}
    async with running(small_disk, command=script(tmp_path), **settings) as host:
        assert await host.ask("before") == "ok: before"
        await host.settled()
        if not agent_runs:
            await host.do("session.stop", session=(await host.do("session.list"))[0]["id"])
        ballast = await asyncio.to_thread(fill, small_disk)
        results = {f"number {number}": await attempt(host, f"number {number}") for number in range(200)}
        refused = [each for each in results.values() if isinstance(each, DumbwaiterError)]
        kept = [text for text, each in results.items() if isinstance(each, Receipt)]
        assert refused
        assert {error.what for error in refused} == {"the disk is full"}
        assert all(error.hint for error in refused)
        ballast.unlink()
        assert await host.ask("after") is not None
        await until(lambda: "ok: after" in host.texts(), "the last one was answered")
        await host.settled()
        assert host.texts() == ["ok: before", *(f"ok: {text}" for text in kept), "ok: after"]
        (count,) = await host.central("SELECT count(*) AS n FROM ingest")
        assert count["n"] == len(kept) + 2


async def test_failure_13_a_file_that_does_not_fit_is_refused_and_leaves_nothing(
    tmp_path: Path, small_disk: Path
) -> None:
    source = tmp_path / "large"
    source.write_bytes(bytes(SIZE))
    async with running(small_disk, command=script(tmp_path)) as host:
        refused = await attempt(host, "look at this", (Attachment("large", source),))
        assert isinstance(refused, DumbwaiterError)
        assert "No space left on device" in str(refused)
        assert os.listdir(small_disk / "spool") == []
        assert await host.ask("hello") == "ok: hello"
        await host.settled()
        assert host.texts() == ["ok: hello"]


async def test_failure_13_when_the_sessions_alone_have_no_room_events_are_kept_until_they_have(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = DataLayout(tmp_path / "data").sessions
    sessions.parent.mkdir()
    with disks.small_disk(sessions, SIZE):
        async with running(tmp_path / "data", poll_seconds=0.1) as host:
            assert await host.ask("before") == "scripted: before"
            ballast = await asyncio.to_thread(fill, sessions)
            for number in range(200):
                await host.say(f"number {number}")
            await until(lambda: [r for r in caplog.records if r.levelno >= logging.ERROR], "the host met the full disk")
            ballast.unlink()
            await answers(host, "one", 201, 60)
            await host.settled()
            assert host.texts() == ["scripted: before", *(f"scripted: number {number}" for number in range(200))]


async def test_failure_13_when_the_ledger_alone_has_no_room_what_was_answered_is_sent_when_it_has(
    small_disk: Path,
) -> None:
    with disks.small_disk(DataLayout(small_disk).sessions, SIZE):
        async with running(small_disk, poll_seconds=0.1) as host:
            assert await host.ask("before") == "scripted: before"
            working = (await host.say("think 0.3")).accepted[0]
            layout = await host.session()
            await is_working_on(layout, working.message_id)
            ballast = await asyncio.to_thread(fill, small_disk)
            results = [await attempt(host, f"number {number}") for number in range(200)]
            kept = [number for number, each in enumerate(results) if isinstance(each, Receipt)]
            assert len(kept) < 200
            ballast.unlink()
            await host.say("after")
            await answers(host, "one", 3 + len(kept))
            await host.settled()
            expected = ["before", *(f"number {number}" for number in kept), "after"]
            assert host.texts()[1] == "thought for 0.3 s"
            assert [*host.texts()[:1], *host.texts()[2:]] == [f"scripted: {text}" for text in expected]


KILLED = """
def answer(message, text):
    if text != "die on a full disk":
        return reply(message, "ok: " + text)
    write(row(message, "said before"), ack(message))
    while len(inbound("SELECT * FROM delivered")) < 2:
        beat()
    write(row(message, "said last"))
    c = sqlite3.connect(DB, isolation_level=None)
    c.execute("PRAGMA cache_size = 1")
    c.execute("BEGIN IMMEDIATE")
    c.executemany("INSERT INTO session_state VALUES (?, ?, '')", [(str(n), "x" * 4000) for n in range(100)])
    with open(os.environ["HOME"] + "/ballast", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_failure_13_an_agent_that_dies_in_mid_commit_on_a_full_disk_loses_nothing(
    tmp_path: Path, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(small_disk, command=script(tmp_path, KILLED), clock=FastClock(), poll_seconds=0.1) as host:
        assert await host.ask("hello") == "ok: hello"
        layout = await host.session()
        asked = (await host.say("die on a full disk")).accepted[0]
        ballast = small_disk / "agents" / "assistant" / "ballast"
        await until(lambda: [r for r in caplog.records if r.levelno >= logging.ERROR], "the host met the full disk")
        ballast.unlink()
        assert list(layout.out.glob("*unreadable*")) == []
        assert await answers(host, "one", 3) == ["ok: hello", "said before", "said last"]
        assert await refusals(host, asked.session_id) == {}
