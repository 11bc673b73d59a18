"""An agent is killed at every step of its life, and the next one goes on."""

from __future__ import annotations

from collections.abc import Iterator
from traceback import format_exception

import pytest

from shared_schema.ids import Prefix, new_id
from tests.support.failpoint import Plan
from tests.support.failpoints import (
    MortalDaemon,
    Point,
    arm,
    died_at,
    disarm,
    evenly,
    is_armed,
    mortal,
    passed,
)
from tests.support.outcomes import Conversation
from tests.support.short import in_short
from tests.support.wait import until_sync

LOOP = "container_agent.loop"
OUTBOX = "container_agent.outbox"
TURN = "container_agent.turn"
FILES = "container_agent.attachments"

# fmt: off
BETWEEN_TURNS = (
    Point("start: no sign of life yet", "container_agent.__main__", "live", "heartbeat.touch()"),
    Point("recover: not begun", LOOP, "Loop.run", "self._outbox.recover()"),
    Point("recover: half done", OUTBOX, "Outbox.recover", "DELETE_PROCESSING_ACKS"),
    Point("recover: done", LOOP, "Loop.run", "self._waker.arm()"),
    Point("batch: read", LOOP, "Loop.run", "choose("),
    Point("batch: chosen", LOOP, "Loop.run", "await self._run_turn("),
    Point("begin: half noted", OUTBOX, "Outbox.begin_turn", "_insert_acks("),
    Point("idle: not said", LOOP, "Loop.run", "set_phase(AgentPhase.IDLE)"),
    Point("idle: waiting", LOOP, "Loop.run", "await self._waker.wait(until_due"),
)
IN_A_TURN = (
    Point("begin: noted, provider not asked", LOOP, "Loop._run_turn", "turn.run("),
    Point("streamed: not written", TURN, "Output.send", "append_message("),
    Point("streamed: not committed", OUTBOX, "Outbox.append_message", "_insert_message("),
    Point("streamed: committed", TURN, "Output.send", "return message_id"),
    Point("file: not on the disk", FILES, "_write", "os.fsync("),
    Point("file: in its place", FILES, "place", "_sync(directory)"),
    Point("end: replies not in", OUTBOX, "Outbox.end_turn", "_insert_message("),
    Point("end: acknowledged, not committed", OUTBOX, "Outbox.end_turn", "self._set_state("),
    Point("end: committed", OUTBOX, "Outbox.end_turn", "self._is_fresh = False"),
)
AFTER_A_CRASH = (
    Point("recover: a dead turn given back", LOOP, "Loop.run", 'log.warning("an earlier agent died'),
)
WHILE_STOPPING = (
    Point("stop: told", LOOP, "Loop.stop", "self._waker.wake()"),
    Point("stop: not said", LOOP, "Loop.run", "set_phase(AgentPhase.STOPPING)"),
)
WHILE_GIVING_BACK = (
    Point("stop: turn not given back", LOOP, "Loop._give_back", "self._outbox.give_back("),
    Point("stop: turn half given back", OUTBOX, "Outbox.give_back", "sql.DELETE_ACKS"),
    Point("stop: turn given back", LOOP, "Loop._give_back", 'log.info("turn given back'),
)
# fmt: on


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalDaemon]:
    """One host for all; its agents run under the tracer."""
    with mortal(tmp_path_factory.mktemp("agents") / "data", "platform") as host:
        yield host


class Group:
    """An agent group of its own, so that a plan is for its agents alone, and two chats with it."""

    def __init__(self, host: MortalDaemon) -> None:
        name = new_id(Prefix.AGENT_GROUP)
        host.call("agent_group.add", name=name, provider="scripted")
        self.workspace = host.layout.workspace(name)
        self.workspace.mkdir()
        self.people = Conversation(host, agent_group=name)
        self._ended = host.data.with_name(f"{host.data.name}.ended")
        self._killed_before = self._killed()

    def dies(self, point: object) -> None:
        """Wait until an agent has died at the point, of signal 9, and the host has seen it."""
        until_sync(lambda: not is_armed(self.workspace), f"'{point}' was passed")
        until_sync(lambda: self._killed() == self._killed_before + 1, "an agent was ended by signal 9")

    def _killed(self) -> int:
        return self._ended.read_text().split().count("137") if self._ended.exists() else 0


@pytest.fixture
def group(host: MortalDaemon) -> Iterator[Group]:
    yield Group(host)
    host.end_agents()


@pytest.mark.parametrize(
    "point", in_short(BETWEEN_TURNS, "start: no sign of life yet", "recover: half done", "batch: chosen")
)
def test_an_agent_is_killed_between_turns_and_nothing_is_said_twice(group: Group, point: Point) -> None:
    arm(group.workspace, point.plan)
    group.people.talk()
    group.dies(point)
    assert group.people.finish() == 0


@pytest.mark.parametrize(
    "point",
    in_short(IN_A_TURN, "begin: noted, provider not asked", "file: in its place", "end: acknowledged, not committed"),
)
def test_an_agent_is_killed_in_a_turn_which_is_run_again(group: Group, point: Point) -> None:
    arm(group.workspace, point.plan)
    group.people.talk()
    group.dies(point)
    group.people.finish(repeats=True)


@pytest.mark.parametrize("point", AFTER_A_CRASH, ids=str)
def test_an_agent_is_killed_while_it_recovers_from_a_crash(group: Group, point: Point) -> None:
    arm(group.workspace, point.plan)
    group.people.ask(group.people.one, "crash-once")
    group.people.talk()
    group.dies(point)
    group.people.finish(repeats=True)


@pytest.mark.parametrize("point", in_short(WHILE_STOPPING, "stop: not said"))
def test_an_agent_is_killed_while_it_stops(group: Group, point: Point) -> None:
    group.people.talk()
    group.people.settle()
    arm(group.workspace, point.plan)
    assert group.people.finish() == 0
    group.dies(point)
    group.people.talk()
    assert group.people.finish() == 0


@pytest.mark.parametrize("point", in_short(WHILE_GIVING_BACK, "stop: turn half given back"))
def test_an_agent_is_killed_while_it_gives_back_a_turn_to_a_host_that_stops(
    host: MortalDaemon, group: Group, point: Point
) -> None:
    group.people.talk()
    group.people.settle()
    group.people.ask(group.people.one, "think 1")
    until_sync(lambda: host.rows("SELECT 1 FROM turns WHERE status = 'running'"), "the turn runs")
    arm(group.workspace, point.plan)
    assert host.stop() == 0
    host.start()
    group.dies(point)
    assert group.people.finish() == 0


@pytest.mark.full
@pytest.mark.parametrize("kills", [200])
def test_wherever_an_agent_is_killed_nothing_is_lost(host: MortalDaemon, kills: int) -> None:
    calm = Group(host)
    arm(calm.workspace, Plan(passing=0))
    calm.people.talk()
    calm.people.finish()
    lines = passed(calm.workspace)
    failures, again = [], []
    for line in evenly(lines, kills):
        group = Group(host)
        try:
            again.append(killed_at(group, line))
        except AssertionError as error:
            failures.append("".join([f"line {line}, {died_at(group.workspace)}: ", *format_exception(error)]))
            disarm(group.workspace)
            host.end_agents()
    print(f"{kills} kills in {lines} lines; {len(failures)} with something lost or left over")
    print(f"said once more by a turn that was run again: {sum(again)} replies, after {sum(map(bool, again))} kills")
    assert failures == []


def killed_at(group: Group, line: int) -> int:
    """Kill an agent at that line of its life; somewhat earlier, when its life is shorter than in the calm run.

    How many replies came again.
    """
    arm(group.workspace, Plan(line))
    group.people.talk()
    group.people.finish(repeats=True)
    if is_armed(group.workspace):
        return killed_at(group, line * 9 // 10)
    group.dies(line)
    return group.people.verify(repeats=True)
