"""A data folder that an earlier version made opens, migrates and works."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from host.central.database import CENTRAL, Central
from host.history.record import HISTORY
from shared_schema.clock import SystemClock
from shared_schema.database import open_writer
from shared_schema.migrate import INBOUND, OUTBOUND, Schema, migrate, version_of
from tests.fixtures.make import make
from tests.support.host import rows, running
from tests.support.short import in_short

FIXTURES = Path(__file__).parent.parent / "fixtures"
EARLIER = sorted((path.name for path in FIXTURES.glob("central-*")), key=lambda name: int(name.split("-")[1]))


def made_from(fixture: str, data: Path) -> Path:
    """A data folder as that version left it."""
    for script in (FIXTURES / fixture).rglob("*.sql"):
        target = (data / script.relative_to(FIXTURES / fixture)).with_suffix(".db")
        target.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(target)) as connection:
            connection.executescript(script.read_text())
    return data


def schema_of(path: Path) -> list[tuple[str, str]]:
    """The tables, columns and indexes of a file, without the layout of their text."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        return sorted((f"{kind} {name} {table}", " ".join((sql or "").split())) for kind, name, table, sql in rows)


def test_every_version_before_the_present_one_is_here() -> None:
    assert [f"central-{version}" for version in range(1, CENTRAL.version)] == EARLIER, (
        "tests/fixtures has the data folder of each version before the present one; its README.md says how one is made"
    )


@pytest.mark.full
def test_the_folder_that_is_made_of_the_present_version_holds_what_those_of_the_earlier_ones_hold(
    tmp_path: Path,
) -> None:
    make(tmp_path / "made")

    for table in ("agent_groups", "agent_destinations", "schedules", "ingest", "deliveries", "turns"):
        made, earlier = (
            (folder / "central.sql").read_text().count(f'INSERT INTO "{table}"')
            for folder in (tmp_path / "made", FIXTURES / EARLIER[-1])
        )
        assert made == earlier > 0, table
    assert sorted(script.name for script in (tmp_path / "made").rglob("*.sql")) == [
        "central.sql",
        "inbound.sql",
        "outbound.sql",
    ]


def test_a_history_of_the_first_version_becomes_one_of_the_present(tmp_path: Path) -> None:
    first = Path(__file__).parents[2] / "host/history/migrations/0001_first.sql"
    for name, script in (("earlier", first.read_text() + "PRAGMA user_version = 1;"), ("fresh", "")):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.executescript(script)
        with closing(open_writer(tmp_path / name)) as connection:
            migrate(connection, HISTORY)
            assert version_of(connection) == HISTORY.version
    assert schema_of(tmp_path / "earlier") == schema_of(tmp_path / "fresh")


@pytest.mark.parametrize("fixture", in_short(EARLIER, EARLIER[0], EARLIER[len(EARLIER) // 2], EARLIER[-1]))
async def test_an_earlier_data_folder_goes_on_where_it_was(fixture: str, tmp_path: Path) -> None:
    data = made_from(fixture, tmp_path / "data")
    async with running(data) as host:
        await host.channel.wait_for(1)
        assert host.texts()[0] == "scripted: still there?"
        assert (await host.ask("recall")).startswith("4 steps") or "still there?" in host.texts()[1]
        await host.settled()
        session = next(each for each in await host.do("session.list") if each["agent_group"] == "assistant")
        said = [entry["text"] for entry in await host.do("session.transcript", session=session["id"])]
        assert said[:3] == ["good morning", "scripted: good morning", "reply 2 walrus"]
        found = await host.do("session.search", query="walrus")
        assert {hit["session_id"] for hit in found["hits"]} == {session["id"]}
        assert [each["name"] for each in await host.do("agent_group.list")] == ["assistant", "other"]
        assert (await host.do("session.new", session=session["id"]))["parent_id"] == session["id"]
        assert await host.ask("hello") == "scripted: hello"
        assert rows(Path(session["path"]) / "inbound.db", "PRAGMA user_version") == [{"user_version": INBOUND.version}]
        assert rows(Path(session["path"]) / "out" / "outbound.db", "PRAGMA user_version") == [
            {"user_version": OUTBOUND.version}
        ]


@pytest.mark.parametrize("fixture", EARLIER)
def test_a_migrated_central_db_equals_a_fresh_one(fixture: str, tmp_path: Path) -> None:
    old, fresh = made_from(fixture, tmp_path) / "central.db", tmp_path / "fresh.db"
    for path in (old, fresh):
        Central.open(path, SystemClock()).close()
    assert schema_of(old) == schema_of(fresh)


@pytest.mark.parametrize("fixture", EARLIER)
def test_a_migration_that_fails_leaves_the_old_file(fixture: str, tmp_path: Path) -> None:
    old = made_from(fixture, tmp_path) / "central.db"
    before = schema_of(old)
    migrations = tmp_path / "migrations"
    shutil.copytree(CENTRAL.folder, migrations)
    version = int(fixture.rpartition("-")[2])
    (migrations / CENTRAL.migrations()[version].name).write_text(
        "ALTER TABLE sessions ADD COLUMN half TEXT;\nINSERT INTO nowhere VALUES (1);"
    )
    with closing(open_writer(old)) as connection:
        with pytest.raises(sqlite3.Error, match="nowhere"):
            migrate(connection, Schema("central.db", migrations))
        assert version_of(connection) == version
    assert schema_of(old) == before
    Central.open(old, SystemClock()).close()
