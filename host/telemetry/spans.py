"""From rows of the ledger to spans. Pure; it knows no library.

    message            from its acceptance to its outcome, below the caller's span where it came with one
      write            until it stands in its session's file
      invoke_agent …   a turn of its agent; one that answers several messages belongs to the oldest of them
        chat …         a model call through the gateway
      deliver          an answer, until its platform has it

Invariant: attributes hold ids, names, numbers and words of a fixed set; no text of a message, and nothing that an agent
can choose freely.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from enum import StrEnum

from host.gateway.call_span import CallSpan
from host.traceparent import of_message, of_turn, parse, span_id
from shared_schema.clock import from_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.rows import FailureReason, MessageInStatus, TurnStatus

_NAME = re.compile(r"[\w.:/@+-]{1,100}", re.ASCII)
_OTHER = "other"
_PROVIDERS = {"google": "gcp.gemini"}
"""Names of the GenAI conventions for kinds of services, where they are not those of the settings."""

Value = str | int | float | bool


class SpanSide(StrEnum):
    """Which side of a call a span is."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"


@dataclass(frozen=True, slots=True)
class Span:
    """A span that is over. Times are nanoseconds since 1970; `parent_id` 0: the first of its trace.

    `error` is a word for why it failed; `links` are other spans, as trace and span.
    """

    name: str
    trace_id: int
    span_id: int
    parent_id: int
    began: int
    ended: int
    kind: SpanSide
    attributes: dict[str, Value]
    error: str | None = None
    links: tuple[tuple[int, int], ...] = ()


def of_message_row(row: sqlite3.Row, earlier: Sequence[sqlite3.Row] = ()) -> list[Span]:
    """The spans of a message that has its outcome (a row of `TRACED_MESSAGES`); `earlier` are turns that died over it.

    None where its caller keeps no trace.
    """
    own = of_message(row["message_id"], row["traceparent"])
    if not own.is_sampled:
        return []
    caller = parse(row["traceparent"])
    began, ended = _moment(row["began"]), _moment(row["ended"])
    failed = row["status"] == MessageInStatus.FAILED
    reason = _word(row["failure_reason"], FailureReason) if row["turn_status"] else "failed"
    attributes: dict[str, Value] = _where(row) | {
        "dumbwaiter.message.id": row["message_id"],
        "dumbwaiter.message.kind": row["kind"],
        "dumbwaiter.channel": row["channel_type"],
        "dumbwaiter.outcome": row["status"],
        "dumbwaiter.tries": row["tries"],
    }
    links: tuple[tuple[int, int], ...] = ()
    leader = row["leader_id"]
    turns = [each for each in earlier if row["tries"]]
    if row["turn_id"] is not None and leader is not None:
        turn = of_turn(leader, row["leader_traceparent"], row["attempt"] or 1)
        if leader == row["message_id"]:
            turns.append(row)
        else:
            links = ((turn.trace_id, turn.span_id),)
    spans = [
        Span(
            "message",
            own.trace_id,
            own.span_id,
            0 if caller is None else caller.span_id,
            began,
            ended,
            SpanSide.SERVER,
            attributes,
            reason if failed else None,
            links,
        )
    ]
    if row["written_at"] is not None:
        written = min(max(_moment(row["written_at"]), began), max(began, ended))
        at = span_id("write", row["message_id"])
        spans.append(Span("write", own.trace_id, at, own.span_id, began, written, SpanSide.INTERNAL, {}))
    return [*spans, *(_turn(row, each, began, ended) for each in turns)]


def _turn(row: sqlite3.Row, turn: sqlite3.Row, earliest: int, latest: int) -> Span:
    """A turn over a message. Its times are the agent's, which may say anything: they stay within the message's."""
    message = of_message(row["message_id"], row["traceparent"])
    own = of_turn(row["message_id"], row["traceparent"], turn["attempt"] or 1)
    began = min(max(_moment(turn["turn_began"]), earliest), latest)
    ended = min(max(_moment(turn["turn_ended"]), began), latest)
    agent = row["agent_group"]
    attributes: dict[str, Value] = _where(row) | {
        "gen_ai.operation.name": "invoke_agent",
        "dumbwaiter.turn.id": turn["turn_id"],
        "dumbwaiter.turn.status": _word(turn["turn_status"], TurnStatus),
        "dumbwaiter.attempt": turn["attempt"] or 1,
    }
    if turn["provider"] is not None:
        attributes["dumbwaiter.provider"] = _name(turn["provider"])
    if turn["model"] is not None:
        attributes["gen_ai.response.model"] = _name(turn["model"])
    attributes |= _tokens(turn["input_tokens"], turn["output_tokens"])
    is_failed = turn["turn_status"] != TurnStatus.COMPLETED
    error = _word(turn["failure_reason"] or turn["turn_status"], (*FailureReason, *TurnStatus)) if is_failed else None
    name = f"invoke_agent {agent}"
    return Span(name, own.trace_id, own.span_id, message.span_id, began, ended, SpanSide.INTERNAL, attributes, error)


def of_delivery(row: sqlite3.Row) -> Span | None:
    """The span of what was sent, or was not (a row of `TRACED_DELIVERIES`); None for what belongs to no message."""
    if row["leader_id"] is None:
        return None
    message = of_message(row["leader_id"], row["leader_traceparent"])
    if not message.is_sampled:
        return None
    began = _moment(row["began"])
    attributes: dict[str, Value] = {
        "gen_ai.conversation.id": row["session_id"],
        "dumbwaiter.message.id": row["message_out_id"],
        "dumbwaiter.message.kind": row["kind"],
        "dumbwaiter.from_host": bool(row["from_host"]),
        "dumbwaiter.channel": row["channel_type"],
        "dumbwaiter.outcome": row["status"],
        "dumbwaiter.attempts": row["attempts"],
    }
    error = row["status"] if row["status"] in ("failed", "uncertain") else None
    own = span_id("deliver", row["session_id"], row["message_out_id"])
    ended = max(_moment(row["ended"]), began)
    return Span("deliver", message.trace_id, own, message.span_id, began, ended, SpanSide.PRODUCER, attributes, error)


def of_call(call: CallSpan) -> Span:
    """The span of a model call."""
    own = parse(call.traceparent)
    assert own is not None, "the host made it"
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDERS.get(call.kind, call.kind),
        "gen_ai.conversation.id": call.session_id,
        "dumbwaiter.upstream": call.upstream,
    }
    model = None
    if call.usage is not None:
        model = None if call.usage.model is None else _name(call.usage.model)
        attributes |= _tokens(call.usage.input_tokens, call.usage.output_tokens)
    if model is not None:
        attributes["gen_ai.response.model"] = model
    if call.status is not None:
        attributes["http.response.status_code"] = call.status
    error = call.error
    if error is None and call.status is not None and call.status >= 400:
        error = str(call.status)
    name = "chat" if model is None else f"chat {model}"
    return Span(
        name, own.trace_id, own.span_id, call.parent_span_id, call.began, call.ended, SpanSide.CLIENT, attributes, error
    )


def _where(row: sqlite3.Row) -> dict[str, Value]:
    return {
        "gen_ai.agent.id": row["agent_group_id"],
        "gen_ai.agent.name": row["agent_group"],
        "gen_ai.conversation.id": row["session_id"] or "",
    }


def _tokens(read: object, written: object) -> dict[str, Value]:
    given = {"gen_ai.usage.input_tokens": read, "gen_ai.usage.output_tokens": written}
    return {name: value for name, value in given.items() if isinstance(value, int) and 0 <= value < 2**63}


def _name(said: object) -> str:
    """The name of a model or provider as an agent or a service says it, if it looks like one."""
    return said if isinstance(said, str) and _NAME.fullmatch(said) else _OTHER


def _word(said: object, known: object) -> str:
    return said if isinstance(said, str) and said in set(known) else _OTHER  # type: ignore[call-overload]


def _moment(text: object) -> int:
    """A stored time in nanoseconds; 0 for what an agent says that is none."""
    try:
        return round(from_text(str(text)).timestamp() * 1000) * 1_000_000
    except (InvalidValue, ValueError, OverflowError):
        return 0
