"""SessionSync a file that an attacker may have written: bounded, and nothing of the file's own is run."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from shared_schema.database import untrusted_reader
from shared_schema.errors import FileBusy, FileDamaged, FileTrouble

T = frozenset({"t"})
PLAIN = ("CREATE TABLE t (n INTEGER PRIMARY KEY, text)", "INSERT INTO t VALUES (1, 'one')")
DISGUISE = "PRAGMA writable_schema = ON"


def hostile(folder: Path, *statements: str) -> Path:
    """A database that an attacker made with these statements."""
    path = folder / "hostile.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path


def read(path: Path, statement: str = "SELECT * FROM t", **options: object) -> list[tuple[object, ...]]:
    with untrusted_reader(path, tables=T, **options) as connection:  # type: ignore[arg-type]
        return [tuple(row) for row in connection.execute(statement)]


def test_an_ordinary_table_is_read(tmp_path: Path) -> None:
    assert read(hostile(tmp_path, *PLAIN)) == [(1, "one")]


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE s (n)", "CREATE VIEW t AS SELECT * FROM s"),
        ("CREATE VIEW t AS WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",),
        ("CREATE VIRTUAL TABLE t USING fts5 (n)",),
        ("CREATE TABLE a (n)", "CREATE INDEX t ON a (n)"),
        (*PLAIN, DISGUISE, "UPDATE sqlite_master SET rootpage = 0, sql = 'CREATE/**/VIRTUAL TABLE t USING dbstat'"),
        (
            "CREATE TABLE s (n)",
            "INSERT INTO s VALUES (1)",
            "CREATE VIEW t AS SELECT * FROM s",
            DISGUISE,
            "UPDATE sqlite_master SET type = 'table' WHERE name = 't'",
        ),
        ("CREATE TABLE other (n)",),
    ],
    ids=["view", "endless view", "virtual table", "index", "disguised virtual table", "disguised view", "missing"],
)
def test_what_is_not_an_ordinary_table_is_damage(tmp_path: Path, statements: Sequence[str]) -> None:
    with pytest.raises(FileDamaged):
        read(hostile(tmp_path, *statements))


def test_tables_that_were_not_asked_for_cannot_be_read(tmp_path: Path) -> None:
    path = hostile(tmp_path, *PLAIN, "CREATE TABLE secret (n)", "INSERT INTO secret VALUES (7)")
    for statement in (
        "SELECT * FROM secret",
        "SELECT n FROM t UNION SELECT n FROM secret",
        "SELECT * FROM sqlite_master",
    ):
        with pytest.raises(FileTrouble, match=r"prohibited|not authorized"):
            read(path, statement)


def test_a_view_beside_the_tables_is_not_run(tmp_path: Path) -> None:
    path = hostile(tmp_path, *PLAIN, "CREATE VIEW v AS SELECT n FROM t")
    with pytest.raises(FileTrouble, match=r"prohibited|not authorized"):
        read(path, "SELECT * FROM v")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES (2, 'two')",
        "UPDATE t SET text = 'changed'",
        "DELETE FROM t",
        "CREATE TABLE mine (n)",
        "CREATE TEMP TABLE mine (n)",
        "ATTACH DATABASE ':memory:' AS more",
        "VACUUM INTO '/tmp/never'",
    ],
)
def test_nothing_can_be_written_and_so_no_trigger_runs(tmp_path: Path, statement: str) -> None:
    path = hostile(tmp_path, *PLAIN, "CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t; END")
    before = path.read_bytes()
    with pytest.raises(FileTrouble):
        read(path, statement)
    assert path.read_bytes() == before
    assert read(path) == [(1, "one")]


def test_a_file_whose_triggers_are_broken_is_read(tmp_path: Path) -> None:
    path = hostile(tmp_path, *PLAIN, "CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT no_such_function(); END")
    assert read(path) == [(1, "one")]


@pytest.mark.parametrize(("length", "fits"), [(1_000, True), (1_001, False)])
def test_a_value_beyond_the_limit_is_damage(tmp_path: Path, length: int, fits: bool) -> None:
    path = hostile(tmp_path, "CREATE TABLE t (text)", f"INSERT INTO t VALUES (printf('%.*c', {length}, 'x'))")
    if fits:
        assert read(path, "SELECT length(text) FROM t", value_bytes=1_000) == [(length,)]
    else:
        with pytest.raises(FileDamaged, match="too big"):
            read(path, value_bytes=1_000)


def test_a_value_cannot_be_blown_up_while_it_is_read(tmp_path: Path) -> None:
    path = hostile(tmp_path, *PLAIN)
    with pytest.raises(FileDamaged, match="too big"):
        read(path, "SELECT zeroblob(10001) FROM t", value_bytes=10_000)


def test_an_endless_query_is_interrupted(tmp_path: Path) -> None:
    path = hostile(tmp_path, "CREATE TABLE t (n)", f"INSERT INTO t SELECT value FROM json_each('{[1] * 999}')")
    began = time.monotonic()
    with pytest.raises(FileBusy, match="interrupted"):
        read(path, "SELECT count(*) FROM t a, t b, t c WHERE a.n + b.n + c.n = 0", seconds=0.2)
    assert 0.2 <= time.monotonic() - began < 2


def test_a_recursive_query_is_not_run_at_all(tmp_path: Path) -> None:
    path = hostile(tmp_path, *PLAIN)
    with pytest.raises(FileTrouble):
        read(path, "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r")


def test_a_lock_that_another_process_holds_costs_less_than_a_second(tmp_path: Path) -> None:
    path = hostile(tmp_path, *PLAIN)
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        with pytest.raises(FileBusy):
            read(path)
        assert time.monotonic() - began < 1
        holder.communicate()
    assert read(path) == [(1, "one")]


def test_a_missing_file_is_trouble_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileTrouble):
        read(tmp_path / "missing.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"x" * 10_000, b"SQLite format 3\x00", b"SQLite format 3\x00" + bytes(4096), b"\x00" * 4096],
    ids=["empty", "garbage", "header alone", "zeroed header", "zeros"],
)
def test_a_file_with_nothing_to_read_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.db").write_bytes(content)
    with pytest.raises(FileDamaged):
        read(tmp_path / "x.db")


@pytest.mark.parametrize("cut", [100, 4095, 4096, 4097, 6000])
def test_a_file_that_was_cut_off_is_damaged(tmp_path: Path, cut: int) -> None:
    path = hostile(tmp_path, *PLAIN, "INSERT INTO t VALUES (2, printf('%.*c', 20000, 'x'))")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FileDamaged):
        read(path)


def test_a_file_in_utf_16_is_read_as_text(tmp_path: Path) -> None:
    path = hostile(tmp_path, "PRAGMA encoding = 'UTF-16le'", *PLAIN, "INSERT INTO t VALUES (2, 'żółw 龜 🐢')")
    assert b"\x7c\x01\xf3\x00" in path.read_bytes()  # żó: it really is UTF-16
    assert read(path) == [(1, "one"), (2, "żółw 龜 🐢")]


def test_text_that_is_no_utf_8_is_read_with_replacement_characters(tmp_path: Path) -> None:
    path = hostile(tmp_path, *PLAIN, "UPDATE t SET text = CAST(x'61ff62eda080' AS TEXT)")
    ((_, text),) = read(path)
    assert isinstance(text, str)
    assert text.startswith("a\ufffdb\ufffd")


def test_a_name_in_the_schema_that_is_no_utf_8_is_damage(tmp_path: Path) -> None:
    path = hostile(
        tmp_path,
        *PLAIN,
        DISGUISE,
        "INSERT INTO sqlite_master VALUES ('table', CAST(x'ff' AS TEXT), 'x', 2, 'CREATE garbage (')",
    )
    with pytest.raises(FileDamaged):
        read(path)


def test_columns_that_are_slow_to_compute_do_not_hold_up_the_reader(tmp_path: Path) -> None:
    path = hostile(
        tmp_path,
        "CREATE TABLE t (n INTEGER PRIMARY KEY, a, b AS (instr(a, substr(a, 1, length(a) / 2) || 'b')))",
        f"INSERT INTO t (a) SELECT printf('%.*c', 200000, 'a') FROM json_each('{[1] * 24}')",
    )

    def read_one_by_one() -> None:
        with untrusted_reader(path, tables=T, seconds=0.2) as connection:
            for number in range(1, 25):
                connection.execute("SELECT b FROM t WHERE n = ?", (number,)).fetchall()

    began = time.monotonic()
    with pytest.raises(FileTrouble):
        read_one_by_one()
    assert time.monotonic() - began < 1
