"""A person's own SQL over the two files of a session, with nothing of the agent's schema in the way.

`outbound.db` may have a view in place of a table, a trigger, a computed column or a table of an extension, any of which
runs when a person types a harmless `select`. So the rows of the tables that a query names are read as the host reads
them (host/sessions/hard_link.py), put into a database in memory whose schema is the real one, and asked there.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import field
from functools import cache, partial

from host.sessions.hard_link import reading
from shared_schema.database import in_memory, reader
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileTrouble, InvalidValue
from shared_schema.layout import SessionLayout
from shared_schema.migrate import INBOUND, OUTBOUND, Schema, migrate

MAX_SQL = 10_000
MAX_ROWS = 10_000
SECONDS = 5.0
"""For the query itself; before it, each table is read for a second at most."""
_COPIED_ROWS = 100_000
_COPIED_BYTES = 16_000_000
_ANSWER_BYTES = 16_000_000
_VALUE_BYTES = 4_000_000
_SHOWN_BLOB = 100
_PROGRESS_INSTRUCTIONS = 10_000
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"

Value = str | int | float | None


@dataclass(slots=True)
class QueryResult:
    """What a query found. Not `complete`: there were more rows. `notes` say what could not be read, in sentences."""

    columns: list[str] = field(default_factory=list)
    rows: list[dict[str, Value]] = field(default_factory=list)
    complete: bool = True
    notes: list[str] = field(default_factory=list)


def ask(layout: SessionLayout, sql: str, *, limit: int = 1000) -> QueryResult:
    """The rows of one `select` over both files, at most `limit`. Blocks for some seconds at most.

    Raises `InvalidValue` for what is no such query, or takes too long.
    """
    if len(sql) > MAX_SQL:
        raise InvalidValue(f"the query has {len(sql)} characters, and {MAX_SQL} are allowed")
    answer = QueryResult()
    with in_memory() as connection:
        for schema in (INBOUND, OUTBOUND):
            for table, columns in _tables(schema).items():
                connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_BYTES)
        try:
            _fill(connection, layout, _named(connection, sql), answer.notes)
            _query(connection, sql, limit, answer)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise _refused(error) from error
    return answer


@cache
def _tables(schema: Schema) -> Mapping[str, tuple[str, ...]]:
    """The tables of a file with their columns, as the newest version has them."""
    with in_memory() as connection:
        migrate(connection, schema)
        names = [
            row["name"]
            for row in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        ]
        return {
            name: tuple(row["name"] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (name,)))
            for name in names
        }


def _named(connection: sqlite3.Connection, sql: str) -> set[str]:
    """The tables that a query reads. It is prepared for that, and not run."""
    found: set[str] = set()

    def authorize(action: int, first: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ and first is not None:
            found.add(first)
        return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    connection.execute(f"EXPLAIN {sql}").close()
    connection.set_authorizer(None)
    return found


def _fill(connection: sqlite3.Connection, layout: SessionLayout, named: set[str], notes: list[str]) -> None:
    for table in sorted(named & _tables(INBOUND).keys()):
        _copy(connection, table, _tables(INBOUND)[table], partial(reader, layout.inbound), notes)
    for table in sorted(named & _tables(OUTBOUND).keys()):
        _copy(connection, table, _tables(OUTBOUND)[table], partial(reading, layout, frozenset({table})), notes)


def _copy(
    connection: sqlite3.Connection,
    table: str,
    columns: Iterable[str],
    opened: Callable[[], AbstractContextManager[sqlite3.Connection]],
    notes: list[str],
) -> None:
    """Take over the newest rows of a table, as many as there is room for."""
    rows: list[tuple[object, ...]] = []
    size = large = 0
    try:
        with opened() as source:
            has = {row["name"] for row in source.execute(f"SELECT name FROM pragma_table_xinfo('{table}')")}
            known = [name for name in columns if name in has]
            chosen = ", ".join(name if name in has else f"NULL AS {name}" for name in columns)
            if not known:
                return
            try:
                for key in source.execute(f"SELECT rowid AS key FROM {table} ORDER BY rowid DESC LIMIT {_COPIED_ROWS}"):
                    try:
                        row = source.execute(f"SELECT {chosen} FROM {table} WHERE rowid = ?", (key["key"],)).fetchone()
                    except sqlite3.Error as error:
                        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_TOOBIG:
                            raise
                        large += 1
                        continue
                    rows += [] if row is None else [tuple(row)]
                    size += sum(len(value) for value in rows[-1] if isinstance(value, str | bytes))
                    if size > _COPIED_BYTES or len(rows) == _COPIED_ROWS:
                        notes.append(f"of {table} only the newest {len(rows)} rows are read")
                        break
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
                    raise
                notes.append(f"of {table} only the newest {len(rows)} rows are read: it took too long")
    except FileTrouble as error:
        notes.append(f"{table} cannot be read: {error.what}")
    if large:
        notes.append(f"{large} rows of {table} are left out: a value is larger than allowed")
    marks = ", ".join("?" * len(tuple(columns)))
    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", reversed(rows))


def _query(connection: sqlite3.Connection, sql: str, limit: int, answer: QueryResult) -> None:
    deadline = time.monotonic() + SECONDS
    connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_INSTRUCTIONS)
    cursor = connection.execute(sql)
    answer.columns = _unique([str(column[0]) for column in cursor.description or ()])
    size = 0
    for row in cursor:
        if len(answer.rows) == limit or size > _ANSWER_BYTES:
            answer.complete = False
            break
        values = [_shown(value) for value in row]
        size += sum(len(value) for value in values if isinstance(value, str))
        answer.rows.append(dict(zip(answer.columns, values, strict=True)))


def _unique(names: list[str]) -> list[str]:
    """Names of columns, each once: `seq`, `seq:1`, as the shell of SQLite writes them."""
    found: list[str] = []
    for name in names:
        number, given = 0, name
        while given in found:
            number += 1
            given = f"{name}:{number}"
        found.append(given)
    return found


def _shown(value: object) -> Value:
    """A value as JSON can have it."""
    match value:
        case bytes():
            return f"x'{value[:_SHOWN_BLOB].hex()}'" + ("…" if len(value) > _SHOWN_BLOB else "")
        case float() if value in (float("inf"), float("-inf")):
            return str(value)
        case str() | int() | float() | None:
            return value
        case _:
            return str(value)


def _refused(error: Exception) -> InvalidValue:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_INTERRUPT:
        return InvalidValue(f"the query takes longer than {SECONDS:g} s", hint="ask for less, or for fewer rows")
    if code == sqlite3.SQLITE_AUTH:
        return InvalidValue(
            "only a `select` can be asked: nothing can be changed or attached here",
            hint="write such as `select seq, kind, content from messages_out`",
        )
    tables = ", ".join(sorted([*_tables(INBOUND), *_tables(OUTBOUND)]))
    return InvalidValue(f"the query cannot be used: {error}", hint=f"the tables are {tables}")
