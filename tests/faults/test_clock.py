"""FAILURES 15: a wall clock that is set, and a machine that is not in UTC."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared_schema.clock import from_text
from tests.support.chats import agent_pid, is_working_on, session_of
from tests.support.clocks import JumpingClock
from tests.support.host import rows, running
from tests.support.runtimes import CountingRuntime
from tests.support.wait import until

HOUR = 3600.0


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 400 * 24 * HOUR], ids=["an hour on", "an hour back", "a year on"])
async def test_failure_15_a_jump_of_the_clock_kills_no_agent_and_fails_no_message(tmp_path: Path, jump: float) -> None:
    clock, runtime = JumpingClock(), CountingRuntime(tmp_path)
    limits = {"poll_seconds": 0.05, "heartbeat_seconds": 0.1, "silent_seconds": 10, "idle_seconds": 60}
    async with running(tmp_path, runtime=runtime, clock=clock, **limits) as host:
        assert await host.ask("hello") == "scripted: hello"
        working = (await host.say("think 0.5")).accepted[0]
        await is_working_on(await host.session(), working.message_id)
        clock.jump(jump)
        await host.channel.wait_for(2)
        clock.jump(-jump)
        assert await host.ask("again") == "scripted: again"
        await host.settled()
        assert host.texts() == ["scripted: hello", "thought for 0.5 s", "scripted: again"]
        assert len(runtime.started) == 1
        assert await host.central("SELECT DISTINCT status, tries FROM ingest") == [{"status": "completed", "tries": 0}]


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["an hour on", "an hour back"])
async def test_failure_15_a_retry_is_not_shortened_or_stretched_by_a_jump(tmp_path: Path, jump: float) -> None:
    clock = JumpingClock()
    async with running(tmp_path, clock=clock, poll_seconds=0.05) as host:
        crashing = (await host.say("crash-once")).accepted[0]
        await until(lambda: host.central("SELECT 1 FROM ingest WHERE tries = 1"), "the crash was counted")
        clock.jump(jump)
        assert await host.outcome(crashing.message_id) == "completed"
        await host.channel.wait_for(1)
        assert host.texts() == ["did not crash this time"]


@pytest.fixture(params=["Asia/Tokyo", "America/Los_Angeles"])
def far_from_utc(request: pytest.FixtureRequest) -> Iterator[str]:
    """The host's process in another zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


async def test_failure_15_times_are_utc_and_agents_live_in_utc_wherever_the_host_is(
    tmp_path: Path, far_from_utc: str
) -> None:
    async with running(tmp_path) as host:
        assert await host.ask("hello") == "scripted: hello"
        await host.settled()
        pid = agent_pid(host, await session_of(host, "one"))
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert b"TZ=UTC" in environment
        assert far_from_utc.encode() not in b"".join(environment)
        layout = await host.session()
        stored = [
            *rows(
                layout.inbound, "SELECT timestamp AS t FROM messages_in UNION ALL SELECT delivered_at FROM delivered"
            ),
            *rows(layout.outbound, "SELECT timestamp AS t FROM messages_out UNION ALL SELECT started_at FROM turns"),
            *await host.central("SELECT accepted_at AS t FROM ingest UNION ALL SELECT created_at FROM deliveries"),
        ]
        assert len(stored) == 6
        now = datetime.now(UTC)
        assert all(abs((now - from_text(row["t"])).total_seconds()) < 60 for row in stored)
