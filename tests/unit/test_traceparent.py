"""Places in a trace: what a header says, and the ids that follow from a message."""

from __future__ import annotations

import pytest

from host.traceparent import TraceContext, normal, of_message, of_turn, parse

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{PARENT}-01"


def test_a_header_says_trace_span_and_whether_it_is_kept() -> None:
    assert parse(HEADER) == TraceContext(int(TRACE, 16), int(PARENT, 16), True)
    assert parse(HEADER[:-1] + "0") == TraceContext(int(TRACE, 16), int(PARENT, 16), False)
    assert parse(f" cc-{TRACE}-{PARENT}-03-and what a later version says ") == parse(HEADER)
    assert normal(f"cc-{TRACE}-{PARENT}-ff") == HEADER


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        HEADER.upper(),
        HEADER + "-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"01-{TRACE}-{PARENT}-01more",
        HEADER + "-" + "x" * 10_000,
        "00-" + "\N{ARABIC-INDIC DIGIT ONE}" * 32 + f"-{PARENT}-01",
    ],
)
def test_a_header_that_cannot_be_followed_is_as_good_as_none(header: str | None) -> None:
    assert parse(header) is None
    assert normal(header) is None
    assert of_message("msg_1", header) == of_message("msg_1", None)


def test_a_message_is_in_the_trace_of_its_caller_or_begins_one_of_its_own() -> None:
    called, alone, other = of_message("msg_1", HEADER), of_message("msg_1", None), of_message("msg_2", None)
    assert f"{called.trace_id:032x}" == TRACE
    assert called.span_id == alone.span_id != other.span_id
    assert len({called.trace_id, alone.trace_id, other.trace_id}) == 3
    assert alone == of_message("msg_1", None)
    assert parse(called.header) == called


def test_each_attempt_at_a_message_is_a_span_of_its_own_in_the_messages_trace() -> None:
    first, second = of_turn("msg_1", HEADER, 1), of_turn("msg_1", HEADER, 2)
    assert first.trace_id == second.trace_id == of_message("msg_1", HEADER).trace_id
    assert len({first.span_id, second.span_id, of_message("msg_1", HEADER).span_id}) == 3


def test_a_caller_that_keeps_no_trace_has_none_made_of_its_message() -> None:
    assert not of_message("msg_1", HEADER[:-1] + "0").is_sampled
    assert not of_turn("msg_1", HEADER[:-1] + "0", 1).is_sampled
