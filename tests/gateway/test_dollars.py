"""A budget in dollars holds against an agent that does not say what it uses: a real host, raw calls, no reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from container_agent.forwarder import Forwarder
from host.gateway.upstreams import Upstream, UpstreamKind
from host.gateway.usage import CallUsage
from host.supervision.gateway import count
from tests.platforms.model_answer import Answer
from tests.platforms.model_server import ModelServer, model_server
from tests.support.host import AGENT, Host, running
from tests.support.wait import until

MODEL = "claude-sonnet-5-5"
PROMPT = "x" * 40_000  # 10,000 tokens: two cents


@dataclass(frozen=True, slots=True)
class Liar:
    """What an agent can do that has its session's gateway and a mind of its own."""

    host: Host
    server: ModelServer
    port: int

    async def ask(self, path: str = "/upstream/anthropic/v1/messages", **body: Any) -> tuple[int, dict[str, Any]]:
        """One call past every SDK: its status and its answer."""
        asked = {"model": MODEL, "max_tokens": 10, "messages": [{"role": "user", "content": f"say hm\n{PROMPT}"}]}
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with aiohttp.ClientSession() as http, http.post(url, json=asked | body) as response:
            return response.status, await response.json()

    async def leave(self, body: bytes) -> None:
        """One call that it does not wait for."""
        calls = len(self.server.requests)
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = "POST /upstream/anthropic/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await until(lambda: len(self.server.requests) > calls, "it is under way")
        writer.close()
        await writer.wait_closed()

    async def budget(self) -> dict[str, Any]:
        """What `agent-group show` says is used."""
        used: dict[str, Any] = (await self.host.do("agent_group.show", name=AGENT))["budget_used"]
        return used

    async def counted(self, tokens: int) -> list[dict[str, Any]]:
        """What `dumbwaiter usage` says, once so many tokens were seen."""

        async def seen() -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = (await self.host.do("usage", by="day"))["rows"]
            return rows if sum(row["called_tokens"] for row in rows) >= tokens else []

        return await until(seen, "the calls are counted")


@asynccontextmanager
async def liar(data: Path, **budget: float) -> AsyncIterator[Liar]:
    """An agent that has answered once, for nothing."""
    async with model_server(key="sk-host") as server:
        urls = {"anthropic": server.url, "local": f"{server.url}/v1"}
        upstreams = {name: {"url": url, "key": "sk-host"} for name, url in urls.items()}
        async with running(data, upstreams=upstreams) as host:
            await host.do("agent_group.set", name=AGENT, budget_period="day", **budget)
            await host.ask("hello")
            forwarder = Forwarder(await host.session())
            try:
                yield Liar(host, server, await forwarder.port())
            finally:
                await forwarder.aclose()


async def test_an_agent_that_says_nothing_runs_into_its_budget(tmp_path: Path) -> None:
    async with liar(tmp_path, budget_usd=0.05) as agent:
        statuses = []
        for calls in range(1, 4):
            statuses.append((await agent.ask())[0])
            await agent.counted(10_000 * calls)
        assert statuses == [200, 200, 200]
        assert (await agent.budget())["usd"] > 0.05

        status, answer = await agent.ask()
        assert status == 402
        assert answer["error"]["message"].startswith(
            "The budget of assistant for today is used up: 0.06 of 0.05 US dollars."
        )
        assert len(agent.server.requests) == 3
        await agent.host.say("are you there?")
        await agent.host.channel.wait_for(2)
        assert "is used up: 0.06 of 0.05 US dollars." in agent.host.texts()[1]


async def test_usage_shows_what_the_gateway_saw_beside_what_agents_say(tmp_path: Path) -> None:
    async with liar(tmp_path) as agent:
        await agent.ask()
        [row] = await agent.counted(10_000)
        used = agent.server.used
        tokens = used.input + used.output + used.cache_read + used.cache_write
        price = (used.input * 2 + used.output * 10) / 1_000_000
        assert (row["turns"], row["cost_usd"], row["called_tokens"]) == (0, 0, tokens)
        assert round(row["called_usd"], 9) == round(price, 9)
        report = await agent.host.do("usage", by="agent-group", agent_group=AGENT, since=row["day"], until=row["day"])
        assert [each["agent_group"] for each in report["rows"]] == [AGENT]
        assert report["rows"][0]["called_usd"] == report["total"]["called_usd"] == row["called_usd"]
        assert (await agent.host.do("usage", by="day", until="2020-01-01"))["rows"] == []
        assert (await agent.host.do("usage", by="model"))["rows"] == []
        await agent.host.ask("use 5\ncost 0.5\nreply 1")
        await agent.host.settled()
        by_model = await agent.host.do("usage", by="model")
        assert [(each["input_tokens"], each["called_usd"]) for each in by_model["rows"]] == [(5, None)]
        [day] = await agent.counted(10_000)
        assert (day["turns"], day["cost_usd"], day["called_usd"]) == (1, 0.5, row["called_usd"])


async def test_calls_that_it_does_not_wait_for_are_not_for_nothing(tmp_path: Path) -> None:
    slow = Answer(text="never", delay=60)
    hidden = MODEL.replace("s", "\\u0073")
    body = f'{{"max_tokens": 1, "stream": true, "m\\u006fdel": "{hidden}", "messages": [{{"role": "user", "content": '
    async with liar(tmp_path, budget_usd=0.02) as agent:
        agent.server.next(slow)
        await agent.leave(f'{body}"{PROMPT}"}}]}}'.encode())
        await agent.counted(10_000)
        assert (await agent.budget())["usd"] > 0.02
        assert (await agent.ask())[0] == 402


async def test_with_a_budget_there_is_no_call_that_cannot_be_counted(tmp_path: Path) -> None:
    async with liar(tmp_path, budget_usd=0.05) as agent:
        for path in ("/v1/messages/batches", "/v1/%6dessages"):
            status, answer = await agent.ask(f"/upstream/anthropic{path}")
            assert status == 403
            assert answer["error"]["message"].startswith("Model calls alone are open to agents")
        assert agent.server.requests == []


async def test_a_model_that_nobody_knows_costs_tokens_alone(tmp_path: Path) -> None:
    async with liar(tmp_path, budget_usd=0.01) as agent:
        for _ in range(2):
            assert (await agent.ask("/upstream/local/chat/completions", model="home-made"))[0] == 200
        await agent.counted(20_000)
        assert (await agent.budget())["usd"] == 0
        assert (await agent.budget())["tokens"] > 20_000


async def test_a_call_that_cannot_be_priced_counts_in_tokens_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = Upstream("openai", "https://api.openai.com/v1", None, UpstreamKind.OPENAI)
    async with liar(tmp_path, budget_tokens=100) as agent:
        session = (await agent.host.session()).folder.name
        now = datetime.now(UTC)
        await count(agent.host.services.central, session, upstream, CallUsage("gpt-4o", -10, 70), now)
        assert await agent.budget() == {"usd": 0, "tokens": 60, "percent": 60}
    (record,) = [record for record in caplog.records if record.message == "a model call cannot be priced"]
    assert vars(record)["session_id"] == session


async def test_what_an_agent_says_counts_when_it_is_more(tmp_path: Path) -> None:
    async with liar(tmp_path, budget_usd=0.5) as agent:
        await agent.ask()
        await agent.counted(10_000)
        await agent.host.ask("use 5\ncost 0.5\nreply 1")
        await agent.host.settled()
        assert (await agent.budget())["usd"] == 0.5
        assert (await agent.ask())[0] == 402
