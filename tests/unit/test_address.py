"""Where a message of an agent's goes, and whether it may (FAILURES 19, 46)."""

from __future__ import annotations

import pytest

from host.delivery.address import address_of
from host.delivery.check import CheckedMessage, RowRefused
from shared_schema.rows import Address, Destination, MessageOutKind

ASKED = Address("memory", "asked", "t1")
LATEST = Address("memory", "spoke last")
HOME = Destination("home", "Home", "messaging_group", "memory", "home", None)
BROKEN = Destination("broken", None, "messaging_group", None, "x", None)
COLLEAGUE = Destination("colleague", None, "agent_group", None, None, "agr_1")
REPLIES = {"msg_asked": ASKED}


def address(
    *,
    destination: str | None = None,
    in_reply_to: str | None = None,
    routing: Address | None = LATEST,
    destinations: tuple[Destination, ...] = (HOME, BROKEN, COLLEAGUE),
) -> Address:
    message = CheckedMessage(
        1, "msg_0123456789abcdef", None, in_reply_to, 1, None, MessageOutKind.CHAT, destination, "text", (), {}, "{}"
    )
    return address_of(message, replies=REPLIES, routing=routing, destinations=destinations)


def test_a_reply_goes_to_the_chat_and_thread_that_asked_and_not_to_the_one_that_spoke_last() -> None:
    assert address(in_reply_to="msg_asked") == ASKED


def test_a_message_that_answers_nothing_goes_to_the_session_s_default() -> None:
    assert address() == LATEST


def test_a_destination_is_meant_even_in_a_reply_and_has_no_thread() -> None:
    assert (
        address(destination="home") == address(destination="home", in_reply_to="msg_asked") == Address("memory", "home")
    )


@pytest.mark.parametrize(
    ("destination", "in_reply_to", "routing", "reason"),
    [
        (None, "msg_of_another_session", LATEST, "it answers a message that is not of this session"),
        (None, None, None, "it says neither where it goes nor what it answers"),
        ("elsewhere", None, LATEST, "'elsewhere' is not one of its destinations"),
        ("elsewhere", "msg_asked", LATEST, "'elsewhere' is not one of its destinations"),
        ("Home", None, LATEST, "'Home' is not one of its destinations"),
        ("memory:home", None, LATEST, "'memory:home' is not one of its destinations"),
        ("home ", None, LATEST, "'home ' is not one of its destinations"),
        ("broken", None, LATEST, "'broken' is not one of its destinations"),
        ("colleague", None, LATEST, "'colleague' is not one of its destinations"),
        ("x" * 500, None, LATEST, f"'{'x' * 80}' is not one of its destinations"),
    ],
)
def test_nowhere_else_may_it_write(
    destination: str | None, in_reply_to: str | None, routing: Address | None, reason: str
) -> None:
    with pytest.raises(RowRefused) as caught:
        address(destination=destination, in_reply_to=in_reply_to, routing=routing)
    assert str(caught.value) == reason


def test_an_agent_without_destinations_has_none() -> None:
    with pytest.raises(RowRefused):
        address(destination="home", destinations=())
