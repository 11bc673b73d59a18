"""What an agent asks for about itself, and calls of its tools that wait for a yes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from host.access.policies import PolicyAct
from host.api.client import HostGone
from shared_schema import asking
from shared_schema.errors import InvalidValue, NotFound
from tests.support.failpoints import Point, arm, disarm, mortal
from tests.support.host import AGENT, Host, rows, running
from tests.support.wait import until, until_sync

HOST = 'call request_host {"host": "files.example.org", "reason": "the report is there"}'
SERVER = 'call add_mcp_server {"name": "notes", "configuration": "{\\"command\\": \\"notes\\"}", "reason": "to note"}'
CHILD = (
    'call create_agent {"name": "scribe", "instructions": "You write things down.", "reason": "there is much to note"}'
)
WORKER = "host.operations.approvals"
CODE = re.compile(r"/approve ([A-Z0-9]+) ")


@asynccontextmanager
async def with_owner(data: Path, **settings: Any) -> AsyncIterator[Host]:
    """A host whose owner is ann, in the chat memory:one."""
    async with running(data, **settings) as host:
        await host.do("role.grant", user="memory:ann", role="owner")
        yield host


async def card(host: Host, start: int = 0) -> tuple[str, str]:
    """The text of the card in the chat, and its code."""

    def shown() -> list[str]:
        here = [message for message in host.channel.sent[start:] if message.address.platform_id == "one"]
        return [message.text for message in here if CODE.search(message.text)]

    text = (await until(shown, "a card is in the chat"))[0]
    found = CODE.search(text)
    assert found is not None
    return text, found[1]


async def said(host: Host, beginning: str) -> str:
    texts = await until(lambda: [text for text in host.texts() if text.startswith(beginning)], f"'{beginning}' is said")
    return texts[0]


async def show(host: Host) -> dict[str, Any]:
    shown: dict[str, Any] = await host.do("agent_group.show", name=AGENT)
    return shown


async def test_a_person_is_asked_in_the_chat_and_the_agent_is_told_what_came_of_it(tmp_path: Path) -> None:
    async with with_owner(tmp_path) as host:
        await host.say(HOST)
        text, code = await card(host)
        assert "Host: files.example.org" in text
        assert "Why: the report is there" in text
        await said(host, f"A person is asked (approval {code}).")
        assert [each["summary"] for each in await host.do("approval.list")] == ["assistant: files.example.org"]
        assert (await show(host))["allow"] == []
        await host.say(f"/approve {code}", sender="eve")
        await said(host, "Only the owner, or an admin")
        await host.say(f"/approve {code}")
        await said(host, "scripted: Your request is approved by memory:ann. assistant may reach files.example.org")
        await host.settled()
        assert (await show(host))["allow"] == ["files.example.org"]
        direct = [message for message in host.channel.sent if message.address.platform_id == "direct-ann"]
        assert code in direct[0].text
        (entry,) = [each for each in await host.do("audit.list") if each["action"] == "agent_group.set"]
        assert entry["who"] == "memory:ann"
        (decided,) = await host.do("audit.list", action="approval")
        assert decided["subject"] == "assistant: files.example.org"
        assert decided["before"] is None, "a decision changes nothing that was there"
        assert (decided["after"]["code"], decided["after"]["choice"]) == (code, "yes")


async def test_an_agent_makes_another_once_a_person_has_approved_it_and_they_speak(tmp_path: Path) -> None:
    async with with_owner(tmp_path) as host:
        await host.do("agent_group.set", name=AGENT, budget_tokens=1_000_000, allow=["code.example.org"])
        await host.say(CHILD)
        text, code = await card(host)
        assert "Name: scribe" in text
        assert "Instructions: You write things down." in text
        assert "Budget: 1,000,000 tokens a month, as its maker" in text
        await host.say(f"/approve {code}")
        await said(host, "scripted: Your request is approved by memory:ann. The agent scribe is there")
        await host.say("to scribe reply 1 noted")
        await said(host, "scripted: noted 1")
        child = await host.do("agent_group.show", name="scribe")
        assert (child["provider"], child["budget_tokens"], child["allow"]) == ("scripted", 1_000_000, [])
        assert (Path(child["workspace"]) / "AGENT.md").read_text() == "You write things down."
        places = {
            (each["agent_group"], each["name"]): each["messaging_group"] for each in await host.do("destination.list")
        }
        assert places == {(AGENT, "scribe"): "agent:scribe", ("scribe", "parent"): f"agent:{AGENT}"}
        assert "is taken" in await host.ask(CHILD)


async def test_a_no_reaches_the_agent_and_nothing_is_changed(tmp_path: Path) -> None:
    async with with_owner(tmp_path) as host:
        await host.say(SERVER)
        _, code = await card(host)
        await host.say(f"/deny {code}")
        await said(host, "scripted: Your request (tool_server notes) is denied by memory:ann.")
        assert (await show(host))["tool_servers"] is None


async def test_a_policy_allows_or_denies_without_asking(tmp_path: Path) -> None:
    async with with_owner(tmp_path) as host:
        assert (await show(host))["policies"] == {str(act): "ask" for act in PolicyAct}
        await host.do("agent_group.set", name=AGENT, policies=["hosts=allow", "tool-servers=deny"])
        assert await host.ask(HOST) == "assistant may reach files.example.org from now on."
        assert (await host.ask(SERVER)).startswith("Error: assistant may not ask for that: its operator has set")
        assert (await host.ask(HOST)).startswith("Error: you may reach files.example.org already")
        assert await host.do("approval.list", state="all") == []
        with pytest.raises(InvalidValue, match="is not a policy"):
            await host.do("agent_group.set", name=AGENT, policies=["hosts=maybe"])


async def test_where_there_is_no_person_to_ask_it_is_a_denial_that_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        assert "there is no person to ask" in await host.ask(HOST)
        assert await host.do("approval.list", state="all") == []


async def test_what_cannot_be_is_refused_before_a_person_is_asked(tmp_path: Path) -> None:
    async with with_owner(tmp_path) as host:
        for call in (
            'call request_host {"host": "no host", "reason": "x"}',
            'call create_agent {"name": "Not A Name", "instructions": "x", "reason": "x"}',
            'call request_host {"host": "10.0.0.0/8", "reason": "x"}',
            'call add_mcp_server {"name": "x", "configuration": "{", "reason": "x"}',
            'call add_mcp_server {"name": "x", "configuration": "[]", "reason": "x"}',
        ):
            assert (await host.ask(call)).startswith("Error: "), call
        assert await host.do("approval.list", state="all") == []


async def test_an_agent_that_asks_without_end_meets_a_limit(tmp_path: Path) -> None:
    async with with_owner(tmp_path) as host:
        for number in range(21):
            await host.say(HOST.replace("files", f"host{number}"))
        await said(host, "Error: assistant has asked people 20 times in this hour")
        assert len(await host.do("approval.list")) == 20


async def test_a_call_waits_for_a_yes_and_is_then_made_in_the_same_turn(tmp_path: Path) -> None:
    async with with_owner(tmp_path) as host:
        await host.do("agent_group.set", name=AGENT, ask_before=["bash:touch *"])
        assert "hello" in await host.ask('call bash {"command": "echo hello"}')
        start = len(host.channel.sent)
        await host.say('call bash {"command": "touch made && echo made it"}')
        text, code = await card(host, start)
        assert "Tool: bash" in text
        assert "touch made" in text
        (workspace,) = [Path((await show(host))["workspace"])]
        assert not (workspace / "made").exists()
        await host.say(f"/approve {code} 1")
        await until(lambda: [text for text in host.texts() if "made it" in text and code not in text], "it is made")
        assert (workspace / "made").exists()
        await host.settled()
        turns = await host.central("SELECT 1 FROM turns")
        assert len(turns) == 2
        await host.do("agent_group.set", name=AGENT, no_ask_before=["bash:touch *"])
        with pytest.raises(NotFound):
            await host.do("agent_group.set", name=AGENT, no_ask_before=["bash:touch *"])


async def test_a_call_that_a_person_denies_is_not_made_nor_asked_about_again(tmp_path: Path) -> None:
    async with with_owner(tmp_path) as host:
        await host.do("agent_group.set", name=AGENT, ask_before=["bash"])
        await host.say('call bash {"command": "touch made"}')
        _, code = await card(host)
        await host.say(f"/deny {code}")
        await said(host, "Error: memory:ann said no to this call")
        assert await host.ask('call bash {"command": "touch made"}') == (
            "Error: memory:ann said no to this call; it is not made"
        )
        assert not (Path((await show(host))["workspace"]) / "made").exists()


async def test_a_yes_reaches_a_call_whose_host_was_restarted_meanwhile(tmp_path: Path) -> None:
    async with with_owner(tmp_path) as host:
        await host.do("agent_group.set", name=AGENT, ask_before=["bash"])
        await host.say('call bash {"command": "echo made it"}')
        _, code = await card(host)
    async with running(tmp_path) as host:
        await host.say(f"/approve {code} 2")
        await until(lambda: [text for text in host.texts() if "made it" in text and code not in text], "it is made")
        await host.settled()
        assert len(await host.do("approval.list", state="all")) == 1
        assert "made it" in await host.ask('call bash {"command": "echo made it"}')


def test_rules_name_a_tool_and_what_is_in_its_command() -> None:
    rules = ["bash:git push *", "github__create_*"]
    assert asking.waits(rules, "Bash", {"command": "cd x &&  git push origin"})
    assert not asking.waits(rules, "bash", {"command": "git status"})
    assert asking.waits(rules, "github__create_issue", {})
    assert asking.waits(["write:*.env*"], "Write", {"file_path": "a/.env.local", "content": ""})
    assert asking.problem("bash:git push *") is None
    for rule in ("", " ", "bash:", "two words", "a\nb", "x" * 201):
        assert asking.problem(rule), rule


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(
            Point("decide: not committed", "host.access.approvals", "_close", "audit.record("), marks=pytest.mark.full
        ),
        Point(
            "decide: committed, agent not told",
            "host.dispatcher",
            "Dispatcher._hand_on",
            "self._supervisor.accepted(",
        ),
    ],
    ids=str,
)
def test_a_host_that_dies_over_a_decision_tells_the_agent_once(tmp_path: Path, point: Point) -> None:
    with mortal(tmp_path / "data", "host", "run", "--data") as host:
        host.call("agent_group.set", name=AGENT, provider="scripted")
        host.call("messaging_group.add", address="cli:one", is_group=True, unknown_sender="public")
        host.call("wiring.add", messaging_group="cli:one", agent_group=AGENT)
        host.call("message.inject", messaging_group="cli:one", text=HOST)
        (asked,) = until_sync(lambda: host.call("approval.list"), "a person is asked", 60)
        arm(host.folder, point.plan)
        with suppress(HostGone):
            host.call("approval.approve", code=asked["code"])
        host.dies(point)
        disarm(host.folder)
        host.start()
        if host.call("approval.list"):
            host.call("approval.approve", code=asked["code"])
        told = "SELECT content FROM deliveries WHERE content LIKE '%is approved by%' AND status = 'delivered'"
        until_sync(lambda: host.rows(told), "the agent was told, and says so", 60)
        until_sync(lambda: not host.rows("SELECT 1 FROM ingest WHERE status = 'pending'"), "nothing is open", 60)
        assert len(host.rows(told)) == 1
        assert host.call("agent_group.show", name=AGENT)["allow"] == ["files.example.org"]
        (session,) = host.call("session.list")
        heard, query = Path(session["path"]) / "inbound.db", "SELECT status FROM messages_in WHERE kind = 'agent'"
        until_sync(lambda: rows(heard, query) == [{"status": "completed"}], "the agent's file says so, once", 60)
