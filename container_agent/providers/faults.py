"""What a broken or hostile agent does, on demand of `scripted`: so that the host can be tested against it.

Each function that comes back returns the text of a reply.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from shared_schema.database import open_writer, transaction
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import SessionLayout

CRASH_STATUS = 70
_MARKER = ".crashed-once"
_SPILL_ROWS = 200
_ROW_BYTES = 4000

_INSERT = """
INSERT INTO messages_out (id, in_reply_to, generation, timestamp, kind, content) VALUES (?, ?, ?, ?, ?, ?)
"""


def crash() -> NoReturn:
    """Gone at once, without any cleaning up."""
    os._exit(CRASH_STATUS)


def crash_once(workspace: Path) -> str:
    """Crash, unless it happened before in this workspace."""
    marker = workspace / _MARKER
    if not marker.exists():
        marker.touch()
        crash()
    return "did not crash this time"


def leave() -> NoReturn:
    """End the process politely, in the middle of a turn."""
    sys.exit(0)


def hang() -> NoReturn:
    """Block the event loop for ever."""
    while True:
        time.sleep(3600)


def kill_mid_commit(session: SessionLayout) -> NoReturn:
    """Die with a transaction half in the file, and a hot journal: only a writer can open the file again.

    The cache is made so small that changed pages are written early, for which SQLite syncs the journal first.
    """
    connection = open_writer(session.outbound)
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("PRAGMA cache_spill = 1")
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO session_state (key, value, updated_at) VALUES (?, ?, '')",
        [(f"never committed {number}", "x" * _ROW_BYTES) for number in range(_SPILL_ROWS)],
    )
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable: SIGKILL cannot be survived")


def bad_rows(session: SessionLayout, generation: int, answers: str) -> str:
    """Rows that break the contract, each in another way; a check constraint is only a word to who owns the file."""
    linked = new_id(Prefix.MESSAGE)
    folder = session.outbox / linked
    folder.mkdir(parents=True)
    (folder / "secret").symlink_to("/etc/passwd")
    fine, hello = "2026-01-01T00:00:00.000Z", '{"text":"hello"}'
    rows: list[tuple[object, ...]] = [
        ("../../../escape", answers, generation, fine, "chat", hello),
        (new_id(Prefix.MESSAGE), answers, generation, fine, "evil", hello),
        (new_id(Prefix.MESSAGE), answers, generation, fine, "chat", "{not json"),
        (new_id(Prefix.MESSAGE), answers, generation, fine, "chat", "[1,2]"),
        (new_id(Prefix.MESSAGE), answers, generation, fine, "chat", '{"text":"x","files":["../../../etc/passwd"]}'),
        (new_id(Prefix.MESSAGE), answers, generation, fine, "chat", b"\xff\xfe"),
        (new_id(Prefix.MESSAGE), answers, generation, "yesterday", "chat", hello),
        (new_id(Prefix.MESSAGE), "msg_of_somebody_else", generation, fine, "chat", hello),
        (new_id(Prefix.MESSAGE), answers, "many", fine, "chat", hello),
        (linked, answers, generation, fine, "chat", '{"text":"x","files":["secret"]}'),
    ]
    connection = open_writer(session.outbound)
    try:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        with transaction(connection):
            connection.executemany(_INSERT, rows)
    finally:
        connection.close()
    return f"wrote {len(rows)} bad rows"
