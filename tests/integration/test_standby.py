"""A second host of one data folder waits for the first, takes its place, and loses and doubles nothing."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host.lease_rules import Timing
from host.standby import held_in_turn
from shared_schema.layout import DataLayout
from tests.support.daemon import COMMAND, Daemon, daemon
from tests.support.wait import until_sync
from tests.unit.test_lease import QUICK, host

MESSAGES = 30


class Standby:
    """`dumbwaiter run --standby` on the data folder of another host."""

    def __init__(self, first: Daemon) -> None:
        self.log = first.data.with_name("standby.log")
        command = [COMMAND, "run", "--standby", "--data", str(first.data)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, env=first.environment)

    def takes_over(self, first: Daemon) -> None:
        """Wait for it; from now on it is what serves the folder, and what is ended."""
        first.process = self.process
        until_sync(lambda: self.said("ready"), "it has taken over", 60)

    def said(self, what: str) -> dict[str, object] | None:
        """The line of its log that says so."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return next((line for line in lines if line["event"] == what), None)


@contextmanager
def standby(first: Daemon) -> Iterator[Standby]:
    """A host that waits for `first`, until the block ends."""
    second = Standby(first)
    try:
        until_sync(lambda: second.said("on standby"), "it waits", 60)
        yield second
    finally:
        second.process.kill()
        second.process.wait()


def test_the_second_host_takes_over_when_the_first_is_killed_among_messages(tmp_path: Path) -> None:
    with daemon(tmp_path / "data", SHARED="true") as first, standby(first) as second:
        inject(first, "hello")
        first.settle()
        agents = first.agents()
        line = second.said("on standby")
        assert line is not None
        assert line["because"] == f"the data folder is in use by process {first.process.pid if first.process else 0}"
        for number in range(MESSAGES):
            if number == MESSAGES // 2:
                first.kill()
                second.takes_over(first)
            inject(first, f"message {number}")
        first.settle()
        assert second.said("taking over") is not None
        assert first.agents() == agents, "the agent of the first host goes on"
        answers = first.rows("SELECT content FROM deliveries WHERE status = 'delivered' AND content LIKE '%message %'")
        said = [json.loads(row["content"])["text"] for row in answers]
        assert sorted(said) == sorted(f"message {number}" for number in range(MESSAGES))


def inject(host: Daemon, text: str) -> None:
    host.call("message.inject", messaging_group="cli:terminal", text=text)


def test_a_host_on_standby_ends_at_once_and_changes_nothing(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as first, standby(first) as second:
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(60) == 0
        assert first.run("chat", "-m", "hello").stdout.startswith("hello\n")


def test_a_host_that_is_stopped_in_order_is_followed(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as first, standby(first) as second:
        assert first.stop() == 0
        second.takes_over(first)
        assert first.run("chat", "-m", "hello").stdout.startswith("hello\n")


def test_the_silence_of_a_host_on_another_machine_is_waited_for(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    waited: list[int] = []
    layout = DataLayout(data, shared=True)
    with host(data / "lease", QUICK) as other:

        def kill() -> None:
            waited.append(other.pid)
            other.kill()

        with held_in_turn(layout, kill, Timing(renew=0.1, limit=60.0, wait=QUICK.wait)) as lease:
            assert waited == [other.pid]
            assert lease is not None
            assert lease.number == 2
            lease.require()


def test_without_standby_a_second_host_is_refused_as_ever(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as first:
        assert "is in use by process" in first.run("run").stderr


def test_the_question_of_a_copy_is_asked_before_it_waits(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as first:
        first.stop()
        copy = Daemon(tmp_path / "copy")
        subprocess.run(["cp", "-a", str(first.data), str(copy.data)], check=True)
        done = copy.run("run", "--standby")
        assert done.returncode == 1
        assert "this data folder is a copy of" in done.stderr
