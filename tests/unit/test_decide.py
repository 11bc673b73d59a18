"""Every decision about agents, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from host.supervision.decide import (
    TURN_GRACE,
    AgentFacts,
    Decision,
    Facts,
    FailureCount,
    GiveUp,
    HeldMessage,
    Queue,
    Rest,
    Start,
    Stop,
    StopReason,
    SupervisionLimits,
    Wait,
    choose_victim,
    count_failure,
    decide,
    retry_wait,
)

LIMITS = SupervisionLimits(
    start_seconds=60,
    silent_seconds=30,
    turn_seconds=1800,
    idle_seconds=600,
    background_seconds=7200,
    engine_seconds=500,
    fault_seconds=60,
    retry_seconds=1,
    max_retries=3,
)
# An agent that started 100 s ago, beat a second ago and has nothing to do.
RESTING = AgentFacts(
    age=100,
    silent_for=1,
    idle_for=10,
    busy_for=None,
    unreadable_for=None,
    blocked_for=None,
    out_is_full=False,
    evicted=False,
)
NOT_ANSWERING = GiveUp("the agent cannot be started, because the container engine does not respond")


def test_seconds_of_a_wait_are_what_is_left_of_the_shortest_patience() -> None:
    assert decide(Facts(True, 0, RESTING), LIMITS) == Wait(29)
    assert decide(Facts(True, 0, replace(RESTING, idle_for=599)), LIMITS) == Wait(1)
    assert decide(Facts(True, 1, replace(RESTING, busy_for=1805)), LIMITS) == Wait(5)


@pytest.mark.parametrize(
    ("facts", "decision"),
    [
        (Facts(True, 0, None), Rest()),
        (Facts(False, 0, None), Rest()),
        (Facts(False, 3, None), Rest()),
        (Facts(True, 1, None), Start()),
        (Facts(True, 500, None), Start()),
        (Facts(True, 1, None, has_slot=False), Queue()),
        (Facts(True, 0, None, has_slot=False), Rest()),
        (Facts(True, 1, None, retry_in=0.001), Wait(0.001)),
        (Facts(True, 1, None, retry_in=16), Wait(16)),
        (Facts(True, 1, None, retry_in=16, has_slot=False), Wait(16)),
        (Facts(True, 0, None, retry_in=16), Rest()),
        (Facts(True, 1, None, retry_in=2, unavailable_for=499.999), Wait(2)),
        (Facts(True, 1, None, unavailable_for=499.999), Start()),
        (Facts(True, 1, None, unavailable_for=0), Start()),
        (Facts(True, 1, None, unavailable_for=500), NOT_ANSWERING),
        (Facts(True, 1, None, retry_in=2, unavailable_for=500, has_slot=False), NOT_ANSWERING),
        (Facts(True, 0, None, unavailable_for=500), Rest()),
        (Facts(False, 1, None, unavailable_for=500), Rest()),
    ],
)
def test_without_an_agent(facts: Facts, decision: Decision) -> None:
    assert decide(facts, LIMITS) == decision


WORKING: dict[str, Any] = {"waiting": 1, "busy_for": 5.0}

# Changes to a resting agent, and why it is stopped (None: it goes on). Each limit stands just below and at its value.
ABOUT_AGENTS: list[tuple[dict[str, Any], StopReason | None]] = [
    ({}, None),
    ({"active": False}, StopReason.SESSION_OVER),
    ({"active": False, **WORKING}, StopReason.SESSION_OVER),
    ({"active": False, "out_is_full": True}, StopReason.SESSION_OVER),
    ({"out_is_full": True}, StopReason.OUT_IS_FULL),
    ({"out_is_full": True, **WORKING}, StopReason.OUT_IS_FULL),
    ({"silent_for": None, "age": 59.999}, None),
    ({"silent_for": None, "age": 60.0}, StopReason.NEVER_STARTED),
    ({"silent_for": None, "age": 60.0, **WORKING}, StopReason.NEVER_STARTED),
    ({"silent_for": None, "age": 0.0, **WORKING}, None),
    ({"silent_for": 0.0, "age": 604_800.0}, None),
    ({"silent_for": 29.999}, None),
    ({"silent_for": 30.0}, StopReason.SILENT),
    ({"silent_for": 30.0, **WORKING}, StopReason.SILENT),
    ({"silent_for": 604_800.0}, StopReason.SILENT),
    ({**WORKING, "busy_for": 1800.0}, None),
    ({**WORKING, "busy_for": 1800.0 + TURN_GRACE - 0.001}, None),
    ({**WORKING, "busy_for": 1800.0 + TURN_GRACE}, StopReason.TURN_TOO_LONG),
    ({"unreadable_for": 0.0}, None),
    ({"unreadable_for": 29.999, **WORKING}, None),
    ({"unreadable_for": 30.0, **WORKING}, StopReason.UNREADABLE),
    ({"unreadable_for": 30.0}, StopReason.UNREADABLE),
    ({"blocked_for": 29.999, **WORKING}, None),
    ({"blocked_for": 30.0, **WORKING}, StopReason.HOLDS_LOCK),
    ({"blocked_for": 29.999, **WORKING}, None),
    ({"blocked_for": 30.0, **WORKING}, StopReason.HOLDS_LOCK),
    ({"blocked_for": 30.0}, StopReason.HOLDS_LOCK),
    ({"idle_for": 599.999}, None),
    ({"idle_for": 600.0}, StopReason.IDLE),
    ({"idle_for": 600.0, **WORKING}, None),
    ({"idle_for": 600.0, "waiting": 1}, None),
    ({"idle_for": 600.0, "busy_for": 5.0}, None),
    ({"has_processes": True, "idle_for": 7199.999}, None),
    ({"has_processes": True, "idle_for": 7200.0}, StopReason.IDLE),
    ({"has_processes": True, "evicted": True}, StopReason.EVICTED),
    ({"has_processes": True, "silent_for": 30.0}, StopReason.SILENT),
    ({"evicted": True, "idle_for": 0.0}, StopReason.EVICTED),
    ({"evicted": True, "idle_for": 600.0}, StopReason.EVICTED),
    ({"evicted": True, **WORKING}, None),
    ({"evicted": True, "silent_for": 30.0}, StopReason.SILENT),
    ({"evicted": True, "waiting": 1}, None),
]


@pytest.mark.parametrize(("changes", "reason"), ABOUT_AGENTS, ids=[str(changes) for changes, _ in ABOUT_AGENTS])
def test_with_an_agent(changes: dict[str, Any], reason: StopReason | None) -> None:
    of_agent = {name: value for name, value in changes.items() if name in AgentFacts.__slots__}
    facts = Facts(changes.get("active", True), changes.get("waiting", 0), replace(RESTING, **of_agent))
    decision = decide(facts, LIMITS)
    if reason is None:
        assert isinstance(decision, Wait)
        assert decision.seconds > 0
    else:
        assert decision == Stop(reason)


@pytest.mark.parametrize("obstacle", [{"retry_in": 60.0}, {"unavailable_for": 9e9}, {"has_slot": False}])
def test_what_keeps_an_agent_from_starting_does_not_touch_one_that_runs(obstacle: dict[str, Any]) -> None:
    facts = Facts(True, 1, replace(RESTING, busy_for=1.0), **obstacle)
    assert decide(facts, LIMITS) == decide(Facts(True, 1, replace(RESTING, busy_for=1.0)), LIMITS) == Wait(29)


def test_every_reason_is_harmless_or_the_agent_s_fault() -> None:
    assert {reason.name for reason in StopReason if not reason.not_the_agents_fault} == {
        "NEVER_STARTED",
        "SILENT",
        "TURN_TOO_LONG",
        "UNREADABLE",
        "HOLDS_LOCK",
        "OUT_IS_FULL",
    }


def held(name: str, tries: int = 0, *, processing: bool = False, trigger: bool = True) -> HeldMessage:
    return HeldMessage(name, trigger, tries, processing)


NOTHING = FailureCount((), (), 0, 0.0)

ACCOUNTS: dict[str, tuple[list[HeldMessage], bool, int, FailureCount]] = {
    "nothing was open": ([], False, 0, NOTHING),
    "nothing was open, after failed starts": ([], False, 2, NOTHING),
    "a turn dies for the first time": ([held("a", 0, processing=True)], False, 0, FailureCount(("a",), (), 0, 1.0)),
    "for the second time": ([held("a", 1, processing=True)], False, 0, FailureCount(("a",), (), 0, 4.0)),
    "for the third time": ([held("a", 2, processing=True)], False, 0, FailureCount(("a",), (), 0, 16.0)),
    "after three retries it fails": ([held("a", 3, processing=True)], False, 0, FailureCount(("a",), ("a",), 0, 0.0)),
    "what waited behind it costs nothing": (
        [held("a", 0, processing=True), held("b"), held("c", trigger=False)],
        False,
        0,
        FailureCount(("a",), (), 0, 1.0),
    ),
    "its companions are counted and do not fail with it": (
        [held("a", 3, processing=True), held("b", 0, processing=True), held("c")],
        False,
        0,
        FailureCount(("a", "b"), ("a",), 0, 64.0),
    ),
    "all of a turn fail": (
        [held("a", 3, processing=True), held("b", 5, processing=True), held("c")],
        False,
        0,
        FailureCount(("a", "b"), ("a", "b"), 0, 0.0),
    ),
    "context in a turn that dies is counted": (
        [held("a", 0, processing=True, trigger=False), held("b", 0, processing=True)],
        False,
        0,
        FailureCount(("a", "b"), (), 0, 1.0),
    ),
    "a turn ends the row of failed starts": (
        [held("a", 0, processing=True)],
        False,
        3,
        FailureCount(("a",), (), 0, 1.0),
    ),
    "stopped for no fault of its own, the turn given back": ([held("a"), held("b", 2)], True, 0, NOTHING),
    "a not_the_agents_fault stop ends the row of failed starts": ([held("a")], True, 2, NOTHING),
    "stopped for no fault of its own, the turn kept": (
        [held("a", 1, processing=True)],
        True,
        0,
        FailureCount(("a",), (), 0, 4.0),
    ),
    "died before touching anything": ([held("a"), held("b")], False, 0, FailureCount((), (), 1, 1.0)),
    "for the second time in a row": ([held("a")], False, 1, FailureCount((), (), 2, 4.0)),
    "for the third": ([held("a")], False, 2, FailureCount((), (), 3, 16.0)),
    "for the fourth: all that waits fails": (
        [held("a"), held("b", trigger=False), held("c", 2)],
        False,
        3,
        FailureCount((), ("a", "b", "c"), 0, 0.0),
    ),
    "context alone does not count as work": ([held("a", trigger=False)], False, 3, NOTHING),
}


@pytest.mark.parametrize(
    ("messages", "not_the_agents_fault", "failures", "expected"), ACCOUNTS.values(), ids=ACCOUNTS.keys()
)
def test_what_a_death_costs(
    messages: list[HeldMessage], not_the_agents_fault: bool, failures: int, expected: FailureCount
) -> None:
    assert (
        count_failure(messages, not_the_agents_fault=not_the_agents_fault, start_failures=failures, limits=LIMITS)
        == expected
    )


@pytest.mark.parametrize("max_retries", [0, 1, 3, 10])
def test_a_message_that_kills_every_agent_is_tried_so_often_and_fails(max_retries: int) -> None:
    limits, tries, deaths = replace(LIMITS, max_retries=max_retries), 0, 0
    while True:
        bill = count_failure(
            [held("a", tries, processing=True)], not_the_agents_fault=False, start_failures=0, limits=limits
        )
        deaths += 1
        tries += len(bill.count)
        assert tries == deaths
        if bill.fail:
            break
    assert deaths == max_retries + 1


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_an_agent_that_never_starts_is_tried_so_often_and_everything_fails(max_retries: int) -> None:
    limits, failures, starts = replace(LIMITS, max_retries=max_retries), 0, 0
    while True:
        bill = count_failure([held("a"), held("b")], not_the_agents_fault=False, start_failures=failures, limits=limits)
        starts, failures = starts + 1, bill.start_failures
        if bill.fail:
            break
    assert (starts, bill.fail, bill.start_failures) == (max_retries + 1, ("a", "b"), 0)


def test_an_agent_without_processes_is_stopped_as_soon_as_ever_and_a_short_limit_stops_no_sooner() -> None:
    limits = replace(LIMITS, background_seconds=0)
    facts = Facts(True, 0, replace(RESTING, has_processes=True, idle_for=599.0))
    assert decide(facts, limits) == Wait(1.0)


def test_each_retry_waits_four_times_longer() -> None:
    assert [retry_wait(number, LIMITS) for number in range(1, 5)] == [1, 4, 16, 64]
    assert retry_wait(3, replace(LIMITS, retry_seconds=0.0)) == 0


@pytest.mark.parametrize(
    ("idle", "victim"),
    [
        ([], None),
        ([("a", False, 0.0)], "a"),
        ([("a", False, 5.0), ("b", False, 7.0), ("c", False, 6.0)], "b"),
        ([("a", False, 7.0), ("b", False, 7.0)], "a"),
        ([("a", True, 7.0), ("b", False, 5.0)], "b"),
        ([("a", True, 5.0), ("b", True, 7.0)], "b"),
    ],
)
def test_the_agent_that_has_been_idle_longest_leaves(idle: list[tuple[str, bool, float]], victim: str | None) -> None:
    assert choose_victim(iter(idle)) == victim
