"""Which messages the next turn answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_agent.batch import BatchChoice, choose
from shared_schema.rows import ControlTask, MessageIn

NOW = "2026-02-28T12:00:00.000Z"
LATER = "2026-02-28T12:00:00.001Z"
EARLIER = "2026-02-28T11:59:59.999Z"

PLAIN = MessageIn(
    seq=0,
    id="",
    kind="chat",
    timestamp=NOW,
    generation=1,
    trigger=1,
    status="pending",
    tries=0,
    process_after=None,
    channel_type="cli",
    platform_id="a",
    thread_id=None,
    sender_id=None,
    sender_name=None,
    source_session_id=None,
    content="{}",
)

WORDS: dict[str, dict[str, object]] = {
    "m": {},  # a message that triggers
    "c": {"trigger": 0},  # context
    "b": {"platform_id": "b"},  # a message from another chat
    "t": {"thread_id": "t"},  # from a thread of the chat
    "d": {"platform_id": "b", "trigger": 0},  # context from another chat
    "r": {"tries": 1},  # a retry
    "w": {"tries": 1, "process_after": LATER},  # a retry that waits
    "R": {"tries": 1, "process_after": EARLIER},  # a retry that has waited
    "s": {"process_after": LATER},  # scheduled
    "S": {"process_after": NOW},  # scheduled, due now
    "C": {"trigger": 0, "tries": 1},  # context of a turn that died
    "k": {"kind": "control"},
    "K": {"kind": "control", "content": '{"do":"title"}'},
    "Q": {"kind": "control", "content": '{"do":"summarize"}', "trigger": 0},
    "z": {"kind": "control", "content": '{"do":["of","a","newer","host"]}'},
    "y": {"kind": "system", "trigger": 0},
    "x": {"status": "completed"},
    "f": {"status": "failed"},
    "o": {"generation": 0},  # of a conversation that was reset
    "n": {"generation": 2},  # the context has not followed yet
}


def rows(words: str) -> list[MessageIn]:
    return [
        replace(PLAIN, seq=number, id=f"{number}{word}", **WORDS[word])  # type: ignore[arg-type]
        for number, word in enumerate(words)
    ]


def pick(words: str, max_batch: int = 10) -> BatchChoice:
    return choose(rows(words), generation=1, max_batch=max_batch, now=NOW)


def batch(words: str, max_batch: int = 10) -> str:
    return " ".join(row.id for row in pick(words, max_batch).batch)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("mmm", "0m 1m 2m", id="oldest first"),
        pytest.param("ccc", "", id="context alone starts nothing"),
        pytest.param("ccm", "0c 1c 2m", id="context rides along"),
        pytest.param("mcc", "0m", id="context is never the last"),
        pytest.param("mcmc", "0m 1c 2m", id="context in between rides along"),
        pytest.param("ym", "0y 1m", id="system context rides along"),
        pytest.param("mbm", "0m", id="ends before another address"),
        pytest.param("bmm", "0b", id="the first one's address counts"),
        pytest.param("mt", "0m", id="a thread is another address"),
        pytest.param("mdm", "0m 1d 2m", id="context of any address rides along"),
        pytest.param("dm", "0d 1m", id="context does not set the address"),
        pytest.param("mcb", "0m", id="context before another address waits for it"),
        pytest.param("rm", "0r", id="a retry is a batch of its own"),
        pytest.param("crm", "0c 1r", id="with the context before it"),
        pytest.param("mmr", "0m 1m", id="and ends the batch before it"),
        pytest.param("Cmm", "0C 1m 2m", id="only triggering rows count as retries"),
        pytest.param("Rm", "0R", id="a retry that has waited is taken"),
        pytest.param("wm", "", id="a retry that waits holds back what came later"),
        pytest.param("mwm", "0m", id="but not what came before"),
        pytest.param("smm", "1m 2m", id="a scheduled row is passed over"),
        pytest.param("Sm", "0S 1m", id="until it is due"),
        pytest.param("mkm", "0m 2m", id="control never enters a turn"),
        pytest.param("xfonm", "4m", id="done, reset and not yet known rows are no candidates"),
    ],
)
def test_a_batch(words: str, expected: str) -> None:
    assert batch(words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("mmmm", "0m 1m", id="bounded"),
        pytest.param("mcm", "0m", id="context counts"),
        pytest.param("cccm", "0c 1c 2c 3m", id="but never blocks the first trigger"),
        pytest.param("cccmm", "0c 1c 2c 3m", id="and adds no second one"),
    ],
)
def test_a_batch_of_two_at_most(words: str, expected: str) -> None:
    assert batch(words, max_batch=2) == expected


def test_an_errand_is_a_batch_of_its_own_and_comes_first() -> None:
    picked = pick("mKmQ")
    assert ([row.id for row in picked.batch], picked.control_task) == (["1K"], ControlTask.TITLE)
    assert pick("mQ").control_task is ControlTask.SUMMARIZE
    assert pick("mm").control_task is None


def test_an_errand_waits_for_its_time_and_holds_back_nothing() -> None:
    later = replace(rows("K")[0], process_after=LATER)
    picked = choose([later, replace(rows("m")[0], seq=1)], generation=1, max_batch=10, now=NOW)
    assert ([row.id for row in picked.batch], picked.control_task, picked.due) == (["0m"], None, LATER)


def test_control_rows_that_mean_nothing_here_are_named_apart() -> None:
    assert pick("kmKz").unknown == ("0k", "3z")
    assert pick("kmk").unknown == ("0k", "2k")


def test_the_next_due_time_is_told() -> None:
    assert pick("s") == BatchChoice(due=LATER)
    assert pick("w") == BatchChoice(due=LATER)
    assert pick("m").due is None


def test_rows_in_any_order_are_taken_by_seq() -> None:
    shuffled = list(reversed(rows("mmm")))
    assert [row.seq for row in choose(shuffled, generation=1, max_batch=10, now=NOW).batch] == [0, 1, 2]


@given(words=st.text(alphabet="mcbtdrRSCky", max_size=40), max_batch=st.integers(1, 12))
def test_turn_after_turn_nothing_is_lost_and_the_order_is_kept(words: str, max_batch: int) -> None:
    pending, taken = rows(words), []
    while picked := choose(pending, generation=1, max_batch=max_batch, now=NOW).batch:
        triggering = [row for row in picked if row.trigger]
        assert picked[-1].trigger
        assert len({row.address for row in triggering}) == 1
        assert len(triggering) == 1 or not any(row.tries for row in triggering)
        assert len(picked) <= max_batch or len(triggering) == 1
        taken += picked
        pending = [row for row in pending if row not in picked]
    wanted = [row for row in rows(words) if row.kind != "control"]
    last = max((index for index, row in enumerate(wanted) if row.trigger), default=-1)
    assert taken == wanted[: last + 1]
