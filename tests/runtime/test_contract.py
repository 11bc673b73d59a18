"""What every runtime does, over docker, processes and the well-behaved fake."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from host.runtime.docker import DockerRuntime
from host.runtime.engine_address import DEFAULT_URL, EngineAddress
from host.runtime.fakes import FakeEngine, FakeRuntime, Lifetime
from host.runtime.nodes import Node, NodesRuntime
from host.runtime.process import ProcessRuntime
from host.runtime.protocol import AgentHandle, AgentSpecification, Runtime
from shared_schema.ids import Prefix, new_id
from tests.conftest import docker_url
from tests.runtime.agents import DEAF, EXITS, LIVES, UID, eventually, session_folder, specification

SCRIPT = "import os, runpy; runpy.run_path(os.environ['DUMBWAITER_SESSION'] + '/agent.py', run_name='__main__')"
FAKE_LIVES = {
    LIVES: Lifetime(output=b"on stderr\nready\n"),
    DEAF: Lifetime(output=b"ready\n", ignores_term=True),
    EXITS: Lifetime(seconds=0, exit_code=3, output=b"ready\n"),
}


@dataclass
class Bench:
    """One kind of runtime, and agents to run on it."""

    make: Callable[[str, str], Runtime]
    image: str
    uid: int
    folder: Path
    made: list[Runtime] = field(default_factory=list)
    install_id: str = field(default_factory=lambda: new_id(Prefix.INSTALL))

    def runtime(self, program: str = LIVES, install_id: str | None = None) -> Runtime:
        """A new runtime object, as after a restart of the host."""
        runtime = self.make(install_id or self.install_id, program)
        self.made.append(runtime)
        return runtime

    def specification(self, program: str = LIVES, install_id: str | None = None) -> AgentSpecification:
        layout = session_folder(self.folder, program)
        return specification(layout, install_id or self.install_id, image=self.image, uid=self.uid)

    async def started(self, runtime: Runtime, program: str = LIVES) -> AgentHandle:
        handle = await runtime.start(self.specification(program))
        await eventually(lambda: is_ready(runtime, handle))
        return handle


async def is_ready(runtime: Runtime, handle: AgentHandle) -> bool:
    return b"ready" in await runtime.logs(handle)


async def is_gone(runtime: Runtime, handle: AgentHandle, max_age: float = 0.0) -> bool:
    return not (await runtime.poll(handle, max_age)).alive


@pytest.fixture(
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("nodes", marks=pytest.mark.docker),
        "process",
        "fake",
    ]
)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    engine = FakeEngine()
    match request.param:
        case "docker":
            image = request.getfixturevalue("script_image")
            bench = Bench(lambda install, _program: DockerRuntime(install, docker_url()), image, UID, tmp_path)
        case "nodes":  # two of them, which are one engine by two addresses
            image = request.getfixturevalue("script_image")
            nodes = [Node(name, EngineAddress(docker_url() or DEFAULT_URL)) for name in ("one", "two")]
            bench = Bench(lambda install, _program: NodesRuntime(install, nodes), image, UID, tmp_path)
        case "process":
            command = [sys.executable, "-c", SCRIPT]
            bench = Bench(
                lambda install, _program: ProcessRuntime(install, tmp_path / "run", command=command), "", 0, tmp_path
            )
        case _:
            bench = Bench(
                lambda install, program: FakeRuntime(install, engine=engine, lifetime=FAKE_LIVES[program]),
                "",
                0,
                tmp_path,
            )
    yield bench
    for runtime in bench.made:
        for handle in await runtime.list():
            await runtime.remove(handle)
        await runtime.close()


async def test_a_started_agent_is_alive_until_it_is_stopped(bench: Bench) -> None:
    runtime = bench.runtime()
    handle = await bench.started(runtime)
    assert (await runtime.poll(handle)).alive
    await runtime.stop(handle, grace=10)
    status = await runtime.poll(handle)
    assert not status.alive
    assert status.exit_code == 0
    assert status.reason is None


async def test_an_agent_that_ignores_the_request_is_killed_after_its_grace(bench: Bench) -> None:
    runtime = bench.runtime(DEAF)
    handle = await bench.started(runtime, DEAF)
    begun = time.monotonic()
    await runtime.stop(handle, grace=0.5)
    assert 0.5 <= time.monotonic() - begun < 5
    status = await runtime.poll(handle)
    assert not status.alive
    assert status.exit_code == 137
    assert status.reason == "ended by SIGKILL"


async def test_an_agent_that_ends_by_itself_shows_its_exit_code(bench: Bench) -> None:
    runtime = bench.runtime(EXITS)
    handle = await bench.started(runtime, EXITS)
    await eventually(lambda: is_gone(runtime, handle))
    assert (await runtime.poll(handle)).exit_code == 3


async def test_logs_hold_both_streams_and_outlive_the_agent_until_it_is_removed(bench: Bench) -> None:
    runtime = bench.runtime()
    handle = await bench.started(runtime)
    await runtime.stop(handle, grace=10)
    assert sorted((await runtime.logs(handle)).splitlines()) == [b"on stderr", b"ready"]
    assert len(await runtime.logs(handle, max_bytes=3)) == 3
    await runtime.remove(handle)
    assert await runtime.logs(handle) == b""


async def test_listed_are_agents_alive_or_ended_until_they_are_removed(bench: Bench) -> None:
    runtime = bench.runtime()
    first, second = await bench.started(runtime), await bench.started(runtime)
    await runtime.stop(first, grace=10)
    assert {handle.run_id for handle in await runtime.list()} == {first.run_id, second.run_id}
    await runtime.remove(first)
    assert await runtime.list() == [second]
    await runtime.remove(second)
    assert await runtime.list() == []


async def test_agents_of_another_install_are_never_seen(bench: Bench) -> None:
    runtime, neighbour = bench.runtime(), bench.runtime(install_id=new_id(Prefix.INSTALL))
    handle = await bench.started(runtime)
    assert await neighbour.list() == []
    assert (await runtime.poll(handle)).alive


async def test_a_restarted_host_finds_polls_and_stops_what_the_first_one_started(bench: Bench) -> None:
    first = bench.runtime()
    handle = await bench.started(first)
    await first.close()
    second = bench.runtime()
    assert await second.list() == [handle]
    assert (await second.poll(handle)).alive
    await second.stop(handle, grace=10)
    assert not (await second.poll(handle)).alive
    assert b"ready" in await second.logs(handle)
    bench.made.remove(first)


async def test_who_takes_an_answer_of_some_age_hears_of_new_agents_and_how_others_ended(bench: Bench) -> None:
    runtime = bench.runtime()
    first = await bench.started(runtime)
    assert (await runtime.poll(first, max_age=60)).alive
    second = await bench.started(runtime)  # after the engine was asked for all
    assert (await runtime.poll(second, max_age=60)).alive
    await runtime.stop(first, grace=10)
    await eventually(lambda: is_gone(runtime, first, max_age=0.2))
    assert await runtime.poll(first, max_age=60) == await runtime.poll(first)  # how it ended as well
    assert (await runtime.poll(second, max_age=60)).alive
    await runtime.remove(first)
    assert not (await runtime.poll(first, max_age=60)).alive


async def test_removing_a_living_agent_ends_it(bench: Bench) -> None:
    runtime = bench.runtime(DEAF)
    handle = await bench.started(runtime, DEAF)
    await runtime.remove(handle)
    assert not (await runtime.poll(handle)).alive
    assert await runtime.list() == []


async def test_an_agent_that_does_not_exist_any_more_is_no_error_anywhere(bench: Bench) -> None:
    runtime = bench.runtime()
    handle = await bench.started(runtime)
    await runtime.remove(handle)
    await runtime.stop(handle, grace=1)
    await runtime.remove(handle)
    assert not (await runtime.poll(handle)).alive
    assert await runtime.logs(handle) == b""
