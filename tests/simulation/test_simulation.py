"""Stories of many machines, made from seeds: what must never be, is not (`world.py` says what that is).

A seed that fails is printed with its story; `python -m tests.simulation --first SEED --seeds 1` plays it again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.simulation.engines import Node
from tests.simulation.story import Report, Size, play
from tests.simulation.world import World

LARGE = Size(sessions=5_000, nodes=100, hosts=3, messages=200, faults=20, slots=10, max_agents=1_000, seconds=120.0)


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
    world.timeline.run(world.timeline.now + 60.0, world.is_quiet)
    assert world.is_quiet()
    world.require_outcomes()
    assert world.counts["answered"] == 1
    world.close()


@pytest.mark.full
def test_ten_thousand_seeds() -> None:
    counts = played(range(10_000))
    assert counts["answered"] > 50_000


@pytest.mark.full
@pytest.mark.parametrize("seed", [1, 2])
def test_five_thousand_sessions_on_a_hundred_nodes(seed: int) -> None:
    report: Report = play(seed, LARGE)
    assert report.counts["answered"] > LARGE.messages // 2
