"""MCP servers that people set up: their tools are there, and their trouble stays theirs."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal

import pytest

from container_agent.tools import servers as module
from container_agent.tools.background import BackgroundProcesses
from container_agent.tools.foreign import tool_name
from container_agent.tools.notifications import Notifications
from container_agent.tools.server import mcp_server
from container_agent.tools.servers import Servers, configurations
from container_agent.tools.tool_setup import ToolSetup
from shared_schema.clock import SystemClock
from shared_schema.tool_servers import ToolServer
from tests.agent.session import ROOT, BareSession
from tests.support.wait import until
from tests.tools.bench import Turn
from tests.tools.served import passing, serving

COMMAND = (sys.executable, "-m", "tests.tools.server_example")


# The library leaves streams of an SSE connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()


@asynccontextmanager
async def set_up(
    session: BareSession, *chosen: ToolServer, proxy: str = "http://127.0.0.1:1"
) -> AsyncIterator[Servers]:
    environment = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": "secret", "HTTP_PROXY": proxy, "NO_PROXY": "*"}
    servers = Servers(chosen, workspace=session.workspace, environment=environment)
    try:
        yield servers
    finally:
        await servers.close()


def example(name: str = "maths", *arguments: str) -> ToolServer:
    return ToolServer(name, (*COMMAND, *arguments), {"PYTHONPATH": str(ROOT)})


async def test_the_tools_of_a_server_are_called_by_its_name(turn: Turn, session: BareSession) -> None:
    async with set_up(session, example()) as servers:
        box = await turn.tools(servers=servers)
        names = [definition.name for definition in box.definitions if "__" in definition.name]
        assert names == [f"maths__{name}" for name in ("add", "environment", "fail", "notify", "process", "quit")]
        assert await box.call("maths__add", {"a": 1, "b": 2}) == "3"
        assert await box.call("maths__fail", {}) == "Error: it is broken"
        assert "OPENAI_API_KEY" not in await box.call("maths__environment", {})


async def test_what_a_server_notifies_of_is_handed_on_with_its_name(turn: Turn, session: BareSession) -> None:
    heard: list[tuple[str, str, object]] = []
    servers = Servers(
        [example()],
        workspace=session.workspace,
        environment={"PATH": os.environ["PATH"]},
        notified=lambda *said: heard.append(said),
    )
    try:
        box = await turn.tools(servers=servers)
        await box.call("maths__notify", {})
        await until(lambda: len(heard) == 2, "it is heard")
    finally:
        await servers.close()
    assert heard == [("maths", "notifications/resources/updated", {"uri": "tea://kettle"})] * 2


async def test_a_server_that_ends_costs_one_call_and_is_started_again(turn: Turn, session: BareSession) -> None:
    async with set_up(session, example()) as servers:
        box = await turn.tools(servers=servers)
        assert (await box.call("maths__quit", {})).startswith("Error: the server 'maths' failed")
        assert await box.call("maths__add", {"a": 2, "b": 2}) == "4"


async def test_calls_side_by_side_of_a_server_that_has_died_start_it_once(turn: Turn, session: BareSession) -> None:
    async with set_up(session, example()) as servers:
        box = await turn.tools(servers=servers)
        before = await box.call("maths__process", {})
        await box.call("maths__quit", {})
        after = await asyncio.gather(*(box.call("maths__process", {}) for _ in range(5)))
        assert len(set(after)) == 1
        assert after[0].isdigit()
        assert before != after[0]


async def test_a_server_that_dies_again_when_it_is_started_costs_each_call_an_error(
    turn: Turn, session: BareSession
) -> None:
    once = "[ -e been ] && exit 1; touch been; exec " + " ".join(COMMAND)
    async with set_up(session, ToolServer("maths", ("sh", "-c", once), {"PYTHONPATH": str(ROOT)})) as servers:
        box = await turn.tools(servers=servers)
        await box.call("maths__quit", {})
        for said in await asyncio.gather(*(box.call("maths__add", {"a": 1, "b": 1}) for _ in range(3))):
            assert said.startswith("Error: the server 'maths' failed: it cannot be used")


async def test_a_call_that_is_cancelled_while_its_server_starts_leaves_the_others_alone(
    turn: Turn, session: BareSession
) -> None:
    async with set_up(session, example()) as servers:
        box = await turn.tools(servers=servers)
        await box.call("maths__quit", {})
        first, second = (asyncio.create_task(box.call("maths__add", {"a": 1, "b": 1})) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "2"


async def test_a_server_that_does_not_start_is_tried_once_in_a_turn_and_again_in_the_next(session: BareSession) -> None:
    command = ["sh", "-c", "echo started >>starts; exit 1"]
    tool_setup = ToolSetup(
        SystemClock(),
        {"PATH": os.environ["PATH"]},
        BackgroundProcesses(lambda value: None),
        Notifications(lambda value: None),
    )
    for number in (1, 2):
        turn = Turn(session, tool_servers=json.dumps({"broken": {"command": command}}))
        prompt, _ = await tool_setup.prompt_and_tools(turn.request, turn.out)
        assert "The tools of 'broken' are not there" in prompt.changing
        assert (session.workspace / "starts").read_text().split() == ["started"] * number
    await tool_setup.close()


async def test_servers_that_cannot_be_used_leave_the_others_and_the_turn_alone(
    turn: Turn, session: BareSession
) -> None:
    broken = ToolServer("gone", ("/no/such/program",))
    mute = ToolServer("mute", ("/bin/true",))
    unreachable = ToolServer("far", url="http://127.0.0.1:1/mcp")
    async with set_up(session, broken, example(), mute, unreachable) as servers:
        box = await turn.tools(servers=servers)
        assert await box.call("maths__add", {"a": 1, "b": 1}) == "2"
        assert await box.call("send_message", {"text": "still here"}) == "sent as out-1"
        assert sorted(servers.problems) == ["far", "gone", "mute"]
        assert all(problem.startswith("it cannot be used") for problem in servers.problems.values())


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the library's server leaves streams open
@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_a_server_behind_a_url_is_reached_through_the_gateway_and_no_other_way(
    turn: Turn, session: BareSession, kind: Literal["http", "sse"]
) -> None:
    inner = await Turn(session).tools()
    async with serving(mcp_server(inner), kind) as url, passing() as (proxy, asked):
        async with set_up(session, ToolServer("other", url=url, transport=kind), proxy=proxy) as servers:
            box = await turn.tools(servers=servers)
            assert await box.call("other__list_destinations", {}) == (
                "There are no destinations besides the chat of this turn."
            )
        assert all(url.removesuffix("mcp") in line for line in asked)
        before = len(asked)
        async with set_up(session, ToolServer("other", url=url, transport=kind)) as servers:  # its proxy is gone
            assert await servers.tools() == []
        assert len(asked) == before


async def test_why_the_gateway_refuses_a_server_is_said(session: BareSession) -> None:
    async with (
        passing(refusal="x.example is not on the list of this agent") as (proxy, _),
        set_up(session, ToolServer("wiki", url="http://x.example/mcp", transport="http"), proxy=proxy) as servers,
    ):
        assert await servers.tools() == []
        assert servers.problems == {"wiki": "it cannot be used: x.example is not on the list of this agent"}


async def test_an_agent_without_a_way_out_says_so_of_its_servers(session: BareSession) -> None:
    wiki = ToolServer("wiki", url="http://x.example/mcp", transport="http")
    servers = Servers([wiki], workspace=session.workspace, environment={})
    assert await servers.tools() == []
    assert servers.problems == {"wiki": "it cannot be used: this agent has no way out: the host gives it no gateway"}
    await servers.close()


async def test_tools_that_are_left_out_are_not_there(turn: Turn, session: BareSession) -> None:
    one = replace(example(), only=("add", "fail"), without=("fail",))
    async with set_up(session, one) as servers:
        assert [tool.name for tool in await servers.tools()] == ["maths__add"]


def test_a_configuration_is_taken_as_far_as_it_is_right_and_the_rest_is_named() -> None:
    assert configurations("") == ([], {})
    assert configurations("[")[0] == configurations("[]")[0] == []
    text = json.dumps(
        {
            "ok": {"command": ["a", "b"]},
            "web": {"url": "https://x.example/mcp", "headers": {"X": "1"}},
            "off": {"command": ["a"], "disabled": True},
            "both": {"command": ["a"], "url": "http://x"},
            "file": {"url": "file:///x"},
        }
    )
    chosen, problems = configurations(text)
    assert [one.name for one in chosen] == ["ok", "web"]
    assert sorted(problems) == ["both", "file"]


@pytest.mark.parametrize("tool", ["with space", "x" * 100, "ünï", "a.b"])
def test_names_of_foreign_tools_fit_every_vendor_and_stay_apart(tool: str) -> None:
    name = tool_name("server", tool)
    assert len(name) <= 64
    assert name.isascii()
    assert name != tool_name("server", tool + "!")
    assert module.START_SECONDS <= 30
