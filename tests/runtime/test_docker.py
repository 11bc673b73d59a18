"""An engine that is not there, or that hangs, or that says no (FAILURES 10 and 12)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from host.runtime.docker import DockerRuntime, TimeLimits
from host.runtime.protocol import AgentHandle, Limits, Mount, RuntimeUnavailable, StartFailed
from shared_schema.ids import Prefix, new_id
from tests.runtime.agents import UID, eventually, session_folder, specification

INSTALL = new_id(Prefix.INSTALL)
HANDLE = AgentHandle(new_id(Prefix.RUN), new_id(Prefix.SESSION), "0123456789ab")
SHORT = TimeLimits(probe=1.0, call=0.5, start=0.5, kill=0.5)

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


async def test_a_missing_engine_is_unavailable_at_once(tmp_path: Path) -> None:
    runtime = DockerRuntime(INSTALL, f"unix://{tmp_path}/nothing.sock")
    begun = time.monotonic()
    with pytest.raises(RuntimeUnavailable, match="start docker"):
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
async def test_a_start_that_is_given_up_leaves_no_container(
    docker_runtime: DockerRuntime, script_image: str, tmp_path: Path
) -> None:
    install_id = docker_runtime.install_id
    agent = specification(
        session_folder(tmp_path, "import time; time.sleep(60)"), install_id, image=script_image, uid=UID
    )
    starting = asyncio.create_task(docker_runtime.start(agent))

    async def created() -> bool:
        return bool(await docker_runtime.list())

    await eventually(created)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    async def none_left() -> bool:
        return not await docker_runtime.list()

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
        limits=Limits(memory_bytes=64 * 1024**2),
    )
    handle = await docker_runtime.start(agent)

    async def ended() -> bool:
        return not (await docker_runtime.poll(handle)).alive

    await eventually(ended)
    assert (await docker_runtime.poll(handle)).reason == "out of memory"


@pytest.mark.docker
async def test_the_engine_says_its_version_and_which_images_it_has(
    docker_runtime: DockerRuntime, script_image: str
) -> None:
    assert (await docker_runtime.engine_version())[0].isdigit()
    assert await docker_runtime.image_labels(script_image) is not None
    assert await docker_runtime.image_labels("dumbwaiter-agent:never") is None
