"""Podman in docker's place, as root and without: the contract of runtimes, what agents cannot do, a conversation."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from host.runtime.choose import choose
from host.runtime.docker import DockerRuntime
from host.runtime.engine_facts import require_suitable
from host.runtime.podman import NO_LIMITS
from host.runtime.process_user import ProcessUsers
from host.runtime.protocol import ResourceLimits, RuntimeUnavailable, StartFailed
from shared_schema.ids import Prefix, new_id
from tests.conftest import ROOT, AgentImage
from tests.docker.test_isolation import (  # noqa: F401 (they run here once more, over podman)
    Attempt,
    attempt,
    test_an_init_is_process_1_and_takes_care_of_orphans,
    test_files_cannot_be_given_away_and_root_cannot_be_become,
    test_inbound_db_can_be_read,
    test_inbound_db_cannot_be_written,
    test_it_has_no_capability_and_gets_no_new_privilege,
    test_it_runs_as_a_user_without_rights,
    test_no_file_can_grow_beyond_the_limit,
    test_no_more_processes_than_the_limit_can_be_started,
    test_out_and_the_workspace_can_be_written,
    test_the_gateway_is_the_only_socket_and_lets_nobody_out_who_is_not_listed,
    test_the_network_cannot_be_reached,
    test_the_root_file_system_cannot_be_written,
    test_there_is_no_interface_but_the_loopback,
    test_tmp_is_bounded,
)
from tests.runtime.agents import UID, eventually, session_folder, specification
from tests.runtime.test_contract import (  # noqa: F401 (the contract of runtimes, over podman)
    Bench,
    is_gone,
    test_a_restarted_host_finds_polls_and_stops_what_the_first_one_started,
    test_a_started_agent_is_alive_until_it_is_stopped,
    test_agents_of_another_install_are_never_seen,
    test_an_agent_that_does_not_exist_any_more_is_no_error_anywhere,
    test_an_agent_that_ends_by_itself_shows_its_exit_code,
    test_an_agent_that_ignores_the_request_is_killed_after_its_grace,
    test_listed_are_agents_alive_or_ended_until_they_are_removed,
    test_removing_a_living_agent_ends_it,
    test_who_takes_an_answer_of_some_age_hears_of_new_agents_and_how_others_ended,
)
from tests.runtime.test_docker import EATS_MEMORY
from tests.support.folders import open_folder
from tests.support.host import running
from tests.support.podman import Podman, a_podman
from tests.support.wait import until_sync

pytestmark = [pytest.mark.docker, pytest.mark.full]

LOOKS = """
    import json, os
    def writable(place):
        try:
            open(place + "/file", "w").close()
        except OSError:
            return False
        return True
    places = [place for place in ("/", "/run", "/var/tmp", "/etc", "/session", "/session/out") if writable(place)]
    print(json.dumps([places, sorted(os.environ), open("/etc/hosts").read(), os.getuid()]), flush=True)
"""
PIECES = """
    import sys
    for number in range(200):
        for piece in (str(number), ": ", "a line in pieces", "\\n"):
            sys.stdout.write(piece)
            sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def rootful(script_image: str, agent_image: AgentImage) -> Iterator[Podman]:
    with a_podman(script_image, agent_image.name) as podman:
        yield podman


@pytest.fixture(scope="module")
def rootless(script_image: str, agent_image: AgentImage) -> Iterator[Podman]:
    with a_podman(script_image, agent_image.name, rootless=True) as podman:
        yield podman


@pytest.fixture(params=["rootful", "rootless"])
def podman(request: pytest.FixtureRequest) -> Podman:
    found: Podman = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def docker_runtime(rootful: Podman) -> AsyncIterator[DockerRuntime]:
    """What the tests of isolation use; a rootless podman has no limits here, which its own test tells."""
    runtime = DockerRuntime(new_id(Prefix.INSTALL), rootful.url)
    yield runtime
    for handle in await runtime.list():
        await runtime.remove(handle)
    await runtime.close()


@pytest.fixture
async def bench(podman: Podman, script_image: str, open_folder: Path) -> AsyncIterator[Bench]:
    def make(install_id: str, _program: str) -> DockerRuntime:
        return DockerRuntime(install_id, podman.url, run_folder=open_folder / "run")

    bench = Bench(make, script_image, podman.uid or UID, open_folder)
    yield bench
    for runtime in bench.made:
        for handle in await runtime.list():
            await runtime.remove(handle)
        await runtime.close()


async def output_of(bench: Bench, program: str, limits: ResourceLimits | None = None) -> bytes:
    """What an agent that ends by itself has printed."""
    runtime = bench.runtime()
    wanted = bench.specification(program)
    handle = await runtime.start(wanted if limits is None else replace(wanted, limits=limits))
    await eventually(lambda: is_gone(runtime, handle))
    return await runtime.logs(handle)


async def test_nothing_but_out_can_be_written_and_nothing_of_the_machine_is_told(bench: Bench) -> None:
    places, environment, hosts, uid = json.loads(await output_of(bench, LOOKS))
    assert places == ["/session/out"]
    assert uid == bench.uid
    assert hosts.split() == ["127.0.0.1", "localhost", "::1", "localhost"]
    assert not [name for name in environment if "proxy" in name.lower()]


async def test_what_an_agent_writes_belongs_to_the_user_who_must_read_it(bench: Bench) -> None:
    await output_of(bench, LOOKS)
    (written,) = bench.folder.glob("ses_*/out/file")
    assert written.stat().st_uid == bench.uid


async def test_what_an_agent_prints_in_pieces_is_whole_and_in_order(bench: Bench) -> None:
    said = (await output_of(bench, PIECES)).decode()
    assert said == "".join(f"{number}: a line in pieces\n" for number in range(200))


async def test_logs_hold_both_streams_and_outlive_the_agent_until_it_is_removed(bench: Bench) -> None:
    """Where both are written at the same time, podman may put a line's end at another place."""
    runtime = bench.runtime()
    handle = await bench.started(runtime)
    await runtime.stop(handle, grace=10)
    said = await runtime.logs(handle)
    assert b"on stderr" in said
    assert b"ready" in said
    assert len(await runtime.logs(handle, max_bytes=3)) == 3
    await runtime.remove(handle)
    assert await runtime.logs(handle) == b""


async def test_agents_live_on_while_podman_is_restarted(bench: Bench, podman: Podman) -> None:
    runtime = bench.runtime()
    handle = await bench.started(runtime)
    await asyncio.to_thread(podman.stop)
    with pytest.raises(RuntimeUnavailable, match="no engine answers"):
        await runtime.poll(handle)
    await asyncio.to_thread(podman.start)
    assert (await runtime.poll(handle)).alive
    await runtime.stop(handle, grace=10)


async def test_a_folder_that_is_missing_is_refused_and_not_made(bench: Bench) -> None:
    wanted = bench.specification()
    shutil.rmtree(wanted.folder.out)
    with pytest.raises(StartFailed, match="out"):
        await bench.runtime().start(wanted)
    assert not wanted.folder.out.exists()


async def test_gpus_and_another_runtime_are_refused_where_podman_would_leave_them_out(bench: Bench) -> None:
    runtime = bench.runtime()
    with pytest.raises(StartFailed, match="podman gives no GPUs"):
        await runtime.start(replace(bench.specification(), limits=ResourceLimits(gpus=1)))
    with pytest.raises(StartFailed, match=r"podman takes no runtime.*containers\.conf"):
        await runtime.start(replace(bench.specification(), oci_runtime="runsc"))


async def test_an_agent_that_takes_too_much_memory_ends(
    docker_runtime: DockerRuntime, script_image: str, tmp_path: Path
) -> None:
    limits = ResourceLimits(memory_bytes=64 * 1024**2)
    layout = session_folder(tmp_path, EATS_MEMORY)
    agent = specification(layout, docker_runtime.install_id, image=script_image, uid=UID, limits=limits)
    handle = await docker_runtime.start(agent)
    await eventually(lambda: is_gone(docker_runtime, handle))
    status = await docker_runtime.poll(handle)
    assert status.exit_code == 137
    assert status.reason in ("out of memory", "ended by SIGKILL")  # podman does not always know why


async def test_it_is_chosen_and_said_by_its_name(podman: Podman, agent_image: AgentImage, tmp_path: Path) -> None:
    runtime = DockerRuntime(new_id(Prefix.INSTALL), podman.url)
    facts = await runtime.facts()
    await runtime.close()
    assert str(facts).startswith("podman 4") or str(facts).startswith("podman 5")
    assert facts.is_rootless == (podman.uid != 0)
    require_suitable(facts, None, user=podman.uid)
    if podman.uid:
        with pytest.raises(RuntimeUnavailable, match="podman of another user"):
            require_suitable(facts, None, user=podman.uid + 1)
        return
    choice = await choose(
        "docker",
        install_id=new_id(Prefix.INSTALL),
        image=agent_image.name,
        base_image=agent_image.base,
        run_folder=tmp_path / "run",
        docker_host=podman.url,
    )
    assert f"engine {facts} at" in choice.reason
    assert choice.warning == (None if facts.keeps_limits else NO_LIMITS)
    await choice.runtime.close()


async def test_a_conversation_as_root(rootful: Podman, agent_image: AgentImage, open_folder: Path) -> None:
    data = open_folder / "data"

    def make(install_id: str) -> DockerRuntime:
        return DockerRuntime(install_id, rootful.url, run_folder=data / "run")

    settings = {"image": agent_image.name, "agent_uid": UID, "poll_seconds": 0.2}
    async with running(data, make_runtime=make, provider="echo", **settings) as host:
        for number in range(3):
            assert (await host.ask(f"message {number}")).startswith(f"message {number}")


def test_a_conversation_of_a_user_with_a_podman_of_her_own(
    rootless: Podman, agent_image: AgentImage, open_folder: Path
) -> None:
    """The real host and command line as that user: what agents write is hers."""
    found = ProcessUsers(ROOT).interpreter(rootless.uid, rootless.uid, (), quiet=True)
    if found is None:
        pytest.skip("no Python here that another user can run with what the host needs")
    os.chown(open_folder, rootless.uid, rootless.uid)
    data = open_folder / "data"
    dumbwaiter = ["setpriv", f"--reuid={rootless.uid}", f"--regid={rootless.uid}", "--init-groups", found.program]
    dumbwaiter += ["-c", "from host.cli import main; main()", "--data", str(data)]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(open_folder),
        "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "DUMBWAITER_RUNTIME": "docker",
        "DUMBWAITER_DOCKER_HOST": rootless.url,
        "DUMBWAITER_IMAGE": agent_image.name,
    }

    def typed(*arguments: str) -> str:
        command = [*dumbwaiter, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120, env=environment, cwd=open_folder
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    log = open_folder / "log"
    with log.open("wb") as output:
        host = subprocess.Popen([*dumbwaiter, "run"], stderr=output, env=environment, cwd=open_folder)
    try:
        until_sync(lambda: '"event": "ready"' in log.read_text() or host.poll() is not None, "the host is ready", 120)
        assert host.poll() is None, log.read_text()
        assert typed("chat", "-m", "hello").startswith("hello\n")
        assert typed("chat", "-m", "once more").startswith("once more\n")
        assert ", rootless answers at" in typed("doctor")
        (outbox,) = data.glob("sessions/*/*/out/outbound.db")
        assert outbox.stat().st_uid == rootless.uid
    finally:
        host.terminate()
        host.wait(60)


__all__ = ["Attempt", "attempt", "open_folder"]
