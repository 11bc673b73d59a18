"""What agents may ask of the host: which rows are requests, what they mean, and how often."""

from __future__ import annotations

import pytest

from host.delivery.allowance import DAY, Allowance, Allowances
from host.delivery.check import CheckedMessage, RowRefused
from host.delivery.request import AgentRequest, RequestName, arguments_of, request_of
from shared_schema.errors import InvalidValue
from shared_schema.rows import MessageOutKind, decode, encode


def message(content: str) -> CheckedMessage:
    return CheckedMessage(
        1, "msg_0123456789abcdef", None, None, 4, None, MessageOutKind.SYSTEM, None, "", (), decode(content), content
    )


def request(name: str, **arguments: object) -> AgentRequest:
    return AgentRequest("msg_0123456789abcdef", 4, name, arguments)


def test_a_system_row_is_a_request_when_it_says_so() -> None:
    asked = {"request": "list_sessions", "arguments": {"limit": 3}}
    assert request_of(message(encode(asked))) == request("list_sessions", limit=3)
    assert request_of(message(encode({"text": "A title"}))) is None


@pytest.mark.parametrize(
    "content",
    [
        {"request": 1},
        {"request": None},
        {"request": "list_sessions", "arguments": [1]},
        {"request": "search_messages", "arguments": {"query": "x" * 5_000}},
    ],
)
def test_a_request_without_a_form_is_a_bad_row(content: dict[str, object]) -> None:
    with pytest.raises(RowRefused):
        request_of(message(encode(content)))


def test_arguments_get_their_defaults() -> None:
    assert arguments_of(request("search_messages", query="tea")) == (
        RequestName.SEARCH_MESSAGES,
        {"query": "tea", "since": "7d", "until": None, "session": None, "sender": None, "limit": 50},
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("delete_everything", {}),
        ("search_messages", {}),
        ("search_messages", {"query": " "}),
        ("search_messages", {"query": ["tea"]}),
        ("search_messages", {"query": "x" * 1_001}),
        ("search_messages", {"query": "tea", "limit": 10**9}),
        ("search_messages", {"query": "tea", "limit": True}),
        ("search_messages", {"query": "tea", "since": 7}),
        ("search_messages", {"query": "tea", "scope": ["agr_0123456789abcdef"]}),
        ("search_messages", {"query": "tea", "agent_group": "other"}),
        ("list_sessions", {"limit": 0}),
        ("read_history", {"session": ""}),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidValue):
        arguments_of(request(name, **arguments))


def test_a_session_may_ask_so_often_in_a_minute_and_in_a_day() -> None:
    allowance = Allowance(per_minute=2, per_day=5)
    assert [allowance.refusal(second) is None for second in (0, 1, 2, 59, 60, 61, 62)] == [
        True, True, False, False, True, True, False,
    ]  # fmt: skip
    assert allowance.refusal(200) is None
    assert allowance.refusal(400) == "more than 5 requests in a day"
    assert allowance.refusal(86_400) is None


def test_a_session_that_asks_nothing_for_a_day_is_forgotten() -> None:
    allowances = Allowances()
    asked, refused = allowances.of("ses_1", 0.0)
    allowances.of("ses_2", DAY - 1)
    assert allowances.of("ses_1", DAY - 1) == (asked, refused)
    allowances.of("ses_2", 2 * DAY - 1)
    assert asked not in allowances.of("ses_1", 2 * DAY - 1)
