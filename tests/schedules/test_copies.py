"""A copy of a data folder does nothing by itself until a person says so."""

from __future__ import annotations

import shutil
from pathlib import Path

from host.central import schedules
from host.central.database import Central
from shared_schema.clock import SystemClock
from tests.schedules.test_runs import add
from tests.support.host import running


async def test_what_runs_by_itself_is_paused_in_a_copy(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await add(host, "hello", name="hourly")
    shutil.copytree(tmp_path / "data", tmp_path / "copy", symlinks=True)
    Central.open(tmp_path / "copy" / "central.db", SystemClock(), as_copy=True).close()

    async with running(tmp_path / "copy") as copy:
        acting = (await copy.do("status"))["schedules"]
        assert acting["paused"]["where_from"] == "this folder is a copy"
        assert (await copy.do("schedule.resume_all"))["paused"] is None
    central = Central.open(tmp_path / "data" / "central.db", SystemClock())
    assert central.read_here(schedules.paused) is None
    central.close()
