"""`outbound.db` as bytes, whole or in mid-commit: read as it is while an agent lives, and mended after it has died."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from host.sessions import outbox, outbox_schema_check, recovery
from host.sessions.folder import make_session_folder
from host.sessions.hard_link import JOURNAL
from shared_schema.errors import FileDamaged, FileTrouble, NewerSchema
from shared_schema.layout import SessionLayout
from shared_schema.migrate import OUTBOUND, migrate
from tests.fuzz.ledger import MESSAGE, OWNER, TURN
from tests.fuzz.target import Drive, Target, mutated, of_bytes
from tests.fuzz.values import TIME, insert

_SMALL_PAGES = 512  # bytes; the whole file is then small enough for mutations to meet something

_KILLED_IN_MID_COMMIT = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
for number in range(20):
    connection.execute("INSERT INTO session_state VALUES (?, ?, '')", (f"half-{number}", "x" * 400))
os.kill(os.getpid(), signal.SIGKILL)
"""

ID = "msg_00000000000000aa"


@cache
def healthy_files() -> Sequence[bytes]:
    """Two files of an honest agent: small pages, and usual ones."""
    return [database(_SMALL_PAGES), database(4096)]


def database(page_size: int, *, loose: bool = False, filled: bool = True) -> bytes:
    """An `outbound.db`; a loose one has its key and otherwise no types or constraints, which are the agent's own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outbound.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {page_size}")
            migrate(connection, OUTBOUND)
            if loose:
                for (table,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
                ).fetchall():
                    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
                    connection.execute(f"DROP TABLE {table}")
                    typed = ["seq INTEGER PRIMARY KEY" if column == "seq" else column for column in columns]
                    connection.execute(f"CREATE TABLE {table} ({', '.join(typed)})")
            if filled:
                for table, row in _HEALTHY:
                    insert(connection, table, row)
        return path.read_bytes()


ROW = {"id": ID, "in_reply_to": MESSAGE, "generation": 1, "timestamp": TIME, "kind": "chat"}
_HEALTHY: list[tuple[str, dict[str, Any]]] = [
    ("messages_out", ROW | {"content": '{"text":"hello"}'}),
    ("processing_ack", {"message_id": MESSAGE, "status": "completed", "turn_id": TURN, "status_changed": TIME}),
    ("turns", {"id": TURN, "status": "completed", "started_at": TIME, "finished_at": TIME, "provider": "echo"}),
    ("steps", {"turn_id": TURN, "role": "user", "content": "hello", "timestamp": TIME}),
    ("agent_state", {"id": 1, "state": "idle", "contract_version": 1, "updated_at": TIME}),
]


@cache
def interrupted_file() -> tuple[bytes, bytes]:
    """What a writer that was killed in mid-commit leaves: the database and its hot journal."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outbound.db"
        path.write_bytes(database(_SMALL_PAGES))
        subprocess.run([sys.executable, "-c", _KILLED_IN_MID_COMMIT, str(path)], check=False)
        return path.read_bytes(), path.with_name(JOURNAL).read_bytes()


def session_in(folder: Path) -> SessionLayout:
    """A fresh session folder."""
    layout = SessionLayout(folder / "agr" / "ses_0123456789abcdef")
    make_session_folder(layout, OWNER)
    return layout


def read_all(layout: SessionLayout) -> outbox.OutboxSnapshot:
    """Everything that a look at the session reads."""
    outbox.signature(layout)
    outbox.heartbeat(layout)
    return outbox.read(layout, out_cursor=0, turn_cursor=0, open_messages=[MESSAGE], running_turns=[TURN])


@contextmanager
def _file(folder: Path) -> Iterator[Drive]:
    layout = session_in(folder)

    def drive(data: bytes) -> None:
        layout.outbound.write_bytes(data)
        read_all(layout)
        outbox_schema_check.require_schema(layout)

    yield drive


@contextmanager
def _interrupted(folder: Path) -> Iterator[Drive]:
    """Recovery as it is done after an agent has died: roll back, read; put aside what is no good, and read that."""
    layout = session_in(folder)

    def drive(files: tuple[bytes, bytes]) -> None:
        shutil.rmtree(layout.out)
        layout.out.mkdir()
        layout.outbound.write_bytes(files[0])
        (layout.out / JOURNAL).write_bytes(files[1])
        try:
            recovery.recover(layout, OWNER)
            read_all(layout)
            outbox_schema_check.require_schema(layout)
        except (FileDamaged, NewerSchema):
            recovery.quarantine(layout, OWNER, stamp="now", after_seq=7)
            assert read_all(layout).messages == []
        assert not recovery.has_journal(layout)

    yield drive


OUTBOUND_FILE = (
    of_bytes("outbound-file", _file, healthy_files, (FileTrouble,)),
    Target(
        "interrupted-file",
        _interrupted,
        st.tuples(
            mutated(lambda: [interrupted_file()[0]]),
            mutated(lambda: [interrupted_file()[1], b"", b"\0" * 600]),
        ),
        (),
    ),
)
