"""Backup, restore, and the way back from an upgrade, with a host that runs."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from host.central.database import CENTRAL
from tests.integration.test_earlier_versions import made_from
from tests.support.daemon import COMMAND, Daemon, daemon

KEY = "sk-live-0123456789"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One host for all. Its assistant was asked something, and a key is in both files that may have one."""
    data = tmp_path_factory.mktemp("host") / "data"
    data.mkdir(mode=0o700)
    (data / "dumbwaiter.toml").write_text(f'max_agents = 3\n[upstreams.openai]\nkey = "{KEY}"\n')
    (data / "upstreams.toml").write_text(f'[anthropic]\nkey = "{KEY}"\n')
    (data / "upstreams.toml").chmod(0o600)
    with daemon(data) as host:
        host.call("agent_group.set", name="assistant", provider="scripted")
        assert host.run("chat", "-m", "hello").stdout == "scripted: hello\n"
        host.settle()
        yield host


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def done(*arguments: object) -> Any:
    """What a command prints with --json. It must succeed."""
    result = command(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def test_a_backup_that_is_made_while_people_talk_becomes_an_install_that_goes_on(host: Daemon, tmp_path: Path) -> None:
    stop = threading.Event()

    def talk() -> None:
        while not stop.is_set():
            host.call("message.inject", messaging_group="cli:terminal", text="say something")

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        made = done("--data", host.data, "backup", tmp_path / "one.tar.gz")
    finally:
        stop.set()
        talking.join()
    assert made["verified"]
    assert made["left_out"] == []
    assert stat.S_IMODE((tmp_path / "one.tar.gz").stat().st_mode) == 0o600
    restored = done("--data", tmp_path / "new", "restore", tmp_path / "one.tar.gz")
    assert restored["sessions"] == made["sessions"]
    for path in (tmp_path / "new").rglob("*.db"):
        if not path.is_symlink():
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), path
    refused = command("--data", tmp_path / "new", "run")
    assert "run --copy`" in refused.stderr
    second = Daemon(tmp_path / "new", TITLE_SECONDS="3600")
    try:
        second.start("--copy")
        assert second.run("chat", "-m", "still there?").stdout.splitlines()[-1] == "scripted: still there?"
        (session,) = (each for each in second.json("session", "list") if each["status"] == "active")
        said = [entry["text"] for entry in second.json("session", "transcript", session["id"])]
        assert said[:2] == ["hello", "scripted: hello"]
        assert second.call("agent_group.list")[0]["name"] == "assistant"
    finally:
        second.close()
    assert host.run("chat", "-m", "and here?").returncode == 0


def test_keys_are_in_it_only_when_that_is_asked_for(host: Daemon, tmp_path: Path) -> None:
    for file, folder in (("plain", "a"), ("whole", "b")):
        options = ["--with-secrets"] if file == "whole" else []
        assert done("--data", host.data, "backup", tmp_path / file, *options)["secrets"] is (file == "whole")
        done("--data", tmp_path / folder, "restore", tmp_path / file)
    assert KEY.encode() not in all_bytes(tmp_path / "a")
    assert "max_agents = 3" in (tmp_path / "a" / "dumbwaiter.toml").read_text(), "the settings themselves are there"
    assert (tmp_path / "b" / "upstreams.toml").read_bytes() == (host.data / "upstreams.toml").read_bytes()
    assert (tmp_path / "b" / "dumbwaiter.toml").read_bytes() == (host.data / "dumbwaiter.toml").read_bytes()


def test_nothing_is_overwritten_and_a_damaged_backup_makes_nothing(host: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "one.tar.gz"
    done("--data", host.data, "backup", file)
    before = file.read_bytes()
    again = command("--data", host.data, "backup", file)
    assert (again.returncode, again.stderr) == (
        1, f"Error: the file is there already ({file}): choose another name; nothing is overwritten\n",
    )  # fmt: skip
    assert file.read_bytes() == before
    inside = command("--data", host.data, "backup", host.data / "agents" / "x")
    assert "does not belong in the data folder" in inside.stderr
    over = command("--data", host.data, "restore", file)
    assert over.returncode == 1
    assert "there is something in the data folder already" in over.stderr
    for number, damaged in enumerate((before[:-1000], before[:2000] + bytes(100) + before[2100:], b"no backup", b"")):
        file.write_bytes(damaged)
        refused = command("--data", tmp_path / f"new{number}", "restore", file)
        assert refused.returncode in (1, 2), refused.stdout
        assert "Traceback" not in refused.stderr
        assert "backup" in refused.stderr
    assert [path.name for path in tmp_path.iterdir() if "new" in path.name or "part" in path.name] == []
    assert command("--data", tmp_path / "none", "backup", tmp_path / "x").stderr.startswith(
        "Error: there is nothing to"
    )
    assert not (tmp_path / "none").exists()


def test_what_an_agent_puts_in_its_folders_neither_leads_out_nor_holds_up(host: Daemon, tmp_path: Path) -> None:
    workspace = host.data / "agents" / "assistant"
    (workspace / "notes.md").write_text("remember the milk")
    (workspace / "link").symlink_to("/etc/passwd")
    os.mkfifo(workspace / "pipe")
    (workspace / "sparse").touch()
    os.truncate(workspace / "sparse", 50_000_000)
    (workspace / os.fsdecode(b"not \xff utf-8")).write_text("x")
    deep = workspace
    for _ in range(100):
        deep = deep / "d"
        deep.mkdir()
    made = done("--data", host.data, "backup", tmp_path / "one")
    shutil.rmtree(workspace / "d")
    (workspace / "pipe").unlink()
    assert len(made["left_out"]) == 2, "the pipe, and what lies too deep"
    done("--data", tmp_path / "new", "restore", tmp_path / "one")
    again = tmp_path / "new" / "agents" / "assistant"
    assert (again / "notes.md").read_text() == "remember the milk"
    assert os.readlink(again / "link") == "/etc/passwd"
    assert (again / "sparse").stat().st_size == 50_000_000
    owner = 10001 if os.geteuid() == 0 else os.geteuid()
    assert (again / "notes.md").stat().st_uid == owner


def test_a_backup_that_somebody_made_up_writes_nowhere_else(tmp_path: Path) -> None:
    for name, kind, link in (
        ("../outside", tarfile.REGTYPE, ""),
        ("/outside", tarfile.REGTYPE, ""),
        ("agents/x", tarfile.FIFOTYPE, ""),
        ("agents/y", tarfile.LNKTYPE, "/etc/passwd"),
    ):
        with tarfile.open(tmp_path / "made-up", "w:gz") as archive:
            header = tarfile.TarInfo("dumbwaiter-backup.json")
            content = b'{"format": 1, "version": "x", "install": "x", "schema": 1, "created_at": "", "secrets": false}'
            header.size = len(content)
            (tmp_path / "header").write_bytes(content)
            with (tmp_path / "header").open("rb") as file:
                archive.addfile(header, file)
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            archive.addfile(entry)
        refused = command("--data", tmp_path / "new", "restore", tmp_path / "made-up")
        assert refused.returncode == 1
        assert "entry" in refused.stderr
        assert not (tmp_path / "new").exists()


@pytest.mark.full
def test_before_an_upgrade_the_registry_is_kept_and_an_older_version_says_the_way_back(tmp_path: Path) -> None:
    data = made_from("central-3", tmp_path / "data")
    shutil.copytree(data, tmp_path / "before")
    with daemon(data, RUNTIME="process") as host:
        (kept,) = (data / "backups").iterdir()
        assert kept.name.startswith("central-v3-")
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        host.stop()
        with closing(sqlite3.connect(host.layout.central)) as connection:  # a version of tomorrow was here
            connection.execute(f"PRAGMA user_version = {CENTRAL.version + 1}")
        refused = host.run("run")
        assert refused.returncode == 1
        line = f"dumbwaiter --data {data} restore {kept}"
        assert f"knows {CENTRAL.version} at most" in refused.stderr
        assert line in refused.stderr
        assert line in host.run("doctor").stdout
        put_back = host.run(*line.split()[1:])
        assert put_back.returncode == 0, put_back.stderr
        assert [path.name.split("-")[1] for path in (data / "backups").glob("*set-aside.db")] == [
            f"v{CENTRAL.version + 1}"
        ]
        host.start()
        assert [each["name"] for each in host.json("agent-group", "list")] == ["assistant", "other"]


_DIES = """
import os, signal, sys
from pathlib import Path
from host.backup import restore
from shared_schema.layout import DataLayout
kept, data, left = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def trace(frame, event, value):
    global left
    if frame.f_code.co_filename != restore.__file__:
        return None
    left -= event == "line"
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return trace

sys.settrace(trace)
restore.restore(kept, DataLayout(data), 1000)
sys.settrace(None)
"""
"""Puts a registry back, and dies before one of the lines that do it."""


def leave_note(connection: sqlite3.Connection, note: str) -> None:
    connection.execute("CREATE TABLE note (text)")
    connection.execute("INSERT INTO note VALUES (?)", (note,))


def test_whenever_putting_a_registry_back_ends_one_of_the_two_is_there(tmp_path: Path) -> None:
    """A folder without one is begun anew by the next start of the host, with nothing that it knew."""
    before = made_from("central-3", tmp_path / "before")
    shutil.copyfile(before / "central.db", tmp_path / "kept.db")
    with closing(sqlite3.connect(tmp_path / "kept.db", isolation_level=None)) as connection:
        leave_note(connection, "the one that was kept")
    with closing(sqlite3.connect(before / "central.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        leave_note(connection, "the one that was there")
        shutil.copytree(before, tmp_path / "data-0")  # with a log, as a host leaves it that is killed
    assert (tmp_path / "data-0" / "central.db-wal").stat().st_size
    found = []
    for lines in range(0, 200, 3):
        data = tmp_path / f"data-{lines + 1}"
        shutil.copytree(tmp_path / "data-0", data)
        arguments = [sys.executable, "-c", _DIES, str(tmp_path / "kept.db"), str(data), str(lines)]
        status = subprocess.run(arguments, timeout=120, check=False).returncode
        with closing(sqlite3.connect(f"file:{data}/central.db?mode=rw", uri=True)) as connection:
            found += [text for (text,) in connection.execute("SELECT text FROM note")]
        assert len(found) == lines // 3 + 1
        if status == 0:
            break
    assert set(found) == {"the one that was there", "the one that was kept"}
    assert found[-1] == "the one that was kept"


def test_a_registry_is_put_back_over_one_that_is_damaged(tmp_path: Path) -> None:
    data = made_from("central-3", tmp_path / "data")
    shutil.copyfile(data / "central.db", tmp_path / "kept.db")
    (data / "central.db").write_bytes(b"broken" * 1000)
    put_back = done("--data", data, "restore", tmp_path / "kept.db")
    assert (data / "central.db").read_bytes()[:6] == b"SQLite"
    assert Path(put_back["set_aside"]).read_bytes() == b"broken" * 1000


def test_a_history_that_is_damaged_keeps_no_backup_from_being_made(tmp_path: Path) -> None:
    """It is made again of the sessions."""
    data = made_from("central-3", tmp_path / "data")
    (data / "history.db").write_bytes(b"broken" * 1000)
    assert "history.db" in done("--data", data, "backup", tmp_path / "backup.tar.gz")["left_out"]


def test_the_registry_is_not_put_back_under_a_running_host(host: Daemon, tmp_path: Path) -> None:
    with closing(sqlite3.connect(host.layout.central)) as connection:
        connection.execute("VACUUM INTO ?", (str(tmp_path / "kept.db"),))
    assert "in use by process" in command("--data", host.data, "restore", tmp_path / "kept.db").stderr
