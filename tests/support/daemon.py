"""A host as people run it: the real command in a process of its own, which can be killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from host.api.client import HostClient, HostGone, NoHost
from shared_schema.layout import DataLayout
from tests.support.wait import until_sync

COMMAND = str(Path(sys.executable).parent / "dumbwaiter")
QUICK = {
    "RUNTIME": "process",
    "RETRY_SECONDS": "0.05",
    "STOP_SECONDS": "1",
    "TITLE_SECONDS": "3600",  # no errand comes in between, unless a test is about that
    "DELIVERY_RETRY_SECONDS": "0.05",
    "LOG_FORMAT": "json",
}
_UNSETTLED = """
SELECT (SELECT count(*) FROM ingest WHERE status = 'pending' OR recorded = 0)
     + (SELECT count(*) FROM deliveries WHERE status IN ('pending', 'sending') OR recorded = 0) AS n
"""


class Daemon:
    """`dumbwaiter run` on a data folder. `settings` are environment variables without their prefix."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.data = data
        self.layout = DataLayout(data)
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("DUMBWAITER_")}
        self.environment |= {f"DUMBWAITER_{key}": value for key, value in (QUICK | settings).items()}
        self.process: subprocess.Popen[bytes] | None = None
        self.log = data.with_name(f"{data.name}.log")

    def start(self, *options: str) -> None:
        """Start it, with options of `run`, and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [COMMAND, "run", "--data", str(self.data), *options],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=self.environment,
            )
        until_sync(self._is_ready, "the host is ready", 60)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.call("status")["host"]["running"])
        except (NoHost, HostGone):  # what a killed host was about to start has its socket until it is another program
            return False

    def kill(self) -> None:
        """SIGKILL: the plug is pulled on the host. Its agents go on."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.process = None
        return status

    def run(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """One command on the same data folder."""
        return subprocess.run(
            [COMMAND, "--data", str(self.data), *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """What a command prints with --json. It must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def call(self, operation: str, **parameters: Any) -> Any:
        """One operation of the running host, without the cost of a command."""
        return HostClient(self.layout.socket).call(operation, parameters)

    def rows(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows of central.db."""
        with closing(sqlite3.connect(f"file:{self.layout.central}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement, parameters)]

    def agents(self) -> list[int]:
        """The process ids of agents that live."""
        pids = [json.loads(record.read_text())["pid"] for record in self.layout.run.glob("*.json")]
        return [pid for pid in pids if _lives(pid)]

    def kill_agents(self) -> None:
        """SIGKILL to all agents."""
        for pid in self.agents():
            os.kill(pid, signal.SIGKILL)

    def settle(self) -> None:
        """Wait until every accepted message has its outcome, is delivered, and the session files say so."""
        until_sync(lambda: self.rows(_UNSETTLED)[0]["n"] == 0, "everything has its outcome", 60)

    def close(self) -> None:
        """End the host and whatever agents are left."""
        if self.process is not None:
            self.stop()
        self.kill_agents()


@contextmanager
def daemon(data: Path, **settings: str) -> Iterator[Daemon]:
    """A running host until the block ends."""
    host = Daemon(data, **settings)
    try:
        host.start()
        yield host
    finally:
        host.close()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
