"""FAILURES 41, 42, 43: who may speak, who decides, what a decision shows, and what a refused message leaves behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from host.access.approvals import KINDS
from host.channels.memory import MemoryChannel
from host.channels.protocol import ChannelRefused, Outgoing
from tests.access.people import OWNER, OWNERS_CHAT, chat, click, counted, owner, said_in, write
from tests.support.host import AGENT, Host, running
from tests.support.wait import until

TRACES = ("sessions", "ingest", "users", "people", "routes", "deliveries", "host_messages", "approvals")


async def test_a_stranger_in_a_strict_chat_leaves_a_counted_record_and_nothing_else(tmp_path: Path) -> None:
    """FAILURES 43."""
    async with running(tmp_path) as host:
        await chat(host, "team", is_group=True)
        before = await counted(host, *TRACES)
        for _ in range(3):
            receipt = await write(host, "let me in", where="team", is_mention=True)
            assert receipt.accepted == ()
            assert receipt.dropped == "the sender is not known here"
        assert await counted(host, *TRACES) == before
        (dropped,) = await host.do("dropped.list", messaging_group="memory:team")
        assert (dropped["sender_id"], dropped["times"]) == ("sam", 3)


async def test_what_a_strict_chat_refuses_is_not_heard_as_context_either(tmp_path: Path) -> None:
    """FAILURES 43."""
    async with running(tmp_path) as host:
        await chat(host, "team", is_group=True, agents=())
        await host.do(
            "wiring.add", messaging_group="memory:team", agent_group=AGENT, engage="mention", non_engaging="accumulate"
        )
        await host.do("role.grant", user="memory:ann", role="member", agent_group=AGENT)
        before = await counted(host, "sessions", "ingest")
        await write(host, "gossip", where="team")
        assert await counted(host, "sessions", "ingest") == before
        await write(host, "known gossip", where="team", sender="ann")
        assert (await counted(host, "ingest"))["ingest"] == before["ingest"] + 1


async def test_records_of_what_was_dropped_are_bounded(tmp_path: Path) -> None:
    """FAILURES 43."""
    async with running(tmp_path) as host:
        await chat(host, "team", is_group=True)
        for number in range(1_020):
            await write(host, "hello", where="team", sender=f"s{number}")
        dropped = await host.do("dropped.list", limit=1_000)
        assert len(dropped) == 1_000
        assert dropped[0]["sender_id"] == "s1019"
        assert (await counted(host, "dropped_messages"))["dropped_messages"] == 1_000


async def test_a_member_speaks_in_a_strict_chat(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await chat(host, "team", is_group=True)
        await host.do("role.grant", user="memory:ann", role="member", agent_group=AGENT)
        await write(host, "hello", where="team", sender="ann")
        assert (await said_in(host, "team"))[0].text == "scripted: hello"


async def test_several_users_of_one_person_have_their_roles_in_common(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await chat(host, "team", is_group=True)
        await host.do("role.grant", user="slack:U7", role="member", agent_group=AGENT)
        await host.do("user.link", user="memory:ann", same_as="slack:U7")
        await write(host, "hello", where="team", sender="ann")
        assert (await said_in(host, "team"))[0].text == "scripted: hello"
        assert (await host.do("user.show", user="memory:ann"))["same_as"] == ["slack:U7"]


async def test_of_several_agents_those_for_members_alone_do_not_hear_others(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("agent_group.add", name="private", provider="scripted")
        await chat(host, "open", is_group=True, unknown_sender="public")
        await host.do("wiring.add", messaging_group="memory:open", agent_group="private", sender_scope="members")
        receipt = await write(host, "hello", where="open")
        assert [each.agent_group for each in receipt.accepted] == [AGENT]
        await host.do("role.grant", user="memory:sam", role="member", agent_group="private")
        receipt = await write(host, "hello", where="open")
        assert sorted(each.agent_group for each in receipt.accepted) == [AGENT, "private"]


async def test_a_stranger_is_let_in_by_a_button_and_the_message_that_waited_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "dm")
        before = await counted(host, "sessions", "users")
        await write(host, "good morning", where="dm")
        await write(host, "are you there?", where="dm")
        assert await counted(host, "sessions", "users") == before
        (card,) = await said_in(host, OWNERS_CHAT)
        (knocked,) = await said_in(host, "dm")
        assert "Your code is " in knocked.text
        assert all(part in card.text for part in ("memory:sam", "Sam", "memory:dm", AGENT, "good morning"))
        await click(host, card, "Let in", sender="olga")
        assert (await said_in(host, "dm", 2))[1].text.startswith("scripted: ")
        await host.settled()
        answered = await host.central("SELECT content, status FROM ingest ORDER BY position")
        assert [row["status"] for row in answered] == ["completed", "completed"]
        assert "good morning" in answered[0]["content"]
        shown = await host.do("user.show", user="memory:sam")
        assert shown["roles"] == [{"role": "member", "agent_group": AGENT}]


async def test_a_card_waits_while_its_platform_does_not_let_the_bot_in(tmp_path: Path) -> None:
    """A refused token is mended by a person, and the message has surely not arrived."""
    refused: list[Outgoing] = []

    def refuse(message: Outgoing) -> str | None:
        refused.append(message)
        raise ChannelRefused("the token was revoked")

    channel = MemoryChannel(idempotent=False, refuses=refuse)
    async with running(tmp_path, channel=channel) as host:
        await owner(host)
        await chat(host, "dm")
        await write(host, "hello", where="dm")
        await until(lambda: any(each.buttons for each in refused), "the card was refused")
        channel.refuses = lambda message: None
        (card,) = await said_in(host, OWNERS_CHAT)
        assert card.buttons[0].label == "Let in"


@pytest.mark.parametrize("sender", ["sam", "ann"])
async def test_only_who_has_the_role_at_the_moment_of_the_click_decides(tmp_path: Path, sender: str) -> None:
    """FAILURES 41: not the stranger, and not a member."""
    async with running(tmp_path) as host:
        await owner(host)
        await host.do("role.grant", user="memory:ann", role="member", agent_group=AGENT)
        await chat(host, "dm")
        await write(host, "hello", where="dm")
        (card,) = await said_in(host, OWNERS_CHAT)
        receipt = await click(host, card, "Let in", sender=sender)
        assert receipt.dropped == "Only the owner, or an admin of what it is about, can decide this."
        assert (await host.do("approval.list"))[0]["state"] == "pending"
        # And a role that was taken away since the card was sent is none.
        await host.do("role.revoke", user=OWNER, role="owner")
        receipt = await click(host, card, "Let in", sender="olga", click_id="c2")
        assert receipt.dropped == "Only the owner, or an admin of what it is about, can decide this."
        assert (await host.do("approval.list"))[0]["state"] == "pending"


async def test_an_admin_of_another_agent_group_decides_nothing_here(tmp_path: Path) -> None:
    """FAILURES 41."""
    async with running(tmp_path) as host:
        await owner(host)
        await host.do("agent_group.add", name="other", provider="scripted")
        await host.do("role.grant", user="memory:eve", role="admin", agent_group="other")
        await chat(host, "dm")
        await write(host, "hello", where="dm")
        code = (await host.do("approval.list"))[0]["code"]
        await write(host, f"/approve {code}", where="eves", sender="eve", is_group=False)
        (answer,) = await said_in(host, "eves")
        assert answer.text == "Only the owner, or an admin of what it is about, can decide this."
        await host.do("role.grant", user="memory:eve", role="admin", agent_group=AGENT)
        await write(host, f"/approve {code}", where="eves", sender="eve", is_group=False)
        assert (await said_in(host, "eves", 2))[1].text.startswith("Approved by memory:eve.")


async def test_a_card_shows_every_argument_of_its_approval(tmp_path: Path) -> None:
    """FAILURES 42."""
    message = "line one\nCode: FAKE22\nLet in: yes " + "x" * 3_000 + "the end"
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "dm")
        await write(host, message, where="dm", sender_name="Sam\u202e\nUser: memory:olga")
        await write(host, "hello", where="nowhere", is_group=False)
        approvals = await host.do("approval.list")
        assert {each["kind"] for each in approvals} == {"pairing", "unknown-chat"} <= set(KINDS)
        for approval in approvals:
            card = (await host.do("approval.show", code=approval["code"]))["card"]
            for value in approval["arguments"].values():
                texts = value if isinstance(value, list) else [value]
                lines = [line for text in texts for line in str(text).splitlines()]
                assert all(line in card or text in (None, True, False) for text in texts for line in lines), card
        (pairing,) = [each for each in approvals if each["kind"] == "pairing"]
        card = (await host.do("approval.show", code=pairing["code"]))["card"]
        assert "[the first 600 of 3," in card
        assert "\nCode: FAKE22" not in card
        assert "\u202e" not in card
        assert [line for line in card.splitlines() if line.startswith("User: ")] == ["User: memory:sam"]


async def test_it_is_decided_once_and_the_other_cards_say_by_whom(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await owner(host)
        await host.do("role.grant", user="memory:adam", role="admin")
        await chat(host, "dm")
        await write(host, "hello", where="dm")
        (hers,), (his,) = await said_in(host, OWNERS_CHAT), await said_in(host, "direct-adam")
        await click(host, hers, "No", sender="olga")
        await until(lambda: len(host.channel.changed) == 2, "both cards are changed")
        assert all("Denied by memory:olga." in text and "/approve" not in text for _, text in host.channel.changed)
        receipt = await click(host, his, "Let in", sender="adam", click_id="c2")
        (code,) = (each["code"] for each in await host.do("approval.list", state="all"))
        assert receipt.dropped == f"{code} is decided already: Denied by memory:olga."
        assert (await said_in(host, "dm", 2))[1].text.startswith("You were not let in here")
        assert (await write(host, "hello?", where="dm")).dropped == "it was denied before"
        assert await host.do("approval.list") == []


@pytest.mark.parametrize("formats", [False, True], ids=["plain", "escaped"])
async def test_a_card_that_is_longer_than_a_message_may_be_is_shown_whole_in_several(
    tmp_path: Path, formats: bool
) -> None:
    """FAILURES 42: on Discord a message has 2,000 characters, and a card may have more."""
    message = "\n".join(f"*{number}* " + "word " * 11 for number in range(9)) + "\nPress a button"
    async with running(tmp_path) as host:
        host.channel.max_text, host.channel.formats = 400, formats
        await owner(host)
        await chat(host, "dm")
        await write(host, message, where="dm")
        (approval,) = await host.do("approval.list")
        whole = (await host.do("approval.show", code=approval["code"]))["card"]
        *others, last = parts = await until(
            lambda: card if (card := in_chat(host, OWNERS_CHAT)) and card[-1].buttons else None, "the card is whole"
        )
        assert len(parts) > 2
        assert all(len(part.text) <= 400 and part.text.startswith("(") for part in parts)
        assert not any(part.buttons for part in others)
        shown = " ".join(part.text.partition("… ")[2] for part in parts).replace("\\", "")
        assert shown.split() == whole.split()
        await click(host, last, "No", sender="olga")
        ((changed, text),) = await until(lambda: host.channel.changed, "the card says how it ended")
        assert host.channel.sent.index(last) == int(changed.removeprefix("mem-")) - 1
        assert "Denied by memory:olga." in text
        assert len(text) <= 400


def in_chat(host: Host, where: str) -> list[Outgoing]:
    return [message for message in host.channel.sent if message.address.platform_id == where]


async def test_where_messages_cannot_be_changed_a_new_one_says_how_it_ended(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        host.channel.edits = False
        await owner(host)
        await chat(host, "dm")
        await write(host, "hello", where="dm")
        (card,) = await said_in(host, OWNERS_CHAT)
        await click(host, card, "Let in", sender="olga")
        assert "Approved by memory:olga." in (await said_in(host, OWNERS_CHAT, 2))[1].text


async def test_the_same_click_that_comes_twice_does_it_once(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "dm")
        await write(host, "hello", where="dm")
        (card,) = await said_in(host, OWNERS_CHAT)
        await click(host, card, "Let in", sender="olga")
        await click(host, card, "Let in", sender="olga")
        await click(host, card, "Let in", sender="olga")
        await said_in(host, "dm", 2)
        await host.settled()
        assert (await counted(host, "ingest"))["ingest"] == 1
        assert (
            len(
                [
                    each
                    for each in await host.do("audit.list", action="approval")
                    if each["action"] == "approval.approved"
                ]
            )
            == 1
        )


async def test_two_who_decide_at_the_same_moment_from_two_chats_decide_once(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await owner(host)
        await host.do("role.grant", user="memory:adam", role="admin")
        await chat(host, "dm")
        await write(host, "hello", where="dm")
        (of_olga,) = await said_in(host, OWNERS_CHAT)
        (of_adam,) = await said_in(host, "direct-adam")
        receipts = await asyncio.gather(
            click(host, of_olga, "Let in", sender="olga"), click(host, of_adam, "No", sender="adam", click_id="c2")
        )
        first, second = sorted(receipts, key=lambda receipt: receipt.dropped is not None)
        (approval,) = await host.do("approval.list", state="all")
        assert first.dropped is None
        assert second.dropped is not None
        assert second.dropped.endswith(f"by {approval['decided_by']}.")
        log = [row for row in await host.do("audit.list") if row["action"].startswith("approval.")]
        assert len(log) == 1


async def test_a_chat_that_becomes_strict_while_a_stranger_waits_lets_the_decision_stand(tmp_path: Path) -> None:
    """The rule is for who is unknown: who was let in by a decider is a member, and what waited is answered."""
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "dm")
        await write(host, "hello", where="dm")
        (card,) = await said_in(host, OWNERS_CHAT)
        await host.do("messaging_group.set", address="memory:dm", unknown_sender="strict")
        receipt = await write(host, "still there?", where="dm")
        assert receipt.dropped == "the sender is not known here"
        await click(host, card, "Let in", sender="olga")
        assert (await said_in(host, "dm", 2))[1].text == "scripted: hello"


async def test_no_name_or_text_of_a_stranger_can_rearrange_a_card(tmp_path: Path) -> None:
    """FAILURES 42: marks that turn the direction, controls and line breaks are shown as what they are."""
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "dm")
        name = "Olga\u202e\u2066\x1b[2J\nAgents: none"
        await write(host, "hi\nUser: memory:olga\n\u202eevil", where="dm", sender_name=name)
        (card,) = await said_in(host, OWNERS_CHAT)
        lines = card.text.splitlines()
        assert not any(character in card.text for character in "\u202e\u2066\x1b")
        assert [line for line in lines if line.startswith("User: ")] == ["User: memory:sam"]
        assert [line for line in lines if line.startswith("Agents: ")] == [f"Agents: {AGENT}"]
