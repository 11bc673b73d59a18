"""What the host makes of turns: one visible message for each failure, resume pointers, usage, budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared_schema.errors import InvalidValue, NotFound
from tests.support.host import AGENT, Host, rows, running
from tests.support.wait import until

POINTER = "SELECT provider_session_id, pointer_provider, pointer_runtime FROM sessions"


def of(tokens: int) -> str:
    return f"use {tokens}\nreply 1"


async def at_work(host: Host, state: str) -> dict[str, Any] | None:
    turns = (await host.do("status"))["turns"]
    return next((turn for turn in turns if turn["state"] == state), None)


@pytest.mark.parametrize(
    ("text", "reason", "attempts"),
    [
        ("fail the model is on holiday", "provider_error", 1),
        ("attach ../../x", "bad_input", 1),
        ("stall", "timeout", 1),
        ("crash", "agent_died", 2),
    ],
)
async def test_every_failure_for_good_is_told_once_and_none_before_its_last_retry(
    tmp_path: Path, text: str, reason: str, attempts: int
) -> None:
    limit = 2.0 if text == "stall" else 60.0  # what is said next has time on a busy machine
    async with running(tmp_path, max_retries=1, turn_seconds=limit) as host:
        [notice] = [await host.ask(text)]
        await host.settled()
        assert host.texts() == [notice]
        assert notice.startswith("This message could not be answered: ")
        turns = await host.central("SELECT status, failure_reason, attempt FROM turns ORDER BY rowid")
        assert turns == [
            {"status": "failed", "failure_reason": reason, "attempt": number} for number in range(1, attempts + 1)
        ]
        assert await host.ask("and on") == "scripted: and on"


async def test_a_failure_that_a_retry_mends_is_told_to_nobody_and_stays_in_the_ledger(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        assert await host.ask("crash-once") == "did not crash this time"
        await host.settled()
        assert len(host.texts()) == 1
        [session] = await host.do("session.list")
        shown = await host.do("session.show", session=session["id"])
        assert [(turn["status"], turn["failure_reason"], turn["attempt"]) for turn in shown["turns"]] == [
            ("completed", None, 2),
            ("failed", "agent_died", 1),
        ]
        assert shown["turns"][1]["error"].startswith("the agent died")


async def test_the_ledger_says_what_a_failed_turn_told_the_person(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("fail no luck today")
        await host.settled()
        assert await host.central("SELECT error FROM turns") == [{"error": "no luck today"}]


async def test_status_says_what_runs_and_what_waits_and_since_when(tmp_path: Path) -> None:
    async with running(tmp_path, max_agents=1) as host:
        await host.say("tool hammer 1")
        await until(lambda: _uses_the_hammer(host), "the tool runs")
        turn = await at_work(host, "running")
        assert turn is not None
        [session] = await host.do("session.list")
        assert (turn["session_id"], turn["agent_group"], turn["attempt"]) == (session["id"], AGENT, 1)
        assert 0 <= turn["elapsed_seconds"] < 10
        await host.do("messaging_group.add", address="memory:two", unknown_sender="public")
        await host.do("wiring.add", messaging_group="memory:two", agent_group=AGENT)
        await host.say("hello", chat="two")
        queued = await at_work(host, "queued")
        assert queued is not None
        assert queued["session_id"] != session["id"]
        assert queued["tool"] is None
        await host.channel.wait_for(2)
        await host.settled()
        assert (await host.do("status"))["turns"] == []


async def _uses_the_hammer(host: Host) -> bool:
    turn = await at_work(host, "running")
    return turn is not None and turn["tool"] == "hammer"


async def test_a_crash_leaves_the_resume_pointer_as_it_was(tmp_path: Path) -> None:
    """FAILURES 30."""
    async with running(tmp_path) as host:
        await host.ask("session thread-1\nreply 1")
        await host.settled()
        pointer = {"provider_session_id": "thread-1", "pointer_provider": "scripted", "pointer_runtime": "process"}
        assert await host.central(POINTER) == [pointer]
        assert await host.ask("crash-once\nresumed") == "did not crash this time"
        await host.channel.wait_for(3)
        await host.ask("fail")
        await host.settled()
        assert host.texts()[2] == "resumed: thread-1"
        assert await host.central(POINTER) == [pointer]


async def test_a_pointer_that_the_provider_refuses_is_dropped_and_said_once(tmp_path: Path) -> None:
    """FAILURES 31."""
    async with running(tmp_path) as host:
        await host.ask("session thread-1\nreply 1")
        await host.say("refuse-resume\nresumed")
        await host.channel.wait_for(3)
        await host.settled()
        assert host.texts()[1:] == [
            "The provider could not take up its own record of this conversation and begins afresh. "
            "The transcript stays.",
            "resumed: thread-1",
        ]
        assert (await host.central(POINTER))[0]["provider_session_id"] is None
        assert await host.ask("resumed") == "resumed: none"
        assert (await host.ask("recall")).startswith("6 steps: ")
        await host.ask("refuse-resume\nsession thread-2\nreply 1")
        await host.settled()
        assert (await host.central(POINTER))[0]["provider_session_id"] == "thread-2"
        layout = await host.session()
        assert len(rows(layout.outbound, "SELECT * FROM turns WHERE status = 'completed'")) == 5


async def test_what_was_used_is_counted_once_however_its_provider_counts(tmp_path: Path) -> None:
    """FAILURES 40."""
    async with running(tmp_path) as host:
        for text in ("session a\nuse-total 10", "use-total 25", "use 5", "use-step 2\nuse-step 3\ncost 0.5"):
            await host.ask(f"{text}\nreply 1")
        await host.ask("use-step 7\nfail")
        await host.settled()
        report = await host.do("usage", by="turn")
        assert [row["input_tokens"] for row in reversed(report["rows"])] == [10, 15, 5, 5, 7]
        assert report["total"]["turns"] == 5
        assert (report["total"]["output_tokens"], report["total"]["cost_usd"]) == (42, 0.5)
        [session] = await host.do("session.list")
        await host.do("session.delete", session=session["id"])
    async with running(tmp_path) as host:
        again = await host.do("usage", by="session", session=session["id"])
        assert [(row["session_id"], row["input_tokens"]) for row in again["rows"]] == [(session["id"], 42)]


async def test_a_budget_warns_once_and_then_stops(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("agent_group.set", name=AGENT, budget_tokens=100, budget_period="day")
        assert await host.ask(of(39)) == "reply 1"
        await host.say(of(2))
        await host.channel.wait_for(3)
        await host.say(of(9))
        await host.channel.wait_for(4)
        warning = "The budget of assistant for today is nearly used up: 82 of 100 tokens."
        assert sorted(host.texts()) == sorted([warning, "reply 1", "reply 1", "reply 1"])
        group = await host.do("agent_group.show", name=AGENT)
        assert group["budget_used"] == {"usd": 0.0, "tokens": 100, "percent": 100.0}
        turns = await host.central("SELECT id FROM turns")
        refused = await host.say("hello")
        await host.channel.wait_for(5)
        assert host.texts()[4].startswith("The budget of assistant for today is used up: 100 of 100 tokens.")
        assert await host.outcome(refused.accepted[0].message_id) == "failed"
        await host.settled()
        assert await host.central("SELECT id FROM turns") == turns
        await host.do("agent_group.set", name=AGENT, unset=["budget_tokens"])
        assert await host.ask("hello") == "scripted: hello"


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"since": "yesterday"}, InvalidValue),
        ({"until": "2026-02-30"}, InvalidValue),
        ({"since": "20260228"}, InvalidValue),
        ({"since": "2026-2-28"}, InvalidValue),
        ({"until": "9999-12-31"}, InvalidValue),
        ({"by": "mood"}, InvalidValue),
        ({"limit": 0}, InvalidValue),
        ({"session": "ses_0123456789abcdef"}, NotFound),
        ({"agent_group": "nobody"}, NotFound),
    ],
)
async def test_usage_of_nothing_that_can_be_is_an_error(
    tmp_path: Path, parameters: dict[str, Any], error: type[Exception]
) -> None:
    async with running(tmp_path) as host:
        with pytest.raises(error):
            await host.do("usage", **parameters)
