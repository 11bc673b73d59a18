"""What an agent knows of other chats and of messages that are answered: through a host, real agents, real files."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from host.central import deliveries, ingest
from host.delivery.mirror import MOST_CONTEXT
from host.routing.event import Event
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address, decode, encode
from tests.support.host import AGENT, rows, running
from tests.support.wait import until


async def test_what_an_agent_sent_to_another_chat_stands_in_that_chats_conversation(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("messaging_group.add", address="memory:two", is_group=True, unknown_sender="public")
        await host.do("wiring.add", messaging_group="memory:two", agent_group=AGENT)
        await host.do("destination.add", agent_group=AGENT, name="two", messaging_group="memory:two")
        await host.say("to two The kettle is on.")
        (sent,) = await host.channel.wait_for(1)
        assert (sent.address.platform_id, sent.text) == ("two", "The kettle is on.")

        async def known() -> list[dict[str, object]]:
            return await host.central("SELECT * FROM ingest WHERE kind = 'agent'")

        await until(known, "it stands there")
        await host.say("hear", chat="two")
        await host.channel.wait_for(2)
        (listed,) = await host.do("session.list", messaging_group="memory:two")
        layout = await host.session(listed["id"])
        (mirrored, asked) = rows(layout.inbound, "SELECT * FROM messages_in ORDER BY seq")
        assert (mirrored["kind"], mirrored["trigger"], mirrored["sender_name"]) == ("agent", 0, AGENT)
        assert decode(mirrored["content"])["text"] == "The kettle is on."
        assert asked["sender_name"] == "ann"
        told = await host.do("session.transcript", session=listed["id"])
        assert [entry["text"] for entry in told][:2] == ["The kettle is on.", "hear"]


async def test_what_nobody_answered_for_long_fills_no_turn_and_hides_no_question(tmp_path: Path) -> None:
    """An agent that posts to a chat again and again: the newest are context there, and who answers is answered."""
    posts = ingest.OPEN_LIMIT + 20

    async with running(tmp_path) as host:
        await host.do("messaging_group.add", address="memory:two", is_group=True, unknown_sender="public")
        await host.do("wiring.add", messaging_group="memory:two", agent_group=AGENT)
        await host.do("destination.add", agent_group=AGENT, name="two", messaging_group="memory:two")
        await host.say("to two number 0")
        await host.channel.wait_for(1)
        await host.services.central.write(_post_again, posts)
        host.services.deliverer.kick(("memory", "two"))
        await host.channel.wait_for(posts + 1)
        assert (await host.ask("are you there?", chat="two")).startswith("scripted: are you there?")
        (listed,) = await host.do("session.list", messaging_group="memory:two")
        layout = await host.session(listed["id"])
        kept = rows(layout.inbound, "SELECT content FROM messages_in WHERE kind = 'agent' AND status <> 'cancelled'")
        assert [decode(row["content"])["text"] for row in kept] == [
            f"number {number}" for number in range(posts - MOST_CONTEXT + 1, posts + 1)
        ]


def _post_again(connection: sqlite3.Connection, times: int) -> None:
    """As if the agent had said so many more of the message it sent to the other chat."""
    first = dict(connection.execute("SELECT * FROM deliveries WHERE platform_id = 'two'").fetchone())
    for number in range(1, times + 1):
        deliveries.add(
            connection,
            message_out_id=new_id(Prefix.MESSAGE),
            session_id=first["session_id"],
            kind=first["kind"],
            channel_type=first["channel_type"],
            platform_id=first["platform_id"],
            thread_id=None,
            content=encode({"text": f"number {number}"}),
            created_at=first["created_at"],
        )


async def test_an_answer_where_it_was_asked_stands_there_once(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("destination.add", agent_group=AGENT, name="here", messaging_group="memory:one")
        await host.say("to here Hello.")
        await host.channel.wait_for(1)
        await host.settled()
        assert await host.central("SELECT 1 FROM ingest WHERE kind = 'agent'") == []


async def test_a_home_can_be_written_to(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("messaging_group.add", address="memory:home", is_group=True, unknown_sender="public")
        await host.do("home.set", agent_group=AGENT, messaging_group="memory:home")
        await host.say("to home-memory Good morning.")
        (sent,) = await host.channel.wait_for(1)
        assert (sent.address.platform_id, sent.text) == ("home", "Good morning.")
        layout = await host.session()
        assert [row["name"] for row in rows(layout.inbound, "SELECT name FROM destinations")] == ["home-memory"]
        await host.do("home.remove", agent_group=AGENT, channel_type="memory")
        await host.settled()
        assert rows(layout.inbound, "SELECT name FROM destinations") == []


async def test_what_a_message_replies_to_is_found_by_the_platforms_id_of_it(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say("first", message_id="p-1")
        await host.channel.wait_for(1)
        await host.settled()
        for number, reply_to in enumerate(("p-1", "mem-1", "unknown"), 2):
            await host.channel.receive(
                Event(Address("memory", "one"), f"p-{number}", "and?", "bob", "Bob", reply_to=reply_to)
            )
            await host.channel.wait_for(number)
        layout = await host.session()
        said = [decode(row["content"]) for row in rows(layout.inbound, "SELECT * FROM messages_in ORDER BY seq")]
        ids = [row["id"] for row in rows(layout.inbound, "SELECT id FROM messages_in ORDER BY seq")]
        (first_out, *_) = rows(layout.outbound, "SELECT * FROM messages_out ORDER BY seq")
        assert said[1]["reply_to"] == {"message": ids[0], "sender": "ann", "text": "first"}
        assert said[2]["reply_to"] == {"message": first_out["id"], "text": decode(first_out["content"])["text"]}
        assert "reply_to" not in said[3] or "message" not in said[3]["reply_to"]


async def test_a_session_of_several_chats_says_where_a_message_was_written(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("agent_group.add", name="shared", provider="scripted")
        for name in ("red", "blue"):
            await host.do(
                "messaging_group.add",
                address=f"memory:{name}",
                name=name.title(),
                is_group=True,
                unknown_sender="public",
            )
            await host.do(
                "wiring.add", messaging_group=f"memory:{name}", agent_group="shared", session_mode="agent-shared"
            )
            await host.say("hello", chat=name)
        await host.channel.wait_for(2)
        (listed,) = [each for each in await host.do("session.list") if each["agent_group"] == "shared"]
        layout = await host.session(listed["id"])
        said = [
            decode(row["content"])["chat"] for row in rows(layout.inbound, "SELECT * FROM messages_in ORDER BY seq")
        ]
        assert said == ['memory, a group named "Red"', 'memory, a group named "Blue"']
