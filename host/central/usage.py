"""What turns used, for good, and the budgets of agent groups.

Invariant: a turn counts once, at the moment the host takes over its end; by the host's clock, for the agent could say
any time. Its session may be deleted later: what it used stays.

The tokens of a budget are all of them: input, output, read from and written to caches.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from host.central import agent_groups, delegations
from host.central.agent_groups import AgentGroup
from host.central.database import Queryable, Transaction, one
from shared_schema.clock import from_text
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row, Turn

# A turn that says nothing of what it used has no row; one that was recorded before stays as it is.
RECORD = """
INSERT INTO usage (turn_id, session_id, agent_group_id, agent_group, provider, model, finished_at, input_tokens,
    output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, cost_usd)
SELECT :turn_id, :session_id, a.id, a.name, :provider, :model, :now, coalesce(:input_tokens, 0),
    coalesce(:output_tokens, 0), coalesce(:cache_read_tokens, 0), coalesce(:cache_write_tokens, 0),
    coalesce(:reasoning_tokens, 0), coalesce(:cost_usd, 0)
FROM agent_groups a WHERE a.id = :agent_group_id AND coalesce(:input_tokens, :output_tokens, :cache_read_tokens,
    :cache_write_tokens, :reasoning_tokens, :cost_usd) IS NOT NULL
ON CONFLICT DO NOTHING
"""
ADD_TO_DAY = """
INSERT INTO usage_by_day (agent_group_id, day, tokens, cost_usd)
SELECT agent_group_id, substr(finished_at, 1, 10),
    input_tokens + output_tokens + cache_read_tokens + cache_write_tokens, cost_usd
FROM usage WHERE session_id = ? AND turn_id = ?
ON CONFLICT (agent_group_id, day)
DO UPDATE SET tokens = tokens + excluded.tokens, cost_usd = cost_usd + excluded.cost_usd
"""
ADD_CALL = """
INSERT INTO usage_by_day (agent_group_id, day, tokens, cost_usd, called_tokens, called_usd)
SELECT agent_group_id, :day, 0, 0, :tokens, :usd FROM sessions WHERE id = :session_id
ON CONFLICT (agent_group_id, day) DO UPDATE
SET called_tokens = called_tokens + excluded.called_tokens, called_usd = called_usd + excluded.called_usd
"""
# Neither what an agent says nor what the gateway saw is left out: an agent may say too little, and not every provider
# goes through the gateway. `total` and not `sum`: whole numbers that an agent made up could be too large together.
USED = """
SELECT total(max(cost_usd, called_usd)) AS usd, CAST(total(max(tokens, called_tokens)) AS INTEGER) AS tokens
FROM usage_by_day WHERE agent_group_id = ? AND day >= ?
"""
MARK_WARNED = "UPDATE agent_groups SET budget_warned = ? WHERE id = ? AND budget_warned IS NOT ?"
# What turns say they used, and beside it what the gateway saw, which is known by agent group and day alone. An agent
# group that is gone has the name of its last turn.
REPORT = """
SELECT name, sum(turns) AS turns, CAST(total(input_tokens) AS INTEGER) AS input_tokens,
    CAST(total(output_tokens) AS INTEGER) AS output_tokens,
    CAST(total(cache_read_tokens) AS INTEGER) AS cache_read_tokens,
    CAST(total(cache_write_tokens) AS INTEGER) AS cache_write_tokens,
    CAST(total(reasoning_tokens) AS INTEGER) AS reasoning_tokens, total(cost_usd) AS cost_usd,
    CASE WHEN :with_calls THEN CAST(total(called_tokens) AS INTEGER) END AS called_tokens,
    CASE WHEN :with_calls THEN total(called_usd) END AS called_usd
FROM (
    SELECT
        CASE :by WHEN 'day' THEN substr(finished_at, 1, 10) WHEN 'session' THEN session_id WHEN 'turn' THEN turn_id
            WHEN 'agent-group' THEN agent_group WHEN 'model' THEN coalesce(model, provider, 'unknown') ELSE 'total'
        END AS name,
        1 AS turns, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, cost_usd,
        0 AS called_tokens, 0 AS called_usd, finished_at
    FROM usage
    WHERE (:agent_group IS NULL OR agent_group = :agent_group) AND (:session_id IS NULL OR session_id = :session_id)
        AND finished_at >= :since AND finished_at < :until
    UNION ALL
    SELECT CASE :by WHEN 'day' THEN day WHEN 'agent-group' THEN agent_group ELSE 'total' END,
        0, 0, 0, 0, 0, 0, 0, called_tokens, called_usd, day
    FROM (
        SELECT d.*, coalesce(
            (SELECT name FROM agent_groups WHERE id = d.agent_group_id),
            (SELECT agent_group FROM usage WHERE agent_group_id = d.agent_group_id ORDER BY finished_at DESC LIMIT 1),
            d.agent_group_id) AS agent_group
        FROM usage_by_day d
    )
    WHERE :with_calls AND (:agent_group IS NULL OR agent_group = :agent_group)
        AND day >= :since AND day < :until
)
GROUP BY name ORDER BY max(finished_at) DESC, name LIMIT :limit
"""
# The same of one session, without what the others have used.
OF_SESSION = """
SELECT 'total' AS name, count(*) AS turns, CAST(total(input_tokens) AS INTEGER) AS input_tokens,
    CAST(total(output_tokens) AS INTEGER) AS output_tokens,
    CAST(total(cache_read_tokens) AS INTEGER) AS cache_read_tokens,
    CAST(total(cache_write_tokens) AS INTEGER) AS cache_write_tokens,
    CAST(total(reasoning_tokens) AS INTEGER) AS reasoning_tokens, total(cost_usd) AS cost_usd,
    NULL AS called_tokens, NULL AS called_usd
FROM usage WHERE session_id = ?
"""
RENAME_AGENT_GROUP = "UPDATE usage SET agent_group = ? WHERE agent_group_id = ?"
KNOWS_SESSION = "SELECT 1 FROM usage WHERE session_id = ? LIMIT 1"
KNOWS_AGENT_GROUP = "SELECT 1 FROM usage WHERE agent_group = ? LIMIT 1"

WARNING_SHARE = 0.8
"""Of a budget: people are warned once in each period when so much is used."""

_EARLIEST, _LATEST = "0", "A"  # before and after every stored time


_MOST_TOKENS = 10**12
"""Of one model call: more is no number of tokens."""

_USED_UP = " is used up: "


class By(StrEnum):
    """What usage can be added up by; without any it is one row, `total`."""

    DAY = "day"
    MODEL = "model"
    SESSION = "session"
    AGENT_GROUP = "agent-group"
    TURN = "turn"


@dataclass(frozen=True, slots=True)
class Used(Row):
    """What some turns used together, by what their agents say."""

    name: str
    turns: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_usd: float
    called_tokens: int | None = None
    called_usd: float | None = None
    """Of model calls, as the gateway saw them; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What an agent group has used in the present period; `share` of its budget, None when it has none.

    `sentence` says so to people.
    """

    used_usd: float
    used_tokens: int
    share: float | None
    exhausted: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a budget, None where there is no limit; `exhausted` says it when nothing is."""

    tokens: int | None = None
    usd: float | None = None
    exhausted: str | None = None


def record(tx: Transaction, session_id: str, agent_group_id: str, turn: Turn) -> bool:
    """Take down what a turn used that is over; whether there was anything new."""
    values = {name: getattr(turn, name) for name in Turn.__slots__}
    own = {"turn_id": turn.id, "session_id": session_id, "agent_group_id": agent_group_id, "now": tx.now}
    if not tx.execute(RECORD, values | own).rowcount:
        return False
    tx.execute(ADD_TO_DAY, (session_id, turn.id))
    return True


def state(connection: Queryable, group: AgentGroup, now: str) -> Budget:
    """What an agent group has used of its budget in the present period, at the stored time `now`."""
    row = one(connection, USED, (group.id, _period(group, now)))
    assert row is not None
    shares = [
        (used / limit, said)
        for used, limit, said in (
            (row["usd"], group.budget_usd, f"{row['usd']:.2f} of {group.budget_usd or 0:g} US dollars"),
            (row["tokens"], group.budget_tokens, f"{row['tokens']} of {group.budget_tokens} tokens"),
        )
        if limit is not None
    ]
    share, said = max(shares, default=(None, ""))
    exhausted = share is not None and share >= 1
    return Budget(row["usd"], row["tokens"], share, exhausted, _sentence(group, now, share or 0.0, said))


def count_call(tx: Transaction, session_id: str, tokens: int, usd: float) -> None:
    """Count a model call that the gateway saw, for the budgets of the session's agent group."""
    tokens = max(0, min(tokens, _MOST_TOKENS))
    tx.execute(ADD_CALL, {"session_id": session_id, "day": tx.now[:10], "tokens": tokens, "usd": usd})
    delegations.count_call(tx, session_id, tokens)


def exhausted(connection: Queryable, agent_group_id: str, now: str) -> str | None:
    """Why an agent group may do nothing more, as a sentence for people; None when it may."""
    return refusal(connection, agent_groups.by_id(connection, agent_group_id), now)


def refusal(connection: Queryable, group: AgentGroup | None, now: str) -> str | None:
    """The same of an agent group that was read already."""
    if group is None or not group.has_budget:
        return None
    budget = state(connection, group, now)
    return budget.sentence if budget.exhausted else None


def left(connection: Queryable, agent_group_id: str, now: str) -> Left:
    """What an agent group may still use in the present period."""
    group = agent_groups.by_id(connection, agent_group_id)
    if group is None or not group.has_budget:
        return Left()
    budget = state(connection, group, now)
    return Left(
        None if group.budget_tokens is None else max(0, group.budget_tokens - budget.used_tokens),
        None if group.budget_usd is None else max(0.0, group.budget_usd - budget.used_usd),
        budget.sentence if budget.exhausted else None,
    )


def warning(tx: Transaction, agent_group_id: str) -> str | None:
    """The warning that a budget is nearly used up: once in each period, and again when the budget was changed."""
    group = agent_groups.by_id(tx, agent_group_id)
    if group is None or not group.has_budget:
        return None
    budget = state(tx, group, tx.now)
    if budget.share is None or budget.share < WARNING_SHARE:
        return None
    period = _period(group, tx.now)
    is_first = tx.execute(MARK_WARNED, (period, group.id, period)).rowcount > 0
    return budget.sentence if is_first else None


def report(
    connection: Queryable,
    by: By | None,
    *,
    agent_group: str | None = None,
    session_id: str | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: int = 1000,
) -> list[Used]:
    """Usage added up, the newest first; `since` and `until` (not included) are stored times or beginnings of them."""
    values = {
        "by": by,
        "agent_group": agent_group,
        "session_id": session_id,
        "since": since or _EARLIEST,
        "until": until or _LATEST,
        "limit": limit,
        "with_calls": by in (None, By.DAY, By.AGENT_GROUP) and session_id is None,
    }
    return [Used.from_row(row) for row in connection.execute(REPORT, values)]


def of_session(connection: Queryable, session_id: str) -> Used:
    """All that a session has used."""
    row = one(connection, OF_SESSION, (session_id,))
    assert row is not None
    return Used.from_row(row)


def rename_agent_group(tx: Transaction, agent_group_id: str, name: str) -> None:
    """Let what an agent group used be known by its new name."""
    tx.execute(RENAME_AGENT_GROUP, (name, agent_group_id))


def knows(connection: Queryable, *, session_id: str | None = None, agent_group: str | None = None) -> bool:
    """Whether anything was ever used in that session, or by an agent group of that name."""
    if session_id is not None:
        return one(connection, KNOWS_SESSION, (session_id,)) is not None
    return one(connection, KNOWS_AGENT_GROUP, (agent_group,)) is not None


def is_refusal(sentence: str) -> bool:
    """Whether a message failed because a budget is used up."""
    return sentence.startswith("The budget of ") and _USED_UP in sentence


def _period(group: AgentGroup, now: str) -> str:
    """The beginning of every day of the period; as text it is not after any of them."""
    return {"day": now[:10], "month": now[:7]}.get(group.budget_period, _EARLIEST)


def _sentence(group: AgentGroup, now: str, share: float, said: str) -> str:
    spell = {"day": " for today", "month": " for this month"}.get(group.budget_period, "")
    if share < 1:
        return f"The budget of {group.name}{spell} is nearly used up: {said}."
    moment = from_text(now)
    anew = {
        "day": f" It begins anew at {moment + timedelta(days=1):%Y-%m-%d} 00:00 UTC.",
        "month": f" It begins anew at {(moment.replace(day=1) + timedelta(days=31)):%Y-%m}-01 00:00 UTC.",
    }
    return f"The budget of {group.name}{spell}{_USED_UP}{said}.{anew.get(group.budget_period, '')}"
