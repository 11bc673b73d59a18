"""FAILURES 13: the disk is full. Needs root, for a small disk of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from host.routing.event import Receipt
from host.sessions.attachments import Attachment
from shared_schema.errors import DumbwaiterError
from tests.support.chats import answers, refusals
from tests.support.clocks import FastClock
from tests.support.host import Host, running
from tests.support.script import script
from tests.support.wait import until

SIZE = 12 * 1024**2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data folder on a disk of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0711", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all the space that is left; the file that holds it."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


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
