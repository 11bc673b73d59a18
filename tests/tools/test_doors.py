"""Both doors lead to the same tools: called directly, and through a real client of the `mcp` library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client

from container_agent.tools.schema import form, number, text
from container_agent.tools.server import mcp_server
from container_agent.tools.tool import Arguments, Tool, ToolRefused
from container_agent.tools.toolbox import Toolbox
from tests.tools.bench import Turn

Call = Callable[[str, dict[str, Any]], Awaitable[tuple[str, bool]]]


@asynccontextmanager
async def door(name: str, toolbox: Toolbox) -> AsyncIterator[tuple[list[str], Call]]:
    """The names of the tools behind a door, and a way to call them: the text, and whether it is an error."""
    if name == "direct":

        async def direct(tool: str, arguments: dict[str, Any]) -> tuple[str, bool]:
            result = await toolbox.answer(tool, arguments)
            return result.text, result.is_error

        yield [definition.name for definition in toolbox.definitions], direct
        return
    async with Client(mcp_server(toolbox), mode="legacy" if name == "legacy" else "auto") as client:

        async def call(tool: str, arguments: dict[str, Any]) -> tuple[str, bool]:
            result = await client.call_tool(tool, arguments)
            return "\n".join(block.text for block in result.content if block.type == "text"), bool(result.is_error)

        yield [tool.name for tool in (await client.list_tools()).tools], call


DOORS = pytest.mark.parametrize("name", ["direct", "in-process", "legacy"])


@DOORS
async def test_every_door_has_the_same_tools_with_the_same_results(name: str, turn: Turn) -> None:
    toolbox = await turn.tools()
    async with door(name, toolbox) as (names, call):
        assert names == [definition.name for definition in toolbox.definitions]
        assert {"send_message", "ask_user_question", "search_messages", "bash", "read_file"} <= set(names)
        assert await call("send_message", {"text": "hello"}) == ("sent as out-1", False)
        assert await call("write_file", {"path": "a/b.txt", "content": "one\ntwo"}) == (
            "wrote 7 bytes to a/b.txt",
            False,
        )
        assert await call("read_file", {"path": "a/b.txt", "offset": 2}) == ("     2\ttwo", False)
    assert [reply.text for reply in turn.out.sent] == ["hello"]


@DOORS
async def test_every_door_gives_refusals_as_results(name: str, turn: Turn) -> None:
    async with door(name, await turn.tools()) as (_, call):
        for tool, arguments, sentence in (
            ("read_file", {"path": "../secret"}, "Error: '../secret' is outside of"),
            ("read_file", {}, "Error: the argument 'path' is missing"),
            ("read_file", {"path": "x", "colour": 1}, "Error: there is no argument 'colour'"),
            ("read_file", {"path": 7}, "Error: the argument 'path' must be of the type string"),
            ("nothing", {}, "Error: there is no tool 'nothing'"),
        ):
            text, is_error = await call(tool, arguments)
            assert is_error
            assert text.startswith(sentence)


async def test_a_tool_that_breaks_hangs_or_says_too_much_is_a_result_within_its_limits() -> None:
    async def break_down(arguments: Arguments) -> str:
        raise RuntimeError("with details that nobody should see")

    async def hang(arguments: Arguments) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def talk(arguments: Arguments) -> str:
        return "b" * 1_000 + "e" * 1_000

    tools = [
        Tool("broken", "", form(), break_down),
        Tool("hanging", "", form(), hang, seconds=0.05),
        Tool("talking", "", form(), talk, max_characters=100),
    ]
    named: list[tuple[str | None, float | None]] = []
    box = Toolbox(tools, lambda name, seconds: named.append((name, seconds)))
    assert await box.call("broken", {}) == "Error: broken failed: RuntimeError"
    assert await box.call("hanging", "{}") == "Error: hanging took longer than 0.05 seconds and was ended"
    said = await box.call("talking", {})
    assert said.startswith("b" * 50 + "\n[… 1,900 characters left out …]")
    assert said.endswith("e" * 50)
    assert [name for name, _ in named] == ["broken", None, "hanging", None, "talking", None]


async def test_of_tools_that_run_side_by_side_the_one_that_may_take_longest_is_named() -> None:
    gates = {name: asyncio.Event() for name in ("short", "long")}

    def waiting(name: str) -> Callable[[Arguments], Awaitable[str]]:
        async def run(arguments: Arguments) -> str:
            await gates[name].wait()
            return name

        return run

    named: list[str | None] = []
    tools = [Tool("short", "", form(), waiting("short"), seconds=5), Tool("long", "", form(), waiting("long"))]
    box = Toolbox(tools, lambda name, seconds: named.append(name))
    both = [asyncio.create_task(box.call(name, {})) for name in ("long", "short")]
    await asyncio.sleep(0)
    gates["short"].set()
    assert await both[1] == "short"
    gates["long"].set()
    assert await both[0] == "long"
    assert named == ["long", "long", "long", None]


async def test_cancelling_a_call_cancels_the_tool() -> None:
    ended = asyncio.Event()
    began = asyncio.Event()

    async def run(arguments: Arguments) -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    box = Toolbox([Tool("waiting", "", form(), run)], lambda name, seconds: None)
    call = asyncio.create_task(box.call("waiting", {}))
    await began.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended.is_set()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("{", "the arguments are not JSON"),
        ("[1]", "the arguments are not an object"),
        ('{"text": ""}', "the argument 'text' must have 1 to 5 characters"),
        ('{"text": "123456"}', "the argument 'text' must have 1 to 5 characters"),
        ('{"text": "a", "count": 0}', "the argument 'count' must be 1 to 9"),
        ('{"text": "a", "count": true}', "the argument 'count' must be of the type integer"),
        ('{"text": "a", "count": 1.5}', "the argument 'count' must be of the type integer"),
        ('{"text": "a", "count": NaN}', "the argument 'count' must be of the type integer"),
        ('{"text": "a", "\\ud800": 1}', "there is no argument"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(given: str, sentence: str) -> None:
    from container_agent.tools import schema

    described = form({"text": text("", 5)}, {"count": number("", 1, 9, 3)})
    with pytest.raises(ToolRefused) as refusal:
        schema.checked(described, given)
    assert refusal.value.what.startswith(sentence)


def test_arguments_get_their_defaults_and_half_characters_are_mended() -> None:
    from container_agent.tools import schema

    described = form({"text": text("", 5)}, {"count": number("", 1, 9, 3)})
    assert schema.checked(described, {"text": "a\ud800"}) == {"text": "a?", "count": 3}
    assert schema.checked(described, {"text": "a", "count": 2.0}) == {"text": "a", "count": 2}
