"""Tricks with the schema of `outbound.db`: what runs, or takes long, when somebody reads or writes the tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

from tests.hostile.session import Session, ack, new, now

Act = Callable[[Session, str], None]

TABLES = ("messages_out", "processing_ack", "turns", "steps", "session_state", "agent_state")
_COLUMNS = """seq INTEGER PRIMARY KEY, id TEXT, turn_id TEXT, in_reply_to TEXT, generation INTEGER, timestamp TEXT,
    deliver_after TEXT, kind TEXT, destination TEXT, channel_type TEXT, platform_id TEXT, thread_id TEXT"""
_ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
_SLOW = "length(replace(hex(zeroblob(20000)), '0', 'ab'))"


def of_version(number: int, *, answers: bool) -> Act:
    """`PRAGMA user_version`."""

    def act(at: Session, message: str) -> None:
        with closing(sqlite3.connect(at.database)) as connection:
            connection.execute(f"PRAGMA user_version = {number:d}")
        if not answers:
            at.hold()
        at.reply(message, "done")

    return act


def in_utf_16(at: Session, message: str) -> None:
    """The same tables in a file of another encoding, with the largest pages there are."""
    with closing(sqlite3.connect(at.database)) as old:
        schema = [row[0] for row in old.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
        rows = {table: old.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    draft = at.out / "draft"
    with closing(sqlite3.connect(draft)) as new_file:
        new_file.execute("PRAGMA encoding = 'UTF-16le'")
        new_file.execute("PRAGMA page_size = 65536")
        for statement in schema:
            if "sqlite_sequence" not in statement:
                new_file.execute(statement)
        for table, values in rows.items():
            for value in values:
                new_file.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(value))})", value)
        new_file.execute("PRAGMA user_version = 1")
        new_file.commit()
    draft.rename(at.database)
    at.reply(message, "done")


def other_tables(at: Session, message: str) -> None:
    at.put(b"")
    at.run("CREATE TABLE messages_out (a)")
    at.hold()


def without_a_table(at: Session, message: str) -> None:
    at.run("DROP TABLE turns")
    at.hold()


def views_in_place_of_tables(at: Session, message: str) -> None:
    for table in TABLES:
        at.run(f"ALTER TABLE {table} RENAME TO real_{table}", f"CREATE VIEW {table} AS SELECT * FROM real_{table}")
    at.hold()


def view_without_an_end(at: Session, message: str) -> None:
    at.run(
        "ALTER TABLE messages_out RENAME TO real",
        f"CREATE VIEW messages_out AS SELECT * FROM real, ({_ENDLESS})",
    )
    at.hold()


def view_called_a_table(at: Session, message: str) -> None:
    """A view that the schema lists as a table."""
    at.run(
        "ALTER TABLE turns RENAME TO real",
        f"CREATE VIEW turns AS SELECT * FROM real, ({_ENDLESS})",
        "UPDATE sqlite_master SET type = 'table' WHERE name = 'turns'",
    )
    at.hold()


def views_beside_the_tables(at: Session, message: str) -> None:
    at.run(*(f"CREATE VIEW endless_{number} AS {_ENDLESS}" for number in range(100)))
    at.reply(message, "done")


def triggers_on_every_table(at: Session, message: str) -> None:
    """Whoever writes pays for it; a reader does not."""
    for table in TABLES:
        for event in ("INSERT", "UPDATE", "DELETE"):
            at.run(f"CREATE TRIGGER {event}_{table} AFTER {event} ON {table} BEGIN SELECT {_SLOW}; END")
    at.reply(message, "done")


def triggers_that_refuse(at: Session, message: str) -> None:
    """Nobody can write the file any more."""
    at.reply(message, "done")
    for table in ("messages_out", "processing_ack", "turns"):
        at.run(f"CREATE TRIGGER no_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END")


def full_text_in_place_of_a_table(at: Session, message: str) -> None:
    at.run("DROP TABLE turns", "CREATE VIRTUAL TABLE turns USING fts5 (id, status, started_at)")
    at.hold()


def full_text_beside_the_tables(at: Session, message: str) -> None:
    at.run("CREATE VIRTUAL TABLE search USING fts5 (text)", "INSERT INTO search VALUES ('words')")
    at.reply(message, "done")


def computed_columns(at: Session, message: str) -> None:
    """A content that whoever reads it would have to compute."""
    at.replace_table(
        "messages_out",
        f"CREATE TABLE messages_out ({_COLUMNS}, content TEXT AS ('{{\"text\": ' || {_SLOW} || '}}'))",
    )
    statement = "INSERT INTO messages_out (id, generation, timestamp, kind) VALUES (?, ?, ?, 'chat')"
    at.write([(statement, (new("msg"), at.generation(), now())), ack(message)])
    at.hold()


def slow_constraints_and_defaults(at: Session, message: str) -> None:
    """What a table checks, fills in and keeps an index of is for its writer to compute."""
    at.replace_table(
        "messages_out",
        f"CREATE TABLE messages_out ({_COLUMNS}, content TEXT DEFAULT ({_SLOW}) CHECK ({_SLOW} > 0))",
    )
    at.run(f"CREATE INDEX slow ON messages_out (({_SLOW} + seq)) WHERE {_SLOW} > seq")
    at.write([at.row(message, "done", seq=1000), ack(message)])  # a new table counts from 1, below the cursor


def columns_missing(at: Session, message: str) -> None:
    at.run("ALTER TABLE messages_out DROP COLUMN destination")
    at.hold()


def columns_renamed(at: Session, message: str) -> None:
    at.run("ALTER TABLE messages_out RENAME COLUMN content TO contents")
    at.hold()


def columns_doubled(at: Session, message: str) -> None:
    """A schema that names a column twice, which SQLite would not have made."""
    doubled = "replace(sql, 'deliver_after TEXT', 'content TEXT')"
    at.run(f"UPDATE sqlite_master SET sql = {doubled} WHERE name = 'messages_out'")
    at.hold()


def columns_by_the_thousand(at: Session, message: str) -> None:
    for number in range(1000):
        at.run(f"ALTER TABLE turns ADD COLUMN c{number}")
        if number % 100 == 0:
            at.beat()
    at.hold()


def tables_by_the_thousand(at: Session, message: str) -> None:
    """A schema that is long to parse, and harmless otherwise."""
    for number in range(1000):
        if number % 100 == 0:
            at.beat()
            at.run(*(f"CREATE TABLE t{number + each} (a, b, c)" for each in range(100)))
    at.reply(message, "done")


def schema_that_is_no_text(at: Session, message: str) -> None:
    at.run("INSERT INTO sqlite_master VALUES ('table', CAST(x'ff' AS TEXT), 'x', 2, 'CREATE garbage (')")
    at.hold()


def schema_of_megabytes(at: Session, message: str) -> None:
    """One statement with an expression that is slow to parse."""
    at.run(f"CREATE INDEX long ON turns (({'+'.join(['1'] * 400)}))")
    at.hold()
