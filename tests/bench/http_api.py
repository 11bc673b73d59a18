"""Programs over HTTP: ask-and-answer beside the terminal's, and how soon a streamed answer is told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from host.api.server import ApiServer
from host.web.serving import serving_page
from shared_schema.layout import OUTBOUND
from tests.bench.figure import Figure, at_most, percentile, times
from tests.bench.observer import observing
from tests.bench.workbench import BenchHost, Workbench
from tests.support.host import AGENT
from tests.support.wait import until

ROUNDS = 120
BLOCK = 20
_MS = 1000


@dataclass
class _Clients:
    """A terminal and a program of one host, each with a connection that is open already."""

    host: BenchHost
    terminal: aiohttp.ClientSession
    program: aiohttp.ClientSession
    address: str

    async def by_terminal(self, text: str) -> float:
        """Seconds from the question to the end of the answer, as `dumbwaiter chat` asks."""
        began = time.perf_counter()
        body = {"text": text, "agent_group": AGENT}
        async with self.terminal.post("http://dumbwaiter/v1/streams/chat", json=body) as answer:
            last = [json.loads(line) async for line in answer.content][-1]
        assert last["status"] == "completed", last
        return time.perf_counter() - began

    async def by_program(self, text: str) -> float:
        """The same over HTTP with a token."""
        began = time.perf_counter()
        async with self.program.post(f"{self.address}/v1/chat/completions", json=_body(text)) as answer:
            told = await answer.json()
        assert told["choices"][0]["message"]["content"].startswith(text), told
        return time.perf_counter() - began

    async def first_token(self, text: str) -> float:
        """The moment at which the first piece of a streamed answer is there."""
        body = {**_body(text), "stream": True}
        arrived = 0.0
        async with self.program.post(f"{self.address}/v1/chat/completions", json=body) as answer:
            async for line in answer.content:
                piece = json.loads(line[6:]) if line.startswith(b"data: {") else {"choices": []}
                if not arrived and any(each["delta"].get("content") for each in piece["choices"]):
                    arrived = time.perf_counter()
        return arrived


def measure(bench: Workbench) -> Iterator[Figure]:
    """Terminal and program in turns; then streams."""
    runtime = bench.runtimes[0]
    terminals, programs = asyncio.run(_in_turns(bench, runtime))
    yield Figure(
        f"ask-and-answer over HTTP, {runtime}, p50",
        percentile(programs, 50) * _MS,
        "ms",
        percentile(terminals, 50) * _MS,
        times(1.3),
        note="the floor is the same question at the terminal",
    )
    tokens = asyncio.run(_tokens(bench, runtime))
    yield Figure(
        f"first token of a streamed answer, {runtime}, behind the agent's row, p50",
        percentile(tokens, 50) * _MS,
        "ms",
        None,
        at_most(5.0),
    )


async def _in_turns(bench: Workbench, runtime: str) -> tuple[list[float], list[float]]:
    terminals: list[float] = []
    programs: list[float] = []
    async with _clients(bench, runtime) as clients:
        await clients.by_terminal("warm up")
        await clients.by_program("warm up")
        while len(programs) < ROUNDS:
            terminals += [await clients.by_terminal(f"message {number}") for number in range(BLOCK)]
            await clients.host.settled()
            programs += [await clients.by_program(f"message {number}") for number in range(BLOCK)]
            await clients.host.settled()
    return terminals, programs


async def _tokens(bench: Workbench, runtime: str) -> list[float]:
    """Seconds from the agent's commit of its answer to the first piece of it."""
    found: list[float] = []
    async with _clients(bench, runtime) as clients:
        await clients.by_program("warm up")
        await clients.host.settled()
        commits: list[float] = []
        async with observing((await clients.host.session()).folder) as observer:

            async def note() -> None:
                while True:
                    moment, name = await observer.next()
                    if name == OUTBOUND:
                        commits.append(moment)

            noting = asyncio.create_task(note())
            for number in range(ROUNDS):
                arrived = await clients.first_token(f"message {number}")
                await clients.host.settled()
                await until(lambda arrived=arrived: any(each < arrived for each in commits), "the commit was seen")  # type: ignore[misc]
                found.append(arrived - max(each for each in commits if each < arrived))
            noting.cancel()
    return found


@asynccontextmanager
async def _clients(bench: Workbench, runtime: str) -> AsyncIterator[_Clients]:
    async with bench.host(runtime, web={"port": 0}) as host, serving_page(host.services):
        terminal = "cli:terminal"
        if not any(each["address"] == terminal for each in await host.do("messaging_group.list")):
            await host.do("messaging_group.add", address=terminal)
        await host.do("wiring.add", messaging_group=terminal, agent_group=AGENT)
        made = await host.do("token.add", name="bench")
        server = ApiServer(host.services)
        await server.start()
        headers = {"Authorization": f"Bearer {made['token']}"}
        connector = aiohttp.UnixConnector(path=str(host.services.settings.layout.socket))
        try:
            async with (
                aiohttp.ClientSession(connector=connector) as by_socket,
                aiohttp.ClientSession(headers=headers) as by_port,
            ):
                yield _Clients(host, by_socket, by_port, made["address"])
        finally:
            await server.close()


def _body(text: str) -> dict[str, object]:
    return {"model": AGENT, "messages": [{"role": "user", "content": text}], "user": "bench"}
