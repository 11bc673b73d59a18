"""What the documents tell a person to type on a session's files is safe, whatever its agent put there."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from host.local import call_once
from host.sessions import inspection
from host.sessions.folder import Owner, make_session_folder
from host.sessions.inspection import ask
from host.settings import load
from shared_schema.errors import InvalidValue
from shared_schema.layout import SessionLayout
from tests.history.sessions import Folder

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINES = sorted(
    {
        line.strip()
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.match(r" *(sqlite3 |cd .*&& sqlite3 |dumbwaiter session sql )", line)
    }
)
SHELL_LINES = [line.partition("&& ")[2] if line.startswith("cd ") else line for line in LINES if "sqlite3" in line]
QUERIES = [line.split('"')[1] for line in LINES if line.startswith("dumbwaiter session sql ") and '"' in line]
TABLES = ("messages_out", "processing_ack", "turns", "steps", "agent_state", "session_state")
WAYS = (
    "edit('x', 'touch {canary};true')",
    "writefile('{canary}', 'x')",
    "load_extension('{canary}')",
    "readfile('/etc/hostname')",
    "fts3_tokenizer('x', x'00')",
    "(WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n)",
    "zeroblob(900000000)",
)
COLUMNS = (
    "seq", "id", "turn_id", "in_reply_to", "generation", "timestamp", "kind", "destination", "content", "status",
    "started_at", "finished_at", "failure_reason", "provider", "model", "input_tokens", "output_tokens",
    "reasoning_tokens", "cost_usd", "context_tokens", "context_window", "role", "tool_name", "state", "current_tool",
    "tool_deadline", "updated_at",
)  # fmt: skip


def views(way: str) -> Callable[[sqlite3.Connection], None]:
    """Every table is a view whose columns do something."""

    def change(connection: sqlite3.Connection) -> None:
        for table in TABLES:
            connection.execute(f"DROP TABLE {table}")
            connection.execute(f"CREATE VIEW {table} AS SELECT " + ", ".join(f"{way} AS {name}" for name in COLUMNS))

    return change


def computed(way: str) -> Callable[[sqlite3.Connection], None]:
    """Every table has columns that are computed when they are read."""

    def change(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA writable_schema = ON")
        for table in TABLES:
            connection.execute(f"DROP TABLE {table}")
            columns = ", ".join(f"{name} AS ({way})" for name in COLUMNS)
            connection.execute(f"CREATE TABLE {table} (own INTEGER PRIMARY KEY)")
            connection.execute(
                "UPDATE sqlite_master SET sql = ? WHERE name = ?",
                (f"CREATE TABLE {table} (own INTEGER PRIMARY KEY, {columns})", table),
            )

    return change


def virtual(connection: sqlite3.Connection) -> None:
    """Every table is one of an extension."""
    for table in TABLES:
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"CREATE VIRTUAL TABLE {table} USING fts5 ({', '.join(COLUMNS[:10])})")


def hostile(folder: Path, change: Callable[[sqlite3.Connection], None]) -> SessionLayout:
    layout = SessionLayout(folder)
    make_session_folder(layout, Owner.of_agents(10001))
    with closing(sqlite3.connect(layout.outbound, isolation_level=None)) as connection:
        connection.execute("PRAGMA trusted_schema = ON")
        change(connection)
    return layout


def run_in(layout: SessionLayout, line: str) -> tuple[str, float]:
    """Type a line in the session folder; what it printed, and how long it took. An endless query is ended: Ctrl-C."""
    began = time.monotonic()
    environment = {"PATH": os.environ["PATH"], "HOME": str(layout.folder), "EDITOR": "true"}
    try:
        done = subprocess.run(
            ["sh", "-c", f"exec {line}"],  # so that what is ended is sqlite3, and not a shell that leaves it running
            cwd=layout.folder,
            env=environment,
            capture_output=True,
            timeout=2,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", 2.0
    return (done.stdout + done.stderr).decode("utf-8", "replace"), time.monotonic() - began


def test_the_documents_have_lines_of_both_kinds() -> None:
    assert len(SHELL_LINES) >= 4
    assert len(QUERIES) >= 9


@pytest.mark.parametrize("line", SHELL_LINES)
def test_whoever_types_sqlite3_is_told_to_be_safe(line: str) -> None:
    assert line.startswith("sqlite3 -safe -readonly ")
    assert "outbound.db" not in line or line.startswith("sqlite3 -safe -readonly -nofollow out/outbound.db ")


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="there is no sqlite3 program here")
@pytest.mark.parametrize("make", [views, computed], ids=["views", "computed columns"])
@pytest.mark.parametrize("way", WAYS, ids=[re.sub(r"\W.*", "", way) or "endless" for way in WAYS])
def test_no_documented_line_of_sqlite3_runs_what_an_agent_put_into_its_file(
    way: str, make: Callable[[str], Callable[[sqlite3.Connection], None]], tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    layout = hostile(tmp_path / "session", make(way.format(canary=canary)))
    for line in SHELL_LINES:
        if "out/outbound.db" in line:
            run_in(layout, line)
    assert not canary.exists()


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="there is no sqlite3 program here")
def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    layout = hostile(tmp_path / "session", lambda connection: None)
    secret = tmp_path / "secret.db"
    shutil.copy(layout.outbound, secret)
    layout.outbound.unlink()
    layout.outbound.symlink_to(secret)
    lines = [line for line in SHELL_LINES if "out/outbound.db" in line]
    assert lines
    for line in lines:
        assert "unable to open" in run_in(layout, line)[0]
    answer = ask(layout, "select count(*) from messages_out")
    assert answer.notes == ["messages_out cannot be read: it is not a regular file"]


@pytest.mark.parametrize(
    "change",
    [*(make(way) for way in WAYS for make in (views, computed)), virtual],
    ids=[*(f"{name} {number}" for number in range(len(WAYS)) for name in ("views", "computed")), "virtual"],
)
def test_no_documented_query_runs_it_either_and_says_what_cannot_be_read(
    change: Callable[[sqlite3.Connection], None], tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    layout = hostile(tmp_path / "session", change)
    for query in QUERIES:
        began = time.monotonic()
        answer = ask(layout, query)
        assert time.monotonic() - began < 10
        of_agent = any(re.search(rf"\b{table}\b", query) for table in TABLES)
        assert bool(answer.notes) == of_agent
        assert not (of_agent and "messages_in" not in query and answer.rows)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("delete from messages_in", "only a `select`"),
        ("attach '/etc/passwd' as x", "only a `select`"),
        ("pragma journal_mode = wal", "only a `select`"),
        ("select load_extension('x')", "cannot be used"),
        ("select 1; select 2", "cannot be used"),
        ("select * from nowhere", "the tables are agent_state"),
        ("select '\ud800'", "cannot be used"),
        ("", "cannot be used"),
        ("select " + "1," * 10_000 + "1", "characters"),
        ("with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n", "takes longer"),
    ],
)
def test_what_is_no_query_is_refused_in_a_sentence(query: str, says: str, tmp_path: Path) -> None:
    layout = hostile(tmp_path / "session", lambda connection: None)
    with pytest.raises(InvalidValue, match=says):
        ask(layout, query)


def test_an_answer_is_bounded_and_says_so(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for number in range(30):
        folder.says(f"answer {number}")
    folder.writes(
        "messages_out", id="large", generation=1, timestamp="t", kind="chat", content='"' + "x" * 1_500_000 + '"'
    )
    folder.writes("messages_out", id=b"\x00\xff", generation=1, timestamp="t", kind="chat", content="{}")
    few = ask(folder.layout, "select seq, seq from messages_out order by seq", limit=5)
    assert [row["seq:1"] for row in few.rows] == [1, 2, 3, 4, 5]
    assert not few.complete
    assert few.notes == ["1 rows of messages_out are left out: a value is larger than allowed"]
    assert ask(folder.layout, "select id from messages_out order by seq desc limit 1").rows == [{"id": "x'00ff'"}]
    many = ask(folder.layout, "select replace(hex(zeroblob(500000)), '0', 'a') as x from messages_out", limit=10_000)
    assert not many.complete
    assert sum(len(str(row["x"])) for row in many.rows) < 20_000_000
    assert inspection.SECONDS <= 5


def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from host.cli import main; main()", "--data", str(tmp_path / "data")]
    settings = load({"data": tmp_path / "data", "runtime": "process"})

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    for operation, parameters in (
        ("agent_group.add", {"name": "assistant"}),
        ("messaging_group.add", {"address": "cli:terminal"}),
        ("wiring.add", {"messaging_group": "cli:terminal", "agent_group": "assistant"}),
        ("message.inject", {"messaging_group": "cli:terminal", "text": "hello \x9b31m there"}),
    ):
        call_once(settings, operation, parameters)
    sessions = call_once(settings, "session.list", {})
    query = "select seq, kind, json_extract(content, '$.text') as text from messages_in"
    shown = run("session", "sql", sessions[0]["id"], query)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"SEQ +KIND +TEXT\n1 +chat +hello there", shown.stdout)
    rows = json.loads(run("session", "sql", sessions[0]["id"], query, "--json").stdout)
    assert rows == [{"seq": 1, "kind": "chat", "text": "hello \x9b31m there"}]
    wrong = run("session", "sql", sessions[0]["id"], "drop table messages_in")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
