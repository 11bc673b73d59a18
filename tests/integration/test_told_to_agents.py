"""What an agent finds in its file about people, chats, homes and time, through a real agent and a real `inbound.db`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from host.channels.memory import MemoryChannel
from shared_schema.errors import InvalidValue, NotFound
from shared_schema.layout import SessionLayout
from tests.support.host import AGENT, CHAT, Host, rows, running
from tests.support.wait import until

NUMBER = "+4915112345678"
NOT_WRITTEN = """
INSERT INTO ingest (message_id, agent_group_id, session_id, generation, channel_type, platform_id,
    platform_message_id, sender_id, kind, trigger, content, accepted_at, state, status)
SELECT 'msg_00000000000000aa', agent_group_id, session_id, generation, channel_type, platform_id, 'new', sender_id,
    kind, 0, '{"text":"hello again"}', accepted_at, 'accepted', 'cancelled'
FROM ingest LIMIT 1
"""


def context_of(layout: SessionLayout) -> str:
    """The context block, as the agent reads it."""
    (row,) = rows(layout.inbound, "SELECT value FROM session_context WHERE key = 'context'")
    return str(row["value"])


async def with_a_number(host: Host) -> SessionLayout:
    """Somebody with a phone number for an id and a name has a direct chat, and a destination, of that number."""
    await host.do("messaging_group.add", address=f"memory:{NUMBER}", name=f"Ann {NUMBER}", unknown_sender="public")
    await host.do("wiring.add", messaging_group=f"memory:{NUMBER}", agent_group=AGENT)
    await host.do("destination.add", agent_group=AGENT, name="ann", messaging_group=f"memory:{NUMBER}")
    await host.do("home.set", agent_group=AGENT, messaging_group=f"memory:{NUMBER}")
    await host.say("hello\nto ann pssst\nhear", chat=NUMBER, sender=NUMBER)
    await host.channel.wait_for(3)
    await host.settled()
    (session,) = await host.do("session.list", messaging_group=f"memory:{NUMBER}")
    return await host.session(session["id"])


def everything_in(layout: SessionLayout) -> str:
    """All that `inbound.db` says, but for what was written in the chat."""
    tables = ("messages_in", "destinations", "session_routing", "session_context", "delivered")
    return str([rows(layout.inbound, f"SELECT * FROM {table}") for table in tables])


async def test_redacted_ids_are_nowhere_in_the_file_and_everything_still_arrives(tmp_path: Path) -> None:
    async with running(tmp_path, redact_ids=True) as host:
        layout = await with_a_number(host)
        assert NUMBER.strip("+") not in everything_in(layout)
        (asked,) = rows(layout.inbound, "SELECT * FROM messages_in")
        (routing,) = rows(layout.inbound, "SELECT * FROM session_routing")
        (destination,) = rows(layout.inbound, "SELECT * FROM destinations")
        assert asked["sender_id"].startswith("user-")
        assert asked["sender_name"].startswith("phone-")
        assert asked["platform_id"] == routing["platform_id"] == destination["platform_id"]
        assert asked["platform_id"].startswith("chat-")
        assert f'You talk with one person, "{asked["sender_name"]}".' in context_of(layout)
        assert sorted(host.texts())[1:] == ["pssst", "scripted: hello"]
        assert {message.address.platform_id for message in host.channel.sent} == {NUMBER}
        (kept,) = await host.central("SELECT sender_id, sender_name, platform_id FROM ingest")
        assert kept == {"sender_id": NUMBER, "sender_name": NUMBER, "platform_id": NUMBER}


async def test_what_agents_ask_of_the_host_shows_no_more_than_their_files(tmp_path: Path) -> None:
    """Also of what was said before ids were hidden, and of what no agent's file has yet."""
    async with running(tmp_path) as host:
        await with_a_number(host)
    async with running(tmp_path, redact_ids=True) as host:
        (theirs,) = await host.do("session.list", messaging_group=f"memory:{NUMBER}")
        await host.services.central.write(lambda connection: connection.execute(NOT_WRITTEN))
        asked = {
            "list_sessions": {},
            "read_history": {"session": theirs["id"]},
            "search_messages": {"query": "hello"},
        }
        for name, arguments in asked.items():
            told = await host.ask(f"call {name} {json.dumps(arguments)}")
            assert "hello" in told
            assert NUMBER.strip("+") not in told
        assert "user-" in await host.ask(f"call read_history {json.dumps(asked['read_history'])}")
        guessed = json.dumps({"query": "hello", "sender": NUMBER})
        assert await host.ask(f"call search_messages {guessed}") == "Nothing was found."


async def test_hashes_are_the_same_after_a_restart(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        async with running(tmp_path, redact_ids=True) as host:
            await host.ask("hello")
            seen += rows((await host.session()).inbound, "SELECT sender_id, platform_id FROM messages_in")
    assert len(seen) == 3
    assert len({tuple(row.values()) for row in seen}) == 1


async def test_where_mentions_need_ids_agents_see_them(tmp_path: Path) -> None:
    channel = MemoryChannel(mentions_need_ids=True)
    async with running(tmp_path, redact_ids=True, channel=channel) as host:
        layout = await with_a_number(host)
        (asked,) = rows(layout.inbound, "SELECT * FROM messages_in")
        assert (asked["sender_id"], asked["sender_name"], asked["platform_id"]) == (NUMBER, NUMBER, NUMBER)


async def test_without_the_setting_ids_are_as_they_are(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        (asked,) = rows((await with_a_number(host)).inbound, "SELECT * FROM messages_in")
        assert (asked["sender_id"], asked["platform_id"]) == (NUMBER, NUMBER)


async def test_the_context_keeps_its_bytes_from_turn_to_turn(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        blocks = set()
        for number in range(4):
            await host.ask(f"message {number}", sender=f"speaker{number}", thread=f"t{number}")
            blocks.add(context_of(await host.session()))
        (block,) = blocks
        assert "Several people may take part" in block
        assert "speaker" not in block


async def test_a_living_agent_hears_of_a_new_home_and_of_the_time_zone(tmp_path: Path) -> None:
    async with running(tmp_path, timezone="Asia/Tokyo") as host:
        await host.ask("hello")
        layout = await host.session()
        assert "The time zone of this conversation is Asia/Tokyo." in context_of(layout)
        await host.do("messaging_group.set", address=CHAT, timezone="Europe/Berlin", name="The office")
        assert "The time zone of this conversation is Europe/Berlin." in context_of(layout)
        home = await host.do("home.set", agent_group=AGENT, messaging_group=CHAT)
        assert home == {
            "agent_group": AGENT,
            "channel_type": "memory",
            "messaging_group": CHAT,
            "name": "The office",
        }
        assert await host.do("home.list") == await host.do("home.list", agent_group=AGENT) == [home]
        assert 'You are at home in these chats:\n- memory, a group named "The office"' in context_of(layout)
        await host.do("home.remove", agent_group=AGENT, channel_type="memory")
        assert "at home" not in context_of(layout)
        with pytest.raises(NotFound):
            await host.do("home.remove", agent_group=AGENT, channel_type="memory")
        assert (await host.do("messaging_group.set", address=CHAT, timezone=""))["timezone"] is None
        assert "Asia/Tokyo" in context_of(layout)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe", "x" * 5000, "\0"])
async def test_a_time_zone_that_is_none_is_refused(tmp_path: Path, zone: str) -> None:
    async with running(tmp_path) as host:
        with pytest.raises(InvalidValue, match="is not a time zone"):
            await host.do("messaging_group.set", address=CHAT, timezone=zone)


async def test_a_conversation_is_unread_from_the_first_reply_until_somebody_reads_the_chat(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        await host.settled()
        (first,) = await host.central("SELECT unread_since FROM sessions")
        assert first["unread_since"] is not None
        await host.ask("again")  # who answers has read what was there
        await host.settled()
        (second,) = await host.central("SELECT unread_since FROM sessions")
        assert second["unread_since"] > first["unread_since"]
        await host.channel.read(host.channel.sent[0].address)
        assert await host.central("SELECT unread_since FROM sessions") == [{"unread_since": None}]


async def test_a_reply_that_is_read_at_the_terminal_leaves_nothing_unread(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("messaging_group.add", address="cli:terminal", unknown_sender="public")
        await host.do("wiring.add", messaging_group="cli:terminal", agent_group=AGENT)
        await host.do("message.inject", messaging_group="cli:terminal", text="hello")

        async def is_unread() -> bool:
            return bool(await host.central("SELECT 1 FROM sessions WHERE unread_since IS NOT NULL"))

        await until(is_unread, "the reply is unread")
        assert [letter["text"] for letter in await host.do("terminal.unread")] == ["scripted: hello"]
        assert not await is_unread()


async def test_showing_a_session_reads_it(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        await host.settled()
        (session,) = await host.do("session.list")
        await host.do("session.show", session=session["id"])
        assert await host.central("SELECT unread_since FROM sessions") == [{"unread_since": None}]


async def test_a_notice_of_the_host_s_own_is_nothing_unread(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("fail on purpose")
        await host.settled()
        assert host.channel.sent[0].from_host
        assert await host.central("SELECT unread_since FROM sessions") == [{"unread_since": None}]
