"""What an agent has started ends with it, wherever it has gone: into a session of its own, out of its environment."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from host.runtime.process import ProcessRuntime
from host.runtime.protocol import AgentHandle
from shared_schema.ids import Prefix, new_id
from tests.runtime.agents import eventually, session_folder, specification

INSTALL = new_id(Prefix.INSTALL)
COMMAND = [sys.executable, "-c", "import os, runpy; runpy.run_path(os.environ['DUMBWAITER_SESSION'] + '/agent.py')"]

# It starts one in a session of its own, which starts one without any environment.
HAS_A_FAMILY = """
    import signal, subprocess
    subprocess.Popen(["sh", "-c", "echo $$; env -i sleep 600 & echo $!; echo ready; wait"], start_new_session=True)
    signal.pause()
"""


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    runtime = ProcessRuntime(INSTALL, tmp_path / "run", command=COMMAND)
    yield runtime
    for handle in await runtime.list():
        await runtime.remove(handle)


async def family(runtime: ProcessRuntime, tmp_path: Path) -> tuple[AgentHandle, list[int]]:
    """A started agent, and the two processes that it has started."""
    handle = await runtime.start(specification(session_folder(tmp_path, HAS_A_FAMILY), INSTALL))

    async def is_ready() -> bool:
        return b"ready" in await runtime.logs(handle)

    await eventually(is_ready)
    return handle, [int(word) for word in (await runtime.logs(handle)).split()[:-1]]


def lives(process: int) -> bool:
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def all_gone(processes: list[int]) -> None:
    async def gone() -> bool:
        return not any(lives(process) for process in processes)

    await eventually(gone, 5)


async def test_whoever_is_stopped_takes_all_of_its_family_along(runtime: ProcessRuntime, tmp_path: Path) -> None:
    handle, others = await family(runtime, tmp_path)
    assert len([process for process in others if lives(process)]) == 2
    await runtime.stop(handle, grace=0)
    await all_gone(others)


async def test_so_does_one_that_an_earlier_host_started(runtime: ProcessRuntime, tmp_path: Path) -> None:
    handle, others = await family(runtime, tmp_path)
    following = ProcessRuntime(INSTALL, tmp_path / "run", command=COMMAND)
    os.kill(int(handle.reference), signal.SIGSTOP)  # it cannot do anything about it itself
    await following.stop(handle, grace=0)
    await all_gone(others)


async def test_what_one_left_that_died_is_ended_when_its_end_is_seen(runtime: ProcessRuntime, tmp_path: Path) -> None:
    handle, others = await family(runtime, tmp_path)
    os.kill(int(handle.reference), signal.SIGKILL)
    await eventually(lambda: _ended(runtime, handle))
    await all_gone(others)


async def test_what_one_left_that_died_without_any_host_is_ended_by_the_next(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    handle, others = await family(runtime, tmp_path)
    os.kill(int(handle.reference), signal.SIGKILL)
    os.waitpid(int(handle.reference), 0)
    assert lives(others[0])
    await ProcessRuntime(INSTALL, tmp_path / "run", command=COMMAND).list()
    await all_gone(others)


async def _ended(runtime: ProcessRuntime, handle: AgentHandle) -> bool:
    return not (await runtime.poll(handle)).alive
