"""A session folder as an agent sees it, in plain sqlite3: what an honest agent does, and the means to do otherwise."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

Statement = tuple[str, Sequence[object]]

HOLD_STEP = 0.1


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of it: `seconds` are those of a frenzy."""

    rows: int
    turns: int
    refusals: int
    value_bytes: int
    replies: int
    files: int
    seconds: float
    links: int = 66_000  # more than a file of ext4 can have


SIZES = {
    "quick": Sizes(
        rows=200_000, turns=2_000, refusals=5_000, value_bytes=60_000_000, replies=2_000, files=21_000, seconds=1.5
    ),
    "container": Sizes(
        rows=200_000, turns=20_000, refusals=5_000, value_bytes=500_000_000, replies=2_000, files=21_000, seconds=1.5
    ),
    "full": Sizes(
        rows=10_000_000,
        turns=10_000_000,
        refusals=90_000,  # with 100,000 in an hour nothing more is taken, the answer neither
        value_bytes=500_000_000,
        replies=10_000,
        files=200_000,
        seconds=15.0,
    ),
}


class Session:
    """The folder, and how large a trick is to be."""

    def __init__(self, folder: Path, sizes: Sizes = SIZES["quick"]) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.database = self.out / "outbound.db"
        self.heartbeat = self.out / ".heartbeat"
        self.outbox = self.out / "outbox"
        self.inbound = folder / "inbound.db"
        self.sizes = sizes

    # What an honest agent does

    def beat(self) -> None:
        """A sign of life, where something can be touched."""
        with suppress(OSError):
            descriptor = os.open(self.heartbeat, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o660)
            os.utime(descriptor)
            os.close(descriptor)

    def beat_beside(self) -> None:
        """Signs of life from a thread, while the agent is at something long."""

        def beat() -> None:
            while True:
                self.beat()
                time.sleep(HOLD_STEP)

        threading.Thread(target=beat, daemon=True).start()

    def open_messages(self) -> list[tuple[str, str]]:
        """Id and text of what has not been answered, the oldest first."""
        asked = self.asked("SELECT id, json_extract(content, '$.text') FROM messages_in WHERE status = 'pending'")
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            done = {row[0] for row in connection.execute("SELECT message_id FROM processing_ack")}
        return [(message, text) for message, text in asked if message not in done]

    def asked(self, query: str) -> list[Any]:
        """Rows of `inbound.db`."""
        with closing(sqlite3.connect(f"file:{self.inbound}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(query).fetchall()

    def generation(self) -> int:
        """The generation whose output is sent."""
        return int(self.asked("SELECT value FROM session_context WHERE key = 'generation'")[0][0])

    def reply(self, message: str, text: str) -> None:
        """Answer a message."""
        self.write([self.row(message, text), ack(message)])

    # The means

    def row(self, message: str | None, text: str, **columns: object) -> Statement:
        """An insertion into messages_out; any column can be given another value."""
        content = json.dumps({"text": text})
        values: dict[str, object] = {
            "id": new("msg"),
            "in_reply_to": message,
            "generation": self.generation(),
            "timestamp": now(),
            "kind": "chat",
            "content": content,
        }
        values |= columns
        return f"INSERT INTO messages_out ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", [
            *values.values()
        ]

    def write(self, statements: Iterable[Statement]) -> None:
        """All of it in one transaction, whatever the file's constraints say."""
        with closing(sqlite3.connect(self.database, isolation_level=None, timeout=5)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                connection.execute(statement, values)
            connection.execute("COMMIT")

    def run(self, *statements: str) -> None:
        """The same for statements without values."""
        self.write([(statement, ()) for statement in statements])

    def many(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        """One statement with many values, in one transaction."""
        with closing(sqlite3.connect(self.database, isolation_level=None, timeout=5)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, values)
            connection.execute("COMMIT")

    def put(self, data: bytes, name: str = "outbound.db") -> None:
        """These bytes as a file in out/, in place of whatever is there."""
        self.clear(name)
        (self.out / name).write_bytes(data)

    def clear(self, name: str) -> None:
        """Nothing is there under that name."""
        path = self.out / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)

    def replace_table(self, table: str, create: str) -> None:
        """Another table under that name, with the columns of `create` and without the old rows."""
        self.run(f"DROP TABLE {table}", create)

    def others(self) -> list[Path]:
        """The session folders beside this one; in a container there are none."""
        return [path.parent for path in self.folder.parent.parent.glob("*/ses_*/inbound.db") if path != self.inbound]

    def hold(self) -> NoReturn:
        """Live on, and do nothing more."""
        while True:
            self.beat()
            time.sleep(HOLD_STEP)


def new(prefix: str) -> str:
    """An id as the contract wants it."""
    return f"{prefix}_{secrets.token_hex(8)}"


def now() -> str:
    """A time as the contract wants it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def ack(message: object, status: object = "completed", error: object = None) -> Statement:
    """An acknowledgement."""
    return "INSERT OR REPLACE INTO processing_ack VALUES (?, ?, NULL, ?, ?)", (message, status, error, now())


def from_environment(size: str = "quick") -> Session:
    """The session this process was started for."""
    return Session(Path(os.environ["DUMBWAITER_SESSION"]), SIZES[size])
