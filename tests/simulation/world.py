"""One world: machines, mount, ledger, hosts, and what must never be.

- Two hosts never write: what a host commits, or writes into a session's file, it writes with the highest lease of all.
- A session never has two agents that can write: an agent is started only where every earlier one that wrote to this
  `out/` is over, and once a later run has taken a file over no earlier one commits to it, however late it wakes.
- Every message is answered once, or the one who asked is told why it is not; none waits for ever once all is well.
- A session that no fault has touched is answered soon, whatever happens elsewhere.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from host.central import ingest
from host.central.agent_groups import AgentGroup
from host.central.database import CENTRAL
from host.central.sessions import Session
from host.lease_rules import Timing
from host.settings import Settings
from host.supervision.decide import SupervisionLimits
from shared_schema.layout import SessionLayout
from shared_schema.migrate import migrate
from tests.simulation.agents import PlayedAgent
from tests.simulation.engines import Node
from tests.simulation.hosts import PlayedHost
from tests.simulation.mount import LeaseFolder, SessionFiles
from tests.simulation.timeline import Machine, Timeline
from tests.unit.registry import accepted_values, add_agent, add_session

SOON_SECONDS = 90.0
"""Within which a session without a fault is answered: a start on nodes of which some do not answer, and a long turn."""
LAST_SECONDS = 1_500.0
"""Within which all messages have their outcome once all is well: retries of a turn that dies, and of its start."""
_AGENT_GROUPS = 100
_RESEND_SECONDS = 10.0
_RESTART_SECONDS = (0.5, 5.0)
OPEN = "SELECT message_id, session_id FROM ingest WHERE status IN ('accepted', 'pending')"
OUTCOMES = """
SELECT i.message_id, i.session_id, i.status,
    (SELECT count(*) FROM deliveries d WHERE d.in_reply_to = i.message_id AND NOT d.from_host) AS answers,
    (SELECT count(*) FROM deliveries d WHERE d.in_reply_to = i.message_id AND d.from_host
        AND d.content LIKE '%could not be answered%') AS notices
FROM ingest i
"""


class Violation(AssertionError):
    """What must never be."""


@dataclass
class Said:
    """One message of a person, who sends it again until it is accepted."""

    number: int
    session: Session
    values: dict[str, object]
    accepted_at: float | None = None


class World:
    """Everything of one seed. What happens is in `story`, for whoever looks into a violation.

    `has_locks`: one machine keeps another one from a file. `is_local`: all see it at once, as on the one machine that
    has the disk; there nothing is waited for before a run is started. `is_quick`: hosts look as often as they do on a
    shared mount, which takes ten times as long to play.
    """

    def __init__(
        self,
        seed: int,
        *,
        max_agents: int = 10,
        has_locks: bool = True,
        is_local: bool = False,
        is_quick: bool = False,
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.timeline = Timeline()
        self.timing = Timing()
        self.has_locks = has_locks
        self.is_local = is_local
        self.ledger = _ledger()
        self.lease = LeaseFolder(self.timeline)
        self.locks: dict[str, object] = {}  # who has the kernel's lock on each machine
        self.nodes: dict[str, Node] = {}
        self.files: dict[str, SessionFiles] = {}
        self._groups: list[AgentGroup] = []
        self._folders: dict[str, SessionLayout] = {}
        self.hosts: list[PlayedHost] = []
        self.lost: set[str] = set()
        self.said: list[Said] = []
        self.counts: Counter[str] = Counter()
        self.story: list[str] = []
        self.faulty: set[str] = set()  # sessions that a fault has touched
        self.host_trouble = 0.0  # when something last was the matter with a host
        self.agents: dict[str, list[PlayedAgent]] = {}
        self.on_turn: dict[str, object] = {}
        self.on_commit: dict[str, object] = {}
        self.start_latencies: list[float] = []  # of the next starts, before chance has them
        self.settings, self.limits = _settings(max_agents, is_quick)
        self.slow_engines = False

    # Building

    def machine(self, name: str, *, skew: float = 0.0) -> Machine:
        """A machine whose clocks are off by days, and fast or slow by up to `skew`."""
        rate = 1 + self.random.uniform(-skew, skew)
        off = self.random.uniform(-1e5, 1e5)
        lag = 0.0 if self.is_local else self.random.choice((0.0, 0.01, 0.5))
        return Machine(self.timeline, name, rate=rate, off=off, mount_lag=lag)

    def add_session(self, number: int) -> Session:
        if number < _AGENT_GROUPS:
            self._groups.append(add_agent(self.ledger, f"agent-{number}"))
        session = add_session(self.ledger, self._groups[number % _AGENT_GROUPS], f"shared/memory/{number}")
        self.files[session.id] = SessionFiles(self.timeline)
        self._folders[session.id] = SessionLayout(Path("/simulated") / session.id, shared=True)
        self.agents[session.id] = []
        return session

    def add_host(self, machine: Machine) -> PlayedHost:
        host = PlayedHost(self, machine)
        self.hosts.append(host)
        return host

    # What those who are played ask and tell

    def folder(self, session_id: str) -> SessionLayout:
        return self._folders[session_id]

    def delay(self) -> float:
        return self.random.uniform(0.001, 0.02)

    def latency(self) -> float:
        return self.random.uniform(0.001, 0.02)

    def start_latency(self) -> float:
        if self.start_latencies:
            return self.start_latencies.pop(0)
        if self.slow_engines and self.random.random() < 0.2:
            return self.random.uniform(2.0, 30.0)  # beyond what a host waits for
        return self.random.uniform(0.1, 0.6)

    def note(self, what: str) -> None:
        self.story.append(f"{self.timeline.now:9.3f} {what}")

    def count(self, what: str) -> int:
        self.counts[what] += 1
        return self.counts[what]

    def host_changed(self) -> None:
        self.host_trouble = self.timeline.now

    def ended(self, host: PlayedHost) -> None:
        """A host's process is over: a service manager starts another one on its machine."""
        host.kill()
        if host in self.hosts:
            self.hosts.remove(host)
            self.host_changed()
            after = self.random.uniform(*_RESTART_SECONDS)
            self.timeline.at(self.timeline.now + after, lambda: self.add_host(host.machine))

    def started(self, agent: PlayedAgent) -> None:
        """A container is made: every other agent that wrote to the same folder must be over."""
        self.count("starts")
        self.note(f"{agent.session_id[-4:]} run {agent.run} on {agent.node.name}{' late' if agent.is_late else ''}")
        earlier = self.agents[agent.session_id]
        for other in earlier:
            if other.is_alive and other.out is agent.out and other.has_taken_over and not other.is_late:
                if agent.is_late and other.run > agent.run:
                    continue  # a call of a host that is gone: what it started finds itself superseded
                raise Violation(f"{agent.session_id}: run {agent.run} starts while run {other.run} lives")
        earlier[:] = [other for other in earlier if other.is_alive]
        earlier.append(agent)
        if agent.node.had_fault or agent.is_late:
            self.faulty.add(agent.session_id)

    def turn_began(self, agent: PlayedAgent) -> None:
        """A turn runs: the story may have something in store for it."""
        what = self.on_turn.pop(agent.session_id, None)
        if callable(what):
            what(agent)

    def commit_began(self, agent: PlayedAgent) -> None:
        """An agent has looked whether it may write, and is about to lock its file."""
        what = self.on_commit.pop(agent.session_id, None)
        if callable(what):
            what(agent)

    def require_sole_writer(self, agent: PlayedAgent, *, takes_over: bool) -> None:
        """An agent commits: no later run may have taken the same file over."""
        if agent.run < agent.out.highest_run:
            kind = "takes over" if takes_over else "commits"
            raise Violation(f"{agent.session_id}: run {agent.run} {kind} after run {agent.out.highest_run}")

    def require_sole_host(self, host: PlayedHost) -> None:
        """A host has written: no other may have taken the folder over."""
        if host.lease_number != max(self.lease.numbers(), default=0):
            raise Violation(f"the host with lease {host.lease_number} writes after another one began")

    def inbox_changed(self, session_id: str) -> None:
        for agent in self.agents[session_id]:
            agent.told()

    # People

    def says(self, session: Session, at: float) -> None:
        """A person writes to a session then."""
        values = accepted_values(session, platform_id=session.id, platform_message_id=f"p{len(self.said)}")
        said = Said(len(self.said), session, values)
        self.said.append(said)
        self.timeline.at(at, lambda: self._send(said))

    def _send(self, said: Said) -> None:
        """Send it to the host that serves, and again later unless it says that it has it."""
        if said.accepted_at is not None:
            return
        host = next((host for host in self.hosts if host.is_serving), None)
        self.timeline.at(self.timeline.now + (_RESEND_SECONDS if host else 1.0), lambda: self._send(said))
        if host is None or not host.process.is_alive:
            return

        def accepted(done: object) -> None:
            if said.accepted_at is None and done.exception() is None:  # type: ignore[attr-defined]
                said.accepted_at = self.timeline.now

        host.central.submit(ingest.accept, said.values).add_done_callback(accepted)

    # Looking

    def open_messages(self) -> list[tuple[str, str]]:
        return [(row["message_id"], row["session_id"]) for row in self.ledger.execute(OPEN)]

    def is_quiet(self) -> bool:
        """Whether everything that was said has its outcome."""
        return all(said.accepted_at is not None for said in self.said) and not self.open_messages()

    def require_soon(self) -> None:
        """No message waits for long in a session that no fault has touched, while a host serves."""
        if not any(host.is_serving for host in self.hosts):
            return
        accepted = {said.values["message_id"]: said.accepted_at for said in self.said}
        for message_id, session_id in self.open_messages():
            since = max(accepted[message_id] or self.timeline.now, self.host_trouble)
            if session_id in self.faulty or self._was_sent_to_a_fault(session_id):
                continue
            if self.timeline.now - since > SOON_SECONDS:
                raise Violation(f"{session_id}: a message waits for {self.timeline.now - since:.0f} s, without a fault")

    def _was_sent_to_a_fault(self, session_id: str) -> bool:
        """Whether its run was noted on a node that failed before the start arrived: then it waits for that node."""
        (name,) = self.ledger.execute("SELECT node FROM sessions WHERE id = ?", (session_id,)).fetchone()
        return name in self.nodes and self.nodes[name].had_fault

    def require_outcomes(self) -> None:
        """Every message was answered once, or the one who asked was told why not."""
        for row in self.ledger.execute(OUTCOMES):
            what = f"{row['session_id']}: {row['message_id']} is {row['status']}"
            if row["answers"] > 1:
                raise Violation(f"{what} and was answered {row['answers']} times")
            if not row["answers"] and not row["notices"]:
                raise Violation(f"{what}, was not answered, and no one was told")
            if row["status"] == "completed" and not row["answers"]:
                raise Violation(f"{what} and has no answer")
            self.count("answered" if row["answers"] else "told why not")
            if row["answers"] and row["notices"]:
                self.count("both")

    def require_no_failures(self) -> None:
        """No task of a host ended with an exception that no one took."""
        for host in self.hosts:
            if host.loop.failures:
                raise Violation(f"the host of {host.machine.name}: {host.loop.failures[0]}")

    def close(self) -> None:
        """Let go of all that was played."""
        for host in self.hosts:
            host.kill()
        self.ledger.close()


@cache
def _settings(max_agents: int, is_quick: bool) -> tuple[Settings, SupervisionLimits]:
    settings = Settings(
        data=Path("/simulated"),
        runtime="docker",
        shared=is_quick,  # of all that it stands for, only how often a host looks is not played
        max_agents=max_agents,
        idle_seconds=10,
        turn_seconds=60,
    )
    limits = SupervisionLimits(
        start_seconds=settings.start_seconds,
        silent_seconds=settings.silent_seconds,
        turn_seconds=settings.turn_seconds,
        idle_seconds=settings.idle_seconds,
        background_seconds=settings.background_seconds,
        engine_seconds=settings.engine_seconds,
        fault_seconds=settings.fault_seconds,
        retry_seconds=settings.retry_seconds,
        max_retries=settings.max_retries,
    )
    return settings, limits


def _ledger() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    _empty().backup(connection)
    return connection


@cache
def _empty() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrate(connection, CENTRAL)
    return connection
