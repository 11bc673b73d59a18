"""A disk that fails under a running host: full, read-only, input/output errors, slow.

An event is refused, or it is kept; what was kept is answered once, in order, as soon as the trouble is over and without
anybody's hand; where it lasts, the person is told. Needs root, for disks of its own (see `tests.support.disks`).
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from host.channels.memory import MemoryChannel
from host.channels.protocol import ChannelUnavailable, Outgoing
from host.routing.event import Receipt
from host.runtime.docker import DockerRuntime
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import DataLayout, SessionLayout
from tests.conftest import AgentImage
from tests.support.chats import add_chats, answers, ask_in, folder_of, is_working_on, said, session_of, texts_to
from tests.support.daemon import Daemon
from tests.support.disks import TroubledDisk, small_disk, troubled_disk
from tests.support.host import Host, rows, running
from tests.support.runtimes import install_id
from tests.support.wait import until

PROMPT = 30.0  # seconds; what is in the way takes for ever, and an answer a few hundredths
LATENCY = 0.7  # seconds; how long the host's loop may be held up: less than one commit takes

Trouble = Callable[[TroubledDisk, Path | str], None]


def full(disk: TroubledDisk, within: Path | str = "") -> None:
    disk.is_full(within)


def read_only(disk: TroubledDisk, within: Path | str = "") -> None:
    disk.is_read_only(within)


def failing_writes(disk: TroubledDisk, within: Path | str = "") -> None:
    disk.fails(within)


def failing_flushes(disk: TroubledDisk, within: Path | str = "") -> None:
    disk.fails(within, on=["sync"])


QUICK = [full, failing_writes]
LONG = [pytest.param(trouble, marks=pytest.mark.full) for trouble in (read_only, failing_flushes)]


@dataclass
class DownChannel(MemoryChannel):
    """A platform that is down once, and something else with it."""

    goes_down: Callable[[], None] | None = None

    async def deliver(self, message: Outgoing) -> str | None:
        if self.goes_down is not None:
            self.goes_down()
            self.goes_down = None
            raise ChannelUnavailable("the platform is down")
        return await super().deliver(message)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[TroubledDisk]:
    """A disk for the data folder."""
    with troubled_disk(tmp_path / "data") as disk:
        yield disk


async def attempt(host: Host, text: str) -> Receipt | DumbwaiterError:
    """What the platform would be told."""
    try:
        return await host.say(text)
    except DumbwaiterError as error:
        return error


def place(disk: TroubledDisk, path: Path) -> Path:
    """A path as the disk's troubles name it."""
    return path.relative_to(disk.folder)


async def is_once_through(host: Host, chat: str, expected: list[str]) -> None:
    """Wait for these answers in a chat, then see that everything has its outcome and nothing came twice."""
    await until(lambda: expected[-1] in texts_to(host, chat), f"'{expected[-1]}' arrived", 60)
    await host.settled()
    assert texts_to(host, chat) == expected
    assert await host.central("SELECT DISTINCT status FROM ingest") == [{"status": "completed"}]


@pytest.mark.parametrize("trouble", [*QUICK, *LONG])
async def test_a_disk_that_fails_refuses_events_and_takes_them_when_it_is_well(
    disk: TroubledDisk, trouble: Trouble
) -> None:
    async with running(disk.folder, poll_seconds=0.1) as host:
        assert await host.ask("before") == "scripted: before"
        working = (await host.say("think 0.3")).accepted[0]
        await is_working_on(await host.session(), working.message_id)
        trouble(disk, "")
        refused = [await attempt(host, f"number {number}") for number in range(5)]
        assert all(isinstance(each, DumbwaiterError) for each in refused)
        assert (await host.do("status"))["host"]["running"]
        disk.is_well()
        await host.say("after")
        await is_once_through(host, "one", ["scripted: before", "thought for 0.3 s", "scripted: after"])


@pytest.mark.parametrize("trouble", [*QUICK, *LONG])
async def test_trouble_with_the_ledger_alone_holds_up_what_is_answered_meanwhile_and_loses_none_of_it(
    disk: TroubledDisk, trouble: Trouble
) -> None:
    async with running(disk.folder, poll_seconds=0.1) as host:
        assert await host.ask("before") == "scripted: before"
        working = (await host.say("think 0.3")).accepted[0]
        layout = await host.session()
        await is_working_on(layout, working.message_id)
        trouble(disk, DataLayout(Path()).central)
        assert isinstance(await attempt(host, "too late"), DumbwaiterError)
        await until(lambda: is_answered(layout, working.message_id), "the agent has answered")
        assert host.texts() == ["scripted: before"]
        disk.is_well()
        await is_once_through(host, "one", ["scripted: before", "thought for 0.3 s"])


@pytest.mark.parametrize("trouble", [full, pytest.param(failing_writes, marks=pytest.mark.full), *LONG])
async def test_trouble_in_one_sessions_out_folder_keeps_its_messages_and_stops_no_other_session(
    disk: TroubledDisk, trouble: Trouble
) -> None:
    async with running(disk.folder, poll_seconds=0.1) as host:
        await has_trouble_in_an_out_folder(host, disk, trouble)


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.parametrize("trouble", [full, read_only, failing_writes, failing_flushes])
async def test_the_same_with_agents_in_containers(
    disk: TroubledDisk, trouble: Trouble, agent_image: AgentImage
) -> None:
    options: dict[str, Any] = {"image": agent_image.name, "poll_seconds": 0.2, "max_retries": 10}
    async with running(disk.folder, make_runtime=DockerRuntime, **options) as host:
        await has_trouble_in_an_out_folder(host, disk, trouble)


async def has_trouble_in_an_out_folder(host: Host, disk: TroubledDisk, trouble: Trouble) -> None:
    await add_chats(host, "two")
    await ask_in(host, "one", "before")
    await ask_in(host, "two", "before")
    trouble(disk, place(disk, (await folder_of(host, "one")).out))
    for number in range(5):
        await host.say(f"number {number}", chat="one")
        assert await ask_in(host, "two", f"number {number}", PROMPT) == f"scripted: number {number}"
    await until(lambda: exists(host, "SELECT 1 FROM sessions WHERE start_failures > 0"), "its agent gave up", 30)
    assert texts_to(host, "one") == ["scripted: before"]
    disk.is_well()
    expected = ["scripted: before", *(f"scripted: number {number}" for number in range(5))]
    await is_once_through(host, "one", expected)
    assert texts_to(host, "two") == expected


async def test_when_out_stays_full_the_person_is_told_and_the_next_message_is_answered(disk: TroubledDisk) -> None:
    async with running(disk.folder, poll_seconds=0.1, max_retries=1) as host:
        assert await host.ask("before") == "scripted: before"
        disk.is_full(place(disk, (await host.session()).out))
        asked = (await host.say("hello")).accepted[0]
        assert await host.outcome(asked.message_id) == "failed"
        await host.channel.wait_for(2)
        assert host.texts()[1].startswith("This message could not be answered: ")
        disk.is_well()
        assert await host.ask("after") == "scripted: after"
        await host.settled()
        assert said(host) == ["scripted: before", "scripted: after"]


async def test_an_out_folder_that_cannot_be_read_holds_up_its_session_alone(disk: TroubledDisk) -> None:
    async with running(disk.folder, poll_seconds=0.1) as host:
        await add_chats(host, "two")
        await ask_in(host, "one", "before")
        layout = await folder_of(host, "one")
        disk.fails(place(disk, layout.out), on=["read"])
        await host.say("hello", chat="one")
        for number in range(10):
            assert await ask_in(host, "two", f"number {number}", PROMPT) == f"scripted: number {number}"
        assert texts_to(host, "one") == ["scripted: before"]
        disk.is_well()
        await is_once_through(host, "one", ["scripted: before", "scripted: hello"])
        assert list(layout.out.glob("*unreadable*")) == []


async def test_an_agent_whose_out_folder_cannot_be_read_can_be_stopped_and_its_session_goes_on(
    disk: TroubledDisk,
) -> None:
    async with running(disk.folder) as host:
        assert await host.ask("before") == "scripted: before"
        disk.fails(place(disk, (await host.session()).out), on=["read"])
        try:
            stopped = await host.do("session.stop", session=await session_of(host, "one"))
        finally:
            disk.is_well()
        assert stopped["stopped"]
        assert await host.ask("after") == "scripted: after"


@pytest.mark.parametrize(
    "idempotent",
    [
        True,
        False,
    ],
    ids=["to a platform that takes a key", "to one that does not"],
)
async def test_what_was_sent_when_the_ledger_failed_is_recorded_when_it_is_well_and_not_sent_again(
    disk: TroubledDisk, idempotent: bool
) -> None:
    troubles: list[str] = []

    def sent(_: Outgoing) -> None:
        if troubles:
            disk.fails(DataLayout(Path()).central)

    channel = MemoryChannel(idempotent=idempotent, on_sent=sent)
    async with running(disk.folder, channel=channel) as host:
        assert await host.ask("before") == "scripted: before"
        await host.settled()
        troubles.append("from now on")
        await host.say("hello")
        await host.channel.wait_for(2)
        assert isinstance(await attempt(host, "too late"), DumbwaiterError)
        troubles.clear()
        disk.is_well()
        query = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE status <> 'delivered')"
        await until(lambda: exists(host, query), "all is recorded")
        assert await host.ask("after") == "scripted: after"
        assert host.texts() == ["scripted: before", "scripted: hello", "scripted: after"]


async def test_what_was_not_sent_when_the_ledger_failed_is_tried_again_in_its_place(disk: TroubledDisk) -> None:
    channel = DownChannel(idempotent=False)
    async with running(disk.folder, channel=channel) as host:
        assert await host.ask("before") == "scripted: before"
        await host.settled()
        channel.goes_down = lambda: disk.fails(DataLayout(Path()).central)
        await host.say("hello")
        await until(lambda: channel.goes_down is None, "sending was tried")
        assert isinstance(await attempt(host, "too late"), DumbwaiterError)
        disk.is_well()
        assert await host.ask("after") == "scripted: hello"
        await is_once_through(host, "one", ["scripted: before", "scripted: hello", "scripted: after"])


@pytest.mark.alone
async def test_on_a_slow_disk_everything_is_answered_once_and_the_loop_stays_free(disk: TroubledDisk) -> None:
    async with running(disk.folder) as host:
        await add_chats(host, "two")
        for chat in ("one", "two"):
            await ask_in(host, chat, "before")
        disk.is_slow(0.2, on=["sync"])  # as a disk is: a write is waited for when it is flushed
        async with measured_latency() as latency:
            await asyncio.gather(*(host.say(f"number {n}", chat=chat) for chat in ("one", "two") for n in range(2)))
            begun = time.monotonic()
            assert (await host.do("status"))["host"]["running"]
            assert time.monotonic() - begun < 1.0
            await answers(host, "one", 3, 60)
            await answers(host, "two", 3, 60)
        assert max(latency) < LATENCY
        disk.is_well()
        expected = ["scripted: before", *(f"scripted: number {n}" for n in range(2))]
        await is_once_through(host, "one", expected)
        await is_once_through(host, "two", expected)


@pytest.mark.full
async def test_when_every_write_takes_200_ms_nothing_is_doubled_failed_or_given_up(disk: TroubledDisk) -> None:
    async with running(disk.folder, heartbeat_seconds=5, retry_seconds=1) as host:
        assert await host.ask("before") == "scripted: before"
        disk.is_slow(0.2)
        async with measured_latency() as latency:
            for number in range(4):
                await host.say(f"number {number}")
            await answers(host, "one", 5, 240)
        assert max(latency) < LATENCY
        disk.is_well()
        await is_once_through(host, "one", ["scripted: before", *(f"scripted: number {n}" for n in range(4))])
        assert await host.central("SELECT DISTINCT tries FROM ingest") == [{"tries": 0}]


async def test_a_disk_of_sessions_that_is_remounted_read_only_and_back(tmp_path: Path) -> None:
    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(sessions)], check=True)

    sessions = DataLayout(tmp_path / "data").sessions
    sessions.parent.mkdir()
    with small_disk(sessions, 12 * 1024**2):
        async with running(tmp_path / "data", poll_seconds=0.1) as host:
            assert await host.ask("before") == "scripted: before"
            await host.do("session.stop", session=await session_of(host, "one"))
            await host.settled()
            remount("ro")
            kept = (await host.say("hello")).accepted[0]
            query = "SELECT 1 FROM ingest WHERE message_id = ? AND state = 'accepted'"
            assert await host.central(query, kept.message_id)
            remount("rw")
            await is_once_through(host, "one", ["scripted: before", "scripted: hello"])


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [(full, "No space left on device"), (read_only, "Read-only file system"), (failing_writes, "Input/output error")],
)
def test_a_host_that_is_started_on_such_a_disk_says_so_in_one_sentence(
    disk: TroubledDisk, trouble: Trouble, sentence: str
) -> None:
    install_id(disk.folder)
    trouble(disk, "")
    started = Daemon(disk.folder).run("run")
    assert started.returncode == 1
    assert sentence in started.stderr
    assert started.stderr.count("\n") == 1


def is_answered(layout: SessionLayout, message_id: str) -> bool:
    """Whether the agent has completed a message."""
    query = "SELECT 1 FROM processing_ack WHERE message_id = ? AND status = 'completed'"
    return bool(rows(layout.outbound, query, message_id))


async def exists(host: Host, query: str) -> bool:
    """Whether central.db has such a row."""
    return bool(await host.central(query))


@asynccontextmanager
async def measured_latency() -> AsyncIterator[list[float]]:
    """How long the event loop was held up, each time, during the block; seconds."""
    found: list[float] = []

    async def measure() -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            found.append(time.monotonic() - begun)

    task = asyncio.create_task(measure())
    yield found
    task.cancel()
