"""FAILURES 40: what a turn used is counted once, whether its provider counts turns, steps, or its whole session."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_agent.providers.protocol import Step, Usage
from container_agent.usage_accounting import RecordedTotals, of_steps, of_turn, since, storable
from tests.agent.session import BareSession, agent, until
from tests.agent.test_process import answered


def test_steps_are_added_up_and_nonsense_does_not_count() -> None:
    said = [
        '{"input_tokens": 3, "cost_usd": 0.5}',
        '{"input_tokens": 4, "reasoning_tokens": 2}',
        *(
            "",
            "[]",
            "{",
            '{"input_tokens": "9"}',
            '{"input_tokens": -1}',
            '{"input_tokens": true}',
            '{"cost_usd": NaN}',
        ),
    ]
    steps = [Step("assistant", usage=text) for text in said]
    assert of_steps(steps) == Usage(input_tokens=7, cost_usd=0.5, reasoning_tokens=2)
    assert of_steps([Step("user")]) == Usage()


def test_what_a_turn_says_of_itself_is_not_added_to_its_steps() -> None:
    assert of_turn(Usage(input_tokens=3), Usage(input_tokens=7)) == Usage(input_tokens=3)
    assert of_turn(Usage(cost_usd=0.5), Usage(input_tokens=7)) == Usage(input_tokens=7, cost_usd=0.5)


def test_a_count_of_the_whole_session_is_taken_from_the_last_reading() -> None:
    used, recorded = since(None, "a", Usage(input_tokens=10, cost_usd=1.0))
    assert used == Usage(input_tokens=10, cost_usd=1.0)
    used, recorded = since(RecordedTotals.from_text(recorded.to_text()), "a", Usage(input_tokens=25, output_tokens=1))
    assert used == Usage(input_tokens=15, output_tokens=1)
    used, recorded = since(recorded, "a", Usage(input_tokens=25, cost_usd=1.5))
    assert used == Usage(input_tokens=0, cost_usd=0.5)


def test_a_new_session_and_a_count_that_goes_down_begin_at_nothing() -> None:
    recorded = RecordedTotals("a", Usage(input_tokens=10))
    assert since(recorded, "b", Usage(input_tokens=12))[0] == Usage(input_tokens=12)
    assert since(recorded, "a", Usage(input_tokens=4))[0] == Usage(input_tokens=4)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_however_often_it_is_read_a_growing_count_is_counted_once(growth: list[int]) -> None:
    recorded, counted, total = None, 0, 0
    for tokens in growth:
        total += tokens
        used, recorded = since(recorded, "a", Usage(input_tokens=total))
        counted += used.input_tokens or 0
    assert counted == total


@pytest.mark.parametrize("number", [-1, 10**15, float("nan"), float("inf"), "many", True])
def test_a_number_that_cannot_be_is_not_stored(number: object) -> None:
    assert storable(Usage(input_tokens=number, cost_usd=number)) == Usage()  # type: ignore[arg-type]


def used(session: BareSession) -> list[int | None]:
    return [row["input_tokens"] for row in session.out("SELECT input_tokens FROM turns ORDER BY rowid")]


def test_an_agent_counts_a_whole_session_once_over_a_restart(session: BareSession) -> None:
    session.context(provider="scripted", max_batch=1)
    session.say_all(["session a\nuse-total 10", "use-total 25", "fail", "session b\nuse-total 30"])
    with agent(session):
        until(lambda: answered(session, 3))
    with agent(session):
        session.say("use-total 31")
        until(lambda: answered(session, 4))
        session.say("use-total 2")
        until(lambda: answered(session, 5))
    assert used(session) == [10, 15, None, 30, 1, 2]


def test_a_reading_and_the_end_of_its_turn_are_one(session: BareSession) -> None:
    """An agent that dies before the end of a turn has read nothing: the next one finds all of it."""
    session.context(provider="scripted", max_batch=1)
    session.say_all(["session a\nuse-total 10", "use-total 25\ncrash-once"])
    with agent(session) as running:
        running.wait()
    with agent(session):
        until(lambda: answered(session, 2))
    assert used(session) == [10, None, 15]


def test_what_turns_used_that_died_is_counted_with_the_next(session: BareSession) -> None:
    session.context(provider="scripted", max_batch=1)
    session.say_all(["use-step 3\ncrash-once\nuse-step 4", "use-step 5"])
    with agent(session) as running:
        running.wait()
    with agent(session):
        until(lambda: answered(session, 2))
    assert used(session) == [None, 3 + 3 + 4, 5]


def test_an_agent_adds_up_steps_and_says_how_full_the_window_is(session: BareSession) -> None:
    session.context(provider="scripted", max_batch=1)
    session.say_all(["use-step 3\nuse-step 4\nfill 900 1000", "use-step 3\nuse 5", "use-step 2\nfail"])
    with agent(session):
        until(lambda: "failed" in session.acks().values())
    rows = session.out("SELECT input_tokens, context_tokens, context_window FROM turns ORDER BY rowid")
    assert [tuple(row.values()) for row in rows] == [(7, 900, 1000), (5, None, None), (2, None, None)]
    steps = [json.loads(row["usage"]) for row in session.out("SELECT usage FROM steps WHERE usage IS NOT NULL")]
    assert [step["input_tokens"] for step in steps] == [3, 4, 3, 2]
    assert all(a is not b for a, b in pairwise(steps))
