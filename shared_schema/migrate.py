"""Schema versions: numbered `.sql` files, `PRAGMA user_version`, one transaction each; a new file is made in one.

A file's schema lives only in its migrations (`inbound/`, `outbound/`, and `host/central/migrations/`). Migrations only
add, so that a reader of version n understands a file of version n + 1; only the file's writer runs them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from shared_schema.database import transaction
from shared_schema.dataclass import dataclass
from shared_schema.errors import NewerSchema

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Schema:
    """One kind of database file and the folder of its migrations, `0001_name.sql` upwards without a gap."""

    name: str
    folder: Path

    @property
    def version(self) -> int:
        """The newest version this code knows."""
        return len(self.migrations())

    def migrations(self) -> Sequence[Path]:
        """The migration files, oldest first."""
        return _scripts_in(self.folder)


@cache
def _scripts_in(folder: Path) -> Sequence[Path]:
    return tuple(sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql")))


INBOUND = Schema("inbound.db", _HERE / "inbound")
OUTBOUND = Schema("outbound.db", _HERE / "outbound")

CONTRACT_VERSION = 2
"""What host and agent call the form of the two files and of the JSON in them; they work one version apart."""


def version_of(connection: sqlite3.Connection) -> int:
    """The schema version a file carries; 0 for an empty file."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(connection: sqlite3.Connection, schema: Schema, *, to: int | None = None, ahead: int = 0) -> None:
    """Bring a file up to the newest version (or up to `to`). Called by the file's writer only.

    Each step and its version number are one transaction: after a crash or an error the file is at the step before. All
    steps of a new file are one, so that it waits for the disk once: after a crash it is still empty.
    A file from a newer version is left as it is: at most `ahead` versions newer it can be written (migrations only
    add), beyond that this raises `NewerSchema`.
    """
    target = schema.version if to is None else to
    current = version_of(connection)
    if current > schema.version + ahead:
        raise NewerSchema(
            f"{schema.name} has schema version {current}, and this version knows {schema.version} at most",
            hint="update Dumbwaiter, or use the data folder of the older version",
        )
    steps = list(enumerate(schema.migrations()[current:target], start=current + 1))
    for together in [steps] if steps and current == 0 else [[step] for step in steps]:
        with transaction(connection):
            for number, path in together:
                for statement in _statements(path.read_text(encoding="utf-8")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number:d}")  # a pragma takes no parameters


def require_readable(connection: sqlite3.Connection, schema: Schema) -> int:
    """Check that this code understands the file of the other side: at most one version newer than its own.

    Returns the file's version. Raises `NewerSchema`.
    """
    current = version_of(connection)
    if current > schema.version + 1:
        raise NewerSchema(
            f"{schema.name} has schema version {current}, and this side reads {schema.version + 1} at most",
            hint="use a host and an agent image at most one version apart",
        )
    return current


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit before the first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
