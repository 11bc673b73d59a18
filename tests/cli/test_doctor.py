from __future__ import annotations

import fcntl
import json
import os
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from host.operations.doctor import check_host, check_registry, examine
from host.operations.system_checks import Check, check_folder, check_links, check_notifications
from host.place import InstallRecord, Place, write_record
from host.settings import Settings, load
from host.start_line import start_line
from shared_schema.layout import DataLayout
from tests.cli.conftest import Run
from tests.cli.host import PlayedHost
from tests.conftest import ROOT


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def nobody() -> dict[str, Any] | None:
    """No host listens."""
    return None


def settings(data: Path, **options: Any) -> Settings:
    return load({"data": data, "runtime": "process", **options})


async def test_a_good_folder_passes(data: Path) -> None:
    checks = by_name(await examine(data, settings(data), nobody))

    assert checks["data folder"].ok
    assert checks["hard links"].ok
    assert checks["sqlite"].ok
    assert checks["settings"].ok
    assert checks["host"].ok is None
    assert not list(data.glob(".doctor-*"))


@pytest.mark.parametrize("name", ["", "my data"])
async def test_the_line_that_starts_a_host_is_for_that_folder(data: Path, name: str) -> None:
    folder = data / name
    checks = by_name(await examine(folder, settings(folder), nobody))
    line = f"`dumbwaiter run --data {shlex.quote(str(folder))}`"

    assert line in str(checks["host" if folder.exists() else "data folder"].hint)


def test_the_line_that_starts_a_host_is_short_for_the_usual_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert start_line(Path("data")) == "`make run`"
    assert start_line(ROOT / "data", "--runtime", "process") == "`dumbwaiter run --runtime process`"
    monkeypatch.chdir(tmp_path)
    assert start_line(Path("data")) == "`dumbwaiter run`"


async def test_every_check_that_is_not_ok_says_what_to_do(data: Path) -> None:
    assert [
        check for check in await examine(data, settings(data), nobody) if check.ok is not True and not check.hint
    ] == []


async def test_processes_are_a_warning(data: Path) -> None:
    engine = by_name(await examine(data, settings(data), nobody))["engine"]

    assert engine.ok is None
    assert "WITHOUT ISOLATION" in engine.what


@pytest.mark.parametrize(("runtime", "ok"), [("docker", False), ("auto", None)])
async def test_an_engine_that_is_not_there_fails_only_where_it_is_demanded(
    runtime: str, ok: bool | None, data: Path
) -> None:
    nowhere = f"unix://{data}/nothing.sock"

    engine = by_name(await examine(data, settings(data, runtime=runtime, docker_host=nowhere), nobody))["engine"]

    assert engine.ok is ok
    assert engine.hint


def test_more_agents_than_the_system_has_queues_of_events_for_is_a_warning(data: Path) -> None:
    assert check_notifications(settings(data, max_agents=1)).ok is True
    check = check_notifications(settings(data, max_agents=10_000_000))
    assert check.ok is None
    assert "max_user_instances=20000000" in str(check.hint)
    assert check_notifications(settings(data, max_agents=10_000_000, notify="off")).ok is True


def test_a_folder_that_is_not_there_can_be_made(data: Path) -> None:
    assert check_folder(data / "new").ok is None


def test_a_file_is_no_data_folder(data: Path) -> None:
    (data / "file").touch()

    assert check_folder(data / "file").ok is False
    assert check_folder(data / "file" / "below").ok is False


def test_a_folder_others_can_write_is_a_warning(data: Path) -> None:
    data.chmod(0o777)

    check = check_folder(data)

    assert check.ok is None
    assert "chmod go-w" in str(check.hint)


def test_a_registry_from_a_newer_version_fails(data: Path) -> None:
    with closing(sqlite3.connect(data / "central.db")) as connection:
        connection.execute("PRAGMA user_version = 999")

    check = check_registry(DataLayout(data))

    assert check.ok is False
    assert "999" in check.what


def test_a_registry_that_is_no_database_fails(data: Path) -> None:
    (data / "central.db").write_bytes(b"no database at all, and long enough to be read as one" * 10)

    assert check_registry(DataLayout(data)).ok is False


def test_links_are_tried_where_the_data_is(data: Path) -> None:
    assert check_links(data).ok
    assert check_links(data / "missing").ok is False


def test_a_running_host_is_asked_and_what_it_finds_counts(host: PlayedHost, run: Run) -> None:
    found = {"name": "engine", "ok": False, "what": "it is gone", "hint": "start it"}
    host.operations["doctor.examine"] = [found]

    result = run("doctor", "--json")

    assert (result.exit_code, json.loads(result.stdout)) == (1, [found])


def test_a_host_that_does_not_answer_is_a_failure_among_the_other_checks(host: PlayedHost, run: Run) -> None:
    result = run("doctor", "--json")  # the played host knows no such operation

    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert checks["host"]["ok"] is False
    assert checks["sqlite"]["ok"] is True


def test_a_host_whose_agents_are_not_isolated_is_a_warning(data: Path) -> None:
    isolated = check_host(DataLayout(data), lambda: {"pid": 42, "runtime": "docker"})
    bare = check_host(DataLayout(data), lambda: {"pid": 42, "runtime": "process"})

    assert (isolated.ok, bare.ok) == (True, None)
    assert "process 42" in isolated.what


def test_a_lock_without_a_host_is_a_warning(data: Path) -> None:
    with (data / "host.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        check = check_host(DataLayout(data), nobody)

    assert check.ok is None
    assert "host.lock" in check.what
    assert f"`fuser {data}/host.lock`" in str(check.hint)


def test_the_command_prints_each_check(run: Run, data: Path) -> None:
    (data / "dumbwaiter.toml").write_text('runtime = "process"\n')

    result = run("doctor")

    assert result.exit_code == 0
    assert "ok      data folder" in result.stdout
    assert "→ " in result.stdout


def test_the_command_fails_when_a_check_fails_bad_settings_among_them(run: Run, data: Path) -> None:
    (data / "dumbwaiter.toml").write_text('runtime = "magic"\n')

    result = run("doctor", "--json")

    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert checks["settings"]["ok"] is False
    assert "'runtime'" in checks["settings"]["what"]
    assert "engine" not in checks
    assert checks["data folder"]["ok"] is True


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable_fails(data: Path) -> None:
    data.chmod(0o500)

    assert check_folder(data).ok is False


async def test_keys_that_others_may_read_are_a_failure_and_nothing_is_changed(data: Path) -> None:
    data.chmod(0o700)
    file = DataLayout(data).settings
    file.write_text('[upstreams.openai]\nkey = "sk-1"\n')
    file.chmod(0o644)

    checks = by_name(await examine(data, load({"data": data, "runtime": "process"}, only_look=True), nobody))

    assert checks["privacy"] == Check(
        "privacy", False, "others may read dumbwaiter.toml, with keys in it", f"chmod 600 {file}"
    )
    assert file.stat().st_mode & 0o777 == 0o644


async def test_what_is_open_to_others_is_said(data: Path) -> None:
    data.chmod(0o711)
    assert by_name(await examine(data, settings(data), nobody))["privacy"].hint == f"chmod o= {data}"
    data.chmod(0o700)
    (data / "central.db").touch()
    (data / "central.db").chmod(0o640)
    privacy = by_name(await examine(data, settings(data), nobody))["privacy"]
    assert privacy.ok is None
    assert privacy.hint == f"chmod go= {data / 'central.db'}"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_what_another_user_left_in_the_folder_is_a_failure_with_the_line_to_type(data: Path) -> None:
    """FAILURES 52."""
    data.chmod(0o700)
    session = data / "sessions" / "agr_1" / "ses_1"
    session.mkdir(parents=True)
    os.chown(session, 4242, 4242)
    owner = by_name(await examine(data, settings(data), nobody))["owner"]
    assert owner.ok is False
    assert str(session) in owner.what
    assert owner.hint == f"sudo chown -R 0:0 '{data}'"
    os.chown(data, 4242, 4242)
    owner = by_name(await examine(data, settings(data), nobody))["owner"]
    assert owner.ok is False
    assert "belongs to uid 4242, and this is 'root' (uid 0)" in owner.what


async def test_a_folder_that_is_not_where_it_was_is_said(data: Path) -> None:
    write_record(DataLayout(data).install, InstallRecord("ins_1", Place("/elsewhere", 1, "x", 1)))
    install = by_name(await examine(data, settings(data), nobody))["install"]
    assert install.ok is None
    assert "last used as /elsewhere" in install.what
    assert f"`dumbwaiter run --data {data} --moved`" in str(install.hint)


async def test_what_the_environment_decides_of_the_way_out_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1234")
    monkeypatch.setenv("https_proxy", "http://ann:secret@proxy.example:3128")
    monkeypatch.setenv("ALL_PROXY", "socks5://ann:secret@proxy.example:1080")
    checks = await examine(data, settings(data), nobody)
    said: dict[str, list[str]] = {check.name: [] for check in checks}
    for check in checks:
        said[check.name].append(f"{check.ok} {check.what}")
    assert any("openai is at http://127.0.0.1:1234 (OPENAI_BASE_URL)" in text for text in said["model services"])
    assert any(text.startswith("None") and "http://127.0.0.1:1234/v1" in text for text in said["model services"])
    assert said["proxy"][0] == "True https through proxy.example:3128"
    assert said["proxy"][1].startswith("None ALL_PROXY names no proxy that can be used here")
    assert "secret" not in str(checks)
