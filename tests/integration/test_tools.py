"""Tools from end to end: a host, a real agent process, and the scripted provider that calls them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from host.delivery.request import AgentRequest
from host.operations.doctor import check_tool_servers
from host.operations.requests import Answers
from host.sessions.redaction import Redaction
from shared_schema.errors import InvalidValue
from tests.agent.session import ROOT
from tests.support.host import Host, rows, running
from tests.support.wait import ENDS_WITHIN, until


def call(name: str, **arguments: object) -> str:
    """The word that calls a tool."""
    return f"call {name} {json.dumps(arguments)}"


async def seen(host: Host, text: str) -> None:
    """Wait until something was sent that has that text in it."""
    await until(lambda: any(text in sent for sent in host.texts()), f"'{text}' is sent")


async def questions(host: Host) -> list[dict[str, Any]]:
    """The questions that went out."""
    return rows((await host.session()).outbound, "SELECT * FROM messages_out WHERE kind = 'question'")


async def test_a_message_by_tool_comes_at_once_and_is_not_repeated_as_the_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say("\n".join([call("send_message", text="done 1"), "reply 1 done"]))
        await host.settled()
        assert host.texts() == ["done 1", "sent as out-1"]


async def test_the_host_answers_from_this_agent_group_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("agent_group.add", name="other", provider="scripted")
        await host.do("messaging_group.add", address="memory:two", is_group=True, unknown_sender="public")
        await host.do("wiring.add", messaging_group="memory:two", agent_group="other")
        await host.ask("the gold is in the garden", chat="two")
        await host.ask("the tea is in the kitchen")
        await host.settled()
        found = await host.ask(call("search_messages", query="the"))
        assert "kitchen" in found
        assert "garden" not in found
        listed = await host.ask(call("list_sessions"))
        assert listed.count('"id"') == 1
        assert '"is_this_one":true' in listed
        assert "kitchen" in await host.ask(call("read_history", limit=10))
        theirs = (await host.do("session.list", agent_group="other"))[0]["id"]
        for tool in ("read_history", "search_messages"):
            more = {"query": "gold"} if tool == "search_messages" else {}
            refused = await host.ask(call(tool, session=theirs, **more))
            assert refused == f"Error: there is no session '{theirs}'"
        malformed = await host.ask(call("search_messages", query="tea", since="yesterday"))
        assert malformed.startswith("Error: 'yesterday' is not a time: write 2026-02-28")


async def test_answers_of_the_host_are_no_part_of_the_conversation(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("the tea is in the kitchen")
        await host.settled()
        assert "kitchen" in await host.ask(call("search_messages", query="kitchen"))
        await host.settled()
        again = await host.do("session.search", query="answer_to OR kitchen")
        assert {hit["role"] for hit in again["hits"]} <= {"user", "assistant"}
        (answer,) = rows((await host.session()).inbound, "SELECT * FROM messages_in WHERE kind = 'system'")
        assert (answer["trigger"], answer["status"]) == (0, "completed")
        assert await host.ask("reply 1 next") == "next 1"


async def test_a_flood_of_requests_is_answered_so_far_and_harms_nobody(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say("\n".join([*[call("list_sessions")] * 35, "stream 1 0"]))
        await host.settled()
        refused = [text for text in host.texts() if text.startswith("Error: the host answers no more at the moment")]
        assert len(refused) == 5
        assert len(host.texts()) == 36


async def test_a_flood_that_goes_on_is_not_even_refused_any_more(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        (session,) = await host.do("session.list")
        answers = Answers(host.services, Redaction())
        for number in range(100):
            answers.asked(session["id"], AgentRequest(f"msg_{number:016x}", 1, "list_sessions", {}))
            await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("answers ")))
        told = rows((await host.session()).inbound, "SELECT content FROM messages_in WHERE kind = 'system'")
        assert ["result" in json.loads(row["content"]) for row in told] == [True] * 30 + [False] * 30


async def test_a_person_answers_a_question_and_the_answer_is_acknowledged_with_the_turn(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say(call("ask_user_question", question="Tea?", options=["Yes", "No"]))
        await seen(host, "Tea?\n1. Yes\n2. No")
        receipt = await host.say("2")
        await seen(host, "Answer: No (option 2)")
        await host.settled()
        assert await host.outcome(receipt.accepted[0].message_id) == "completed"
        assert [turn["status"] for turn in rows((await host.session()).outbound, "SELECT * FROM turns")] == [
            "completed"
        ]


async def test_where_an_agent_must_be_mentioned_an_answer_needs_no_mention(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("messaging_group.add", address="memory:two", is_group=True, unknown_sender="public")
        await host.do("wiring.add", messaging_group="memory:two", agent_group="assistant", engage="mention")
        await host.say(call("ask_user_question", question="Tea?", options=["Yes", "No"]), chat="two", mention=True)
        await seen(host, "Tea?\n1. Yes\n2. No")
        assert (await host.say("2", chat="three")).accepted == ()  # another chat
        assert (await host.say("1", chat="two", sender="bob")).accepted == ()  # somebody else
        receipt = await host.say("2", chat="two")
        assert len(receipt.accepted) == 1
        assert (await host.say("not for you", chat="two")).accepted == ()  # it was answered
        await seen(host, "Answer: No (option 2)")


async def test_an_answer_that_comes_too_late_needs_a_mention_again(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("messaging_group.add", address="memory:two", is_group=True, unknown_sender="public")
        await host.do("wiring.add", messaging_group="memory:two", agent_group="assistant", engage="mention")
        await host.say(call("ask_user_question", question="Tea?", seconds=1), chat="two", mention=True)
        await seen(host, "No answer came")
        assert (await host.say("2", chat="two")).accepted == ()


async def test_a_question_outlives_its_agent_and_its_host(tmp_path: Path) -> None:
    async with running(tmp_path, stop_agents=False) as host:
        await host.say(call("ask_user_question", question="Tea?", options=["Yes", "No"]))
        await seen(host, "Tea?")
        channel = host.channel
    async with running(tmp_path, channel=channel) as host:
        os.kill(await _process_of(host), signal.SIGKILL)
        await host.say("yes")
        await seen(host, "Answer: Yes (option 1)")
        await host.settled()
        assert len(await questions(host)) == 1
        assert [turn["status"] for turn in rows((await host.session()).outbound, "SELECT * FROM turns")] == [
            "failed",
            "completed",
        ]


async def test_an_agent_that_waits_for_an_answer_is_stopped_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say(call("ask_user_question", question="Tea?"))
        await seen(host, "Tea?")
        began = host.services.clock.monotonic()
        await host.say("/stop")
        await host.settled()
        assert host.services.clock.monotonic() - began < ENDS_WITHIN
        assert await host.ask("reply 1 here") != ""


async def _process_of(host: Host) -> int:
    """The process of the only agent: it holds the lock of its session."""
    folder = str((await host.session()).folder)
    for found in Path("/proc").glob("[0-9]*"):
        try:
            environment = (found / "environ").read_bytes().decode()
            command = (found / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if f"DUMBWAITER_SESSION={folder}" in environment and "container_agent" in command:
            return int(found.name)
    raise AssertionError("there is no agent")


async def test_the_tools_of_a_server_that_was_set_up_are_there_at_the_next_turn(tmp_path: Path) -> None:
    servers = {
        "maths": {
            "command": [sys.executable, "-m", "tests.tools.server_example"],
            "environment": {"PYTHONPATH": str(ROOT)},
        },
        "gone": {"command": ["/no/such/program"]},
    }
    async with running(tmp_path) as host:
        assert (await host.ask(call("maths__add", a=1, b=2))).startswith("Error: there is no tool 'maths__add'")
        await host.do("agent_group.set", name="assistant", tool_servers=json.dumps(servers))
        assert await host.ask(call("maths__add", a=1, b=2)) == "3"
        with pytest.raises(InvalidValue):
            await host.do("agent_group.set", name="assistant", tool_servers='{"x": {"command": "not a list"}}')


async def test_a_server_that_cannot_be_used_is_told_once_and_is_in_status_and_doctor(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("agent_group.set", name="assistant", tool_servers='{"gone": {"command": "/no/such/program"}}')
        await host.say(call("list_destinations"))
        told = await host.channel.wait_for(2)
        (notice,) = [message.text for message in told if message.from_host]
        assert notice.startswith("The tools of 'gone' cannot be used now: it cannot be used: ")
        await host.say(call("list_destinations"))
        await host.channel.wait_for(3)
        await host.settled()
        assert len([message for message in host.channel.sent if message.from_host]) == 1
        (problem,) = (await host.do("status"))["tool_servers"]
        assert (problem["agent_group"], problem["server"]) == ("assistant", "gone")
        (check,) = check_tool_servers(host.services.settings.layout)
        assert (check.ok, "gone of assistant" in check.what) == (None, True)

        await host.do("agent_group.set", name="assistant", tool_servers='{"gone": {"command": "x", "disabled": true}}')
        assert (await host.do("status"))["tool_servers"] == []
        await host.ask(call("list_destinations"))
        await host.settled()
        assert (await host.do("status"))["tool_servers"] == check_tool_servers(host.services.settings.layout) == []


async def test_a_search_does_not_find_the_question_that_it_answers(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("reply The kettle is blue.")
        await host.settled()
        found = await host.ask(call("search_messages", query="kettle"))
        texts = [hit["text"] for hit in json.loads(found)]
        assert any("kettle is blue" in text for text in texts)
        assert not any("search_messages" in text for text in texts)
