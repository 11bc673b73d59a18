"""`dumbwaiter service`: a unit that systemd takes, put where it looks, and a host that tells it when it is ready."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from host.service.unit import Scope, Unit, data_of, text
from tests.support.wait import until_sync

BIN = Path(sys.executable).parent
ODD = Path('/srv/my "agents" 100%/$data')

SYSTEMCTL = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in
    *"$FAILS"*) [ -n "$FAILS" ] && { echo "Failed to do it: no bus" >&2; exit 1; } ;;
esac
case "$*" in
    *show*) printf 'ActiveState=%s\\nUnitFileState=enabled\\nMainPID=42\\nResult=success\\n' "$STATE" ;;
esac
"""


@pytest.fixture
def systemd(tmp_path: Path) -> dict[str, str]:
    """An environment with a `systemctl` that notes how it was called; STATE and FAILS say what it answers."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("systemctl", "loginctl"):
        (programs / name).write_text(SYSTEMCTL)
        (programs / name).chmod(0o755)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("DUMBWAITER_")}
    return ours | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_HOME": str(tmp_path / "home/.config"),
        "CALLS": str(tmp_path / "calls"),
        "STATE": "active",
        "FAILS": "",
        "DUMBWAITER_DATA": str(tmp_path / "data"),
    }


def service(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "dumbwaiter", "service", *words], env=environment, capture_output=True, text=True, timeout=60
    )


def calls(environment: dict[str, str]) -> list[str]:
    path = Path(environment["CALLS"])
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    "unit",
    [
        Unit(Scope.SYSTEM, ["/usr/bin/true"], Path("/srv/data")),
        Unit(Scope.SYSTEM, ["/usr/bin/true"], Path("/srv/data"), user="daemon", group="daemon", groups=["root"]),
        Unit(Scope.SYSTEM, ["/usr/bin/true"], Path("/var/tmp/data")),
        Unit(Scope.USER, ["/usr/bin/true"], Path("/home/me/data")),
        Unit(Scope.SYSTEM, ["/usr/bin/true"], ODD),
    ],
)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_finds_nothing_wrong_with_the_unit(unit: Unit, tmp_path: Path) -> None:
    file = tmp_path / "dumbwaiter.service"
    file.write_text(text(unit))

    checked = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True)

    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_a_host_that_is_no_root_gives_up_what_it_does_not_need(tmp_path: Path) -> None:
    file = tmp_path / "dumbwaiter.service"
    file.write_text(text(Unit(Scope.SYSTEM, ["/usr/bin/true"], Path("/srv/data"), user="daemon", group="daemon")))

    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=35", file], capture_output=True, text=True
    )

    assert rated.returncode == 0, rated.stdout


def test_a_unit_says_which_data_folder_it_serves() -> None:
    assert data_of(text(Unit(Scope.USER, ["x"], ODD))) == ODD
    assert data_of("[Service]\nExecStart=/bin/true\n") is None


def test_a_service_is_installed_started_and_allowed_to_start_at_boot(systemd: dict[str, str]) -> None:
    done = service(systemd, "install", "--user")

    file = Path(systemd["XDG_CONFIG_HOME"]) / "systemd/user/dumbwaiter.service"
    assert done.returncode == 0, done.stderr
    assert str(file) in done.stdout
    assert f"ExecStart={BIN}/dumbwaiter --data {systemd['DUMBWAITER_DATA']} run" in file.read_text()
    assert calls(systemd) == [
        "systemctl --no-pager --user daemon-reload",
        "systemctl --no-pager --user enable dumbwaiter.service",
        "systemctl --no-pager --user restart dumbwaiter.service",
        *(f"loginctl enable-linger {name}" for name in [subprocess.check_output(["id", "-un"], text=True).strip()]),
    ]


def test_installing_again_renews_the_unit_and_another_folder_needs_another_name(systemd: dict[str, str]) -> None:
    assert service(systemd, "install", "--user", "--no-start").returncode == 0
    assert service(systemd, "install", "--user", "--no-start").returncode == 0
    other = systemd | {"DUMBWAITER_DATA": systemd["DUMBWAITER_DATA"] + "2"}

    refused = service(other, "install", "--user")
    named = service(other, "install", "--user", "--name", "second")

    assert refused.returncode == 1
    assert f"serves {systemd['DUMBWAITER_DATA']}: choose another name: --name NAME" in refused.stderr
    assert named.returncode == 0, named.stderr


def test_a_unit_of_somebody_else_is_left_alone(systemd: dict[str, str]) -> None:
    file = Path(systemd["XDG_CONFIG_HOME"]) / "systemd/user/dumbwaiter.service"
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\nExecStart=/bin/true\n")

    done = [service(systemd, "install", "--user"), service(systemd, "uninstall", "--user")]

    assert [each.returncode for each in done] == [1, 1]
    assert all("was not made by dumbwaiter" in each.stderr for each in done)
    assert file.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert calls(systemd) == []


def test_what_the_shell_has_and_a_service_has_not_is_said(systemd: dict[str, str]) -> None:
    done = service(systemd | {"OPENAI_API_KEY": "sk-secret"}, "install", "--user")

    assert "does not see what is set in this shell: OPENAI_API_KEY" in done.stderr
    assert "sk-secret" not in done.stdout + done.stderr


def test_wrong_settings_are_refused_before_anything_is_installed(systemd: dict[str, str]) -> None:
    done = service(systemd | {"DUMBWAITER_MAX_AGENTS": "many"}, "install", "--user")

    assert done.returncode == 2
    assert "max_agents" in done.stderr
    assert calls(systemd) == []


def test_the_status_says_whether_it_runs(systemd: dict[str, str]) -> None:
    missing = service(systemd, "status", "--user")
    service(systemd, "install", "--user")
    running = service(systemd, "status", "--user", "--json")
    failed = service(systemd | {"STATE": "failed"}, "status", "--user")

    assert (missing.returncode, running.returncode, failed.returncode) == (3, 0, 3)
    assert "dumbwaiter service install" in missing.stderr
    assert {"state": "active", "enabled": "enabled", "process": "42"}.items() <= json.loads(running.stdout).items()
    assert "journalctl --user -u dumbwaiter" in failed.stderr


def test_uninstalling_stops_it_and_leaves_the_data_folder(systemd: dict[str, str]) -> None:
    service(systemd, "install", "--user")

    done = service(systemd, "uninstall", "--user")
    again = service(systemd, "uninstall", "--user")

    assert done.returncode == 0, done.stderr
    assert "systemctl --no-pager --user disable --now dumbwaiter.service" in calls(systemd)
    assert not (Path(systemd["XDG_CONFIG_HOME"]) / "systemd/user/dumbwaiter.service").exists()
    assert Path(systemd["DUMBWAITER_DATA"]).is_dir()
    assert again.returncode == 1


def test_what_systemd_refuses_is_said_with_what_to_look_at(systemd: dict[str, str]) -> None:
    done = service(systemd | {"FAILS": "restart"}, "install", "--user")

    assert done.returncode == 1
    assert "Failed to do it: no bus: see `journalctl --user -u dumbwaiter -n 50`" in done.stderr


def test_a_machine_without_systemd_says_so(systemd: dict[str, str]) -> None:
    done = service(systemd | {"PATH": str(Path(systemd["HOME"]) / "nothing")}, "install", "--user")

    assert done.returncode == 1
    assert "this machine has no systemd" in done.stderr


def test_a_host_tells_systemd_when_it_is_ready_and_when_it_stops(systemd: dict[str, str], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        host = subprocess.Popen(
            [BIN / "dumbwaiter", "run", "--runtime", "process"],
            env=systemd | {"NOTIFY_SOCKET": str(tmp_path / "notify")},
            stderr=subprocess.DEVNULL,
        )
        try:
            ready = listening.recv(100)
            host.terminate()
            stopping = listening.recv(100)
        finally:
            host.terminate()
            host.wait(30)

    assert (ready, stopping) == (b"READY=1", b"STOPPING=1")


@pytest.mark.skipif(not Path("/run/systemd/system").is_dir(), reason="systemd does not run here")
def test_it_really_starts_and_stops_where_systemd_runs(tmp_path: Path) -> None:
    environment = dict(os.environ) | {"DUMBWAITER_DATA": str(tmp_path / "data")}
    name = f"dumbwaiter-test-{os.getpid()}"
    (tmp_path / "data").mkdir()
    try:
        installed = service(environment, "install", "--name", name)
        assert installed.returncode == 0, installed.stderr
        until_sync(lambda: service(environment, "status", "--name", name).returncode == 0, "the service to run")
    finally:
        removed = service(environment, "uninstall", "--name", name)
    assert removed.returncode == 0, removed.stderr


def test_what_systemd_does_not_take_is_not_installed(systemd: dict[str, str]) -> None:
    file = Path(systemd["XDG_CONFIG_HOME"]) / "systemd/user/dumbwaiter.service"

    refused = service(systemd | {"FAILS": "daemon-reload"}, "install", "--user")
    assert refused.returncode == 1
    assert not file.exists()

    service(systemd, "install", "--user")
    before = file.read_text()
    service(systemd | {"FAILS": "enable", "PATH": f"{systemd['PATH']}:/other"}, "install", "--user")
    assert file.read_text() == before


def test_the_unit_is_printed_as_json_as_well(systemd: dict[str, str]) -> None:
    printed = json.loads(service(systemd, "install", "--user", "--print", "--json").stdout)

    assert printed["file"].endswith("systemd/user/dumbwaiter.service")
    assert printed["text"] == service(systemd, "install", "--user", "--print").stdout


def test_a_machine_that_systemd_did_not_start_is_told_so(systemd: dict[str, str]) -> None:
    program = Path(systemd["PATH"].partition(":")[0]) / "systemctl"
    program.write_text(
        "#!/bin/sh\necho 'System has not been booted with systemd as init system (PID 1).' >&2; exit 1\n"
    )

    done = service(systemd, "install", "--user")

    assert done.returncode == 1
    assert "Error: systemd does not run on this machine: have `dumbwaiter run` started by" in done.stderr
