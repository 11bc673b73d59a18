"""A short soak with a fixed seed, and that its judge sees what it is there to see. The long one is `make soak`."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared_schema.clock import from_text
from tests.soak.__main__ import soak
from tests.soak.acting import waits_of
from tests.soak.bots import Said, judge_chat
from tests.soak.errands import Errand
from tests.soak.evidence import Evidence, SessionFiles
from tests.soak.keeper import Vitals
from tests.soak.plan import Plan
from tests.soak.platforms import Arrived, Offered
from tests.soak.report import judge_growth
from tests.soak.verdict import Verdict, judge

SHORT = Plan(
    seconds=15,
    seed=20,
    sessions=12,
    max_agents=5,
    calm=0.1,
    host_lives=(1.0, 3.0),
    between_agents_killed=(0.3, 1.0),
    between_bursts=0.25,
    silent_seconds=1.5,
    max_retries=1,
    weather=3.0,
    settle_seconds=60,
    bot_chats=0,
    schedules=0,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that agents of another user can reach, with a short path for sockets."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.mark.alone
async def test_with_everything_dying_all_the_time_nothing_is_lost_and_nothing_doubled(folder: Path) -> None:
    report = await soak(SHORT, folder, lambda line: None)
    told = "\n".join(report.lines())
    assert report.verdict.is_good, told
    assert report.verdict.numbers["offered"] == report.verdict.numbers["accepted"] >= SHORT.sessions, told
    assert report.verdict.numbers["offered again"] > 0, told
    assert report.verdict.outcomes["answered"] > 0, told
    assert report.verdict.outcomes["failed visibly"] > 0, told
    assert report.troubles["agents killed"] > 0, told
    assert report.troubles["host: SIGKILL"] > 1, told


# The judge, on evidence of one session with two messages that all went well, and then did not.


def well() -> Evidence:
    """Two messages in one chat, each answered."""
    numbers = (1, 2)
    message = {
        "session_id": "ses",
        "state": "written",
        "status": "completed",
        "tries": 0,
        "platform_id": "chat",
        "content": '{"text":"hello"}',
    }
    delivery = {"session_id": "ses", "from_host": 0, "status": "delivered", "platform_id": "chat", "lane": "rte"}
    answer = {"turn_id": "trn", "content": '{"text":"scripted: hello"}'}
    errand = Errand("hello", ("scripted: hello",))
    return Evidence(
        offered={"keyed": [Offered(f"event-{n}", "chat", None, "ann", errand, [f"msg-{n}"], 1) for n in numbers]},
        arrived={"keyed": [_arrived(n) for n in numbers]},
        ingest=[
            message | {"position": n, "message_id": f"msg-{n}", "platform_message_id": f"event-{n}"} for n in numbers
        ],
        sessions={"ses": {"status": "active"}},
        deliveries=[
            delivery | {"position": n, "message_out_id": f"out-{n}", "in_reply_to": f"msg-{n}"} for n in numbers
        ],
        refused=set(),
        running_turns=0,
        files={
            "ses": SessionFiles(
                messages_in=[{"id": f"msg-{n}", "status": "completed", "tries": 0} for n in numbers],
                delivered=[{"message_out_id": f"out-{n}", "status": "delivered"} for n in numbers],
                messages_out=[answer | {"id": f"out-{n}", "in_reply_to": f"msg-{n}"} for n in numbers],
                acks=[{"message_id": f"msg-{n}", "status": "completed", "turn_id": "trn"} for n in numbers],
                inbox={},
                damaged=[],
            )
        },
        damaged=[],
        left_in_run=[],
        left_in_spool=[],
        put_aside=[],
        data_bytes=0,
    )


def _arrived(number: int) -> Arrived:
    return Arrived(100.0 + number, f"ses/out-{number}", "chat", "scripted: hello", f"msg-{number}", False, {})


def lost(evidence: Evidence) -> Evidence:
    """The last reply is nowhere, and nobody was told."""
    evidence.arrived["keyed"].pop()
    evidence.deliveries.pop()
    evidence.files["ses"].messages_out.pop()
    return evidence


def delivered_nowhere(evidence: Evidence) -> Evidence:
    evidence.arrived["keyed"].pop()
    return evidence


def doubled(evidence: Evidence) -> Evidence:
    evidence.arrived["keyed"].append(_arrived(2))
    return evidence


def arrived_in_another_order(evidence: Evidence) -> Evidence:
    evidence.arrived["keyed"].reverse()
    return evidence


def answered_in_another_order(evidence: Evidence) -> Evidence:
    one, two = evidence.deliveries
    one["in_reply_to"], two["in_reply_to"] = two["in_reply_to"], one["in_reply_to"]
    return evidence


def accepted_twice(evidence: Evidence) -> Evidence:
    evidence.ingest.append(evidence.ingest[1] | {"message_id": "msg-3", "position": 3})
    return evidence


def not_in_the_ledger(evidence: Evidence) -> Evidence:
    """Acknowledged to the platform, and gone."""
    evidence.ingest.pop()
    return evidence


def without_an_outcome(evidence: Evidence) -> Evidence:
    evidence.ingest[1]["status"] = "pending"
    return evidence


def failed_in_silence(evidence: Evidence) -> Evidence:
    evidence.ingest[1]["status"] = "failed"
    return evidence


def cancelled_by_nobody(evidence: Evidence) -> Evidence:
    evidence.ingest[1]["status"] = "cancelled"
    return evidence


def sent_after_a_reset(evidence: Evidence) -> Evidence:
    return replace(evidence, reset={"ses": 1.0})


def never_taken(evidence: Evidence) -> Evidence:
    """The agent wrote it, and the host never saw it."""
    evidence.files["ses"].messages_out.append(evidence.files["ses"].messages_out[1] | {"id": "out-3"})
    return evidence


def half_an_answer(evidence: Evidence) -> Evidence:
    evidence.offered["keyed"][0].errand = Errand("reply 2", ("reply 1", "reply 2"))
    return evidence


def without_its_files(evidence: Evidence) -> Evidence:
    evidence.offered["keyed"][0].errand = Errand("hello", ("scripted: hello",), files={"paper.txt": "text"})
    return evidence


@pytest.mark.parametrize(
    ("fault", "break_it"),
    [
        ("lost", lost),
        ("delivered and not in the chat", delivered_nowhere),
        ("doubled", doubled),
        ("out of order", arrived_in_another_order),
        ("out of order", answered_in_another_order),
        ("accepted twice", accepted_twice),
        ("not accepted", not_in_the_ledger),
        ("lost", without_an_outcome),
        ("lost", failed_in_silence),
        ("cancelled unasked", cancelled_by_nobody),
        ("sent although the session was reset", sent_after_a_reset),
        ("written by an agent and not taken", never_taken),
        ("not as asked", half_an_answer),
        ("not as asked", without_its_files),
        ("unexpected exceptions in the host", lambda e: replace(e, tracebacks=Counter({"KeyError": 1}))),
        ("damaged files", lambda e: replace(e, damaged=["inbound.db"])),
    ],
)
def test_the_judge_sees(fault: str, break_it: Callable[[Evidence], Evidence]) -> None:
    assert judge(well()).is_good
    assert judge(break_it(well())).faults[fault]


def _of_a_bot(status: str, *, error: str | None = None) -> dict[str, object]:
    return {
        "platform_message_id": "1", "status": status, "error": error, "session_id": "ses", "trigger": 1, "in_doubt": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "rows", "heard"),
    [
        ("a bot: lost", [_of_a_bot("completed")], []),
        ("a bot: doubled", [_of_a_bot("completed")], ["word 1", "word 1"]),
        ("a bot: doubled", [_of_a_bot("completed")], ["word 1", "word-changed 1"]),
        ("a bot: not in the ledger once", [], []),
        ("a bot: not in the ledger once", [_of_a_bot("completed")] * 2, ["word 1"]),
        ("a bot: cancelled unasked", [_of_a_bot("cancelled")], []),
        (None, [_of_a_bot("cancelled", error="it was changed"), _of_a_bot("completed")], ["word-changed 1"]),
    ],
)
def test_the_judge_of_bots_sees(fault: str | None, rows: list[dict[str, object]], heard: list[str]) -> None:
    verdict = Verdict()
    judge_chat([Said("telegram", "5000", "1", ["word", "word-changed"])], rows, heard, set(), verdict)
    assert [name for name, found in verdict.faults.items() if found] == ([] if fault is None else [fault])


def test_the_judge_sees_how_long_after_it_could_a_run_has_begun() -> None:
    """It waits for its time, for the run before it, and for a host."""

    def at(second: float) -> str:
        return f"2026-11-30T12:00:{second:06.3f}Z"

    runs = [
        ("tick", at(5), "ok", "ses_1", at(5.2), at(12)),
        ("tick", at(10), "ok", "ses_2", at(12.5), at(13)),
        ("tick", at(15), "missed", None, at(31), at(31)),
        ("tick", at(20), "ok", "ses_3", at(31), None),
        ("rare", at(25), "failed", "ses_4", at(45), at(50)),
    ]
    waits = waits_of(runs, [from_text(at(0)).timestamp(), from_text(at(30)).timestamp()])

    assert {key: round(wait, 1) for key, wait in waits.items()} == {
        ("tick", at(5)): 0.2, ("tick", at(10)): 0.5, ("tick", at(20)): 1.0, ("rare", at(25)): 15.0,
    }  # fmt: skip


@pytest.mark.parametrize(("descriptors", "megabytes"), [(0.1, 0.0), (0.0, 0.1)])
def test_the_judge_sees_a_host_that_grows(descriptors: float, megabytes: float) -> None:
    """By so many descriptors or megabytes a second."""

    def life(more_descriptors: float, more_megabytes: float) -> list[Vitals]:
        return [
            Vitals(at, 1, at, int(20 + at * more_descriptors), int((60 + at * more_megabytes) * 1024**2), 10)
            for at in range(300)
        ]

    steady, growing = Verdict(), Verdict()
    judge_growth(life(0, 0), steady)
    judge_growth(life(descriptors, megabytes), growing)
    assert not steady.faults["the host grew"]
    assert growing.faults["the host grew"]
