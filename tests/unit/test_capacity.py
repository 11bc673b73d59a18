"""Slots for running agents, and what keeps a session from taking one."""

from __future__ import annotations

from pathlib import Path

from host.runtime.protocol import AgentHandle
from host.supervision.agent import RunningAgent
from host.supervision.capacity import AgentSlots, StartBackoff
from shared_schema.clock import ManualClock
from shared_schema.layout import SessionLayout


def agent(name: str, *, idle_since: float = 0.0, busy: bool = False) -> RunningAgent:
    running = RunningAgent(AgentHandle("run", name, "1"), SessionLayout(Path("x")), started=0.0, heartbeat_stamp=None)
    running.last_activity = idle_since
    running.busy_since = 1.0 if busy else None
    return running


def test_a_newcomer_does_not_pass_those_who_wait() -> None:
    agents = {"a": agent("a", busy=True)}
    slots = AgentSlots(agents, 1)
    assert slots.join_queue("first", 10.0) == []
    slots.join_queue("second", 10.0)
    agents.clear()
    assert [slots.has_one_for(name) for name in ("first", "second", "newcomer")] == [True, False, False]
    slots.leave_queue("first")
    assert [slots.has_one_for(name) for name in ("second", "newcomer")] == [True, False]


def test_as_many_are_next_as_there_are_free_places() -> None:
    agents = {name: agent(name, busy=True) for name in ("a", "b", "c")}
    slots = AgentSlots(agents, 3)
    for name in ("first", "second", "third"):
        slots.join_queue(name, 10.0)
    assert slots.next_in_line == []
    del agents["a"]
    assert slots.next_in_line == ["first"]
    del agents["b"]
    assert slots.next_in_line == ["first", "second"]
    with slots.being_taken("starting"):
        assert slots.next_in_line == ["first"]


def test_a_place_is_taken_while_an_agent_starts() -> None:
    slots = AgentSlots({}, 1)
    with slots.being_taken("starting"):
        assert not slots.has_one_for("other")
    assert slots.has_one_for("other")


def test_the_agent_idle_longest_is_asked_to_leave_one_for_each_that_waits() -> None:
    agents = {"new": agent("new", idle_since=9), "old": agent("old", idle_since=1), "busy": agent("busy", busy=True)}
    slots = AgentSlots(agents, 3)
    assert slots.join_queue("one", 10.0) == ["old"]
    assert slots.join_queue("one", 10.0) == []
    assert slots.join_queue("two", 10.0) == ["new"]
    assert slots.join_queue("three", 10.0) == []


def test_an_engine_that_does_not_answer_is_asked_less_and_less_often() -> None:
    clock = ManualClock()
    backoff = StartBackoff(clock)
    waits = []
    for _ in range(7):
        waits.append(backoff.no_answer("s"))
        assert backoff.retry_in("s") == waits[-1]
        clock.advance(waits[-1])
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert backoff.unavailable_for("s") == sum(waits)
    assert backoff.retry_in("other") == 0
    backoff.clear("s")
    assert backoff.unavailable_for("s") is None


def test_a_retry_waits_also_when_the_wall_clock_jumps() -> None:
    clock = ManualClock()
    backoff = StartBackoff(clock)
    backoff.wait("s", 5)
    clock.jump(-3600)
    clock.advance(4)
    assert backoff.retry_in("s") == 1
    clock.advance(1)
    assert backoff.retry_in("s") == 0
    assert backoff.unavailable_for("s") is None


def test_what_runs_in_the_background_takes_half_of_the_slots_and_waits_behind_every_conversation() -> None:
    agents: dict[str, RunningAgent] = {}
    slots = AgentSlots(agents, 4)
    for name in ("run-1", "run-2"):
        assert slots.has_one_for(name, is_background=True)
        agents[name] = agent(name, busy=True)
    assert not slots.has_one_for("run-3", is_background=True)
    slots.join_queue("run-3", 10.0)
    assert slots.has_one_for("person")
    agents["person"] = agent("person", busy=True)
    agents["another"] = agent("another", busy=True)
    assert not slots.has_one_for("late")
    slots.join_queue("late", 10.0)
    assert slots.waiting == ["late", "run-3"]
    del agents["run-1"]
    assert slots.next_in_line == ["late"]
    assert not slots.has_one_for("run-3", is_background=True)
    slots.leave_queue("late")
    agents["late"] = agent("late", busy=True)
    del agents["person"]
    assert slots.next_in_line == ["run-3"]


def test_of_very_many_runs_most_wait_without_being_looked_at_and_are_next_in_their_order() -> None:
    agents: dict[str, RunningAgent] = {}
    slots = AgentSlots(agents, 2)
    for name in ("run-1", "run-2", "run-3"):
        slots.has_one_for(name, is_background=True)
        slots.join_queue(name, 10.0)
    assert slots.wait_behind("run-4")
    assert slots.next_in_line == ["run-1"]
    for name in ("run-1", "run-2", "run-3"):
        slots.leave_queue(name)
    assert slots.next_in_line == ["run-4"]
    assert not slots.wait_behind("run-5")
