"""Before a conversation is over its agent may save to memory what is worth it: one quiet turn, under a real host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from host.sessions.memory import MIN_EXCHANGES
from tests.platforms.model_answer import Answer, ToolUse
from tests.platforms.model_server import ModelServer
from tests.providers.test_model_process import host_with_model
from tests.support.host import AGENT, Host, rows
from tests.support.wait import until

NOTE = Answer(calls=(ToolUse("write_file", json.dumps({"path": "memory/MEMORY.md", "content": "- Ann likes tea.\n"})),))
BOLD = Answer(calls=(ToolUse("send_message", json.dumps({"text": "to the chat"})),))


async def said(host: Host, text: str) -> str:
    """Somebody writes, and what is answered: a new process takes long to import the SDKs."""
    count = len(host.channel.sent)
    await host.say(text)
    return (await host.channel.wait_for(count + 1, 90))[count].text


@pytest.mark.full
async def test_what_is_worth_it_is_saved_before_a_conversation_is_over(tmp_path: Path, server: ModelServer) -> None:
    """In one go, because importing the SDKs takes seconds in every new process."""
    async with host_with_model(tmp_path, server) as host:
        memory = tmp_path / "agents" / AGENT / "memory" / "MEMORY.md"
        for number in range(MIN_EXCHANGES):
            assert await said(host, f"say {number}") == str(number)
        await host.settled()
        before = await host.session()
        steps = rows(before.outbound, "SELECT count(*) AS n FROM steps")
        server.next(BOLD, NOTE, Answer(text="done"))
        assert "new conversation" in await said(host, "/new")
        await until(memory.exists, "it is saved", 90)
        await host.settled()
        told = [str(request.messages) for request in server.requests[MIN_EXCHANGES:]]
        assert "Save to your memory" in told[0]
        assert "there is no tool 'send_message'" in told[1]  # nothing can be sent from there
        assert memory.read_text() == "- Ann likes tea.\n"
        assert len(host.texts()) == MIN_EXCHANGES + 1
        assert rows(before.outbound, "SELECT count(*) AS n FROM steps") == steps
        (old,) = [each for each in await host.do("session.list", status="ended")]
        assert old["path"] == str(before.folder)

        # A conversation that is summed up is saved from first.
        assert await said(host, "say hello again") == "hello again"
        asked = len(server.requests)
        server.next(NOTE, Answer(text="done"), Answer(text="They counted."))
        present = next(each for each in await host.do("session.list") if each["status"] == "active")
        await host.do("session.compress", session=present["id"])
        told = [str(request.messages) for request in server.requests[asked:]]
        assert ["Save to your memory" in each for each in told] == [True, True, False]
        assert "Sum up the conversation" in told[2]


@pytest.mark.full
async def test_what_is_short_is_not_worth_it_and_an_agent_group_can_switch_it_off(
    tmp_path: Path, server: ModelServer
) -> None:
    async with host_with_model(tmp_path, server) as host:
        await said(host, "say short")
        await said(host, "/new")
        await host.do("agent_group.set", name=AGENT, save_memory=False)
        for number in range(MIN_EXCHANGES):
            await said(host, f"say {number}")
        await said(host, "/new")
        assert await said(host, "say last") == "last"
        await host.settled()
        assert len(server.requests) == MIN_EXCHANGES + 2
