"""Evidence in, numbers out; pure. A `fault` is a number that must be 0, with what it was found on.

The chain that is followed for every event: offered → acknowledged → in the ledger once → in the session's file → in a
turn that answers what was asked → in the ledger's deliveries → in the chat once, in order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from shared_schema.rows import decode
from tests.soak.evidence import Evidence
from tests.soak.plan import DELIVERY_SECONDS
from tests.soak.platforms import Arrived, Offered

_IN_FLIGHT_SECONDS = 2 * DELIVERY_SECONDS
_AGENT_DIED = ("the agent died", "the agent was", "the agent did", "the agent has", "the agent stopped")
_HOSTILE = "bad-row"
"""Writes past the provider's own queue, so what it is answered may come before what was asked earlier."""

Row = dict[str, Any]


@dataclass(slots=True)
class Verdict:
    """Numbers of the report, and the faults."""

    numbers: dict[str, int] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, name: str, found: Iterable[str]) -> None:
        """A kind of fault that was looked for, and where it was found."""
        self.faults.setdefault(name, []).extend(found)

    @property
    def is_good(self) -> bool:
        """Whether nothing was found that must not be."""
        return not any(self.faults.values())


def judge(evidence: Evidence) -> Verdict:
    """All that the evidence says."""
    verdict = Verdict()
    _acceptance(evidence, verdict)
    _deliveries(evidence, verdict)
    _outcomes(evidence, verdict)
    _order(evidence, verdict)
    _files(evidence, verdict)
    _turns(evidence, verdict)
    verdict.fault("damaged files", evidence.damaged)
    verdict.fault("files put aside", evidence.put_aside)
    verdict.fault("files left in run/", evidence.left_in_run)
    verdict.fault("files left in spool/", evidence.left_in_spool)
    verdict.fault("turns left running", ["central.db"] * evidence.running_turns)
    verdict.fault("unexpected exceptions in the host", evidence.tracebacks)
    return verdict


def _acceptance(evidence: Evidence, verdict: Verdict) -> None:
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in evidence.ingest:
        rows[row["platform_message_id"]].append(row)
    events = [event for offered in evidence.offered.values() for event in offered]
    verdict.numbers |= {
        "offered": len(events),
        "accepted": len(evidence.ingest),
        "offered again": sum(max(0, event.offers - 1) for event in events),
    }
    verdict.fault("accepted twice", (event.id for event in events if len(rows[event.id]) > 1))
    verdict.fault("not accepted", (event.id for event in events if not event.messages or not rows[event.id]))
    verdict.fault(
        "acknowledged as something else",
        (
            event.id
            for event in events
            if event.messages and event.messages != [r["message_id"] for r in rows[event.id]]
        ),
    )
    last: dict[tuple[str, str], int] = defaultdict(int)
    for platform, offered in evidence.offered.items():
        for event in offered:
            for row in rows[event.id]:
                if row["position"] < last[platform, event.chat]:
                    verdict.fault("accepted out of order", [event.id])
                last[platform, event.chat] = row["position"]
    verdict.fault("accepted out of order", ())


def _deliveries(evidence: Evidence, verdict: Verdict) -> None:
    """Every delivery is in its chat as often as the ledger says, and nothing else is."""
    times = Counter(message.key for message in _arrived(evidence))
    first = {message.key: message for message in reversed(list(_arrived(evidence)))}
    known = {_key(row): row for row in evidence.deliveries}
    verdict.fault("doubled", (key for key, count in times.items() if count > 1))
    verdict.fault("in a chat and not in the ledger", times.keys() - known.keys())
    verdict.fault(
        "delivered and not in the chat", _where(known, lambda k, r: r["status"] == "delivered" and not times[k])
    )
    verdict.fault("never delivered", _where(known, lambda k, r: r["status"] in ("pending", "sending")))
    verdict.fault("failed and in the chat", _where(known, lambda k, r: r["status"] == "failed" and times[k] > 0))
    verdict.fault(
        "sent although the session was reset",
        (
            key
            for key, message in first.items()
            if not message.from_host
            and (row := known.get(key)) is not None
            and (reset_at := evidence.reset.get(row["session_id"])) is not None
            and message.at > reset_at + _IN_FLIGHT_SECONDS
        ),
    )
    uncertain = [key for key, row in known.items() if row["status"] == "uncertain"]
    verdict.numbers |= {
        "delivered": sum(1 for row in known.values() if row["status"] == "delivered"),
        "suppressed": sum(1 for row in known.values() if row["status"] == "suppressed"),
        "refused": sum(1 for row in known.values() if row["status"] == "failed"),
        "uncertain": len(uncertain),
        "uncertain and arrived": sum(1 for key in uncertain if times[key]),
    }


def _outcomes(evidence: Evidence, verdict: Verdict) -> None:
    """What became of every accepted message, as the person who wrote it saw it."""
    heard: dict[str, list[Arrived]] = defaultdict(list)
    for message in _arrived(evidence):
        heard[message.in_reply_to or ""].append(message)
    queued: dict[str, list[Row]] = defaultdict(list)
    for row in evidence.deliveries:
        queued[row["in_reply_to"]].append(row)
    shared = _sharing(evidence)
    for row in evidence.ingest:
        together = shared.get((row["session_id"], row["message_id"]), [row["message_id"]])
        said = [message for message_id in together for message in heard[message_id]]
        sent = [delivery for message_id in together for delivery in queued[message_id]]
        outcome = _outcome(evidence, row, said, sent)
        verdict.outcomes[outcome] += 1
        if outcome == "failed visibly" and (row["session_id"], row["message_id"]) in shared:
            why = str(row.get("error"))
            verdict.outcomes[f"failed: {why}"] += 1
            if not why.startswith(_AGENT_DIED):
                verdict.fault("failed, and no agent had died", [f"{row['message_id']} {why}"])
        if outcome == "lost":
            verdict.fault("lost", [row["message_id"]])
        if outcome == "cancelled unasked":
            verdict.fault("cancelled unasked", [row["message_id"]])
    for name in ("lost", "cancelled unasked", "failed, and no agent had died"):
        verdict.fault(name, ())


def _sharing(evidence: Evidence) -> dict[tuple[str, str], list[str]]:
    """Of messages that may share a turn: all that were in it."""
    may = {
        message_id
        for offered in evidence.offered.values()
        for event in offered
        if event.errand.shares_turn
        for message_id in event.messages or ()
    }
    turns: dict[tuple[str, str], list[str]] = defaultdict(list)
    for session_id, found in evidence.files.items():
        for ack in found.acks:
            if ack["message_id"] in may:
                turns[session_id, ack["turn_id"]].append(ack["message_id"])
    return {(session, message): messages for (session, _), messages in turns.items() for message in messages}


def _outcome(evidence: Evidence, row: Row, heard: list[Arrived], queued: list[Row]) -> str:
    was_reset = evidence.sessions[row["session_id"]]["status"] == "ended"
    in_doubt = any(delivery["status"] == "uncertain" for delivery in queued)
    match row["status"]:
        case "completed" if heard:
            return "answered"
        case "failed" if any(message.from_host for message in heard):
            return "failed visibly"
        case "cancelled":
            return "cancelled" if was_reset or row["session_id"] in evidence.stopped else "cancelled unasked"
        case "completed" if was_reset and any(delivery["status"] == "suppressed" for delivery in queued):
            return "cancelled"
        case "completed" | "failed" if in_doubt:
            return "in doubt"
    return "lost"


def _order(evidence: Evidence, verdict: Verdict) -> None:
    """In a chat what a conversation says arrives in the order of the ledger; its answers come in that of the questions.

    Conversations take turns, so that between two of them there is no order.
    """
    position = {_key(row): row["position"] for row in evidence.deliveries}
    lane = {_key(row): row["lane"] for row in evidence.deliveries}
    for messages in evidence.arrived.values():
        last: dict[tuple[str, str | None], int] = defaultdict(int)
        for message in messages:
            here, of = position.get(message.key, 0), (message.chat, lane.get(message.key))
            if here < last[of]:
                verdict.fault("out of order", [message.key])
            last[of] = max(here, last[of])
    asked = {row["message_id"]: row for row in evidence.ingest if decode(row["content"]).get("text") != _HOSTILE}
    answered: dict[str, dict[str, int]] = defaultdict(dict)
    for delivery in evidence.deliveries:
        row = asked.get(delivery["in_reply_to"])
        if row is not None and row["platform_id"] == delivery["platform_id"]:
            answered[row["session_id"]].setdefault(row["message_id"], row["position"])
    for positions in answered.values():
        verdict.fault("out of order", (str(pair) for pair in pairwise(positions.values()) if pair[0] > pair[1]))


def _files(evidence: Evidence, verdict: Verdict) -> None:
    """The host's files say what the ledger says."""
    for row in evidence.ingest:
        there = [m for m in evidence.files[row["session_id"]].messages_in if m["id"] == row["message_id"]]
        if row["state"] == "written" and [(m["status"], m["tries"]) for m in there] != [(row["status"], row["tries"])]:
            verdict.fault("inbound.db disagrees", [row["message_id"]])
    told = {(s, row["message_out_id"]): row["status"] for s, found in evidence.files.items() for row in found.delivered}
    for row in evidence.deliveries:
        if row["from_host"] or row["status"] not in ("delivered", "failed", "uncertain"):
            continue
        if told.get((row["session_id"], row["message_out_id"])) != row["status"]:
            verdict.fault("inbound.db disagrees", [row["message_out_id"]])
    verdict.fault("inbound.db disagrees", ())


def _turns(evidence: Evidence, verdict: Verdict) -> None:
    """A completed message was answered by one turn, with what was asked for; what agents wrote is in the ledger."""
    errands = {event.id: event for offered in evidence.offered.values() for event in offered}
    queued = {(row["session_id"], row["message_out_id"]) for row in evidence.deliveries}
    acks = {(s, ack["message_id"]): ack for s, found in evidence.files.items() for ack in found.acks}
    replies: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for session_id, found in evidence.files.items():
        for row in found.messages_out:
            if row["turn_id"] is None or row.get("kind") == "system":
                continue  # of `bad-row`; for the host alone
            replies[session_id, row["turn_id"], row["in_reply_to"]].append(decode(row["content"])["text"])
            if (session_id, row["id"]) not in queued and (session_id, f"out-{row.get('seq')}") not in evidence.refused:
                verdict.fault("written by an agent and not taken", [row["id"]])
    for row in evidence.ingest:
        if row["status"] == "completed":
            problem = _turn_problem(row, acks, replies, errands)
            if problem is None and not _has_files(evidence, row, errands[row["platform_message_id"]]):
                problem = "a file is missing, or another one than was sent"
            if problem is not None:
                verdict.fault("not as asked", [f"{row['message_id']} {problem}"])
    for name in ("written by an agent and not taken", "not as asked"):
        verdict.fault(name, ())


def _turn_problem(
    row: Row,
    acks: Mapping[tuple[str, str], Row],
    replies: Mapping[tuple[str, str, str], list[str]],
    errands: Mapping[str, Offered],
) -> str | None:
    ack = acks.get((row["session_id"], row["message_id"]))
    if ack is None or ack["status"] != "completed":
        return "no turn says so"
    errand = errands[row["platform_message_id"]].errand
    expected = errand.replies
    if errand.shares_turn:
        texts = [
            text for key, said in replies.items() if key[:2] == (row["session_id"], ack["turn_id"]) for text in said
        ]
        may = {text for event in errands.values() for text in event.errand.replies or ()}
        return None if texts and set(texts) <= may else f"{expected} but {texts}"
    written = replies.get((row["session_id"], ack["turn_id"], row["message_id"]), [])
    return None if expected is not None and list(expected) == written else f"{expected} but {written}"


def _has_files(evidence: Evidence, row: Row, event: Offered) -> bool:
    inbox = evidence.files[row["session_id"]].inbox
    return all(inbox.get(f"{row['message_id']}/{name}") == text for name, text in event.errand.files.items())


def _arrived(evidence: Evidence) -> Iterable[Arrived]:
    return (message for messages in evidence.arrived.values() for message in messages)


def _key(row: Row) -> str:
    return f"{row['session_id']}/{row['message_out_id']}"


def _where(known: Mapping[str, Row], holds: Any) -> Iterable[str]:
    return (key for key, row in known.items() if holds(key, row))
