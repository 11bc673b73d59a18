"""What the host has seen of one running agent, by a clock that nobody sets (FAILURES 9, 15)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from host.runtime.protocol import AgentHandle
from host.sessions.outbox import Signature
from host.supervision.agent import LONGEST_MEASURE, NEAR_MEASURE, SHORTEST_MEASURE, RunningAgent
from host.supervision.decide import Facts, Stop, StopReason, Wait, decide
from host.supervision.polling import poll_after
from shared_schema.clock import ManualClock
from shared_schema.layout import SessionLayout
from tests.unit.test_decide import LIMITS

WEEK = 7 * 86_400
LAST_WEEK = 1_771_600_000_000_000_000
SIGNATURE = Signature(1, 4096, 1, b"\x00\x00\x00\x01")


def started(clock: ManualClock, stamp: int | None = None) -> RunningAgent:
    """An agent that was started just now, on a folder whose heartbeat file has that time stamp."""
    return RunningAgent(
        AgentHandle("run_1", "ses_1", "1"), SessionLayout(Path("x")), started=clock.monotonic(), heartbeat_stamp=stamp
    )


def stop_reason(agent: RunningAgent, clock: ManualClock, waiting: int = 1) -> StopReason | None:
    decision = decide(Facts(True, waiting, agent.facts(clock.monotonic())), LIMITS)
    assert isinstance(decision, Stop | Wait)
    return decision.reason if isinstance(decision, Stop) else None


def test_an_agent_just_started_is_not_judged_by_last_week_s_heartbeat(clock: ManualClock) -> None:
    agent = started(clock, LAST_WEEK)
    agent.saw_heartbeat(LAST_WEEK, clock.monotonic())
    assert agent.facts(clock.monotonic()).silent_for is None
    assert stop_reason(agent, clock) is None
    clock.advance(LIMITS.start_seconds - 0.001)
    agent.saw_heartbeat(LAST_WEEK, clock.monotonic())
    assert stop_reason(agent, clock) is None
    clock.advance(0.001)
    assert stop_reason(agent, clock) is StopReason.NEVER_STARTED


def test_the_first_change_of_the_heartbeat_is_the_first_sign_of_life(clock: ManualClock) -> None:
    agent = started(clock, LAST_WEEK)
    clock.advance(50)
    agent.saw_heartbeat(LAST_WEEK + 1, clock.monotonic())
    assert agent.facts(clock.monotonic()).silent_for == 0
    clock.advance(LIMITS.silent_seconds - 0.001)
    assert stop_reason(agent, clock) is None
    clock.advance(0.001)
    assert stop_reason(agent, clock) is StopReason.SILENT


def test_an_answer_that_takes_long_is_looked_for_as_seldom_as_without_adapting(clock: ManualClock) -> None:
    agent = started(clock)
    looks = 0
    while (since := clock.monotonic() - agent.started) < 60:
        agent.saw_work(1, 0, clock.monotonic())
        clock.advance(poll_after(clock.monotonic() - agent.stirred, waits=True, poll_seconds=1.0))
        looks += 1
        if since < 1:
            assert looks <= 21
    assert looks < 130  # 20 in the first second, 60 in the next 19, and one in each after them


def test_output_and_outcomes_are_looked_for_quickly_again(clock: ManualClock) -> None:
    agent = started(clock)
    agent.saw_work(1, 0, clock.monotonic())
    clock.advance(30)
    agent.saw_output(SIGNATURE, clock.monotonic(), rest=None, doing=None)
    assert clock.monotonic() == agent.stirred
    clock.advance(30)
    agent.saw_work(1, 1, clock.monotonic())
    assert clock.monotonic() == agent.stirred


def test_on_a_late_mount_what_has_not_changed_is_read_once_more_and_again_while_an_answer_is_wanted(
    clock: ManualClock,
) -> None:
    def read_at(agent: RunningAgent, seconds: int) -> list[int]:
        """After which seconds without a change the file is read again."""
        found = []
        for second in range(1, seconds):
            clock.advance(1)
            if agent.has_news(SIGNATURE, clock.monotonic(), 1.0):
                agent.saw_output(SIGNATURE, clock.monotonic(), rest=None, doing=None)
                found.append(second)
        return found

    for shared, waiting, expected in ((True, 0, [5]), (True, 1, [5, 10, 20, 40, 80]), (False, 1, [])):
        agent = replace(started(clock), folder=SessionLayout(Path("x"), shared=shared))
        assert agent.has_news(SIGNATURE, clock.monotonic(), 1.0)
        agent.saw_output(SIGNATURE, clock.monotonic(), rest=None, doing=None)
        agent.saw_work(waiting, 0, began := clock.monotonic())
        assert read_at(agent, 100) == expected
        assert agent.stirred == began, "that is no reason to look often"


def test_the_heartbeat_is_looked_at_until_it_is_seen_and_then_now_and_then(clock: ManualClock) -> None:
    agent = replace(started(clock), folder=SessionLayout(Path("x"), shared=True))
    assert [agent.wants_beat(1.5, clock.monotonic()) for _ in range(3)] == [True, True, True]
    agent.saw_heartbeat(1, clock.monotonic())
    assert not agent.wants_beat(1.5, clock.monotonic())
    clock.advance(1.5)
    assert agent.wants_beat(1.5, clock.monotonic())
    assert not agent.wants_beat(1.5, clock.monotonic())


def test_an_agent_whose_engine_is_back_has_the_whole_time_again_to_show_life(clock: ManualClock) -> None:
    agent = started(clock)
    agent.saw_heartbeat(1, clock.monotonic())
    agent.engine_is_away(clock.monotonic())
    clock.advance(WEEK)
    agent.engine_is_back(clock.monotonic())
    assert stop_reason(agent, clock) is None
    clock.advance(LIMITS.silent_seconds)
    agent.engine_is_back(clock.monotonic())  # it was not away since
    assert stop_reason(agent, clock) is StopReason.SILENT


@pytest.mark.parametrize("stamps", [[1, 2, 3], [9, 8, 7], [2**62, 0, -(2**62)]], ids=["forward", "backward", "wild"])
def test_what_the_stamp_says_means_nothing_only_that_it_changes(clock: ManualClock, stamps: list[int]) -> None:
    agent = started(clock)
    for stamp in stamps:
        clock.advance(20)
        agent.saw_heartbeat(stamp, clock.monotonic())
        assert agent.facts(clock.monotonic()).silent_for == 0


def test_a_stamp_in_the_far_future_does_not_keep_an_agent_alive(clock: ManualClock) -> None:
    agent = started(clock)
    for _ in range(4):
        agent.saw_heartbeat(2**62, clock.monotonic())
        clock.advance(10)
    assert agent.facts(clock.monotonic()).silent_for == 40
    assert stop_reason(agent, clock) is StopReason.SILENT


def test_a_heartbeat_file_that_goes_away_is_no_sign_of_life(clock: ManualClock) -> None:
    agent = started(clock)
    agent.saw_heartbeat(1, clock.monotonic())
    clock.advance(30)
    agent.saw_heartbeat(None, clock.monotonic())
    agent.saw_heartbeat(1, clock.monotonic())
    assert agent.facts(clock.monotonic()).silent_for == 30


@pytest.mark.parametrize("jump", [WEEK, -WEEK, 3600, -3600, 365 * 86_400])
def test_a_jump_of_the_clock_changes_no_age(clock: ManualClock, jump: float) -> None:
    agent = started(clock)
    agent.saw_heartbeat(1, clock.monotonic())
    agent.saw_work(1, 0, clock.monotonic())
    agent.saw_trouble(clock.monotonic())
    clock.advance(5)
    before = agent.facts(clock.monotonic())
    clock.jump(jump)
    assert agent.facts(clock.monotonic()) == before
    assert (before.age, before.silent_for, before.busy_for, before.unreadable_for, before.idle_for) == (5, 5, 5, 5, 5)
    assert stop_reason(agent, clock) is None


def test_it_is_busy_from_the_first_message_until_the_last_outcome(clock: ManualClock) -> None:
    agent = started(clock)
    assert agent.facts(clock.monotonic()).busy_for is None
    assert agent.saw_work(1, 0, clock.monotonic())
    clock.advance(100)
    assert not agent.saw_work(2, 0, clock.monotonic())
    assert agent.facts(clock.monotonic()).busy_for == 100
    assert not agent.saw_work(1, 1, clock.monotonic())
    assert agent.facts(clock.monotonic()).busy_for == 0  # an outcome begins the patience anew
    clock.advance(7)
    assert not agent.saw_work(0, 1, clock.monotonic())
    assert agent.facts(clock.monotonic()).busy_for is None
    assert agent.saw_work(1, 0, clock.monotonic())


def test_many_messages_one_after_another_are_not_one_turn_that_takes_too_long(clock: ManualClock) -> None:
    agent = started(clock)
    agent.saw_work(10, 0, clock.monotonic())
    for left in range(9, 0, -1):
        clock.advance(1_000)
        agent.saw_heartbeat(left, clock.monotonic())
        agent.saw_work(left, 1, clock.monotonic())
        assert stop_reason(agent, clock) is None
    for beat in range(100):
        clock.advance(20)
        agent.saw_heartbeat(1_000 + beat, clock.monotonic())
    assert stop_reason(agent, clock) is StopReason.TURN_TOO_LONG


def test_it_is_idle_since_it_last_did_anything(clock: ManualClock) -> None:
    agent = started(clock)
    clock.advance(100)
    agent.saw_output(SIGNATURE, clock.monotonic(), rest=None, doing=None)
    clock.advance(50)
    agent.saw_heartbeat(1, clock.monotonic())
    assert agent.facts(clock.monotonic()).idle_for == 50  # a heartbeat is no work
    agent.saw_work(0, 0, clock.monotonic())
    assert agent.facts(clock.monotonic()).idle_for == 50
    agent.saw_work(1, 0, clock.monotonic())
    assert agent.facts(clock.monotonic()).idle_for == 0


def test_new_work_takes_an_eviction_back(clock: ManualClock) -> None:
    agent = started(clock)
    agent.saw_heartbeat(1, clock.monotonic())
    agent.evicted = True
    assert stop_reason(agent, clock, waiting=0) is StopReason.EVICTED
    agent.saw_work(0, 0, clock.monotonic())
    assert agent.evicted
    agent.saw_work(1, 0, clock.monotonic())
    assert (agent.evicted, stop_reason(agent, clock)) == (False, None)


def test_a_file_that_cannot_be_read_is_tried_soon_and_then_less_often(clock: ManualClock) -> None:
    agent = started(clock)
    waits = [agent.saw_trouble(clock.monotonic()) for _ in range(30)]
    assert waits[0] < 0.01
    assert waits == sorted(waits)
    assert waits[-1] == 2.0


def test_trouble_counts_from_the_first_failure_and_ends_with_a_success(clock: ManualClock) -> None:
    agent = started(clock)
    first = agent.saw_trouble(clock.monotonic())
    clock.advance(10)
    agent.saw_trouble(clock.monotonic())
    clock.advance(10)
    assert agent.facts(clock.monotonic()).unreadable_for == 20
    agent.saw_output(SIGNATURE, clock.monotonic(), rest=0.1, doing="idle")
    assert agent.facts(clock.monotonic()).unreadable_for is None
    assert (agent.signature, agent.rest) == (SIGNATURE, 0.1)
    assert agent.saw_trouble(clock.monotonic()) == first


def test_an_agent_that_keeps_the_files_locked_is_stopped_by_a_clock_that_nobody_sets(clock: ManualClock) -> None:
    agent = started(clock)
    agent.saw_folder(usable=False, now=clock.monotonic())
    clock.jump(WEEK)
    clock.advance(LIMITS.silent_seconds - 0.001)
    agent.saw_heartbeat(1, clock.monotonic())
    agent.saw_folder(usable=False, now=clock.monotonic())
    assert stop_reason(agent, clock) is None
    clock.advance(0.001)
    assert stop_reason(agent, clock) is StopReason.HOLDS_LOCK
    agent.saw_folder(usable=True, now=clock.monotonic())
    assert (agent.facts(clock.monotonic()).blocked_for, stop_reason(agent, clock)) == (None, None)


def test_an_adopted_agent_gets_the_patience_of_one_that_has_just_beaten(clock: ManualClock) -> None:
    clock.advance(WEEK)
    agent = replace(started(clock, LAST_WEEK), heartbeat_seen=clock.monotonic())
    clock.advance(LIMITS.silent_seconds - 0.001)
    assert stop_reason(agent, clock) is None
    clock.advance(0.001)
    assert stop_reason(agent, clock) is StopReason.SILENT


def test_a_folder_that_rests_is_measured_less_and_less_often_and_one_that_grows_before_it_is_full() -> None:
    clock = ManualClock()
    agent = started(clock)
    limit, now = 1_000_000, 0.0
    waits = []
    for _ in range(6):
        now += agent.measure_after
        agent.saw_size(1_000, limit, now)
        waits.append(agent.measure_after)
    assert waits == [1.0, 2.0, 4.0, 8.0, LONGEST_MEASURE, LONGEST_MEASURE]
    now += LONGEST_MEASURE
    agent.saw_size(151_000, limit, now)  # 10,000 a second: the rest is full in 85
    assert agent.measure_after == LONGEST_MEASURE
    now += 1.0
    agent.saw_size(451_000, limit, now)  # full within two seconds
    assert agent.measure_after == SHORTEST_MEASURE
    agent.saw_size(700_000, limit, now + 100.0)
    assert agent.measure_after <= NEAR_MEASURE
    assert not agent.out_is_full
    agent.saw_size(1_000_001, limit, now + 101.0)
    assert agent.out_is_full
    agent.saw_size(None, limit, now + 102.0)
    assert agent.out_is_full
