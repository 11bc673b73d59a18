"""What is kept of runs that are over, and that a list says when everything is paused."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from host.operations.prune import remove_old_runs
from shared_schema.errors import InvalidValue
from tests.schedules.test_runs import DAY, add, ended
from tests.support.clocks import JumpingClock
from tests.support.host import Host, running


async def run_often(host: Host, name: str, count: int) -> list[str]:
    """The sessions of so many runs, the oldest first."""
    for number in range(count):
        await host.do("schedule.run", name=name)
        await ended(host, name, number + 1)
    return [row["session_id"] for row in await host.central("SELECT session_id FROM schedule_runs ORDER BY position")]


async def there(host: Host) -> set[str]:
    return {each["id"] for each in await host.do("session.list", kind="schedule")}


async def test_the_newest_of_each_schedule_are_kept_and_the_log_has_them_all(tmp_path: Path) -> None:
    async with running(tmp_path / "data", schedule_runs_kept=2) as host:
        await add(host, "reply 1 word", name="often", to="nowhere")
        await add(host, "reply 1 word", name="seldom", to="nowhere")
        of_often = await run_often(host, "often", 4)
        await host.do("schedule.run", name="seldom")
        await ended(host, "seldom")
        await host.settled()
        of_seldom = (await there(host)) - set(of_often)
        assert await remove_old_runs(host.services) == 2
        assert await there(host) == {*of_often[2:], *of_seldom}
        assert await remove_old_runs(host.services) == 0
        log = await host.do("schedule.log", name="often")
        assert [run["state"] for run in log] == ["silent"] * 4


async def test_those_of_long_ago_are_removed(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path / "data", clock=clock, schedule_run_days=30) as host:
        await add(host, "reply 1 word", name="often", to="nowhere")
        await run_often(host, "often", 2)
        await host.do("schedule.pause", name="often")
        await host.settled()
        clock.jump(31 * DAY)
        await host.do("schedule.run", name="often")
        latest = (await ended(host, "often", 3))[-1]["session_id"]
        await host.settled()
        assert await remove_old_runs(host.services) == 2
        assert await there(host) == {latest}


async def test_no_message_waits_while_old_runs_are_looked_for(tmp_path: Path) -> None:
    """Which goes through the rows of all runs: 0.15 s for a hundred thousand, in which nothing else is committed."""
    async with running(tmp_path / "data", schedule_runs_kept=3) as host:
        await add(host, "reply 1 word", name="often", to="nowhere")
        await run_often(host, "often", 3)
        await host.settled()
        goes_on = threading.Event()
        is_written = host.services.central.submit(lambda tx: goes_on.wait(20))  # the writer is busy
        try:
            async with asyncio.timeout(10):
                assert await remove_old_runs(host.services) == 0
        finally:
            goes_on.set()
        assert is_written.result(20)


async def test_runs_are_listed_when_they_are_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await host.ask("hello")
        await add(host, "reply 1 word", name="once", to="nowhere")
        await host.do("schedule.run", name="once")
        await ended(host, "once")
        kinds = {
            kind: [each["kind"] for each in await host.do("session.list", kind=kind)] for kind in ("schedule", "all")
        }
        assert [each["kind"] for each in await host.do("session.list")] == ["chat"]
        assert kinds["schedule"] == ["schedule"]
        assert sorted(kinds["all"]) == ["chat", "schedule"]
        with pytest.raises(InvalidValue, match="'tea' is not a kind"):
            await host.do("session.list", kind="tea")


async def test_a_list_says_that_everything_is_paused(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await add(host, "hello", "every 1h", name="often")
        await add(host, "hello", "every 1h", name="rests")
        await host.do("schedule.pause", name="rests")
        await host.do("schedule.pause_all")
        assert {each["name"]: each["status"] for each in await host.do("schedule.list")} == {
            "often": "paused (all)",
            "rests": "paused",
        }
        await host.do("schedule.resume_all")
        assert {each["name"]: each["status"] for each in await host.do("schedule.list")} == {
            "often": "active",
            "rests": "paused",
        }
