"""Which engine is used, and whether agents can work in its containers."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from host.runtime.docker import DockerRuntime
from host.runtime.engine_address import DEFAULT_URL, resolve
from host.runtime.engine_facts import EngineFacts, require_suitable
from host.runtime.protocol import RuntimeUnavailable
from shared_schema.ids import Prefix, new_id
from tests.conftest import ROOT
from tests.support.folders import open_folder

__all__ = ["open_folder"]


def add_context(home: Path, name: str, host: str, *, current: bool = False, tls: bool = False) -> None:
    """A context as `docker context create` writes it."""
    identity = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker" / "contexts" / "meta" / identity
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(
        json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}})
    )
    if current:
        (home / ".docker" / "config.json").write_text(json.dumps({"currentContext": name}))
    if tls:
        files = home / ".docker" / "contexts" / "tls" / identity / "docker"
        files.mkdir(parents=True)
        for file in ("ca.pem", "cert.pem", "key.pem"):
            (files / file).touch()


def test_the_setting_wins_over_the_variables_and_those_over_the_contexts(tmp_path: Path) -> None:
    add_context(tmp_path, "current", "unix:///current.sock", current=True)
    add_context(tmp_path, "named", "unix:///named.sock")
    environment = {"HOME": str(tmp_path)}
    assert resolve(None, {"HOME": str(tmp_path / "nobody")}).url == DEFAULT_URL
    assert str(resolve(None, environment)) == "unix:///current.sock (the docker context 'current')"
    assert resolve(None, environment | {"DOCKER_CONTEXT": "named"}).url == "unix:///named.sock"
    assert resolve(None, environment | {"DOCKER_CONTEXT": "default"}).url == DEFAULT_URL
    environment |= {"DOCKER_CONTEXT": "named", "DOCKER_HOST": "tcp://127.0.0.1:2375"}
    assert str(resolve(None, environment)) == "tcp://127.0.0.1:2375 (DOCKER_HOST)"
    assert str(resolve("unix:///set.sock", environment)) == "unix:///set.sock (the setting docker_host)"


def test_certificates_come_with_the_context_or_with_dockers_variables(tmp_path: Path) -> None:
    add_context(tmp_path, "far", "tcp://10.0.0.1:2376", current=True, tls=True)
    tls = resolve(None, {"HOME": str(tmp_path)}).tls
    assert tls is not None
    assert tls.verify
    assert tls.certificate is not None
    assert tls.certificate.name == "cert.pem"
    for file in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / file).touch()
    host = {"DOCKER_HOST": "tcp://10.0.0.1:2376", "HOME": str(tmp_path / "none")}
    assert resolve(None, host).tls is None
    verified = resolve(None, host | {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}).tls
    assert verified is not None
    assert (verified.verify, verified.authority) == (True, tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DOCKER_CONTEXT": "gone"}, "the docker context 'gone', which DOCKER_CONTEXT names, cannot be read"),
        ({"DOCKER_HOST": "ssh://somebody@far"}, "on another machine"),
        ({"DOCKER_HOST": "nonsense"}, "address is not one"),
    ],
)
async def test_an_address_that_leads_to_no_engine_is_said_and_not_passed_over(
    environment: dict[str, str], words: str, tmp_path: Path
) -> None:
    runtime = DockerRuntime(new_id(Prefix.INSTALL), resolve(None, environment | {"HOME": str(tmp_path)}))
    with pytest.raises(RuntimeUnavailable, match=words):
        await runtime.facts()
    await runtime.close()


def test_doctor_says_which_engine_and_who_named_it(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DUMBWAITER_", "DOCKER_"))}
    command = [Path(sys.executable).parent / "dumbwaiter", "--data", tmp_path / "data", "doctor", "--json"]
    add_context(tmp_path, "mine", f"unix://{tmp_path}/mine.sock", current=True)
    for more, words in (
        ({"DOCKER_HOST": "unix:///nonexistent/docker.sock"}, "unix:///nonexistent/docker.sock (DOCKER_HOST)"),
        ({"HOME": str(tmp_path)}, f"unix://{tmp_path}/mine.sock (the docker context 'mine')"),
    ):
        done = subprocess.run(command, env=environment | more, capture_output=True, text=True, cwd=ROOT, check=False)
        (engine,) = (check for check in json.loads(done.stdout) if check["name"] == "engine")
        assert words in engine["what"]


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=userns"]}, "userns-remap"),
        ({"SecurityOptions": ["name=rootless", "name=cgroupns"]}, "rootless"),
    ],
)
def test_an_engine_that_changes_users_is_refused_because_agents_could_not_use_their_folders(
    info: dict[str, Any], words: str
) -> None:
    with pytest.raises(RuntimeUnavailable, match=words) as refused:
        require_suitable(EngineFacts.of(info | {"ServerVersion": "1"}), None)
    assert "engine" in str(refused.value.hint) or "dockerd" in str(refused.value.hint)


PODMAN = {"ServerVersion": "4.3.1", "BuildahVersion": "1.28.2", "SecurityOptions": ["name=seccomp"]}


def test_podman_is_known_by_its_answer_and_rootless_by_a_field_of_its_own() -> None:
    facts = EngineFacts.of(PODMAN | {"Rootless": False, "CgroupVersion": "1"}, socket_owner=0)
    assert str(facts) == "podman 4.3.1"
    assert facts.keeps_limits
    require_suitable(facts, None, user=0)
    rootless = EngineFacts.of(PODMAN | {"Rootless": True, "CgroupVersion": "2"}, socket_owner=1000)
    assert str(rootless) == "podman 4.3.1, rootless"
    assert rootless.keeps_limits
    assert not EngineFacts.of(PODMAN | {"Rootless": True, "CgroupVersion": "1"}).keeps_limits
    require_suitable(rootless, None, user=1000)


@pytest.mark.parametrize("owner", [None, 1001])
def test_a_rootless_podman_of_another_user_is_refused(owner: int | None) -> None:
    facts = EngineFacts.of(PODMAN | {"Rootless": True, "CgroupVersion": "2"}, socket_owner=owner)
    with pytest.raises(RuntimeUnavailable, match=r"podman of another user.*systemctl --user start podman\.socket"):
        require_suitable(facts, None, user=1000)


def test_a_runtime_that_podman_would_not_use_is_refused() -> None:
    facts = EngineFacts.of(PODMAN | {"Runtimes": {"runsc": {}}})
    with pytest.raises(RuntimeUnavailable, match=r"podman takes no runtime.*runtime = 'runsc' under \[engine\]"):
        require_suitable(facts, "runsc")


def test_a_runtime_that_the_engine_does_not_have_is_refused_before_an_agent_needs_it() -> None:
    facts = EngineFacts.of({"ServerVersion": "1", "Runtimes": {"runc": {}, "io.x": {}}, "SecurityOptions": None})
    require_suitable(facts, None)
    require_suitable(facts, "runc")
    with pytest.raises(RuntimeUnavailable, match=r"no runtime 'runsc'.*it has io\.x, runc"):
        require_suitable(facts, "runsc")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_somebody_who_may_not_use_the_engine_is_told_the_group_and_not_to_start_it(open_folder: Path) -> None:
    path = open_folder / "engine.sock"
    script = (
        "import asyncio\n"
        "from host.runtime.docker import DockerRuntime\n"
        f"asyncio.run(DockerRuntime('ins_0000000000000000', 'unix://{path}').facts())\n"
    )
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        for group, words in ((0, "root's alone"), (1, "put into the group 'daemon'")):
            os.chown(path, 0, group)
            path.chmod(0o660)
            # The user changes after the imports, which need not be its to read.
            code = (
                f"import os\nimport host.runtime.docker\nos.setgroups([])\nos.setgid(4242)\nos.setuid(4242)\n{script}"
            )
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
            assert "this user may not use the engine" in done.stderr
            assert words in done.stderr
