"""FAILURES 1, 2, 3, 8, 14, 19: what happens to messages between two people who do not wait for each other."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from host.central import ingest
from host.sessions.attachments import Attachment
from shared_schema.clock import SystemClock, to_text
from shared_schema.ids import Prefix, new_id
from tests.support.chats import add_chats, is_working_on, kill_agent, sent_to, session_of, texts_to
from tests.support.host import Host, rows, running
from tests.support.wait import until

NEVER = 3600.0


@pytest.mark.parametrize("poll_seconds", [1.0, NEVER], ids=["with a poll", "with no poll to help"])
async def test_failure_1_a_burst_of_25_is_answered_oldest_first_and_none_is_skipped(
    tmp_path: Path, poll_seconds: float
) -> None:
    async with running(tmp_path, poll_seconds=poll_seconds) as host:
        for burst in ("first", "second"):
            await asyncio.gather(*(host.say(f"{burst} {number}") for number in range(25)))
            await host.channel.wait_for(25 if burst == "first" else 50)
        expected = [f"scripted: {burst} {number}" for burst in ("first", "second") for number in range(25)]
        assert host.texts() == expected


async def test_failure_1_a_burst_during_a_turn_waits_for_it_and_keeps_its_order(tmp_path: Path) -> None:
    async with running(tmp_path, poll_seconds=NEVER) as host:
        first = (await host.say("think 0.4")).accepted[0]
        await is_working_on(await host.session(), first.message_id)
        for number in range(25):
            await host.say(f"number {number}")
        await host.channel.wait_for(26)
        assert host.texts() == ["thought for 0.4 s", *(f"scripted: number {number}" for number in range(25))]


async def test_failure_2_a_follow_up_in_a_running_turn_is_answered_though_the_agent_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        first = (await host.say("think 1")).accepted[0]
        await is_working_on(await host.session(), first.message_id)
        follow_up = (await host.say("and this?")).accepted[0]
        written = "SELECT 1 FROM messages_in WHERE id = ?"
        layout = await host.session()
        await until(lambda: rows(layout.inbound, written, follow_up.message_id), "the agent could see the follow-up")
        kill_agent(host, first.session_id)
        await host.channel.wait_for(2)
        await host.settled()
        assert host.texts() == ["thought for 1 s", "scripted: and this?"]
        assert await _tries(host) == {"think 1": 1, "and this?": 0}


async def test_failure_3_context_that_comes_into_a_running_turn_is_not_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        first = (await host.say("think 0.4")).accepted[0]
        await is_working_on(await host.session(), first.message_id)
        overheard = await _overhear(host, first.session_id, "somebody else said")
        layout = await host.session()
        is_idle = "SELECT 1 FROM agent_state WHERE state = 'idle'"
        await until(lambda: rows(layout.outbound, is_idle), "the agent has nothing to do")
        hello = (await host.say("hello")).accepted[0]
        assert await host.outcome(overheard) == "completed"
        await host.settled()
        assert host.texts() == ["thought for 0.4 s", "scripted: hello"]
        turn_of = "SELECT DISTINCT turn_id FROM processing_ack WHERE message_id IN (?, ?)"
        assert len(rows(layout.outbound, turn_of, overheard, hello.message_id)) == 1


async def test_failure_3_context_alone_starts_no_agent(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        session_id = await session_of(host, "one")
        await host.do("session.stop", session=session_id)
        overheard = await _overhear(host, session_id, "somebody else said")
        layout = await host.session()
        await until(lambda: rows(layout.inbound, "SELECT 1 FROM messages_in WHERE id = ?", overheard), "it is written")
        await host.services.supervisor.close(stop_agents=False)  # after the looks that are under way
        assert not host.services.supervisor.agents
        assert host.texts() == ["scripted: hello"]


async def test_failure_8_the_same_platform_message_twice_is_answered_once(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        first = (await host.say("hello", message_id="m-1")).accepted[0]
        await host.channel.wait_for(1)
        again = (await host.say("hello", message_id="m-1")).accepted[0]
        assert not first.duplicate
        assert again.duplicate
        assert again.message_id == first.message_id
        assert await host.ask("next") == "scripted: next"
        assert host.texts() == ["scripted: hello", "scripted: next"]


async def test_failure_8_the_same_platform_message_at_the_same_moment_is_answered_once(tmp_path: Path) -> None:
    source = tmp_path / "picture"
    source.write_bytes(b"picture")
    async with running(tmp_path) as host:
        file = Attachment("picture.png", source)
        receipts = await asyncio.gather(*(host.say("hello", message_id="m-1", files=[file]) for _ in range(10)))
        accepted = [receipt.accepted[0] for receipt in receipts]
        assert sorted(each.duplicate for each in accepted) == [False] + [True] * 9
        assert len({each.message_id for each in accepted}) == 1
        assert await host.ask("next") == "scripted: hello"
        await host.settled()
        assert host.texts() == ["scripted: hello", "scripted: next"]
        layout = await host.session()
        assert [path.name for path in layout.inbox.glob("*/*")] == ["picture.png"]
        await until(lambda: not os.listdir(tmp_path / "spool"), "no copy of the file is left behind")


async def test_failure_14_with_notifications_off_everything_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path, notify="off", poll_seconds=0.1) as host:
        for number in range(5):
            await host.say(f"number {number}")
        await host.channel.wait_for(5)
        assert host.texts() == [f"scripted: number {number}" for number in range(5)]


async def test_failure_14_notifications_that_get_lost_cost_time_and_no_message(tmp_path: Path) -> None:
    async with running(tmp_path, poll_seconds=0.1) as host:
        await host.ask("hello")
        watcher = host.services._watcher
        assert watcher is not None
        await watcher.close()
        for number in range(5):
            assert await host.ask(f"number {number}") == f"scripted: number {number}"


async def test_failure_19_in_a_session_of_two_chats_each_reply_goes_to_the_chat_that_asked(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("agent_group.add", name="both", provider="scripted")
        await add_chats(host, "left", "right", agent_group="both", session_mode="agent-shared")
        first = (await host.say("think 0.4", chat="left")).accepted[0]
        await is_working_on(await host.session(), first.message_id)
        second = (await host.say("stream 2 0.05\nthen this", chat="right")).accepted[0]
        assert second.session_id == first.session_id
        await host.say("and left again", chat="left")
        await host.channel.wait_for(5)
        assert texts_to(host, "left") == ["thought for 0.4 s", "scripted: and left again"]
        assert texts_to(host, "right") == ["stream 1", "stream 2", "scripted: then this"]
        assert [m.in_reply_to for m in sent_to(host, "right")] == [second.message_id] * 3


async def _overhear(host: Host, session_id: str, text: str) -> str:
    """Put a context-only message into a session, as a channel will that lets the agent read along."""
    (session,) = await host.central("SELECT agent_group_id, generation FROM sessions WHERE id = ?", session_id)
    message_id = new_id(Prefix.MESSAGE)
    values = {
        "message_id": message_id,
        "session_id": session_id,
        **session,
        "channel_type": "memory",
        "platform_id": "one",
        "thread_id": None,
        "platform_message_id": new_id(Prefix.MESSAGE),
        "sender_id": "bob",
        "sender_name": "bob",
        "kind": "chat",
        "trigger": 0,
        "content": f'{{"text":"{text}"}}',
        "spool": None,
        "accepted_at": to_text(SystemClock().now()),
    }
    await host.services.central.write(ingest.accept, values)
    host.services.supervisor.schedule(session_id)
    return message_id


async def _tries(host: Host) -> dict[str, int]:
    found = await host.central("SELECT content ->> 'text' AS text, tries FROM ingest")
    return {row["text"]: row["tries"] for row in found}
