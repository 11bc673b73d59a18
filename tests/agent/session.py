"""A bare session folder and the host's part on it, played with plain SQLite; and a real agent process."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from shared_schema.clock import SystemClock, to_text
from shared_schema.database import open_writer
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import SessionLayout
from shared_schema.migrate import INBOUND, OUTBOUND, migrate
from shared_schema.rows import encode

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 60.0

T = TypeVar("T")


def until(condition: Callable[[], T], *, seconds: float = LIMIT_SECONDS) -> T:
    """The first true value of `condition`; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)
    return value


class BareSession:
    """A session folder as the host makes it, with a host that only writes rows and reads tables."""

    def __init__(self, folder: Path) -> None:
        self.layout = SessionLayout(folder / "session")
        self.workspace = folder / "workspace"
        self.layout.out.mkdir(parents=True)
        self.workspace.mkdir()
        for path, schema in ((self.layout.inbound, INBOUND), (self.layout.outbound, OUTBOUND)):
            with closing(open_writer(path, create=True)) as connection:
                migrate(connection, schema)

    def write(self, statement: str, values: tuple[object, ...] = ()) -> None:
        """One statement on inbound.db, in its own transaction, as the host would."""
        with closing(sqlite3.connect(self.layout.inbound, isolation_level=None)) as connection:
            connection.execute(statement, values)

    def context(self, **values: object) -> None:
        """Set keys of session_context."""
        for key, value in values.items():
            self.write("INSERT OR REPLACE INTO session_context (key, value) VALUES (?, ?)", (key, str(value)))

    def say(self, text: str, **columns: object) -> str:
        """A new pending message; returns its id."""
        return self.say_all([text], **columns)[0]

    def say_all(self, texts: list[str], **columns: object) -> list[str]:
        """Several messages in one transaction; returns their ids."""
        rows = []
        for text in texts:
            row: dict[str, object] = {
                "id": new_id(Prefix.MESSAGE),
                "kind": "chat",
                "timestamp": to_text(SystemClock().now()),
                "generation": 1,
                "trigger": 1,
                "channel_type": "cli",
                "platform_id": "here",
                "content": encode({"text": text}),
            }
            rows.append(row | columns)
        names = ", ".join(rows[0])
        marks = ", ".join(f":{name}" for name in rows[0])
        with closing(sqlite3.connect(self.layout.inbound, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(f"INSERT INTO messages_in ({names}) VALUES ({marks})", rows)
            connection.execute("COMMIT")
        return [str(row["id"]) for row in rows]

    def out(self, query: str, values: tuple[object, ...] = ()) -> list[dict[str, Any]]:
        """Rows of outbound.db."""
        path = self.layout.outbound
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    def replies(self) -> list[str]:
        """The texts that went out, in order."""
        return [
            str(row["text"]) for row in self.out("SELECT content ->> 'text' AS text FROM messages_out ORDER BY seq")
        ]

    def acks(self) -> dict[str, str]:
        """Message id to status."""
        return {row["message_id"]: row["status"] for row in self.out("SELECT * FROM processing_ack")}

    def turns(self) -> list[str]:
        """The status of every turn, in the order in which they began."""
        return [row["status"] for row in self.out("SELECT status FROM turns ORDER BY rowid")]

    def phase(self) -> str | None:
        """What the agent says it is doing."""
        rows = self.out("SELECT state FROM agent_state")
        return rows[0]["state"] if rows else None

    def log(self) -> str:
        """What the agents printed."""
        return self.layout.log.read_text() if self.layout.log.exists() else ""


class AgentProcess:
    """A real `python -m container_agent` on a bare session."""

    def __init__(self, session: BareSession, **environment: str) -> None:
        settings = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "DUMBWAITER_SESSION": str(session.layout.folder),
            "DUMBWAITER_WORKSPACE": str(session.workspace),
            "DUMBWAITER_POLL_SECONDS": "0.2",
            "DUMBWAITER_HEARTBEAT_SECONDS": "0.1",
        }
        with session.layout.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "container_agent"], cwd=ROOT, env=settings | environment, stderr=log, stdout=log
            )

    def wait(self) -> int:
        """The exit status of an agent that ends by itself."""
        return self.process.wait(LIMIT_SECONDS)

    def kill(self) -> None:
        """SIGKILL, and gone."""
        self.process.kill()
        self.process.wait(LIMIT_SECONDS)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()


@contextmanager
def agent(session: BareSession, **environment: str) -> Iterator[AgentProcess]:
    """A running agent, killed at the end of the block if it still lives."""
    running = AgentProcess(session, **environment)
    try:
        yield running
    finally:
        running.kill()
