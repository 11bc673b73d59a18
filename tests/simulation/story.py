"""What happens in a world, from its seed: who speaks when, and which faults there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.simulation.agents import PlayedAgent
from tests.simulation.engines import Node
from tests.simulation.hosts import PlayedHost
from tests.simulation.timeline import Machine, Process
from tests.simulation.world import LAST_SECONDS, Violation, World

_LOOK_SECONDS = 10.0
SKEW = 0.03
"""Clocks of machines go wrong by 3 percent at most: a thousand times of what real ones do."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a world is. `slots`: agents on one node; `max_agents` in all; `seconds` in which there are faults."""

    sessions: int
    nodes: int
    hosts: int
    messages: int
    faults: int
    slots: int = 3
    max_agents: int = 100
    seconds: float = 150.0


@dataclass(frozen=True, slots=True)
class Report:
    """What one seed came to."""

    seed: int
    counts: dict[str, int]
    seconds: float  # of the played time
    steps: int


def size_of(seed: int) -> Size:
    """A small world, as its seed wants it."""
    return Size(
        sessions=2 + seed % 5,
        nodes=2 + seed % 3,
        hosts=1 + seed % 3,
        messages=2 + seed % 5,
        faults=seed % 10,
        slots=1 + seed % 4,
        max_agents=2 if seed % 4 == 0 else 100,
    )


def play(seed: int, size: Size | None = None) -> Report:
    """Play a world to its end. Raises `Violation` with the seed and the story."""
    size = size or size_of(seed)
    world = World(
        seed, max_agents=size.max_agents, has_locks=seed % 2 == 0, is_local=seed % 10 == 4, is_quick=seed % 50 == 0
    )
    try:
        _Story(world, size).play()
    except Violation as error:
        last = "\n".join(world.story[-60:])
        raise Violation(f"seed {seed} at {world.timeline.now:.3f} s: {error}\n{last}") from error
    finally:
        world.close()
    return Report(seed, dict(world.counts), world.timeline.now, world.timeline.steps)


class _Story:
    def __init__(self, world: World, size: Size) -> None:
        self.world = world
        self.size = size
        self.random = world.random
        self.hosts_machines: list[Machine] = []
        self.healing: list[Callable[[], None]] = []

    def play(self) -> None:
        world, size = self.world, self.size
        world.slow_engines = self.random.random() < 0.5
        for number in range(size.nodes):
            machine = world.machine(f"node-{number}", skew=SKEW)
            world.nodes[machine.name] = Node(machine, size.slots)
        sessions = [world.add_session(number) for number in range(size.sessions)]
        for number in range(size.hosts):
            machine = world.machine(f"host-{number}", skew=SKEW)
            self.hosts_machines.append(machine)
            world.add_host(machine)
        for _ in range(size.messages):
            world.says(self.random.choice(sessions), self.random.uniform(0, size.seconds))
        for _ in range(size.faults):
            fault = self.random.choice(_FAULTS)
            at = self.random.uniform(5, size.seconds)
            world.timeline.at(at, partial(fault, self))
            for _ in range(self.random.randrange(3)):  # what is under way then
                world.says(self.random.choice(sessions), at + self.random.uniform(-3, 30))
        while world.timeline.now < size.seconds:
            world.timeline.run(world.timeline.now + _LOOK_SECONDS)
            self._look()
        self._heal()
        end = world.timeline.now + LAST_SECONDS
        while not world.is_quiet():
            if world.timeline.now > end:
                world.note(f"open: {world.open_messages()}, lost {world.lost}")
                raise Violation(f"{len(world.open_messages())} messages have no outcome though all is well")
            world.timeline.run(world.timeline.now + _LOOK_SECONDS)
            self._look()
        world.timeline.run(world.timeline.now + 60.0)  # what wakes late
        world.require_outcomes()
        world.require_no_failures()

    def _look(self) -> None:
        room = sum(node.slots for node in self.world.nodes.values() if not node.had_fault)
        if min(room, self.size.max_agents) >= 2 * self.size.sessions:  # else they wait for each other
            self.world.require_soon()
        self.world.require_no_failures()

    def _heal(self) -> None:
        """All is well from now on, but for nodes that the admin gives up."""
        self.world.note("all is well from now on")
        for heal in self.healing:
            heal()
        self.world.on_turn.clear()
        self.world.on_commit.clear()

    # Faults. Each ends by itself, or when all is made well.

    def _for(self, low: float, high: float, heal: Callable[[], None]) -> None:
        """The fault is over after so many seconds, and at the latest when all is well."""
        is_over = False

        def once() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                heal()

        self.healing.append(once)
        self.world.timeline.at(self.world.timeline.now + self.random.uniform(low, high), once)

    def _node(self) -> Node:
        node = self.random.choice(list(self.world.nodes.values()))
        node.had_fault = True
        self.world.faulty |= {agent.session_id for agent in node.agents.values() if agent.is_alive}
        return node

    def _freezes(self, process: Process, low: float, high: float) -> None:
        process.freeze()
        self._for(low, high, process.thaw)

    def node_cut_off(self) -> None:
        """No host reaches its engine; its agents go on, and may be given up for lost."""
        node = self._node()
        self.world.note(f"{node.name} is cut off")
        node.machine.has_network = False
        if self.random.random() < 0.4:
            self.world.timeline.at(self.world.timeline.now + self.random.uniform(5, 90), partial(self._lost, node))
            for agent in list(node.agents.values()):  # that wakes long after others have gone on
                if self.random.random() < 0.5:
                    self._freezes(agent.process, 20, 150)

        def back() -> None:
            self.world.note(f"{node.name} is back")
            node.machine.has_network = True

        self._for(5, 120, back)

    def _lost(self, node: Node) -> None:
        """The admin's word, which is refused for a node that answers."""
        if node.machine.has_network and node.is_up:
            return
        self.world.note(f"{node.name} is lost")
        self.world.count("nodes lost")
        self.world.lost.add(node.name)
        self.world.faulty |= {
            each for each, agents in self.world.agents.items() if any(agent.node is node for agent in agents)
        }
        for host in self.world.hosts:
            if host.is_serving:
                host.loop.call_soon(host.lost)

    def node_crashes(self) -> None:
        """The machine goes down with its agents, and comes up again, or the admin gives it up."""
        node = self._node()
        self.world.note(f"{node.name} goes down")
        node.crash()
        if self.random.random() < 0.3 and len(self.world.lost) + 1 < len(self.world.nodes):
            self.world.timeline.at(self.world.timeline.now + 30, partial(self._lost, node))

        def up() -> None:
            self.world.note(f"{node.name} is up")
            node.is_up = True

        self._for(10, 120, up)

    def node_loses_mount(self) -> None:
        """What touches a file hangs there, and goes on later."""
        node = self._node()
        self.world.note(f"{node.name} has no mount")
        node.machine.has_mount = False
        self._for(1, 60, partial(setattr, node.machine, "has_mount", True))

    def _in_turn(self, what: Callable[[PlayedAgent], None]) -> None:
        session_id = self.random.choice(list(self.world.files))
        self.world.faulty.add(session_id)
        self.world.on_turn[session_id] = what

    def agent_dies(self) -> None:
        """It ends in its next turn."""

        def dies(agent: PlayedAgent) -> None:
            self.world.note(f"{agent.session_id[-4:]} run {agent.run} dies in its turn")
            agent.end(1)

        self._in_turn(dies)

    def agent_freezes(self) -> None:
        """It hangs in its next turn, for longer than its heartbeat may be silent, and wakes."""

        def freezes(agent: PlayedAgent) -> None:
            self.world.note(f"{agent.session_id[-4:]} run {agent.run} freezes in its turn")
            self._freezes(agent.process, 10, 90)

        self._in_turn(freezes)

    def agent_freezes_in_commit(self) -> None:
        """Between its look whether it may write, and what it writes."""
        session_id = self.random.choice(list(self.world.files))
        self.world.faulty.add(session_id)

        def freezes(agent: PlayedAgent) -> None:
            self.world.note(f"{agent.session_id[-4:]} run {agent.run} freezes in a commit")
            self._freezes(agent.process, 0.2, 60)

        self.world.on_commit[session_id] = freezes

    def _host(self) -> PlayedHost | None:
        serving = [host for host in self.world.hosts if host.is_serving]
        return self.random.choice(serving) if serving else None

    def host_killed(self) -> None:
        """And started again by a service manager; another one may be first."""
        if (host := self._host()) is not None:
            self.world.note(f"the host on {host.machine.name} is killed")
            self.world.count("hosts killed")
            self.world.ended(host)

    def host_freezes(self) -> None:
        """For less, or for longer, than its lease lasts."""
        if (host := self._host()) is None:
            return
        self.world.note(f"the host on {host.machine.name} freezes")
        self._freezes(host.process, 1, 60)
        self._disturbed()

    def host_loses_mount(self) -> None:
        """Its lease cannot be renewed."""
        if (host := self._host()) is None:
            return
        self.world.note(f"the host on {host.machine.name} has no mount")
        host.machine.has_mount = False
        self._for(1, 60, partial(setattr, host.machine, "has_mount", True))
        self._disturbed()

    def host_loses_network(self) -> None:
        """It reaches no engine, and its mount all the same."""
        if (host := self._host()) is None:
            return
        self.world.note(f"the host on {host.machine.name} reaches no engine")
        host.machine.has_network = False
        self._for(1, 60, partial(setattr, host.machine, "has_network", True))
        self._disturbed()

    def _disturbed(self) -> None:
        """Something is the matter with a host: no session counts as without a fault until a minute later."""
        self.world.host_trouble = self.world.timeline.now + 90.0


_FAULTS = (
    _Story.node_cut_off,
    _Story.node_cut_off,
    _Story.node_crashes,
    _Story.node_loses_mount,
    _Story.agent_dies,
    _Story.agent_freezes,
    _Story.agent_freezes_in_commit,
    _Story.host_killed,
    _Story.host_freezes,
    _Story.host_freezes,
    _Story.host_loses_mount,
    _Story.host_loses_network,
)
