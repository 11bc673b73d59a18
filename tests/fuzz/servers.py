"""MCP servers: how somebody sets them up, what a hostile one offers, and what it says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from hypothesis import strategies as st

from container_agent.tools.servers import Servers, configurations
from container_agent.tools.tool import MAX_CHARACTERS, Tool
from container_agent.tools.toolbox import Toolbox
from shared_schema.tool_servers import ToolServer
from tests.fuzz.target import Drive, Target
from tests.fuzz.tools import as_json, no_log
from tests.fuzz.values import ANY_TEXT, JSON_VALUES

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST = MAX_CHARACTERS + 100  # with the note of what was left out

_WHO = {"name": "far", "version": "1"}


@contextmanager
def _configuration(folder: Path) -> Iterator[Drive]:
    """A configuration is taken as far as it is right."""

    def drive(said: str) -> None:
        for chosen in configurations(said)[0]:
            assert bool(chosen.command) != bool(chosen.url)
            texts = [*chosen.command, *chosen.environment.values(), *chosen.headers.values(), chosen.url]
            assert all(isinstance(text, str) for text in texts)

    with no_log():
        yield drive


@contextmanager
def _server(folder: Path) -> Iterator[Drive]:
    """A hostile MCP server costs its own tools: what is left of them a vendor takes, and what they say is bounded."""
    said: dict[str, str] = {}
    with no_log(), asyncio.Runner() as runner:

        async def use(port: int) -> None:
            far = ToolServer("far", url=f"http://127.0.0.1:{port}/", transport="http")
            servers = Servers([far], workspace=folder, environment={})
            try:
                tools = await servers.tools()
                _require_proper(tools)
                box = Toolbox(tools, lambda name, seconds: None)
                for tool in tools[:1]:
                    result = await box.answer(tool.name, {})
                    result.text.encode()
                    assert len(result.text) <= _LONGEST
                for problem in servers.problems.values():
                    problem.encode()
                    assert "\n" not in problem
            finally:
                await servers.close()

        served = _hostile(said)
        port = runner.run(served.__aenter__())
        try:

            def drive(value: tuple[str, str]) -> None:
                said["tools/list"], said["tools/call"] = value
                runner.run(use(port))

            yield drive
        finally:
            runner.run(served.__aexit__(None, None, None))


def _require_proper(tools: Sequence[Tool]) -> None:
    """What every vendor of models takes."""
    assert len({tool.name for tool in tools}) == len(tools) <= 100
    for tool in tools:
        assert _NAME.fullmatch(tool.name)
        tool.description.encode()
        json.dumps(tool.parameters, ensure_ascii=False, allow_nan=False).encode()
        assert tool.parameters["type"] == "object"
        assert isinstance(tool.parameters.get("properties", {}), dict)


@asynccontextmanager
async def _hostile(said: Mapping[str, str]) -> Any:
    """An MCP server that greets properly, and then says what it is told to; gives its port."""

    async def answer(request: web.Request) -> web.Response:
        if request.method != "POST":
            return web.Response(status=405)
        asked = await request.json()
        if "id" not in asked:
            return web.Response(status=202)
        greeting = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": _WHO}
        result = said.get(asked["method"], json.dumps(greeting))
        body = f'{{"jsonrpc":"2.0","id":{json.dumps(asked["id"])},"result":{result}}}'
        return web.Response(body=body.encode("utf-8", "surrogatepass"), content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


TEXTS = st.dictionaries(ANY_TEXT, ANY_TEXT | JSON_VALUES, max_size=2)
CONFIGURATIONS = st.dictionaries(
    st.sampled_from(("maths", "a-b", "a__b", "A", "")) | ANY_TEXT,
    st.one_of(
        st.fixed_dictionaries(
            {},
            optional={
                "command": st.lists(ANY_TEXT | JSON_VALUES, max_size=2),
                "url": st.sampled_from(("http://h", "ftp://h")) | JSON_VALUES,
                "environment": TEXTS,
                "headers": TEXTS,
            },
        ),
        JSON_VALUES,
    ),
    max_size=3,
)
SCHEMAS = st.one_of(
    st.sampled_from(
        (
            {"type": "object", "properties": {"a": {"type": "number"}}}, {}, {"type": "array"}, {"type": ["object"]},
            {"type": "object", "properties": 5}, {"type": "object", "properties": {"a": float("nan")}},
            {"type": "object", "title": "\ud800"}, {"type": "object", "title": "x" * 30_000},
        )
    ),
    st.dictionaries(ANY_TEXT, JSON_VALUES, max_size=2),
)  # fmt: skip
OFFERED = st.fixed_dictionaries(
    {"name": st.sampled_from(("add", "a b", "x" * 100, "", "far__add")) | ANY_TEXT, "inputSchema": SCHEMAS},
    optional={"description": ANY_TEXT, "title": ANY_TEXT, "annotations": JSON_VALUES, "outputSchema": SCHEMAS},
)
LISTINGS = st.fixed_dictionaries(
    {"tools": st.lists(OFFERED | JSON_VALUES, max_size=3) | st.lists(OFFERED, min_size=1, max_size=3)},
    optional={"nextCursor": ANY_TEXT | st.none()},
)
BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(("text", "text", "image", "resource", "resource_link", "odd"))},
    optional={
        "text": ANY_TEXT | st.just("x" * 100_000), "data": ANY_TEXT, "mimeType": ANY_TEXT, "uri": ANY_TEXT,
        "name": ANY_TEXT, "resource": st.fixed_dictionaries({"uri": st.just("file:///x")}, optional={"text": ANY_TEXT}),
    },
)  # fmt: skip
RESULTS = st.fixed_dictionaries(
    {"content": st.lists(BLOCKS, max_size=3)},
    optional={"isError": st.booleans(), "structuredContent": JSON_VALUES, "_meta": JSON_VALUES},
)


SERVERS = (
    Target("tool-servers", _configuration, as_json(CONFIGURATIONS), ()),
    Target(
        "mcp-server",
        _server,
        st.tuples(as_json(LISTINGS), as_json(RESULTS)),
        (),
        known=(('{"tools":[],"nextCursor":"again"}', "{}"),),
    ),
)
