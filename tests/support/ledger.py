"""A central.db that fails, for real: a table that is away for a moment, a change that it refuses."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def without_table(
    central: Path, table: str, then: Callable[[sqlite3.Connection], object] = lambda connection: None
) -> Iterator[None]:
    """A table is not there until the block ends, so what reads or writes it fails. `then` comes with its return."""
    _change(central, lambda c: c.execute(f"ALTER TABLE {table} RENAME TO away"))
    try:
        yield
    finally:

        def bring_back(connection: sqlite3.Connection) -> None:
            connection.execute(f"ALTER TABLE away RENAME TO {table}")
            then(connection)

        _change(central, bring_back)


@contextmanager
def refusing(central: Path, change: str, when: str = "1") -> Iterator[None]:
    """A change (`UPDATE ON turns`) fails until the block ends; `when` says of which rows (`NEW.id = 'trn_1'`)."""
    _change(
        central,
        lambda c: c.execute(
            f"CREATE TRIGGER refused BEFORE {change} WHEN {when} BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
        ),
    )
    try:
        yield
    finally:
        _change(central, lambda c: c.execute("DROP TRIGGER refused"))


def _change(central: Path, change: Callable[[sqlite3.Connection], object]) -> None:
    with closing(sqlite3.connect(central, timeout=30, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA legacy_alter_table = ON")  # no other table is to take the name over
        connection.execute("BEGIN IMMEDIATE")
        change(connection)
        connection.execute("COMMIT")
