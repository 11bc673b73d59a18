"""Schema versions: every way to the newest version leads to the same file, and no step is left half-done."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from host.central.database import CENTRAL, Central
from host.sessions import inbox, outbox
from host.sessions.folder import Owner, make_session_folder
from host.sessions.inbox import NewMessage
from shared_schema.clock import ManualClock
from shared_schema.database import open_reader, open_writer, reader
from shared_schema.errors import FileDamaged, NewerSchema
from shared_schema.layout import SessionLayout
from shared_schema.migrate import INBOUND, OUTBOUND, Schema, migrate, require_readable, version_of
from shared_schema.rows import Address, MessageIn

SCHEMAS = [INBOUND, OUTBOUND, CENTRAL]
EVERY_VERSION = [
    pytest.param(schema, version, id=f"{schema.name}-{version}")
    for schema in SCHEMAS
    for version in range(schema.version + 1)
]


def description(path: Path) -> tuple[int, list[tuple[object, ...]]]:
    """The version of a file, and its schema without the layout of its text."""
    with closing(open_reader(path)) as connection:
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        entries = [(row["type"], row["name"], row["tbl_name"], " ".join((row["sql"] or "").split())) for row in rows]
        return version_of(connection), sorted(entries)


def made(path: Path, schema: Schema, *, to: int | None = None) -> Path:
    """A file of that version."""
    with closing(open_writer(path, create=True)) as connection:
        migrate(connection, schema, to=to)
    return path


def set_version(path: Path, version: int, *statements: str) -> None:
    with closing(open_writer(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version:d}")


@pytest.fixture
def session(tmp_path: Path) -> SessionLayout:
    """A session folder as this version makes it."""
    layout = SessionLayout(tmp_path / "agr_1" / "ses_1")
    make_session_folder(layout, Owner.of_agents(10001))
    return layout


@pytest.mark.parametrize(("schema", "version"), EVERY_VERSION)
def test_a_migrated_file_equals_a_fresh_one(tmp_path: Path, schema: Schema, version: int) -> None:
    fresh = made(tmp_path / "fresh.db", schema)
    old = made(tmp_path / "old.db", schema, to=version)
    assert description(old)[0] == version
    made(old, schema)
    assert description(old) == description(fresh)
    assert description(old)[0] == schema.version > 0


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
def test_migrating_the_newest_file_changes_no_byte(tmp_path: Path, schema: Schema) -> None:
    path = made(tmp_path / "file.db", schema)
    before = path.read_bytes()
    made(path, schema)
    assert path.read_bytes() == before


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
def test_the_migrations_are_numbered_without_a_gap(schema: Schema) -> None:
    numbers = [int(path.name[:4]) for path in schema.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert sorted(path.name for path in schema.folder.iterdir()) == [path.name for path in schema.migrations()]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
def test_a_newer_file_is_refused_and_not_touched(tmp_path: Path, schema: Schema) -> None:
    path = made(tmp_path / "file.db", schema)
    set_version(path, schema.version + 1)
    before = path.read_bytes()
    with pytest.raises(NewerSchema, match=f"{schema.name} has schema version {schema.version + 1}"):
        made(path, schema)
    assert path.read_bytes() == before


async def test_a_newer_registry_is_refused_and_not_touched(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "central.db"
    opened = await asyncio.to_thread(Central.open, path, clock)
    await asyncio.to_thread(opened.close)
    with closing(open_writer(path, journal_mode="WAL")) as connection:
        connection.execute(f"PRAGMA user_version = {CENTRAL.version + 1:d}")
    before = path.read_bytes()
    with pytest.raises(NewerSchema, match="update Dumbwaiter"):
        await asyncio.to_thread(Central.open, path, clock)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["central.db"]


def test_an_inbound_file_that_is_two_versions_newer_is_refused_and_not_touched(session: SessionLayout) -> None:
    set_version(session.inbound, INBOUND.version + 2)
    before = session.inbound.read_bytes()
    with pytest.raises(NewerSchema):
        inbox.update(session)
    assert session.inbound.read_bytes() == before


@pytest.fixture
def two_steps(tmp_path: Path) -> Schema:
    """A schema of two versions; the second adds a column, a trigger and a row."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_first.sql").write_text("CREATE TABLE t (n INTEGER);\nINSERT INTO t VALUES (1); -- ; not the end\n")
    (folder / "0002_second.sql").write_text(
        "-- adds; a column\nALTER TABLE t ADD COLUMN text TEXT;\n"
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN\n  UPDATE t SET text = 'a;b' WHERE n = new.n;\n  SELECT 1;\nEND;\n"
        "INSERT INTO t (n) VALUES (2)"
    )
    return Schema("some.db", folder)


def contents(path: Path) -> list[tuple[object, ...]]:
    with reader(path) as connection:
        return [tuple(row) for row in connection.execute("SELECT * FROM t ORDER BY n")]


def test_steps_are_taken_one_after_the_other_and_keep_the_rows(tmp_path: Path, two_steps: Schema) -> None:
    path = made(tmp_path / "file.db", two_steps, to=1)
    assert contents(path) == [(1,)]
    made(path, two_steps)
    assert contents(path) == [(1, None), (2, "a;b")]
    assert description(path) == description(made(tmp_path / "fresh.db", two_steps))


@pytest.mark.parametrize(
    "last",
    ["INSERT INTO nowhere VALUES (1);", "CREATE TABLE t (n);", "this is not SQL;", "CREATE TABLE half (n"],
)
def test_a_step_that_fails_leaves_the_file_at_the_step_before(tmp_path: Path, two_steps: Schema, last: str) -> None:
    second = two_steps.migrations()[1]
    good = second.read_text()
    path = made(tmp_path / "file.db", two_steps, to=1)
    before = description(path), contents(path)
    second.write_text(f"ALTER TABLE t ADD COLUMN text TEXT;\nINSERT INTO t (n) VALUES (9);\n{last}")
    with pytest.raises(sqlite3.OperationalError):
        made(path, two_steps)
    assert (description(path), contents(path)) == before
    second.write_text(good)
    made(path, two_steps)
    assert description(path)[0] == 2


def test_a_new_file_has_all_steps_or_none(tmp_path: Path, two_steps: Schema) -> None:
    second = two_steps.migrations()[1]
    good = second.read_text()
    path = tmp_path / "file.db"
    second.write_text(f"{good};\nthis is not SQL;")
    with pytest.raises(sqlite3.OperationalError):
        made(path, two_steps)
    with reader(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    second.write_text(good)
    assert description(made(path, two_steps))[0] == 2


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
def test_no_migration_begins_or_ends_a_transaction(schema: Schema) -> None:
    for path in schema.migrations():
        words = {line.split()[0].upper().rstrip(";") for line in path.read_text().splitlines() if line.strip()}
        assert words & {"CREATE", "ALTER", "INSERT", "UPDATE"}
        assert not words & {"BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "VACUUM", "ATTACH"}


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
@pytest.mark.parametrize(("newer_by", "readable"), [(-1, True), (0, True), (1, True), (2, False), (1000, False)])
def test_the_other_side_may_be_one_version_newer(tmp_path: Path, schema: Schema, newer_by: int, readable: bool) -> None:
    path = made(tmp_path / "file.db", schema)
    set_version(path, schema.version + newer_by)
    with closing(open_reader(path)) as connection:
        if readable:
            require_readable(connection, schema)
        else:
            with pytest.raises(NewerSchema, match="one version apart"):
                require_readable(connection, schema)


def test_an_older_host_writes_and_an_older_agent_reads_an_inbound_file_with_one_more_column(
    session: SessionLayout,
) -> None:
    set_version(session.inbound, INBOUND.version + 1, "ALTER TABLE messages_in ADD COLUMN mood TEXT DEFAULT 'good'")
    message = NewMessage("msg_1", "chat", "t", 1, 1, Address("memory", "one"), "ann", "Ann", '{"text":"hi"}')
    inbox.update(session, messages=[message])
    with reader(session.inbound) as connection:
        row = connection.execute("SELECT * FROM messages_in").fetchone()
    assert (row["mood"], MessageIn.from_row(row).text) == ("good", "hi")


NEWER_OUTBOUND = (
    "ALTER TABLE messages_out ADD COLUMN mood TEXT DEFAULT 'good'",
    "INSERT INTO messages_out (id, generation, timestamp, kind, content) VALUES ('msg_1', 1, 't', 'chat', '{}')",
)


def test_an_older_host_reads_an_outbound_file_with_one_more_column(session: SessionLayout) -> None:
    set_version(session.outbound, OUTBOUND.version + 1, *NEWER_OUTBOUND)
    snapshot = outbox.read(session, out_cursor=0, turn_cursor=0, open_messages=[], running_turns=[])
    assert [message.id for message in snapshot.messages] == ["msg_1"]


def test_an_outbound_file_two_versions_newer_is_not_read(session: SessionLayout) -> None:
    set_version(session.outbound, OUTBOUND.version + 2, *NEWER_OUTBOUND)
    with pytest.raises(NewerSchema):
        outbox.read(session, out_cursor=0, turn_cursor=0, open_messages=[], running_turns=[])


def test_a_file_that_is_no_database_is_not_migrated(tmp_path: Path) -> None:
    (tmp_path / "file.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(FileDamaged):
        made(tmp_path / "file.db", INBOUND)
