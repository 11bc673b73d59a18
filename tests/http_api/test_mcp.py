"""The host as an MCP server, with the official client, in the present revision and those with a handshake."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.http_api.programs import Api
from tests.support.host import AGENT


def client_of(api: Api, http: httpx2.AsyncClient, mode: str) -> Client:
    return Client(streamable_http_client(f"{api.address}/mcp", http_client=http), mode=mode)  # type: ignore[arg-type]


def text_of(result: Any) -> str:
    return "".join(part.text for part in result.content)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_asks_agents_and_searches(api: Api, mode: str) -> None:
    token = await api.token(rights="admin")
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http, client_of(api, http, mode) as client:
        listed = await client.list_tools()
        assert {tool.name for tool in listed.tools} == {"list_agents", "ask_agent", "search", "schedules"}
        assert AGENT in text_of(await client.call_tool("list_agents", {}))
        arguments = {"agent": AGENT, "text": "remember walrus", "session": "s"}
        assert text_of(await client.call_tool("ask_agent", arguments)) == "scripted: remember walrus"
        again = await client.call_tool("ask_agent", {**arguments, "text": "recall"})
        assert "walrus" in text_of(again)
        await api.host.settled()
        assert "walrus" in text_of(await client.call_tool("search", {"query": "walrus"}))
        assert not (await client.call_tool("schedules", {"agent": AGENT})).is_error
        wrong = await client.call_tool("ask_agent", {"agent": "nobody", "text": "x"})
        assert wrong.is_error
        assert "no agent 'nobody'" in text_of(wrong)


async def test_a_token_reaches_what_it_is_for(api: Api) -> None:
    await api.host.do("agent_group.add", name="other", provider="scripted")
    async with api.program(agent_group="other") as program:

        async def call(name: str, **arguments: str) -> Any:
            given = {"name": name, "arguments": arguments}
            _, answer = await program.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": given})
            return answer["result"]

        assert AGENT not in str(await call("list_agents"))
        assert (await call("ask_agent", agent=AGENT, text="x"))["isError"]
        assert (await call("search", query="x"))["isError"]
        assert (await call("schedules"))["isError"]


async def test_what_is_no_request_is_refused(api: Api) -> None:
    async with api.program() as program:
        for body, status in (
            ({"jsonrpc": "2.0", "method": "notifications/cancelled"}, 202),
            ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, 400),
            ({"jsonrpc": "2.0", "id": None, "method": "ping"}, 400),
            ({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "rm"}}, 400),
            (
                {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask_agent", "arguments": {}}},
                400,
            ),
            ({"jsonrpc": "2.0", "id": 1, "method": "resources/list"}, 404),
            ({"jsonrpc": "2.0", "id": 1, "method": "ping"}, 200),
            ({}, 400),
        ):
            assert (await program.post("/mcp", body))[0] == status, body
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        status, answer = await program.post("/mcp", ping, **{"MCP-Protocol-Version": "1999-01-01"})
        assert (status, answer["error"]["code"]) == (400, -32022)
        assert (await program.get("/mcp"))[0] == 405
    async with api.stranger() as stranger:
        assert (await stranger.post("/mcp", ping))[0] == 401
