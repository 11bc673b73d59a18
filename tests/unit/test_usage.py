"""What turns used, and budgets."""

from __future__ import annotations

import dataclasses

import pytest

from host.central import agent_groups, sessions, usage
from host.central.agent_groups import AgentGroup
from host.central.database import Transaction
from host.central.sessions import Session
from host.central.usage import By
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Turn
from tests.support.transaction import at
from tests.unit.registry import NOW, add_agent, add_session

NEXT_DAY = "2026-03-01T00:00:00.000Z"  # and the next month


@pytest.fixture
def agent(registry: Transaction) -> AgentGroup:
    return add_agent(registry)


@pytest.fixture
def session(registry: Transaction, agent: AgentGroup) -> Session:
    return add_session(registry, agent)


def used(
    registry: Transaction,
    session: Session,
    tokens: int | None = None,
    *,
    now: str = NOW,
    turn_id: str | None = None,
    **columns: object,
) -> bool:
    turn = Turn(turn_id or new_id(Prefix.TURN), "completed", NOW, input_tokens=tokens, **columns)  # type: ignore[arg-type]
    return usage.record(at(registry, now), session.id, session.agent_group_id, turn)


def with_budget(registry: Transaction, agent: AgentGroup, **budget: object) -> AgentGroup:
    group = dataclasses.replace(agent, **budget)  # type: ignore[arg-type]
    agent_groups.update(registry, group)
    return group


def test_a_turn_counts_once_and_outlives_its_session(registry: Transaction, session: Session) -> None:
    """FAILURES 40."""
    assert used(registry, session, 10, turn_id="trn_1", provider="scripted", cost_usd=0.5)
    assert not used(registry, session, 10, turn_id="trn_1")
    assert used(registry, session, 5, turn_id="trn_2", reasoning_tokens=2, model="big")
    sessions.delete(registry, session.id)
    [total] = usage.report(registry, None)
    assert (total.turns, total.input_tokens, total.reasoning_tokens, total.cost_usd) == (2, 15, 2, 0.5)
    assert [usage.of_session(registry, session.id)] == usage.report(registry, None, session_id=session.id)
    assert usage.of_session(registry, "ses_unknown").turns == 0
    assert {row.name: row.input_tokens for row in usage.report(registry, By.MODEL)} == {"scripted": 10, "big": 5}


def test_a_turn_that_says_nothing_of_it_has_no_row(registry: Transaction, session: Session) -> None:
    assert not used(registry, session)
    assert used(registry, session, 0)
    assert [row.turns for row in usage.report(registry, None)] == [1]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (By.DAY, {"2026-02-28": 3, "2026-03-01": 4}),
        (By.AGENT_GROUP, {"assistant": 6, "other": 1}),
        (By.TURN, {"trn_1": 1, "trn_2": 2, "trn_4": 4}),
    ],
)
def test_usage_is_added_up(registry: Transaction, session: Session, by: By, expected: dict[str, int]) -> None:
    other = add_session(registry, add_agent(registry, "other"), "shared/memory/two")
    used(registry, other, 1, turn_id="trn_1")
    used(registry, session, 2, turn_id="trn_2")
    used(registry, session, 4, turn_id="trn_4", now=NEXT_DAY)
    assert {row.name: row.input_tokens for row in usage.report(registry, by)} == expected
    assert {row.name for row in usage.report(registry, By.SESSION)} == {session.id, other.id}
    assert [row.input_tokens for row in usage.report(registry, None, agent_group="assistant")] == [6]
    assert [row.input_tokens for row in usage.report(registry, None, session_id=other.id)] == [1]
    assert [row.input_tokens for row in usage.report(registry, None, since="2026-03-01")] == [4]
    assert [row.input_tokens for row in usage.report(registry, None, until="2026-03-01")] == [3]


def test_numbers_that_an_agent_made_up_break_nothing(
    registry: Transaction, session: Session, agent: AgentGroup
) -> None:
    for _ in range(5):
        used(registry, session, 2**62)
    assert usage.report(registry, None)[0].input_tokens == 2**63 - 1
    assert usage.state(registry, with_budget(registry, agent, budget_tokens=1), NOW).exhausted


def test_without_a_budget_there_is_no_limit(registry: Transaction, session: Session, agent: AgentGroup) -> None:
    used(registry, session, 10**14)
    assert usage.exhausted(registry, agent.id, NOW) is None
    assert usage.warning(at(registry, NOW), agent.id) is None
    assert usage.state(registry, agent, NOW).share is None


@pytest.mark.parametrize(
    ("budget", "anew"),
    [
        ({"budget_tokens": 100, "budget_period": "day"}, " It begins anew at 2026-03-01 00:00 UTC."),
        ({"budget_tokens": 100}, " It begins anew at 2026-03-01 00:00 UTC."),
        ({"budget_usd": 2.0, "budget_tokens": 10**9, "budget_period": "total"}, ""),
    ],
    ids=["day", "month", "total"],
)
def test_a_budget_is_used_up_until_its_period_is_over(
    registry: Transaction, session: Session, agent: AgentGroup, budget: dict[str, object], anew: str
) -> None:
    group = with_budget(registry, agent, **budget)
    used(registry, session, 40, output_tokens=30, cache_read_tokens=20, cache_write_tokens=9, cost_usd=1.99)
    assert usage.exhausted(registry, agent.id, NOW) is None
    used(registry, session, 1, cost_usd=0.01)
    assert usage.state(registry, group, NOW).share == pytest.approx(1)
    sentence = usage.exhausted(registry, agent.id, NOW)
    assert sentence is not None
    assert " is used up: " in sentence
    assert sentence.endswith(f".{anew}")
    assert (usage.exhausted(registry, agent.id, NEXT_DAY) is None) == bool(anew)


def test_people_are_warned_once_in_a_period_and_anew_when_the_budget_was_changed(
    registry: Transaction, session: Session, agent: AgentGroup
) -> None:
    group = with_budget(registry, agent, budget_tokens=100)
    used(registry, session, 79)
    assert usage.warning(at(registry, NOW), agent.id) is None
    used(registry, session, 1)
    sentence = "The budget of assistant for this month is nearly used up: 80 of 100 tokens."
    assert usage.warning(at(registry, NOW), agent.id) == sentence
    used(registry, session, 5)
    agent_groups.update(registry, dataclasses.replace(group, model="another"))
    assert usage.warning(at(registry, NOW), agent.id) is None
    used(registry, session, 90, now=NEXT_DAY)
    assert usage.warning(at(registry, NEXT_DAY), agent.id) is not None
    agent_groups.update(registry, dataclasses.replace(group, budget_tokens=101))
    assert usage.warning(at(registry, NEXT_DAY), agent.id) is not None


def test_another_agent_group_does_not_use_the_budget(
    registry: Transaction, session: Session, agent: AgentGroup
) -> None:
    other = with_budget(registry, add_agent(registry, "other"), budget_tokens=1)
    used(registry, session, 1000)
    assert usage.exhausted(registry, other.id, NOW) is None
