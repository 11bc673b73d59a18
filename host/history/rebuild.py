"""Making history.db again from the session folders: into a draft, which then takes its place.

Two processes read (share.py). Their rows are put in the order of their times, so that searching begins with the
newest. Then the two indexes are made at the same time, each in a file of its own, and put together. A crash leaves the
old file.
"""

from __future__ import annotations

import json
import os
import selectors
import sqlite3
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NoReturn

from host.history.entry import COLUMNS
from host.history.feed import session_folders
from host.history.record import HISTORY
from shared_schema.database import open_writer, transaction, translate
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileTrouble
from shared_schema.layout import DataLayout
from shared_schema.migrate import migrate

SHARES = ("one", "two")
# The draft is thrown away after a crash, so nothing of it has to be safe before it is complete.
QUICK = ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "PRAGMA cache_size = -200000")
ATTACH = "ATTACH ? AS other"
ATTACH_SHARES = {"one": "ATTACH ? AS one", "two": "ATTACH ? AS two"}
DETACH = "DETACH other"
ALL_SESSIONS = "INSERT INTO sessions SELECT * FROM one.sessions UNION ALL SELECT * FROM two.sessions"
ALL_ENTRIES = f"""
INSERT INTO entries ({", ".join(COLUMNS)})
SELECT * FROM one.entries UNION ALL SELECT * FROM two.entries ORDER BY time, session_id, source, seq
"""
INDEXES = "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'entries' AND sql IS NOT NULL"
WITHOUT_INDEXES = ("DROP INDEX entries_once", "DROP INDEX entries_in_order", "DROP INDEX entries_of_turn")
INDEX = {
    "words": """
    INSERT INTO words (rowid, spoken, called, label)
    SELECT position, spoken, called, label FROM other.searchable ORDER BY position
    """,
    "pieces": """
    INSERT INTO pieces (rowid, text, called) SELECT position, text, called FROM other.searchable ORDER BY position
    """,
}
# An index lies in ordinary tables, which can be copied as they are (sqlite.org/fts5.html, section 9).
TAKE = {
    "words": (
        "DELETE FROM words_data",
        "INSERT INTO words_data SELECT * FROM other.words_data",
        "DELETE FROM words_idx",
        "INSERT INTO words_idx SELECT * FROM other.words_idx",
    ),
    "pieces": (
        "DELETE FROM pieces_data",
        "INSERT INTO pieces_data SELECT * FROM other.pieces_data",
        "DELETE FROM pieces_idx",
        "INSERT INTO pieces_idx SELECT * FROM other.pieces_idx",
    ),
}


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far it is: sessions that were read, of how many, and their entries. `stage` is `reading` or `indexing`."""

    stage: str
    sessions: int
    of: int
    entries: int
    unreadable: int


def rebuild(layout: DataLayout, draft: Path) -> Generator[RebuildProgress, None, None]:
    """Make a draft from all session folders, telling how far it is. Blocks. Raises `FileTrouble`."""
    parts = {name: draft.with_name(f"{draft.name}-{name}") for name in (*SHARES, *INDEX)}
    for path in (draft, *parts.values()):
        path.unlink(missing_ok=True)
    try:
        progress = RebuildProgress("reading", 0, 0, 0, 0)
        for progress in _read(layout, [parts[name] for name in SHARES]):
            yield progress
        yield RebuildProgress("indexing", progress.sessions, progress.of, progress.entries, progress.unreadable)
        _sort(draft, parts)
        with ThreadPoolExecutor(len(INDEX), "history-index") as threads:
            list(threads.map(lambda name: _make_index(draft, parts[name], name), INDEX))
        _put_together(draft, parts)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
    except sqlite3.Error as error:
        raise translate(error, draft) from error
    finally:
        for path in parts.values():
            path.unlink(missing_ok=True)


def _read(layout: DataLayout, targets: Sequence[Path]) -> Iterator[RebuildProgress]:
    """Have all sessions read by processes, each its share."""
    folders = list(session_folders(layout, _raise))  # what cannot be seen would be missing
    done: dict[int, dict[str, int]] = {}
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for number, target in enumerate(targets):
            work = {"data": str(layout.data), "target": str(target), "sessions": folders[number :: len(targets)]}
            selector.register(_begin(stack, work), selectors.EVENT_READ, number)
        while selector.get_map():
            for key, _ in selector.select():
                line = key.fileobj.readline()  # type: ignore[union-attr]
                if line:
                    done[key.data] = _understood(line, targets[key.data])
                else:
                    selector.unregister(key.fileobj)
            sums = {name: sum(part[name] for part in done.values()) for name in ("sessions", "entries", "unreadable")}
            yield RebuildProgress("reading", of=len(folders), **sums)
    if sums["sessions"] != len(folders):
        raise FileTrouble("the sessions were not read to the end", where=layout.history, hint="try again")


def _raise(trouble: FileTrouble) -> NoReturn:
    raise trouble


def _begin(stack: ExitStack, work: dict[str, Any]) -> Any:
    """A process that reads; what it says. It ends with the stack at the latest."""
    command = [sys.executable, "-m", "host.history.rebuild_worker"]
    process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0))
    stack.callback(process.kill)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(work).encode() + b"\n")
    process.stdin.close()
    return process.stdout


def _understood(line: bytes, target: Path) -> dict[str, int]:
    said: dict[str, Any] = json.loads(line)
    if "error" in said:
        raise FileTrouble(said["error"], where=target)
    return said


def _quick(path: Path) -> sqlite3.Connection:
    """Returns a writer of a file that no other process uses, with the tables of history."""
    connection = open_writer(path, create=True)
    path.chmod(0o600)
    for pragma in QUICK:
        connection.execute(pragma)
    migrate(connection, HISTORY)
    return connection


def _sort(draft: Path, parts: dict[str, Path]) -> None:
    """Everything but the two indexes."""
    with closing(_quick(draft)) as connection:
        for name in SHARES:
            connection.execute(ATTACH_SHARES[name], (str(parts[name]),))
        indexes = [row["sql"] for row in connection.execute(INDEXES).fetchall()]
        with transaction(connection):
            for statement in (*WITHOUT_INDEXES, ALL_SESSIONS, ALL_ENTRIES, *indexes):
                connection.execute(statement)


def _make_index(draft: Path, path: Path, name: str) -> None:
    """One of the two indexes, in a file of its own."""
    with closing(_quick(path)) as connection:
        connection.execute(ATTACH, (str(draft),))
        connection.execute(INDEX[name])  # by itself: `BEGIN IMMEDIATE` would lock the draft, too, which both only read


def _put_together(draft: Path, parts: dict[str, Path]) -> None:
    with closing(_quick(draft)) as connection:
        for name, statements in TAKE.items():
            connection.execute(ATTACH, (str(parts[name]),))
            with transaction(connection):
                for statement in statements:
                    connection.execute(statement)
            connection.execute(DETACH)
