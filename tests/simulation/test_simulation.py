"""Stories of many machines, made from seeds: what must never be, is not (`world.py` says what that is).

A seed that fails is printed with its story; `python -m tests.simulation --first SEED --seeds 1` plays it again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from host.lease import LeaseLost
from tests.simulation.agents import PlayedAgent
from tests.simulation.engines import Node
from tests.simulation.hosts import PlayedHost
from tests.simulation.story import Report, Size, play
from tests.simulation.world import World

LARGE = Size(sessions=5_000, nodes=100, hosts=3, messages=200, faults=20, slots=10, max_agents=1_000, seconds=120.0)
LARGEST = replace(LARGE, sessions=100_000, nodes=2_000, messages=1_000, max_agents=20_000)
"""Takes a quarter of an hour."""


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """What goes wrong in a story is logged by the thousand, as it should be."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def played(seeds: range) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in seeds:
        counts.update(play(seed).counts)
    return counts


def test_whatever_is_cut_off_killed_late_or_frozen_each_message_is_answered_once_or_told_why() -> None:
    counts = played(range(24))
    assert counts["answered"] > 100
    assert counts["hosts killed"] > 0
    assert counts["leases lost"] > 0
    assert counts["superseded"] > 0


def test_a_seed_tells_the_same_story_each_time() -> None:
    first, second = play(7), play(7)
    assert (first.counts, first.seconds, first.steps) == (second.counts, second.seconds, second.steps)


@pytest.mark.parametrize("later", [0.0, 0.3, 0.9, 1.7, 3.1, 4.9, 5.6])
def test_a_session_whose_node_is_given_up_while_its_engine_is_asked_goes_on_elsewhere(later: float) -> None:
    world = World(1)
    for name in ("node-0", "node-1"):
        world.nodes[name] = Node(world.machine(name), 3)
    session = world.add_session(0)
    world.add_host(world.machine("host-0"))
    world.says(session, 3.0)
    world.on_turn[session.id] = lambda agent: agent.process.freeze()
    world.timeline.run(60.0, lambda: not world.on_turn and bool(world.agents[session.id]))
    node = world.agents[session.id][0].node
    node.machine.has_network = False
    world.timeline.run(world.timeline.now + 8.0 + later)
    world.lost.add(node.name)
    world.hosts[0].loop.call_soon(world.hosts[0].lost)
    world.timeline.run(world.timeline.now + 1500.0, world.is_quiet)
    assert world.is_quiet()
    world.require_outcomes()
    assert world.counts["answered"] == 1
    world.close()


@pytest.mark.parametrize("thawed", [14.0 + 0.1 * n for n in range(14)])
def test_a_host_that_wakes_as_another_one_takes_over_does_not_believe_that_its_lease_was_renewed(thawed: float) -> None:
    world = World(round(thawed * 10))
    for name in ("host-0", "host-1"):
        machine = world.machine(name)
        machine.mount_lag = 0.5
        world.add_host(machine)
    world.timeline.run(20.0)
    [frozen] = [host for host in world.hosts if host.is_serving]
    frozen.process.freeze()
    world.timeline.run(world.timeline.now + thawed)
    frozen.process.thaw()
    for _ in range(50):
        world.timeline.run(world.timeline.now + 0.1)
        assert sum(host.process.is_alive and would_write(host) for host in world.hosts) <= 1
    assert not frozen.process.is_alive
    world.close()


def would_write(host: PlayedHost) -> bool:
    """Whether a host takes itself for the only one."""
    try:
        host.require_sole()
    except LeaseLost:
        return False
    return host.lease_number > 0


@pytest.mark.parametrize(
    ("is_local", "in_takeover", "asleep"),
    [
        (True, True, 0.95),  # less than a look lasts, and more than the next run takes to begin
        (True, False, 0.95),
        (False, False, 0.2),  # then it answers, before the next run begins
        (False, False, 0.95),
        (False, False, 3.0),
    ],
)
def test_an_agent_whose_start_was_given_up_commits_nothing_once_the_next_run_writes(
    is_local: bool, in_takeover: bool, asleep: float
) -> None:
    """It starts while the host stands still between its last question to the engine and the next run.

    It freezes in a commit, and the host goes on to the next run.
    """
    counts = [counts_of_a_late_start(seed, asleep, in_takeover=in_takeover, is_local=is_local) for seed in range(8)]
    assert any(each["superseded"] for each in counts)


def counts_of_a_late_start(seed: int, asleep: float, *, in_takeover: bool, is_local: bool) -> Counter[str]:
    world = World(seed, has_locks=is_local, is_local=is_local)
    for name in ("node-0", "node-1"):
        world.nodes[name] = Node(world.machine(name), 3)
        world.nodes[name].machine.mount_lag = 0.0 if is_local else 0.5
    session = world.add_session(0)
    host = world.add_host(world.machine("host-0"))

    def freeze(agent: PlayedAgent) -> None:
        agent.process.freeze()
        world.timeline.at(world.timeline.now + asleep, agent.process.thaw)
        host.process.thaw()

    def freeze_in_the_next(_: PlayedAgent) -> None:
        world.on_commit[session.id] = freeze

    world.on_commit[session.id] = freeze if in_takeover else freeze_in_the_next
    world.says(session, 3.0)
    world.start_latencies = [6.4, 0.1]
    world.timeline.run(60.0, lambda: last_run(world) == 1)
    assert host.runtime is not None
    host.runtime.close_nodes(drained=frozenset({"node-0"}), lost=frozenset())  # the next run is elsewhere
    world.timeline.run(60.0, lambda: last_run(world) == 2)
    host.process.freeze()
    world.timeline.run(world.timeline.now + 300.0, world.is_quiet)
    assert world.is_quiet()
    world.require_outcomes()
    assert world.counts["answered"] == 1
    world.close()
    return world.counts


def last_run(world: World) -> int:
    return int(world.ledger.execute("SELECT run_number FROM sessions").fetchone()["run_number"])


@pytest.mark.full
def test_ten_thousand_seeds() -> None:
    counts = played(range(10_000))
    assert counts["answered"] > 50_000


@pytest.mark.full
@pytest.mark.parametrize(
    ("seed", "size"), [(1, LARGE), (2, LARGE), (1, LARGEST)], ids=["large-1", "large-2", "largest"]
)
def test_many_sessions_on_many_nodes(seed: int, size: Size) -> None:
    report: Report = play(seed, size)
    assert report.counts["answered"] > size.messages // 2
