"""The contract of runtimes over a Swarm of three machines, and what is the Swarm's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from host.runtime.placement import ManyNodes
from host.runtime.protocol import RelayTarget, RuntimeUnavailable, StartFailed
from host.runtime.swarm import SwarmRuntime
from tests.cluster.swarm import LOCKED_DOWN, Machine, Swarm, tasks_of
from tests.runtime.agents import DEAF, LIVES, UID, eventually
from tests.runtime.test_contract import (  # noqa: F401 (the tests run here once more, with this bench)
    Bench,
    is_gone,
    test_a_restarted_host_finds_polls_and_stops_what_the_first_one_started,
    test_a_started_agent_is_alive_until_it_is_stopped,
    test_agents_of_another_install_are_never_seen,
    test_an_agent_that_does_not_exist_any_more_is_no_error_anywhere,
    test_an_agent_that_ends_by_itself_shows_its_exit_code,
    test_an_agent_that_ignores_the_request_is_killed_after_its_grace,
    test_listed_are_agents_alive_or_ended_until_they_are_removed,
    test_logs_hold_both_streams_and_outlive_the_agent_until_it_is_removed,
    test_removing_a_living_agent_ends_it,
    test_who_takes_an_answer_of_some_age_hears_of_new_agents_and_how_others_ended,
)

pytestmark = [pytest.mark.full, pytest.mark.docker]


@pytest.fixture
async def bench(swarm: Swarm, script_image: str, tmp_path: Path) -> AsyncIterator[Bench]:
    run = tmp_path / "run"
    run.mkdir()

    def make(install_id: str, _program: str) -> SwarmRuntime:
        return SwarmRuntime(install_id, swarm.manager, image=script_image, probed_folder=run, grace=1.0)

    bench = Bench(make, script_image, UID, tmp_path)
    yield bench
    for runtime in bench.made:
        for handle in await runtime.list():
            await runtime.remove(handle)
        await runtime.close()


def swarm_runtime(bench: Bench) -> SwarmRuntime:
    runtime = bench.runtime()
    assert isinstance(runtime, SwarmRuntime)
    return runtime


async def test_it_runs_on_several_machines(bench: Bench, swarm: Swarm) -> None:
    runtime = swarm_runtime(bench)
    assert isinstance(runtime, ManyNodes)
    handles = [await bench.started(runtime) for _ in swarm.machines]
    assert sorted(handle.node for handle in handles) == sorted(machine.name for machine in swarm.machines)
    for handle in handles:
        assert list(await runtime.list_on(handle.node)) == [handle]
    facts = {each.name: each.agents for each in await runtime.facts()}
    assert facts == {machine.name: 1 for machine in swarm.machines}


async def test_an_agent_has_lo_alone_no_capability_and_no_way_to_gain_one(bench: Bench, swarm: Swarm) -> None:
    runtime = swarm_runtime(bench)
    handle = await bench.started(runtime)
    machine = swarm.machine(handle.node)
    (container,) = machine.docker("ps", "-q", "--filter", f"label=dumbwaiter.run={handle.run_id}").split()
    assert machine.docker("exec", container, "ls", "/sys/class/net") == "lo"
    status = machine.docker("exec", container, "cat", "/proc/self/status")
    assert "NoNewPrivs:\t1" in status
    assert "CapBnd:\t0000000000000000" in status
    assert machine.docker("exec", container, "id", "-u") == str(UID)
    inspected = json.loads(machine.docker("inspect", container))[0]["HostConfig"]
    assert (inspected["ReadonlyRootfs"], inspected["PidsLimit"]) == (True, 256)
    assert inspected["Memory"] == 2 * 1024**3


@pytest.mark.parametrize(
    ("configuration", "sentence"),
    [
        ('{"no-new-privileges": true}', "its containers have a network"),
        ('{"bridge": "none"}', "its containers may gain privileges"),
    ],
)
async def test_a_node_that_is_not_locked_down_gets_no_agent(
    bench: Bench, swarm: Swarm, configuration: str, sentence: str
) -> None:
    machine = swarm.machines[2]
    await asyncio.to_thread(reconfigure, machine, configuration)
    try:
        runtime = swarm_runtime(bench)
        await until_ready(runtime, machine)
        swarm.machines[0].docker("node", "update", "--label-add", "only=three", machine.name)
        with pytest.raises(StartFailed, match=sentence) as refused:
            await runtime.check(machine.name)
        assert refused.value.hint is not None
        assert "/etc/docker/daemon.json" in refused.value.hint
        with pytest.raises(RuntimeUnavailable, match=sentence):
            await runtime.place({"only": "three"})
        handles = [await bench.started(runtime) for _ in range(3)]
        assert machine.name not in {handle.node for handle in handles}
    finally:
        await asyncio.to_thread(reconfigure, machine, LOCKED_DOWN)


async def test_a_folder_or_an_image_that_a_node_lacks_is_said(bench: Bench, swarm: Swarm, tmp_path: Path) -> None:
    runtime = swarm_runtime(bench)
    node = swarm.machines[1]
    missing = tmp_path / "nowhere"
    with pytest.raises(StartFailed, match=f"does not have the folder {missing}: the shared folder is not mounted"):
        await runtime.run_once(node.name, bench.image, missing, ["-c", "pass"])
    assert await runtime.run_once(node.name, bench.image, tmp_path, ["-c", "print(6 * 7)"]) == b"42\n"


async def test_what_a_killed_host_left_beside_no_agent_is_removed(bench: Bench, swarm: Swarm) -> None:
    runtime = swarm_runtime(bench)
    wanted = replace(bench.specification(), way=RelayTarget("127.0.0.1:1", "PEM", "token"))
    handle = await runtime.start(wanted)
    manager = swarm.machines[0]
    assert len(manager.docker("service", "ls", "-q").split()) == 2
    await runtime.remove_strays()
    assert len(manager.docker("service", "ls", "-q").split()) == 2  # an agent's relay is kept
    manager.docker("service", "rm", handle.reference)
    await runtime.remove_strays()
    assert manager.docker("service", "ls", "-q") == ""


async def test_of_a_machine_that_is_cut_off_nothing_is_said_and_its_agent_is_ended_when_it_is_back(
    bench: Bench, swarm: Swarm
) -> None:
    runtime = swarm_runtime(bench)
    while (handle := await bench.started(runtime, DEAF)).node == swarm.machines[0].name:
        await runtime.remove(handle)
        await runtime.place({})
    machine = swarm.machine(handle.node)
    machine.cut_off()
    try:

        async def is_down() -> bool:
            return handle.node in {each.name for each in await runtime.facts() if not each.answers}

        await eventually(is_down, limit=120)
        for asked in (runtime.poll(handle), runtime.list_on(handle.node), runtime.remove(handle)):
            with pytest.raises(RuntimeUnavailable, match=f"the node {handle.node} does not answer"):
                await asked
        assert handle in await runtime.list()
        (only,) = [each for each in tasks_of(swarm.machines[0], handle.reference) if each["Node"]]
        assert only["Node"] == handle.node  # no second one was started
        assert machine.docker("ps", "-q", "--filter", f"label=dumbwaiter.run={handle.run_id}") != ""
    finally:
        machine.bring_back()
    await eventually(lambda: answers_and_is_over(runtime, handle), limit=120)
    assert machine.docker("ps", "-q", "--filter", f"label=dumbwaiter.run={handle.run_id}") == ""


async def answers_and_is_over(runtime: SwarmRuntime, handle: object) -> bool:
    try:
        return not (await runtime.poll(handle)).alive  # type: ignore[arg-type]
    except RuntimeUnavailable:
        return False


async def until_ready(runtime: SwarmRuntime, machine: Machine) -> None:
    async def is_ready() -> bool:
        return machine.name in {each.name for each in await runtime.facts() if each.answers}

    await eventually(is_ready, limit=120)


def reconfigure(machine: Machine, configuration: str) -> None:
    """Start the engine of a machine again, with another configuration."""
    machine.stop()
    machine.configuration = configuration
    machine.start()


__all__ = ["LIVES", "is_gone"]
