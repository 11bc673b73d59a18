"""One half of the reading for a rebuild, in a process of its own: `python -m host.history.rebuild_worker`.

Reading a million rows is work for the interpreter, which does one thing at a time; two processes do two, and neither
holds up a host that is running. Standard input is one line of JSON: `{"data", "target", "sessions": [[agent group id,
session id], …]}`. The rows go to the file `target`; standard output has a line of JSON after every few sessions.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from host.history import reading
from host.history.entry import COLUMNS, Entry
from host.history.intake import size_of
from host.history.reading import Cursors
from shared_schema.database import open_writer, transaction, translate
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileBusy, FileTrouble
from shared_schema.layout import DataLayout

_AT_A_TIME = 50  # sessions
_SESSION_SECONDS = 300.0

QUICK = ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "PRAGMA cache_size = -50000")
ENTRIES = f"CREATE TABLE entries ({', '.join(COLUMNS)})"
SESSIONS = """
CREATE TABLE sessions (
    session_id, agent_group_id, signature, inbound_cursor, outbound_cursor, steps_cursor, place, taken_rows, taken_bytes
)
"""
ADD = f"INSERT INTO entries VALUES ({', '.join('?' * len(COLUMNS))})"
ADD_SESSION = "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class SessionRead:
    """How far a session was read, and how many entries that were, of how many bytes."""

    entries: int
    bytes: int
    signature: str | None
    cursors: Cursors
    readable: bool


def main() -> None:
    """Do what standard input says."""
    work = json.loads(sys.stdin.readline())
    try:
        _fill(DataLayout(Path(work["data"])), Path(work["target"]), work["sessions"])
    except sqlite3.Error as error:
        _say({"error": str(translate(error, Path(work["target"])))})
    except FileTrouble as error:
        _say({"error": str(error)})


def read_whole(
    layout: DataLayout, agent_group_id: str, session_id: str, take: Callable[[Sequence[Entry]], object]
) -> SessionRead:
    """Read a session to its end, giving away what each pass finds: all of it may be more than memory holds.

    One whose agent writes as fast as it is read is left after a while; the host goes on from there.
    """
    folder = layout.session(agent_group_id, session_id)
    signature: str | None = None
    entries = size = 0
    deadline = time.monotonic() + _SESSION_SECONDS
    cursors = Cursors()
    readable = more = True
    try:
        signature = reading.signature(folder)
        while more:
            found = reading.read(folder, session_id, cursors)
            more = found.more and found.cursors != cursors
            take(found.entries)
            entries += len(found.entries)
            size += size_of(found.entries)
            cursors = found.cursors
            readable = readable and found.trouble is None
            signature = None if isinstance(found.trouble, FileBusy) else signature
            if more and time.monotonic() > deadline:
                signature, more = None, False
    except (FileTrouble, OSError):
        signature, readable = None, False
    return SessionRead(entries, size, signature, cursors, readable)


def _fill(layout: DataLayout, target: Path, sessions: list[tuple[str, str]]) -> None:
    with closing(open_writer(target, create=True)) as connection:
        target.chmod(0o600)
        for statement in (*QUICK, ENTRIES, SESSIONS):
            connection.execute(statement)
        count = entries = unreadable = 0
        with transaction(connection):
            for agent_group_id, session_id in sessions:
                whole = read_whole(
                    layout, agent_group_id, session_id, lambda entries: connection.executemany(ADD, entries)
                )
                at = (whole.cursors.inbound, whole.cursors.outbound, whole.cursors.steps, whole.cursors.place)
                values = (session_id, agent_group_id, whole.signature, *at, whole.entries, whole.bytes)
                connection.execute(ADD_SESSION, values)
                count, entries = count + 1, entries + whole.entries
                unreadable += not whole.readable
                if count % _AT_A_TIME == 0:
                    _say({"sessions": count, "entries": entries, "unreadable": unreadable})
    _say({"sessions": count, "entries": entries, "unreadable": unreadable})


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
