"""An engine that is not there, or that hangs, or that says no (FAILURES 10 and 12)."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from host.runtime.docker import DockerRuntime, TimeLimits
from host.runtime.protocol import (
    AgentHandle,
    AgentSpecification,
    Mount,
    RelayTarget,
    ResourceLimits,
    RuntimeUnavailable,
    StartFailed,
)
from host.runtime.specification import RELAY_LABEL
from shared_schema.ids import Prefix, new_id
from tests.conftest import docker_url
from tests.runtime.agents import UID, eventually, session_folder, specification

INSTALL = new_id(Prefix.INSTALL)
HANDLE = AgentHandle(new_id(Prefix.RUN), new_id(Prefix.SESSION), "0123456789ab")
SHORT = TimeLimits(probe=1.0, call=0.5, start=0.5, kill=0.5)

WHO = """
    import getpass, grp, json, os, pwd
    user = pwd.getpwuid(os.getuid())
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
    replaced = [mount for mount in mounts if mount in ("/etc/passwd", "/etc/group")]
    known = [user.pw_name, user.pw_dir, grp.getgrgid(os.getgid()).gr_name, getpass.getuser(), os.environ["LOGNAME"]]
    print(json.dumps([known, sorted(replaced), pwd.getpwnam("root").pw_uid]), flush=True)
"""
EATS_MEMORY = """
    print("ready", flush=True)
    eaten = [bytearray(16_000_000) for _ in range(100)]
"""


@contextlib.contextmanager
def hanging_engine(path: Path) -> Iterator[str]:
    """A socket that takes calls and never answers: nobody accepts them."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(100)
        yield f"unix://{path}"


async def printed(*command: str) -> bytes:
    """What a command prints."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return output


class _Fails(http.server.BaseHTTPRequestHandler):
    """Podman's ping, and an error for everything else."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        is_ping = self.path == "/_ping" or self.path.endswith("/_ping")
        body = b"OK" if is_ping else b'{"message": "out of order"}'
        self.send_response(200 if is_ping else 500)
        for name, value in (("Api-Version", "1.41"), ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, *_told: object) -> None:
        pass


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def engine_that_fails(path: Path) -> Iterator[str]:
    """An engine that answers a ping, and nothing else."""
    with _UnixServer(str(path), _Fails) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown()
            serving.join()


async def test_a_missing_engine_is_unavailable_at_once(tmp_path: Path) -> None:
    runtime = DockerRuntime(INSTALL, f"unix://{tmp_path}/nothing.sock")
    begun = time.monotonic()
    with pytest.raises(RuntimeUnavailable, match="start it, or choose another one"):
        await runtime.list()
    with pytest.raises(RuntimeUnavailable):
        await runtime.start(specification(session_folder(tmp_path, ""), INSTALL, image="x", uid=UID))
    assert time.monotonic() - begun < 1
    await runtime.close()


async def test_a_hanging_engine_is_unavailable_within_the_limit_and_the_loop_goes_on(tmp_path: Path) -> None:
    longest = 0.0

    async def measure() -> None:
        nonlocal longest
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - begun)

    with hanging_engine(tmp_path / "engine.sock") as url:
        runtime = DockerRuntime(INSTALL, url, limits=SHORT, threads=2)
        agent = specification(session_folder(tmp_path, ""), INSTALL, image="x", uid=UID)
        measuring = asyncio.create_task(measure())
        begun = time.monotonic()
        calls = (
            runtime.start(agent),
            runtime.stop(HANDLE, 1),
            runtime.poll(HANDLE),
            runtime.list(),
            runtime.logs(HANDLE),
            runtime.remove(HANDLE),
            runtime.engine_version(),
        )
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        took = time.monotonic() - begun
        measuring.cancel()
        await runtime.close()
    assert all(isinstance(outcome, RuntimeUnavailable) for outcome in outcomes)
    assert took < 2
    assert longest < 0.25


@pytest.mark.docker
async def test_a_missing_image_is_a_failed_start_that_says_what_to_do(
    docker_runtime: DockerRuntime, tmp_path: Path
) -> None:
    agent = specification(session_folder(tmp_path, ""), INSTALL, image="dumbwaiter-agent:never", uid=UID)
    with pytest.raises(StartFailed, match="make image"):
        await docker_runtime.start(agent)


@pytest.mark.docker
async def test_a_container_that_cannot_start_is_removed(
    docker_runtime: DockerRuntime, script_image: str, tmp_path: Path
) -> None:
    inside_proc = Mount(tmp_path, "../proc/inside")  # the engine creates such a container, and cannot start it
    agent = specification(session_folder(tmp_path, ""), docker_runtime.install_id, image=script_image, uid=UID)
    with pytest.raises(StartFailed, match="proc"):
        await docker_runtime.start(replace(agent, mounts=(inside_proc,)))
    assert await docker_runtime.list() == []


@pytest.mark.docker
async def test_a_session_folder_that_is_missing_is_a_failed_start(
    docker_runtime: DockerRuntime, script_image: str, tmp_path: Path
) -> None:
    layout = session_folder(tmp_path, "")
    layout.out.rmdir()
    with pytest.raises(StartFailed, match="out"):
        await docker_runtime.start(specification(layout, docker_runtime.install_id, image=script_image, uid=UID))
    assert not layout.out.exists()


@pytest.mark.docker
@pytest.mark.parametrize("way", [None, RelayTarget("127.0.0.1:1", "PEM", "token")], ids=["here", "on a node"])
async def test_a_start_that_is_given_up_leaves_no_container(
    docker_runtime: DockerRuntime, script_image: str, tmp_path: Path, way: RelayTarget | None
) -> None:
    install_id = docker_runtime.install_id
    agent = specification(
        session_folder(tmp_path, "import time; time.sleep(60)"), install_id, image=script_image, uid=UID
    )
    agent = replace(agent, way=way)
    starting = asyncio.create_task(docker_runtime.start(agent))

    async def created() -> bool:
        return bool(await docker_runtime.list())

    await eventually(created)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    async def none_left() -> bool:
        named = ("--quiet", "--filter", f"label={RELAY_LABEL}={install_id}")
        relays = [await printed("docker", "ps", "--all", *named), await printed("docker", "volume", "ls", *named)]
        return not await docker_runtime.list() and relays == [b"", b""]

    await eventually(none_left)


@pytest.mark.docker
async def test_an_agent_that_takes_too_much_memory_ends_and_the_reason_is_known(
    docker_runtime: DockerRuntime, script_image: str, tmp_path: Path
) -> None:
    agent = specification(
        session_folder(tmp_path, EATS_MEMORY),
        docker_runtime.install_id,
        image=script_image,
        uid=UID,
        limits=ResourceLimits(memory_bytes=64 * 1024**2),
    )
    handle = await docker_runtime.start(agent)

    async def ended() -> bool:
        return not (await docker_runtime.poll(handle)).alive

    await eventually(ended)
    assert (await docker_runtime.poll(handle)).reason == "out of memory"


@pytest.fixture
async def naming_runtime(tmp_path: Path) -> AsyncIterator[DockerRuntime]:
    """A runtime that gives users a name, as that of a host does."""
    runtime = DockerRuntime(new_id(Prefix.INSTALL), docker_url(), run_folder=tmp_path / "run")
    yield runtime
    for handle in await runtime.list():
        await runtime.remove(handle)
    await runtime.close()


async def _said(runtime: DockerRuntime, agent: AgentSpecification) -> Any:
    """What an agent that ends by itself has printed, as JSON."""
    handle = await runtime.start(agent)

    async def ended() -> bool:
        return not (await runtime.poll(handle)).alive

    await eventually(ended)
    return json.loads(await runtime.logs(handle))


def _containers(runtime: DockerRuntime) -> list[str]:
    """The names of all containers of that install, of whatever kind."""
    named = ["docker", "ps", "--all", "--filter", f"name={runtime.install_id}", "--format", "{{.Names}}"]
    return subprocess.run(named, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.docker
async def test_a_user_that_the_image_does_not_know_has_a_name(
    naming_runtime: DockerRuntime, script_image: str, tmp_path: Path
) -> None:
    """As under a host that is not root, whose own user its agents are; `agent` is user 10001 in the image."""
    layouts = [session_folder(tmp_path, WHO) for _ in range(3)]
    agents = [specification(each, naming_runtime.install_id, image=script_image, uid=4242) for each in layouts]
    for said in await asyncio.gather(*(_said(naming_runtime, agent) for agent in agents)):
        assert said == [["agent-4242", "/tmp", *3 * ["agent-4242"]], ["/etc/group", "/etc/passwd"], 0]
    assert len([*(tmp_path / "run").iterdir()]) == 2
    assert _containers(naming_runtime) == []


@pytest.mark.docker
async def test_a_user_that_the_image_knows_keeps_its_name_and_files(
    naming_runtime: DockerRuntime, script_image: str, tmp_path: Path
) -> None:
    agent = specification(session_folder(tmp_path, WHO), naming_runtime.install_id, image=script_image, uid=UID)
    assert await _said(naming_runtime, agent) == [["agent", "/tmp", *3 * ["agent"]], [], 0]
    assert not (tmp_path / "run").exists()


@pytest.mark.docker
async def test_a_host_that_was_killed_while_it_read_the_users_of_an_image_is_no_obstacle(
    naming_runtime: DockerRuntime, script_image: str, tmp_path: Path
) -> None:
    left = f"dumbwaiter-accounts-{naming_runtime.install_id}"
    subprocess.run(["docker", "create", "--name", left, script_image], capture_output=True, check=True)
    agent = specification(session_folder(tmp_path, WHO), naming_runtime.install_id, image=script_image, uid=4242)
    assert (await _said(naming_runtime, agent))[0][0] == "agent-4242"
    assert _containers(naming_runtime) == []


@pytest.mark.docker
async def test_an_image_whose_users_are_behind_links_or_not_there_at_all(
    naming_runtime: DockerRuntime, script_image: str, tmp_path: Path
) -> None:
    image = f"dumbwaiter-test-links:{os.getpid()}"
    dockerfile = f"""
        FROM {script_image}
        USER 0:0
        RUN mv /etc/passwd /opt/users && ln -s ../opt/first /etc/passwd && ln -s /opt/users /opt/first && rm /etc/group
        """
    subprocess.run(["docker", "build", "-q", "-t", image, "-"], input=dockerfile, text=True, check=True)
    try:
        agent = specification(session_folder(tmp_path, WHO), naming_runtime.install_id, image=image, uid=4242)
        known, _, root = await _said(naming_runtime, agent)
    finally:
        subprocess.run(["docker", "image", "rm", "-f", image], capture_output=True, check=True)
    assert (known[0], known[2], root) == ("agent-4242", "agent", 0)


@pytest.mark.docker
async def test_the_engine_says_its_version_and_which_images_it_has(
    docker_runtime: DockerRuntime, script_image: str
) -> None:
    assert (await docker_runtime.engine_version())[0].isdigit()
    assert await docker_runtime.image_labels(script_image) is not None
    assert await docker_runtime.image_labels("dumbwaiter-agent:never") is None
