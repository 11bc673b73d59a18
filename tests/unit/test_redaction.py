"""What agents see of people and chats where ids are redacted."""

from __future__ import annotations

import pytest

from host.sessions.redaction import Redaction
from shared_schema.rows import Address, Destination

HIDING = Redaction("ins_0123456789abcdef", in_clear={"slack"})


def test_without_a_key_everything_is_as_it_is() -> None:
    plain = Redaction()
    address = Address("memory", "+4915112345678", "t1")
    assert plain.address(address) is address
    assert (plain.person("memory", "ann"), plain.name("memory", "+4915112345678")) == ("ann", "+4915112345678")


def test_a_platform_whose_mentions_need_ids_shows_them() -> None:
    assert HIDING.address(Address("slack", "C042")) == Address("slack", "C042")
    assert HIDING.person("slack", "U1") == "U1"
    assert HIDING.name("slack", "call +4915112345678") == "call +4915112345678"


def test_a_hash_is_short_stable_and_another_one_in_each_install() -> None:
    seen = HIDING.person("memory", "ann")
    assert seen is not None
    assert len(seen) <= 16
    assert seen == HIDING.person("memory", "ann")
    others = {
        HIDING.person("memory", "ben"),
        HIDING.person("cli", "ann"),
        HIDING.chat("memory", "ann"),
        Redaction("ins_0000000000000000").person("memory", "ann"),
    }
    assert len(others | {seen}) == 5
    assert HIDING.person("memory", None) is None


def test_an_address_keeps_its_platform_and_thread() -> None:
    hidden = HIDING.address(Address("memory", "one", "t1"))
    assert (hidden.channel_type, hidden.thread_id) == ("memory", "t1")
    assert hidden.platform_id == HIDING.chat("memory", "one") != "one"


def test_a_destination_keeps_the_name_by_which_the_agent_sends_there() -> None:
    given = Destination("home", "Ann +49 151 12345678", "messaging_group", "memory", "4915112345678", None)
    seen = HIDING.destination(given)
    assert seen.name == "home"
    assert "12345678" not in f"{seen.display_name}{seen.platform_id}"
    assert str(seen.display_name).startswith("Ann phone-")
    agent = Destination("other", None, "agent_group", None, None, "agr_1")
    assert HIDING.destination(agent) is agent


@pytest.mark.parametrize(
    "number",
    [
        "+49 151 12345678",
        "+4915112345678",
        "0049 151 12345678",
        "+49 (151) 1234-5678",
        "4915112345678",
        "49-151-12345678",
    ],
)
def test_a_phone_number_is_the_same_however_it_is_written(number: str) -> None:
    assert HIDING.name("memory", f"Ann {number}!") == f"Ann {HIDING.name('memory', '+4915112345678')}!"


@pytest.mark.parametrize(
    "name", ["Ann", "Room 101", "2026-11-20", "12345678", "v1.2.3", "user1234567890", "Flat 3/14", "", "10:30 10:45"]
)
def test_a_name_that_is_no_phone_number_stays(name: str) -> None:
    assert HIDING.name("memory", name) == name
