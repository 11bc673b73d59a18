"""The container's arguments, compared as data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from host.runtime.engine_gpus import is_about_gpus, refusal_of_gpus
from host.runtime.podman import HardLimits, as_podman_takes, bind_sources, hint_for
from host.runtime.protocol import AgentSpecification, Mount, ResourceLimits, StartFailed
from host.runtime.specification import container_arguments, with_account
from shared_schema.layout import SessionLayout

SPECIFICATION = AgentSpecification(
    install_id="ins_1",
    run_id="run_00ff",
    session_id="ses_1",
    agent_group_id="agr_1",
    folder=SessionLayout(Path("/data/sessions/agr_1/ses_1")),
    workspace=Path("/data/agents/assistant"),
    environment={"DUMBWAITER_NOTIFY": "off"},
    limits=ResourceLimits(memory_bytes=1024, cpus=1.5, pids=20, tmp_bytes=4096, file_bytes=8192),
    mounts=(Mount(Path("/srv/books"), "books"), Mount(Path("/srv/notes"), "notes", writable=True)),
    image="dumbwaiter-agent:0.1.0",
    uid=10001,
    gid=10002,
)


def bind(source: str, target: str, read_only: bool) -> dict[str, object]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def test_the_arguments_are_these_and_no_others() -> None:
    assert container_arguments(SPECIFICATION) == {
        "image": "dumbwaiter-agent:0.1.0",
        "name": "dumbwaiter-ses_1-00ff",
        "labels": {
            "dumbwaiter.install": "ins_1",
            "dumbwaiter.session": "ses_1",
            "dumbwaiter.agent_group": "agr_1",
            "dumbwaiter.run": "run_00ff",
        },
        "user": "10001:10002",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "network_mode": "none",
        "ipc_mode": "private",
        "read_only": True,
        "tmpfs": {"/tmp": "size=4096,mode=1777,nosuid,nodev"},
        "mounts": [
            bind("/data/sessions/agr_1/ses_1", "/session", read_only=True),
            bind("/data/sessions/agr_1/ses_1/out", "/session/out", read_only=False),
            bind("/data/agents/assistant", "/workspace", read_only=False),
            bind("/srv/books", "/mnt/books", read_only=True),
            bind("/srv/notes", "/mnt/notes", read_only=False),
        ],
        "working_dir": "/workspace",
        "environment": {
            "DUMBWAITER_NOTIFY": "off",
            "DUMBWAITER_SESSION": "/session",
            "DUMBWAITER_WORKSPACE": "/workspace",
            "HOME": "/tmp",
            "USER": "agent",
            "LOGNAME": "agent",
        },
        "use_config_proxy": False,
        "mem_limit": 1024,
        "memswap_limit": 1024,
        "cpu_period": 100_000,
        "cpu_quota": 150_000,
        "pids_limit": 20,
        "ulimits": [{"Name": "fsize", "Soft": 8192, "Hard": 8192}, {"Name": "core", "Soft": 0, "Hard": 0}],
        "oom_score_adj": 500,
        "init": True,
        "stop_signal": "SIGTERM",
        "restart_policy": {"Name": "no"},
        "log_config": {"type": "json-file", "config": {"max-size": "5m", "max-file": "2"}},
    }


def test_the_arguments_are_plain_data() -> None:
    arguments = container_arguments(SPECIFICATION)
    assert json.loads(json.dumps(arguments)) == arguments


def test_the_oci_runtime_is_passed_through() -> None:
    assert container_arguments(replace(SPECIFICATION, oci_runtime="runsc"))["runtime"] == "runsc"


def test_the_environment_cannot_move_the_session() -> None:
    moved = replace(SPECIFICATION, environment={"DUMBWAITER_SESSION": "/elsewhere", "HOME": "/root"})
    environment = container_arguments(moved)["environment"]
    assert environment["DUMBWAITER_SESSION"] == "/session"
    assert environment["HOME"] == "/tmp"


def test_a_named_user_has_its_files_read_only_and_its_name_in_the_environment() -> None:
    plain = container_arguments(SPECIFICATION)
    named = with_account(plain, "agent-7", {"/etc/passwd": Path("/data/run/account-1")})
    passwd = bind("/data/run/account-1", "/etc/passwd", read_only=True)
    assert named["mounts"] == [*plain["mounts"], passwd]
    assert {name for name in named if named[name] != plain[name]} == {"mounts", "environment"}
    assert named["environment"] == {**plain["environment"], "USER": "agent-7", "LOGNAME": "agent-7"}


@pytest.mark.parametrize("change", [{"uid": 0}, {"gid": 0}, {"image": ""}])
def test_root_and_a_missing_image_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(StartFailed):
        container_arguments(replace(SPECIFICATION, **change))  # type: ignore[arg-type]


def test_gpus_are_asked_for_as_devices() -> None:
    given = replace(SPECIFICATION, limits=replace(SPECIFICATION.limits, gpus=2))
    plain, arguments = container_arguments(SPECIFICATION), container_arguments(given)
    assert "device_requests" not in plain
    assert arguments == {
        **plain,
        "device_requests": [
            {"Driver": "", "Count": 2, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}},
        ],
    }


@pytest.mark.parametrize(
    ("said", "what", "hint"),
    [
        (
            'could not select device driver "" with capabilities: [[gpu]]',
            "the container engine has no GPUs to give",
            "install the NVIDIA Container Toolkit",
        ),
        (
            "nvidia-container-cli: device error: 3: unknown device: unknown",
            "the container engine does not give these GPUs: nvidia-container-cli",
            "`nvidia-smi` on its machine",
        ),
    ],
)
def test_what_an_engine_says_of_gpus_is_told_with_what_to_do(said: str, what: str, hint: str) -> None:
    assert is_about_gpus(said)
    refusal = refusal_of_gpus(said)
    assert refusal.what.startswith(what)
    assert hint in (refusal.own_hint or "")


def test_what_is_not_about_gpus_is_not_told_as_such() -> None:
    assert not is_about_gpus("No such image: agent:1")


PODMANS = HardLimits(files=20_000, processes=-1)


def test_podman_gets_what_makes_of_its_container_what_docker_makes_of_it() -> None:
    arguments = container_arguments(SPECIFICATION)
    as_root = as_podman_takes(arguments, PODMANS, is_rootless=False)
    empty = "ro,size=64k,mode=755,nosuid,nodev,noexec"
    assert as_root["tmpfs"] == {"/run": empty, "/var/tmp": empty, **arguments["tmpfs"]}
    assert as_root["ulimits"] == [
        *arguments["ulimits"],
        {"Name": "nofile", "Soft": 20_000, "Hard": 20_000},
        {"Name": "nproc", "Soft": 1_048_576, "Hard": 1_048_576},
    ]
    changed = {name for name in as_root if as_root[name] != arguments.get(name)}
    assert changed == {"tmpfs", "ulimits"}
    without_root = as_podman_takes(arguments, PODMANS, is_rootless=True)
    assert {name for name in without_root if without_root[name] != arguments.get(name)} == {"tmpfs"}


def test_what_podman_would_leave_out_without_a_word_is_refused() -> None:
    limits = replace(SPECIFICATION.limits, gpus=1)
    with pytest.raises(StartFailed, match="podman gives no GPUs"):
        as_podman_takes(container_arguments(replace(SPECIFICATION, limits=limits)), PODMANS, is_rootless=False)
    with pytest.raises(StartFailed, match="podman takes no runtime"):
        as_podman_takes(container_arguments(replace(SPECIFICATION, oci_runtime="runsc")), PODMANS, is_rootless=False)


def test_podman_makes_folders_that_are_missing_so_they_are_known_before() -> None:
    assert bind_sources(container_arguments(SPECIFICATION)) == [
        "/data/sessions/agr_1/ses_1",
        "/data/sessions/agr_1/ses_1/out",
        "/data/agents/assistant",
        "/srv/books",
        "/srv/notes",
    ]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("container-init binary not found on the host: stat /usr/libexec/podman/catatonit", "apt install catatonit"),
        ("crun: cgroups in hybrid mode not supported, drop all controllers from cgroupv2", "install runc"),
    ],
)
def test_what_podman_lacks_is_said_with_what_to_install(reason: str, words: str) -> None:
    assert words in str(hint_for(reason))
    assert hint_for("something else") is None
