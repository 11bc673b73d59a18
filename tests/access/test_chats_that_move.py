"""A chat that goes on under another id, also one that is known already: its agent, conversations and answers stay."""

from __future__ import annotations

from pathlib import Path

from host.routing.event import ChatMoved
from tests.access.people import OWNERS_CHAT, chat, owner, said_in, write
from tests.support.host import AGENT, running
from tests.support.wait import until


async def test_a_chat_whose_new_id_is_wired_already_is_merged_with_it(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("agent_group.add", name="second", provider="scripted")
        await chat(host, "old", is_group=True, unknown_sender="public", agents=(AGENT, "second"))
        await host.do("home.set", agent_group=AGENT, messaging_group="memory:old")
        await chat(host, "new", is_group=True)
        await write(host, "hello", where="old")
        await said_in(host, "old", 2)
        await host.settled()
        before = {row["agent_group_id"]: row["id"] for row in await host.central("SELECT * FROM sessions")}
        for _ in range(2):
            await host.channel.receive(ChatMoved("memory", "old", "new"))
        assert "goes on here" in (await said_in(host, "new"))[0].text
        await write(host, "still there?", where="new")
        await said_in(host, "new", 3)
        # What is told late under the old id belongs to the new one.
        await write(host, "from before", where="old")
        answers = await said_in(host, "new", 5)
        await host.settled()
        after = {row["agent_group_id"]: row["id"] for row in await host.central("SELECT * FROM sessions")}
        groups = {row["address"] for row in await host.do("messaging_group.list")}
        (moved,) = [row for row in await host.do("audit.list") if row["action"] == "messaging_group.move"]
    assert after == before
    assert "memory:old" not in groups
    assert [m.text for m in answers[1:]] == ["scripted: still there?"] * 2 + ["scripted: from before"] * 2
    assert moved["subject"] == "memory:new"


async def test_of_two_conversations_the_later_goes_on_and_the_other_can_be_taken_up(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        for name in ("old", "new"):
            await chat(host, name, is_group=True, unknown_sender="public")
            await write(host, f"hello {name}", where=name)
            await said_in(host, name)
        await host.settled()
        await host.channel.receive(ChatMoved("memory", "old", "new"))
        assert "/resume lists it" in (await said_in(host, "new", 2))[1].text
        await write(host, "who?", where="new")
        await said_in(host, "new", 3)
        await write(host, "/sessions", where="new")
        listed = (await said_in(host, "new", 4))[3].text
        rows = await host.central("SELECT count(*) AS n FROM sessions WHERE status = 'active'")
    assert "hello old" in listed
    assert "hello new" in listed
    assert rows[0]["n"] == 2


async def test_what_was_said_under_the_new_id_before_the_move_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "old", is_group=True, unknown_sender="public")
        await write(host, "too early", where="new", is_mention=True, is_group=True)
        await said_in(host, OWNERS_CHAT)
        await host.channel.receive(ChatMoved("memory", "old", "new"))
        await until(
            lambda: [m for m in host.channel.sent if m.text == "scripted: too early"], "what waited is answered", 60
        )
        (asked,) = await host.do("approval.list", state="all")
    assert asked["state"] == "approved"
    assert "the move of memory:old" in asked["decided_by"]


async def test_an_answer_to_what_was_said_before_the_move_goes_where_the_chat_is(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await chat(host, "old", is_group=True, unknown_sender="public")
        await write(host, "sleep 2", where="old")
        await until(lambda: len(host.services.supervisor.agents) == 1, "the agent works")
        await host.channel.receive(ChatMoved("memory", "old", "new"))
        answered = await said_in(host, "new")
    assert answered[0].text.startswith("scripted")
