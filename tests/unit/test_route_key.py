"""Which conversation an event belongs to (FAILURES 24, 25, 26)."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from host.central.messaging_groups import SessionMode
from host.routing.route_key import route_key
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address

AGENT = "agr_0123456789abcdef"
ONE = Address("memory", "one")
THREAD = Address("memory", "one", "t1")


def key(
    mode: str = "shared",
    address: Address = ONE,
    *,
    agent: str = AGENT,
    per_user: bool = False,
    sender: str | None = "ann",
) -> str:
    return route_key(mode, address, agent_group_id=agent, per_user=per_user, sender_id=sender)


@pytest.mark.parametrize(
    ("mode", "address", "per_user", "expected"),
    [
        ("shared", ONE, False, "shared/memory/one"),
        ("shared", THREAD, False, "shared/memory/one"),
        ("shared", THREAD, True, "shared/memory/one/u:memory:ann"),
        ("per-thread", ONE, False, "per-thread/memory/one/-"),
        ("per-thread", THREAD, False, "per-thread/memory/one/t:t1"),
        ("per-thread", THREAD, True, "per-thread/memory/one/t:t1/u:memory:ann"),
        ("agent-shared", THREAD, False, f"agent-shared/{AGENT}"),
        ("shared", Address("tg", "a/b:c%"), False, "shared/tg/a%2Fb%3Ac%25"),
    ],
)
def test_the_key_has_the_mode_and_what_the_mode_asks_for(
    mode: str, address: Address, per_user: bool, expected: str
) -> None:
    assert key(mode, address, per_user=per_user) == expected


def test_modes_never_share_a_session() -> None:
    keys = [key(mode, address) for mode in SessionMode for address in (ONE, THREAD)]
    assert len(set(keys)) == 4  # shared and agent-shared do not look at the thread
    assert key("shared") != key("per-thread") != key("agent-shared") != key("shared")


def test_a_thread_whose_name_is_the_mark_of_no_thread_is_still_a_thread() -> None:
    assert key("per-thread", Address("memory", "one", "-")) != key("per-thread", ONE)


def test_agent_shared_is_one_session_for_all_chats_of_one_agent_and_not_of_another() -> None:
    assert key("agent-shared", ONE) == key("agent-shared", Address("tg", "two", "t9"))
    assert key("agent-shared", ONE) != key("agent-shared", ONE, agent="agr_fedcba9876543210")


@pytest.mark.parametrize("mode", list(SessionMode))
def test_per_user_gives_everybody_their_own(mode: str) -> None:
    assert key(mode, per_user=True, sender="ann") != key(mode, per_user=True, sender="bob") != key(mode)


@pytest.mark.parametrize("mode", list(SessionMode))
@pytest.mark.parametrize("sender", [None, ""])
def test_per_user_without_a_sender_is_an_error_and_no_shared_bucket(mode: str, sender: str | None) -> None:
    with pytest.raises(InvalidValue, match="without a sender"):
        key(mode, per_user=True, sender=sender)


@pytest.mark.parametrize("mode", list(SessionMode))
@pytest.mark.parametrize(("address", "agent"), [(Address("", "one"), AGENT), (Address("memory", ""), AGENT), (ONE, "")])
def test_without_an_identifier_there_is_no_key(mode: str, address: Address, agent: str) -> None:
    with pytest.raises(InvalidValue, match="belongs to no session"):
        key(mode, address, agent=agent)


@pytest.mark.parametrize("mode", ["", "Shared", "per_thread", "global"])
def test_an_unknown_mode_is_an_error(mode: str) -> None:
    with pytest.raises(InvalidValue, match="is not a session mode: use shared, per-thread, agent-shared"):
        key(mode)


IDS = st.one_of(
    st.text(alphabet="ab/:%-u .", min_size=1, max_size=8),
    st.sampled_from(["one", "one/u:ann", "one/t:t1", "/u:", "u:ann", "a%2Fb", "a/b", "-", "..", "龜", "x\x7f"]),
)
EVENTS = st.tuples(st.sampled_from(["per-thread", "shared"]), IDS, IDS, st.none() | IDS, st.booleans(), IDS)


def parts_that_matter(event: tuple[str, str, str, str | None, bool, str]) -> tuple[object, ...]:
    mode, channel, chat, thread, per_user, sender = event
    return (mode, channel, chat, thread if mode == "per-thread" else None, sender if per_user else None)


def key_of(event: tuple[str, str, str, str | None, bool, str]) -> str:
    mode, channel, chat, thread, per_user, sender = event
    return key(mode, Address(channel, chat, thread), per_user=per_user, sender=sender)


@settings(deadline=None, max_examples=500)
@given(EVENTS, EVENTS)
@example(("shared", "m", "one/u:m:ann", None, False, "x"), ("shared", "m", "one", None, True, "ann"))
@example(("per-thread", "m", "one/t:t1", None, False, "x"), ("per-thread", "m", "one", "t1/-", False, "x"))
@example(("shared", "a/b", "c", None, False, "x"), ("shared", "a", "b/c", None, False, "x"))
@example(("shared", "a", "b%2Fc", None, False, "x"), ("shared", "a", "b/c", None, False, "x"))
def test_two_events_have_the_same_key_exactly_when_they_belong_together(
    one: tuple[str, str, str, str | None, bool, str], other: tuple[str, str, str, str | None, bool, str]
) -> None:
    assert (key_of(one) == key_of(other)) == (parts_that_matter(one) == parts_that_matter(other))


@settings(deadline=None)
@given(st.lists(IDS, min_size=2, max_size=5, unique=True))
def test_agent_groups_keep_apart_under_any_id(agents: list[str]) -> None:
    for one, other in combinations(agents, 2):
        assert key("agent-shared", agent=one) != key("agent-shared", agent=other)


def test_two_people_with_the_same_id_on_two_platforms_do_not_share_a_session() -> None:
    telegram, slack = Address("telegram", "one"), Address("slack", "one")
    assert key("agent-shared", telegram, per_user=True, sender="42") != key(
        "agent-shared", slack, per_user=True, sender="42"
    )


@pytest.mark.parametrize("address", [Address("m", "\ud800"), Address("m", "one", "\udcff")], ids=["chat", "thread"])
def test_half_characters_are_no_identifier(address: Address) -> None:
    with pytest.raises(InvalidValue, match="half characters"):
        key("per-thread", address)
