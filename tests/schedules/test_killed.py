"""Hosts that are killed: a schedule of one a second shows exactly the runs that its rule promises."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from shared_schema.clock import from_text
from tests.support.daemon import Daemon, daemon
from tests.support.failpoints import MortalDaemon, Point, arm, disarm, mortal
from tests.support.short import in_short
from tests.support.wait import until_sync

POINTS = [
    Point("before a run is begun", "host.schedules.runs", "start_due", "_take(tx, schedule, now"),
    Point("between storing the next time and beginning", "host.schedules.runs", "_begin", "_start(tx, schedule"),
    Point("once it is accepted and before it is counted", "host.schedules.runs", "_start", "schedules.begin_run("),
    Point(
        "once it is committed and before its agent starts",
        "host.dispatcher",
        "Dispatcher._hand_on",
        "self._supervisor.accepted(",
    ),
    Point("while its end is taken down", "host.schedules.runs", "_finish", "_count(tx, schedule, came_to"),
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Daemon]:
    with daemon(tmp_path / "data") as running:
        running.run("agent-group", "set", "assistant", "--provider", "echo")
        yield running


def runs_of(host: Daemon, name: str) -> list[dict[str, Any]]:
    """What took place, oldest first."""
    return host.rows(
        "SELECT r.* FROM schedule_runs r JOIN schedules s ON s.id = r.schedule_id"
        " WHERE s.name = ? AND r.session_id IS NOT NULL ORDER BY r.position",
        name,
    )


def over(host: Daemon, name: str, seconds: float) -> list[dict[str, Any]]:
    """The runs, once the schedule has run as often as it may."""

    def is_over() -> bool:
        rows = host.rows("SELECT status, open_run FROM schedules WHERE name = ?", name)
        states = {row["state"] for row in runs_of(host, name)}
        return rows[0] == {"status": "done", "open_run": None} and not states & {"running", "delivering"}

    until_sync(is_over, f"{name} has run as often as it may", seconds)
    return runs_of(host, name)


@pytest.mark.parametrize("count", [6, pytest.param(600, marks=pytest.mark.full)])
def test_one_a_second_through_a_kill_loses_and_doubles_nothing(host: Daemon, count: int) -> None:
    add = ("schedule", "add", "assistant", "every 1s", "tick")
    rules = ("--session", "chat", "--missed", "all", "--max-runs", str(count), "--name", "tick")
    assert host.run(*add, *rules).returncode == 0
    until_sync(lambda: len(runs_of(host, "tick")) >= count // 2, "half of them have begun", 60 + count)
    host.kill()
    host.start()
    rows = over(host, "tick", 120 + 3 * count)
    due = [from_text(row["due_at"]) for row in rows]
    assert [after - before for before, after in pairwise(due)] == [timedelta(seconds=1)] * (count - 1)
    assert {row["state"] for row in rows} == {"ok"}
    said = host.rows("SELECT count(*) AS n FROM deliveries WHERE from_host = 0")
    assert said == [{"n": count}]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalDaemon]:
    with mortal(tmp_path_factory.mktemp("host") / "data", "host", "run", "--data", STOP_SECONDS="0.2") as running:
        yield running


@pytest.fixture
def mortal_host(shared: MortalDaemon) -> Iterator[MortalDaemon]:
    """One host and one data folder for all points."""
    if shared.is_dead():
        shared.start()
    yield shared
    disarm(shared.folder)


@pytest.mark.parametrize("point", in_short(POINTS, "once it is committed and before its agent starts"))
def test_a_host_that_is_killed_there_repeats_nothing_and_loses_nothing(point: Point, mortal_host: MortalDaemon) -> None:
    host, name = mortal_host, f"tick-{POINTS.index(point)}"
    arm(host.folder, point.plan)
    rules = {"session": "chat", "missed": "all", "max_runs": 2, "name": name}
    host.call("schedule.add", agent_group="assistant", when="every 1s", prompt=name, **rules)
    host.dies(point)
    host.start()
    rows = over(host, name, 120)
    due = [from_text(row["due_at"]) for row in rows]
    assert due[1] - due[0] == timedelta(seconds=1)
    assert len(due) == 2
    said = host.rows("SELECT count(*) AS n FROM deliveries WHERE from_host = 0 AND content LIKE ?", f"%{name}%")
    assert said == [{"n": 2}]
