"""What people say with a reaction: context for the agent, the answer to a question, a decision on a card."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from host.central import deliveries, questions
from host.routing.event import Reacted, Receipt
from shared_schema.clock import to_text
from shared_schema.rows import Address, MessageOutKind, encode
from tests.access.people import OWNERS_CHAT, chat, counted, owner, said_in, write
from tests.support.host import AGENT, Host, running
from tests.support.wait import until


async def react(host: Host, where: str, message: str, emoji: str | None, *, by: str = "sam", **more: Any) -> Receipt:
    return await host.channel.receive(Reacted(Address("memory", where), message, emoji, by, by.title(), **more))


async def context(host: Host) -> list[str]:
    """What the agent is told besides messages, as far as it still waits for a turn."""
    rows = await host.central(
        "SELECT content FROM ingest WHERE trigger = 0 AND status = 'pending' ORDER BY position"
    )  # fmt: skip
    return [row["content"] for row in rows]


async def test_a_reaction_is_context_of_the_next_turn_and_taken_back_it_is_none(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await chat(host, "team", is_group=True, unknown_sender="public")
        await write(host, "hello", where="team", platform_message_id="p1")
        await said_in(host, "team")
        await host.settled()
        for _ in range(2):  # a platform may say it twice
            await react(host, "team", "mem-1", "👍")
        await react(host, "team", "p1", "❤", by="ann")
        first, second = await context(host)
        assert '"text":"reacted with 👍"' in first
        assert '"text":"scripted: hello"' in first
        assert '"text":"reacted with ❤"' in second
        assert '"text":"hello"' in second

        await react(host, "team", "mem-1", None, removed="👍")
        assert len(await context(host)) == 1
        await react(host, "team", "mem-1", "👍")  # it is news again
        await write(host, "and now?", where="team")
        await said_in(host, "team", 2)
        await host.settled()
        assert await context(host) == []
        await react(host, "team", "mem-1", None)
        (told,) = await context(host)
        assert '"text":"took back the reaction 👍"' in told
        assert len(host.channel.sent) == 2  # nobody is woken for any of that


async def test_who_is_not_heard_in_a_chat_is_not_heard_by_a_reaction_either(tmp_path: Path) -> None:
    """FAILURES 43."""
    async with running(tmp_path) as host:
        await chat(host, "team", is_group=True)
        await host.do("role.grant", user="memory:ann", role="member", agent_group=AGENT)
        await write(host, "hello", where="team", sender="ann", platform_message_id="p1")
        await host.settled()
        before = await counted(host, "ingest", "users")
        await react(host, "team", "mem-1", "👍", by="eve")
        assert await counted(host, "ingest", "users") == before
        assert (await counted(host, "dropped_messages"))["dropped_messages"] == 1
        await react(host, "team", "of-nothing", "👍", by="ann")
        assert await counted(host, "ingest", "users") == before


async def test_a_reaction_of_who_was_asked_answers_a_question(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await chat(host, "team", is_group=True, unknown_sender="public")
        await write(host, "hello", where="team")
        (first,) = await said_in(host, "team")
        await host.settled()
        session_id = first.key.partition("/")[0]
        now = host.services.clock.now()

        async def ask(number: int, content: dict[str, Any]) -> str:
            message_id = f"msg_00000000000000b{number}"

            def put(connection: Any) -> None:
                deliveries.add(
                    connection, message_out_id=message_id, session_id=session_id, kind=MessageOutKind.QUESTION,
                    channel_type="memory", platform_id="team", thread_id=None, content=encode(content),
                    created_at=to_text(now),
                )  # fmt: skip
                questions.ask(
                    connection, session_id=session_id, route_id="r", message_out_id=message_id,
                    address=Address("memory", "team"), sender_id="sam",
                    expires=to_text(now + timedelta(minutes=5)),
                )  # fmt: skip

            sent = len(host.channel.sent)
            await host.services.central.write(put)
            host.services.deliverer.kick(("memory", "team"))
            await host.channel.wait_for(sent + 1)
            status = f"SELECT 1 FROM deliveries WHERE message_out_id = '{message_id}' AND status = 'delivered'"
            await until(lambda: host.central(status), "the question is out")
            return f"mem-{sent + 1}"

        options = [{"id": "1", "label": "red"}, {"id": "2", "label": "blue"}]
        shown = await ask(1, {"text": "Which?", "options": options})
        assert (await react(host, "team", shown, "2️⃣", by="ann")).accepted == ()  # she was not asked
        assert (await react(host, "team", shown, "2️⃣")).accepted
        await until(lambda: any("blue" in m.text for m in host.channel.sent), "the option is the answer")
        shown = await ask(2, {"text": "May I?"})
        assert (await react(host, "team", shown, "👍")).accepted
        await until(lambda: any("👍" in m.text for m in host.channel.sent), "the reaction is the answer")


async def test_a_reaction_on_a_card_decides_for_who_may_decide(tmp_path: Path) -> None:
    """FAILURES 41."""
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "dm")
        await write(host, "hello", where="dm")
        await said_in(host, OWNERS_CHAT)
        (card,) = await until(
            lambda: host.central("SELECT platform_message_id AS id FROM host_messages WHERE approval_id IS NOT NULL"
                                 " AND status = 'delivered'"), "the card is out"
        )  # fmt: skip
        await react(host, OWNERS_CHAT, card["id"], "👍", by="sam")
        await react(host, OWNERS_CHAT, card["id"], "🎉", by="olga")
        assert (await host.do("approval.list"))[0]["state"] == "pending"
        await react(host, OWNERS_CHAT, card["id"], "👍🏽", by="olga")
        assert (await said_in(host, "dm", 2))[1].text == "scripted: hello"
        (decided,) = await host.do("approval.list", state="all")
        assert (decided["state"], decided["decided_by"]) == ("approved", "memory:olga")
