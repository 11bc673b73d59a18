"""One conversation delays no other in a chat, and neither fills the host's files nor its chats."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from host.channels.memory import MemoryChannel
from tests.support.chats import add_chats, ask_in, hears, said, session_of
from tests.support.host import AGENT, CHAT, Host, running
from tests.support.script import script
from tests.support.wait import until

FLOOD = """
def answer(message, text):
    if text == "flood":
        write(*[row(message, f"flood {number}") for number in range(300)], ack(message))
    else:
        reply(message, "ok: " + text)
"""


async def test_an_agent_that_says_much_delays_another_in_its_chat_by_a_few_messages(tmp_path: Path) -> None:
    channel = MemoryChannel(delay=0.02)
    async with running(tmp_path, channel=channel, command=script(tmp_path, FLOOD)) as host:
        await host.do("agent_group.add", name="loud", provider="scripted")
        await host.do("wiring.add", messaging_group=CHAT, agent_group="loud", engage="pattern", pattern="^flood")
        await host.do("wiring.remove", messaging_group=CHAT, agent_group=AGENT)
        await host.do("wiring.add", messaging_group=CHAT, agent_group=AGENT, engage="pattern", pattern="^hello")
        await host.say("hello, are you there?")
        await hears(host, "ok: hello, are you there?")
        await host.say("flood")
        await until(lambda: len(said(host)) >= 10, "the flood has begun")
        await host.say("hello")
        await hears(host, "ok: hello")
        assert len(said(host)) < 200, "the answer did not wait for the end of the flood"
        await until(lambda: "flood 299" in said(host), "the flood is over", 60)
        assert [text for text in said(host) if text.startswith("flood")] == [f"flood {n}" for n in range(300)]


async def _limits(host: Host) -> dict[str, dict[str, Any]]:
    return {limit["what"]: limit for limit in (await host.do("status"))["limits"]}


async def test_how_much_of_a_session_waits_to_be_sent_is_limited_and_told_once(tmp_path: Path) -> None:
    channel = MemoryChannel(is_down=True)
    async with running(tmp_path, channel=channel, command=script(tmp_path, FLOOD), max_waiting=20) as host:
        asked = (await host.say("flood")).accepted[0]
        await host.outcome(asked.message_id)

        async def is_read() -> bool:
            return (await host.central("SELECT out_cursor FROM sessions"))[0]["out_cursor"] == 300

        await until(is_read, "all that was written is read")
        assert (await host.do("status"))["deliveries_waiting"] <= 23  # and what the host says of it
        limit = (await _limits(host))["messages of a session that wait to be sent"]
        assert limit["subject"] == asked.session_id
        channel.is_down = False
        await until(lambda: any("wait to be sent already" in text for text in host.texts()), "it is told")
        await host.settled()
        assert said(host) == [f"flood {number}" for number in range(20)]
        told = [text for text in host.texts() if text.startswith("Some of what the agent says is left out")]
        assert told == [
            "Some of what the agent says is left out: 20 messages of this conversation wait to be sent already."
        ]


ROWS = """
TURN = "INSERT INTO turns (id, status, started_at, finished_at, input_tokens) VALUES (?, 'completed', ?, ?, 1)"

def answer(message, text):
    if text == "fill":
        write(*[(TURN, (new("trn"), now(), now())) for _ in range(1000)])
        write(*[row(message, f"number {number}") for number in range(1000)], ack(message))
    else:
        reply(message, "ok: " + text)
"""


async def test_what_the_host_keeps_of_a_session_in_an_hour_is_limited_visible_and_told_once(tmp_path: Path) -> None:
    async with running(tmp_path, command=script(tmp_path, ROWS), kept_rows_per_hour=200) as host:
        await add_chats(host, "two")
        asked = (await host.say("fill")).accepted[0]
        assert await host.outcome(asked.message_id) == "completed"
        await until(lambda: any("more than the host keeps" in text for text in host.texts()), "it is told")
        counts = """
            SELECT (SELECT count(*) FROM turns) + (SELECT count(*) FROM usage) + (SELECT count(*) FROM events)
                + (SELECT count(*) FROM deliveries) AS n
        """
        assert (await host.central(counts))[0]["n"] < 300
        assert (await _limits(host))["what is kept of a session"]["subject"] == asked.session_id
        assert await ask_in(host, "two", "hello") == "ok: hello"
        await host.settled()
        assert sum("left out" in text for text in host.texts()) == 1
        kept = (await host.do("status"))["files"]
        assert kept["central.db"] > 0
        assert kept["history.db"] > 0
        assert kept["largest"][0]["session_id"] == await session_of(host, "one")


async def test_every_step_of_a_message_is_a_line_of_the_log_with_its_ids(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(tmp_path) as host:
        good = (await host.say("use 5")).accepted[0]
        await host.outcome(good.message_id)
        bad = (await host.say("fail of old age")).accepted[0]
        await host.outcome(bad.message_id)
        await host.say("stall")  # a turn that is over before the host looks has one line: that it ended
        await until(lambda: "a turn began" in caplog.messages, "a turn that goes on is seen")
        await host.say("/stop")
        await host.settled()
    lines = {record.message: record.__dict__ for record in reversed(caplog.records)}
    assert lines["a message was accepted"]["session_id"] == good.session_id
    assert {"a turn began", "starting an agent", "stopping an agent", "delivered"} <= lines.keys()
    ended = [record.__dict__ for record in caplog.records if record.message == "a turn ended"]
    assert [turn["outcome"] for turn in ended[:2]] == ["completed", "failed"]
    assert (ended[0]["input_tokens"], ended[0]["session_id"]) == (5, good.session_id)
    assert ended[0]["seconds"] >= 0
    assert lines["a message failed"]["message_id"] == bad.message_id
    assert "old age" in lines["a message failed"]["error"]
    assert (lines["a command is carried out"]["command"], lines["a command is carried out"]["by"]) == ("stop", "ann")
