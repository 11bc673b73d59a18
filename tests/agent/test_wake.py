"""Waiting for the host, and the sign of life."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from container_agent.heartbeat import Heartbeat
from container_agent.inbox import Inbox
from container_agent.wake import Waker
from tests.agent.session import BareSession

LIMIT = 60.0
NEVER = 3600.0


@pytest.fixture(params=["events", "polling"])
async def waker(session: BareSession, request: pytest.FixtureRequest) -> AsyncIterator[Waker]:
    """With events the poll is too slow to help; without them it is all there is."""
    events = request.param == "events"
    made = Waker(session.layout.inbound, poll_seconds=NEVER if events else 0.01, use_events=events)
    yield made
    made.close()


async def test_a_commit_ends_the_wait(session: BareSession, waker: Waker) -> None:
    waker.arm()
    waiting = asyncio.create_task(waker.wait())
    await asyncio.sleep(0)
    session.say("hello")
    await asyncio.wait_for(waiting, LIMIT)


async def test_a_mount_that_shows_changes_late_is_read_again_also_where_nothing_has_changed(
    session: BareSession,
) -> None:
    waker = Waker(session.layout.inbound, poll_seconds=0.05, use_events=False, adapts=True)
    for seconds in (None, NEVER):
        waker.arm()
        await asyncio.wait_for(waker.wait(seconds), LIMIT)
    waker.close()


async def test_a_commit_between_arming_and_waiting_is_not_lost(session: BareSession, waker: Waker) -> None:
    waker.arm()
    session.say("hello")
    await asyncio.wait_for(waker.wait(), LIMIT)


async def test_a_commit_that_leaves_size_and_time_as_they_were_is_not_lost(session: BareSession) -> None:
    waker = Waker(session.layout.inbound, poll_seconds=0.01, use_events=False)
    before = session.layout.inbound.stat()
    waker.arm()
    session.write("UPDATE sqlite_sequence SET seq = seq")
    session.context(provider="echo")
    os.utime(session.layout.inbound, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert session.layout.inbound.stat().st_size == before.st_size
    await asyncio.wait_for(waker.wait(), LIMIT)


async def test_a_file_put_in_its_place_ends_the_wait(session: BareSession, waker: Waker, tmp_path: Path) -> None:
    copy = session.layout.folder / "new"
    copy.write_bytes(session.layout.inbound.read_bytes())
    waker.arm()
    waiting = asyncio.create_task(waker.wait())
    await asyncio.sleep(0)
    copy.rename(session.layout.inbound)
    await asyncio.wait_for(waiting, LIMIT)


async def test_the_agents_own_reading_does_not_wake_it(session: BareSession, waker: Waker) -> None:
    waker.arm()
    waiting = asyncio.create_task(waker.wait(0.2))
    started = time.monotonic()
    await asyncio.sleep(0)
    Inbox(session.layout.inbound, lambda _: set()).read()
    (session.layout.folder / "something else").touch()
    await waiting
    assert time.monotonic() - started >= 0.2


async def test_being_told_to_ends_the_wait(waker: Waker) -> None:
    waker.arm()
    waker.wake()
    await asyncio.wait_for(waker.wait(), LIMIT)


async def test_a_folder_that_cannot_be_watched_is_polled(tmp_path: Path) -> None:
    waker = Waker(tmp_path / "missing" / "inbound.db", poll_seconds=0.01, use_events=True)
    waker.arm()
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing" / "inbound.db").touch()
    await asyncio.wait_for(waker.wait(), LIMIT)
    waker.close()


def test_the_heartbeat_moves_the_time_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / ".heartbeat"
    Heartbeat(path, 1).touch()
    os.utime(path, (0, 0))
    Heartbeat(path, 1).touch()
    assert abs(path.stat().st_mtime - time.time()) < 60


def test_the_heartbeat_follows_no_link(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    os.utime(victim, (0, 0))
    (tmp_path / ".heartbeat").symlink_to(victim)
    heartbeat = Heartbeat(tmp_path / ".heartbeat", 1)
    heartbeat.touch()
    heartbeat.touch()
    assert victim.stat().st_mtime == 0
    assert len(caplog.records) == 1


async def test_what_cannot_be_read_is_read_again_soon_and_then_at_the_pace_of_the_poll(session: BareSession) -> None:
    waker = Waker(session.layout.inbound, poll_seconds=0.25, use_events=False)
    assert [waker.again(attempts) for attempts in (1, 2, 3, 5, 6, 1000)] == [0.01, 0.02, 0.04, 0.16, 0.25, 0.25]
    waker.close()
