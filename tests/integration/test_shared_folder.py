"""A data folder on a mount that other machines see: the real command refuses what would lose data."""

from __future__ import annotations

from pathlib import Path

from host.operations.mount_verdict import MountVerdict
from host.operations.mount_verdicts import keep
from shared_schema.clock import SystemClock
from shared_schema.layout import DataLayout
from tests.support.daemon import Daemon
from tests.unit.test_lease import SLOW, host

FAILED = 1


def test_a_folder_that_another_machine_serves_is_refused_to_a_host_and_to_commands(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    mine = Daemon(data, SHARED="true")
    with host(data / "lease", SLOW) as other:
        for command in (["run"], ["agent-group", "add", "two"]):
            done = mine.run(*command)
            assert done.returncode == FAILED, done.stderr
            assert f"the data folder is served by a host: process {other.pid} on " in done.stderr
            assert "one host serves a data folder, never two" in done.stderr
        assert not (data / "central.db").exists()


def test_a_shared_folder_is_taken_up_at_once_after_a_kill_on_the_same_machine(tmp_path: Path) -> None:
    mine = Daemon(tmp_path / "data", SHARED="true")
    mine.start()
    assert mine.run("chat", "-m", "hello").stdout.startswith("hello\n")
    mine.kill()
    mine.start()
    assert mine.run("chat", "-m", "again").stdout.startswith("again\n")
    assert mine.stop() == 0
    assert [path.name for path in (tmp_path / "data" / "lease").glob("[0-9]*")] == ["2"]


def test_a_folder_on_a_mount_that_loses_data_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    found = [("two", MountVerdict.LOSES, ["a listing is old (4.0 s): mount it without caches of names and contents"])]
    keep(DataLayout(data), data, found, SystemClock())
    mine = Daemon(data, SHARED="true")
    done = mine.run("run")
    assert done.returncode == FAILED
    assert "lies on a mount that loses data, as was measured with two" in done.stderr
    assert f"type `dumbwaiter mount check {data} --with two --data {data}`" in done.stderr
    assert "loses data, with two" in mine.run("doctor").stdout
