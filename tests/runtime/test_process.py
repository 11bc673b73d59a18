"""What is special about plain processes: what they inherit, whom they signal, what they leave behind."""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from host.runtime.process import ProcessRuntime, agent_environment
from host.runtime.process_identity import identity_of, is_alive
from host.runtime.process_record import RecordFolder
from host.runtime.process_user import can_reach
from host.runtime.protocol import AgentHandle, AgentSpecification, ResourceLimits, RuntimeUnavailable, StartFailed
from shared_schema.database import open_writer
from shared_schema.ids import Prefix, new_id
from shared_schema.migrate import INBOUND, OUTBOUND, migrate
from tests.runtime.agents import DEAF, EXITS, LIVES, UID, eventually, session_folder, specification

SCRIPT = "import os, runpy; runpy.run_path(os.environ['DUMBWAITER_SESSION'] + '/agent.py', run_name='__main__')"
INSTALL = new_id(Prefix.INSTALL)
SYSTEM_PYTHON = Path("/usr/bin/python3")

SHOWS_ENVIRONMENT = """
    import json, os
    print(json.dumps(dict(os.environ)), flush=True)
"""
SHOWS_USER = """
    import json, os
    print(json.dumps([os.getuid(), os.getgid(), os.getgroups()]), flush=True)
"""
LEAVES_A_CHILD = """
    import subprocess, sys
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    print(child.pid, flush=True)
"""
WRITES_TOO_MUCH = """
    import os
    with open(os.environ["DUMBWAITER_SESSION"] + "/out/big", "wb", buffering=0) as file:
        try:
            for _ in range(4):
                file.write(bytes(1_000_000))
        except OSError as error:
            print(error.errno, flush=True)
"""
STARTS_ONE_AND_LEAVES = """
import asyncio, sys
from pathlib import Path
from host.runtime.process import ProcessRuntime
from host.runtime.protocol import AgentSpecification
from shared_schema.layout import SessionLayout
install, run, script, folder, runs = sys.argv[1:]
layout = SessionLayout(Path(folder))
specification = AgentSpecification(install, run, layout.folder.name, "agr_1", layout, layout.folder)
runtime = ProcessRuntime(install, Path(runs), command=[sys.executable, "-c", script])
asyncio.run(runtime.start(specification))
"""


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    runtime = ProcessRuntime(INSTALL, tmp_path / "run", command=[sys.executable, "-c", SCRIPT])
    yield runtime
    for handle in await runtime.list():
        await runtime.remove(handle)


@pytest.fixture
def secret() -> Iterator[str]:
    """A secret in the environment of the host."""
    os.environ["FAKE_API_KEY"] = "sk-secret"
    yield "sk-secret"
    del os.environ["FAKE_API_KEY"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder any user can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def an_agent(folder: Path, program: str) -> AgentSpecification:
    return specification(session_folder(folder, program), INSTALL)


async def has_ended(runtime: ProcessRuntime, handle: AgentHandle) -> bool:
    return not (await runtime.poll(handle)).alive


async def is_ready(runtime: ProcessRuntime, handle: AgentHandle) -> bool:
    return b"ready" in await runtime.logs(handle)


async def output(runtime: ProcessRuntime, agent: AgentSpecification) -> str:
    """All that an agent printed before it ended by itself."""
    handle = await runtime.start(agent)
    await eventually(lambda: has_ended(runtime, handle))
    return (await runtime.logs(handle)).decode()


async def test_nothing_of_the_hosts_environment_is_inherited(
    runtime: ProcessRuntime, tmp_path: Path, secret: str
) -> None:
    agent = an_agent(tmp_path, SHOWS_ENVIRONMENT)
    shown = await output(runtime, agent)
    assert secret not in shown
    of_the_shell = {"PWD", "OLDPWD", "SHLVL", "_"}  # which says where it is; nothing is the host's
    assert {name: value for name, value in json.loads(shown).items() if name not in of_the_shell} == agent_environment(
        agent
    )


async def test_the_environment_names_the_real_folders_and_no_home_of_the_host(tmp_path: Path) -> None:
    agent = an_agent(tmp_path, LIVES)
    environment = agent_environment(replace(agent, environment={"GREETING": "hello", "DUMBWAITER_SESSION": "/x"}))
    assert environment["DUMBWAITER_SESSION"] == str(agent.folder.folder)
    assert environment["DUMBWAITER_WORKSPACE"] == environment["HOME"] == str(agent.workspace)
    assert environment["GREETING"] == "hello"


@contextmanager
def no_file_left() -> Iterator[None]:
    """This process can open none."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_host_that_can_open_no_file_takes_no_agent_for_dead(runtime: ProcessRuntime, tmp_path: Path) -> None:
    """Else another one would be started beside it, and what it has started would be killed."""
    handle = await runtime.start(an_agent(tmp_path, LIVES))
    restarted = ProcessRuntime(INSTALL, tmp_path / "run")
    for each in (runtime, restarted):
        assert (await each.poll(handle)).alive
        with no_file_left(), pytest.raises(RuntimeUnavailable):
            await each.poll(handle)
        with no_file_left(), pytest.raises(RuntimeUnavailable):
            await each.list()
        assert (await each.poll(handle)).alive
        assert [found.run_id for found in await each.list()] == [handle.run_id]


async def test_an_ended_agent_is_no_zombie(runtime: ProcessRuntime, tmp_path: Path) -> None:
    handle = await runtime.start(an_agent(tmp_path, EXITS))
    await eventually(lambda: has_ended(runtime, handle))
    assert not psutil.pid_exists(int(handle.reference))


async def test_an_agent_that_ends_takes_its_children_with_it(runtime: ProcessRuntime, tmp_path: Path) -> None:
    child = int(await output(runtime, an_agent(tmp_path, LEAVES_A_CHILD)))

    async def gone() -> bool:
        return not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE

    await eventually(gone)


async def test_a_process_id_that_was_used_again_is_never_signalled(runtime: ProcessRuntime, tmp_path: Path) -> None:
    handle = await runtime.start(an_agent(tmp_path, LIVES))
    await eventually(lambda: is_ready(runtime, handle))  # later than the kernel's clock tick, in which both might start
    await runtime.stop(handle, grace=5)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    ) as bystander:
        records = RecordFolder(tmp_path / "run", INSTALL)
        record = records.read(handle.run_id)
        assert record is not None
        records.write(replace(record, pid=bystander.pid))  # as if the bystander had been given the agent's number
        restarted = ProcessRuntime(INSTALL, tmp_path / "run")
        assert not (await restarted.poll(handle)).alive
        await restarted.stop(handle, grace=0)
        await restarted.remove(handle)
        assert bystander.poll() is None
        bystander.communicate(b"\n")
    assert bystander.returncode == 0


async def test_an_agent_outlives_its_host_and_is_adopted_by_the_next(tmp_path: Path) -> None:
    layout = session_folder(tmp_path, DEAF)
    run_id = new_id(Prefix.RUN)
    folder, runs = str(layout.folder), str(tmp_path / "run")
    host = [sys.executable, "-c", STARTS_ONE_AND_LEAVES, INSTALL, run_id, SCRIPT, folder, runs]
    subprocess.run(host, check=True, timeout=30)

    runtime = ProcessRuntime(INSTALL, tmp_path / "run")
    [handle] = await runtime.list()
    assert (handle.run_id, handle.session_id) == (run_id, layout.folder.name)
    assert (await runtime.poll(handle)).alive
    await eventually(lambda: is_ready(runtime, handle))
    await runtime.stop(handle, grace=0.1)
    assert not (await runtime.poll(handle)).alive
    await runtime.remove(handle)
    assert await runtime.list() == []


async def test_a_half_written_record_is_not_one(runtime: ProcessRuntime, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f"{new_id(Prefix.RUN)}.json").write_text('{"run_id": ')
    assert await runtime.list() == []


async def test_a_program_that_does_not_exist_is_a_failed_start(tmp_path: Path) -> None:
    runtime = ProcessRuntime(INSTALL, tmp_path / "run", command=["/nonexistent/python3"])
    with pytest.raises(StartFailed):
        await runtime.start(an_agent(tmp_path, LIVES))
    assert await runtime.list() == []


async def test_a_file_larger_than_the_limit_cannot_be_written(runtime: ProcessRuntime, tmp_path: Path) -> None:
    agent = replace(an_agent(tmp_path, WRITES_TOO_MUCH), limits=ResourceLimits(file_bytes=2 * 1024**2))
    await output(runtime, agent)
    assert (agent.folder.out / "big").stat().st_size == 2 * 1024**2


def test_a_process_is_known_by_number_and_start() -> None:
    identity = identity_of(os.getpid())
    assert identity is not None
    assert is_alive(os.getpid(), identity)
    assert not is_alive(os.getpid(), identity + "0")


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as somebody else")


@as_root
async def test_a_host_that_is_root_gives_its_agents_their_own_user(open_folder: Path, tmp_path: Path) -> None:
    runtime = ProcessRuntime(INSTALL, tmp_path / "run", command=[str(SYSTEM_PYTHON), "-c", SCRIPT])
    agent = replace(an_agent(open_folder, SHOWS_USER), uid=UID, gid=UID)
    assert json.loads(await output(runtime, agent)) == [UID, UID, []]


@as_root
async def test_a_user_that_cannot_reach_the_session_is_not_taken_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o700)
    runtime = ProcessRuntime(INSTALL, tmp_path / "run", command=[sys.executable, "-c", SCRIPT])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            agent = replace(an_agent(tmp_path, SHOWS_USER), uid=UID, gid=UID)
            assert json.loads(await output(runtime, agent))[0] == os.getuid()
    assert [record.message.split(":")[0] for record in caplog.records] == ["agents run as the host's own user"]


@pytest.mark.parametrize("uid", [0, pytest.param(UID, marks=as_root)])
async def test_the_real_agent_starts_and_stops_without_a_command_of_ours(
    open_folder: Path, tmp_path: Path, uid: int
) -> None:
    runtime = ProcessRuntime(INSTALL, tmp_path / "run")
    agent = replace(an_agent(open_folder, ""), uid=uid, gid=uid)
    for path, schema in ((agent.folder.inbound, INBOUND), (agent.folder.outbound, OUTBOUND)):
        with closing(open_writer(path, create=True)) as connection:
            migrate(connection, schema)
        path.chmod(0o666)
    handle = await runtime.start(agent)

    async def beats() -> bool:
        assert (await runtime.poll(handle)).alive, await runtime.logs(handle)
        return agent.folder.heartbeat.exists()

    await eventually(beats)
    await runtime.stop(handle, grace=10)
    status = await runtime.poll(handle)
    await runtime.remove(handle)
    assert status.exit_code == 0


def test_a_folder_is_reached_only_through_folders_that_let_the_user_pass(open_folder: Path) -> None:
    inner = open_folder / "closed" / "inner"
    inner.mkdir(parents=True)
    uid, gid = os.getuid() + 1000, os.getgid() + 1000
    assert can_reach(inner, uid, gid)
    inner.parent.chmod(0o700)
    assert not can_reach(inner, uid, gid)
    assert can_reach(inner, os.getuid(), gid)
    inner.parent.chmod(0o710)
    assert can_reach(inner, uid, os.getgid())
    assert not can_reach(inner / "missing", uid, gid)
