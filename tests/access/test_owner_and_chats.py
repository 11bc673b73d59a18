"""The first owner, unknown chats, groups the bot is added to, and what expires."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from host.routing.event import Joined
from shared_schema.clock import SystemClock
from shared_schema.rows import Address
from tests.access.people import OWNERS_CHAT, chat, click, counted, owner, said_in, write
from tests.support.host import AGENT, running
from tests.support.wait import until


class SetClock(SystemClock):
    """The real clock, set forward by a person."""

    ahead = timedelta()

    def now(self):  # type: ignore[no-untyped-def]
        return super().now() + self.ahead


async def test_the_first_owner_says_the_code_in_a_direct_chat(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        code = (await host.do("user.claim_code"))["code"]
        assert len(code.replace("-", "")) == 8
        await write(host, code.lower(), where="olgas", sender="olga", is_group=False)
        (answer,) = await said_in(host, "olgas")
        assert answer.text.startswith("You are the owner of this host now.")
        assert (await host.do("user.claim_code"))["has_owner"]
        assert await write(host, "hello", where="olgas", sender="olga", is_group=False)
        assert (await said_in(host, "olgas", 2))[1].text == "scripted: hello"


async def test_the_code_counts_in_a_direct_chat_alone_and_once(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        code = (await host.do("user.claim_code"))["code"]
        await write(host, code, where="group", is_group=True)
        assert not (await host.do("user.claim_code"))["has_owner"]
        await write(host, code, where="first", sender="olga", is_group=False)
        await write(host, code, where="second", sender="sam", is_group=False)
        owners = await host.do("role.list", role="owner")
        assert [each["users"] for each in owners] == [["memory:olga"]]


async def test_five_wrong_codes_lock_it_for_an_hour(tmp_path: Path) -> None:
    clock = SetClock()
    async with running(tmp_path, clock=clock) as host:
        code = (await host.do("user.claim_code"))["code"]
        for number in range(5):
            await write(host, f"/claim WRONG{number}", where="dm", sender=f"s{number}", is_group=False)
        await write(host, code, where="dm", sender="olga", is_group=False)
        assert "for an hour" in (await said_in(host, "dm", 6))[5].text
        offered = await host.do("user.claim_code")
        assert (offered["has_owner"], offered["code"]) == (False, None)
        clock.ahead = timedelta(minutes=61)
        fresh = (await host.do("user.claim_code"))["code"]
        assert fresh not in (None, code)
        await write(host, fresh, where="dm", sender="olga", is_group=False)
        assert (await host.do("user.claim_code"))["has_owner"]


async def test_a_code_is_no_good_after_an_hour(tmp_path: Path) -> None:
    clock = SetClock()
    async with running(tmp_path, clock=clock) as host:
        code = (await host.do("user.claim_code"))["code"]
        clock.ahead = timedelta(minutes=61)
        await write(host, code, where="dm", sender="olga", is_group=False)
        assert not (await host.do("user.claim_code"))["has_owner"]


async def test_an_unknown_chat_is_asked_about_once_and_wired_by_a_button(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await owner(host)
        await host.do("agent_group.add", name="other", provider="scripted")
        before = await counted(host, "messaging_groups", "sessions", "users")
        assert (await write(host, "only talk", where="new", is_group=True)).dropped is not None
        await write(host, "help me", where="new", is_group=True, is_mention=True, chat_name="The team", thread="t1")
        await write(host, "help!", where="new", is_group=True, is_mention=True, thread="t1")
        assert await counted(host, "messaging_groups", "sessions", "users") == before
        (card,) = await said_in(host, OWNERS_CHAT)
        assert "memory:new" in card.text
        assert "The team" in card.text
        assert [button.label for button in card.buttons] == [AGENT, "other", "No"]
        await click(host, card, "other", sender="olga")
        said = await said_in(host, "new", 2)
        assert said[1].text.startswith("scripted: ")
        (wiring,) = [each for each in await host.do("wiring.list") if each["messaging_group"] == "memory:new"]
        assert (wiring["agent_group"], wiring["engage"], wiring["session_mode"]) == (
            "other",
            "mention-sticky",
            "per-thread",
        )
        assert (await host.do("messaging_group.show", address="memory:new"))["unknown_sender"] == "strict"
        assert (await write(host, "me too", where="new", sender="zoe", is_mention=True)).accepted == ()


async def test_what_nobody_decides_expires_and_says_so(tmp_path: Path) -> None:
    clock = SetClock()
    async with running(tmp_path, clock=clock) as host:
        await owner(host)
        await chat(host, "dm")
        await write(host, "hello", where="dm")
        (card,) = await said_in(host, OWNERS_CHAT)
        clock.ahead = timedelta(hours=24, minutes=1)
        receipt = await click(host, card, "Let in", sender="olga")
        assert receipt.dropped == "It has expired: there was no decision within 24 hours."
        assert "within 24 hours" in (await said_in(host, "dm", 2))[1].text
        await until(lambda: host.channel.changed, "the card says that it has expired")
        assert (await host.do("approval.list", state="all"))[0]["state"] == "expired"
        await write(host, "hello again", where="dm")
        assert len(await host.do("approval.list")) == 1


async def test_what_was_approved_without_a_host_is_answered_by_the_next_one(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "dm")
        await write(host, "hello", where="dm")
        await said_in(host, "dm")
        code = (await host.do("approval.list"))[0]["code"]
        # As the command line does it while no host runs: the decision alone.
        await host.services.central.write(
            lambda c: c.execute("UPDATE approvals SET state = 'approved', decided_by = 'x' WHERE code = ?", (code,))
        )
        await host.do("role.grant", user="memory:sam", role="member", agent_group=AGENT)
    async with running(tmp_path) as host:
        assert (await said_in(host, "dm"))[-1].text == "scripted: hello"


async def test_a_group_the_bot_is_added_to_is_told_once_what_it_hears(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        for _ in range(2):
            await host.channel.receive(Joined(Address("memory", "new"), "The team", sender_id="olga"))
        (told,) = await said_in(host, "new")
        assert "dumbwaiter wire memory:new AGENT" in told.text
        await host.settled()
        assert len(await said_in(host, "new")) == 1


async def test_what_was_written_before_the_code_is_answered_after_it(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        code = (await host.do("user.claim_code"))["code"]
        await write(host, "/start", where="olgas", sender="olga", is_group=False)
        assert "This bot has no owner yet." in (await said_in(host, "olgas"))[0].text
        await write(host, code, where="olgas", sender="olga", is_group=False)
        said = [message.text for message in await said_in(host, "olgas", 3)]
        assert sorted(text[:20] for text in said[1:]) == ["You are the owner of", "scripted: /start"]
        assert await host.do("approval.list") == []


async def test_wrong_codes_from_several_people_and_chats_count_together(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        code = (await host.do("user.claim_code"))["code"]
        for number in range(5):
            await write(host, f"/claim WRONG{number}", where=f"dm{number}", sender=f"s{number}", is_group=False)
        assert "no code is taken for an hour" in (await said_in(host, "dm4"))[0].text
        await write(host, code, where="dm9", sender="olga", is_group=False)
        assert "no code is taken for an hour" in (await said_in(host, "dm9"))[0].text
        assert not (await host.do("user.claim_code"))["has_owner"]
