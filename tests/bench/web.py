"""The page: how soon it is there with 10,000 sessions, how soon it shows an answer, what its windows cost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from host.web.serving import serving_page
from tests.bench.behind_the_row import Ask, Behind, behind_the_row
from tests.bench.figure import Figure, above, at_most, percentile, times
from tests.bench.population import Population, quick
from tests.bench.process import resident
from tests.bench.session_list import SPREAD
from tests.bench.workbench import BenchHost, Workbench
from tests.support.daemon import Daemon
from tests.support.host import AGENT

SESSIONS = 10_000
WINDOWS = 200
PAGES = ("/", "/chat", "/sessions", "/sessions?status=ended", "/agents", "/schedules", "/people", "/logs", "/audit")
WRITER = "writer"
_WRITING = f"write 0.02 {'word ' * 60} end-of-{{}}"
_SAMPLE = 40
_ROUNDS = 60
_MS = 1_000


@dataclass
class _Browser:
    """Requests with the cookie of a browser, and how long they take."""

    address: str
    session: aiohttp.ClientSession
    csrf: str = ""
    sent: int = 0

    async def enter(self, link: str) -> None:
        """Sign in by a link."""
        headers = {"Origin": self.address}
        data = {"token": link.partition("#")[2]}
        async with self.session.post(
            f"{self.address}/sign-in", data=data, headers=headers, allow_redirects=False
        ) as done:
            assert done.status == 303
        async with self.session.get(f"{self.address}/account") as page:
            self.csrf = (await page.text()).partition('data-csrf="')[2].partition('"')[0]

    async def seconds(self, path: str) -> float:
        """How long a page takes, from the question to its last byte."""
        began = time.perf_counter()
        async with self.session.get(self.address + path, headers={"Accept": "text/html"}) as answer:
            await answer.read()
            assert answer.status == 200, path
        return time.perf_counter() - began

    async def send(self, text: str, agent: str = AGENT) -> str:
        """Say something in the one conversation with an agent; its session."""
        self.sent += 1
        data = {"agent": agent, "thread": "bench", "text": text, "message_id": f"m{self.sent}"}
        headers = {"Origin": self.address, "X-CSRF-Token": self.csrf}
        async with self.session.post(f"{self.address}/chat/send", data=data, headers=headers) as answer:
            return str((await answer.json(content_type=None))["session_id"])

    async def open_window(self, session: str) -> aiohttp.ClientResponse:
        """A live window of a conversation, as it stays open."""
        answer = await self.session.get(f"{self.address}/chat/{session}/stream")
        assert answer.status == 200
        await answer.content.readline()
        return answer


@asynccontextmanager
async def _browsing(address: str, link: str) -> AsyncIterator[_Browser]:
    connector = aiohttp.TCPConnector(limit=0)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, connector=connector, read_bufsize=2**20) as session:
        browser = _Browser(address, session)
        await browser.enter(link)
        yield browser


def measure(bench: Workbench) -> Iterator[Figure]:
    """Pages, the first word of an answer, windows."""
    yield from _pages(bench)
    yield from asyncio.run(_behind_the_row(bench))
    yield from _windows(bench)


def _pages(bench: Workbench) -> Iterator[Figure]:
    population = Population(bench.new_folder("web-pages"))
    population.add_sessions(SESSIONS)
    with quick(population.layout.central) as connection:
        connection.execute(SPREAD)
    population.note_as_read()
    host = Daemon(population.layout.data, WEB__PORT="0")
    try:
        host.start()
        link = str(host.call("web.link")["url"])
        slowest, floor = asyncio.run(_each_page(link))
    finally:
        host.close()
    path, found = max(slowest.items(), key=lambda each: each[1])
    yield Figure(
        f"the slowest page of {len(PAGES)} with {SESSIONS:,} sessions ({path}), p95",
        found * _MS,
        "ms",
        floor * _MS,
        at_most(50.0),
        note="the floor is `/healthz` of the same host",
    )


async def _each_page(link: str) -> tuple[dict[str, float], float]:
    async with _browsing(link.partition("/sign-in")[0], link) as browser:
        for path in PAGES:
            await browser.seconds(path)
        found = {path: [await browser.seconds(path) for _ in range(_SAMPLE)] for path in PAGES}
        floor = [await browser.seconds("/healthz") for _ in range(_SAMPLE)]
    return {path: percentile(each, 95) for path, each in found.items()}, percentile(floor, 95)


async def _behind_the_row(bench: Workbench) -> list[Figure]:
    """From the agent's commit to the event in the window: of a piece of an answer, and of a whole one."""
    runtime = bench.runtimes[0]
    async with bench.host(runtime, web={"port": 0}) as host, serving_page(host.services):
        await host.do("agent_group.add", name=WRITER, provider="scripted")
        link = str((await host.do("web.link"))["url"])
        async with _browsing(link.partition("/sign-in")[0], link) as browser:
            written = await _in_a_window(host, browser, WRITER, _WRITING, blocks=2, rounds=5)
            whole = await _in_a_window(host, browser, AGENT, "message {}", blocks=3, rounds=20)
    return [
        Figure(
            f"{what} in a window of the page, {runtime}, behind the agent's row, p50",
            percentile(found.client, 50) * _MS,
            "ms",
            percentile(found.bare, 50) * _MS,
            above(5.0),
            note="the floor is a bare process that waits for the same row, and reads it",
        )
        for what, found in (("a piece of an answer", written), ("a whole answer", whole))
    ]


async def _in_a_window(
    host: BenchHost, browser: _Browser, agent: str, text: str, *, blocks: int, rounds: int
) -> Behind:
    session = await browser.send("warm up", agent)
    await host.settled()
    (folder,) = [each["path"] for each in await host.do("session.list") if each["id"] == session]

    @asynccontextmanager
    async def listening() -> AsyncIterator[Ask]:
        window = await browser.open_window(session)

        async def ask(number: int) -> list[float]:
            await browser.send(text.format(number), agent)
            return await _pieces(window, text.format(number).rpartition(" ")[2])

        yield ask
        window.close()

    async def alone(number: int) -> None:
        await browser.send(text.format(number), agent)

    return await behind_the_row(host, Path(folder), blocks=blocks, rounds=rounds, listening=listening, alone=alone)


async def _pieces(window: aiohttp.ClientResponse, last: str) -> list[float]:
    """The moments at which a window is told more of an answer, until it is told the whole, which has its last word."""
    found: list[float] = []
    draft = ""
    async with asyncio.timeout(60):
        while True:
            arrived, told = await _told(window)
            if told.get("draft", "") not in ("", draft):
                draft = told["draft"]
                found.append(arrived)
            if any("theirs" in each.get("html", "") and f" {last}" in each["html"] for each in told.get("items", ())):
                return found or [arrived]


async def _told(window: aiohttp.ClientResponse) -> tuple[float, dict[str, Any]]:
    """The next event of a window that has data, and when it came."""
    while True:
        line = await window.content.readline()
        arrived = time.perf_counter()
        assert line, "the window was closed"
        if line.startswith(b"data: {"):
            return arrived, json.loads(line[6:])


def _windows(bench: Workbench) -> Iterator[Figure]:
    """A host with windows of which each shows a conversation, beside the same host without."""
    data = bench.new_folder("web-windows")
    host = Daemon(data, WEB__PORT="0")
    try:
        host.start()
        with suppress(Exception):
            host.call("agent_group.add", name=AGENT, provider="echo")
        link = str(host.call("web.link")["url"])
        token = str(host.call("token.add", name="bench")["token"])
        assert host.process is not None
        pid = host.process.pid
        before, after, alone, beside = asyncio.run(_beside_windows(link, token, pid))
    finally:
        host.close()
    yield Figure(f"memory of {WINDOWS} live windows", after - before, "MB", None, at_most(30.0))
    yield Figure(
        f"ask-and-answer beside {WINDOWS} live windows, p50",
        percentile(beside, 50) * _MS,
        "ms",
        percentile(alone, 50) * _MS,
        times(1.2),
        note="the floor is the same without windows",
    )


async def _beside_windows(link: str, token: str, pid: int) -> tuple[float, float, list[float], list[float]]:
    address = link.partition("/sign-in")[0]
    async with _browsing(address, link) as browser:
        session = await browser.send("hello")
        headers = {"Authorization": f"Bearer {token}"}

        async def ask(number: int) -> float:
            began = time.perf_counter()
            body = {"model": AGENT, "messages": [{"role": "user", "content": f"message {number}"}], "user": "bench"}
            async with browser.session.post(f"{address}/v1/chat/completions", json=body, headers=headers) as answer:
                told = json.loads(await answer.read())
            assert told["choices"], told
            return time.perf_counter() - began

        for number in range(20):
            await ask(number)
        alone = [await ask(number) for number in range(_ROUNDS)]
        before = resident(pid)
        opened = [await browser.open_window(session) for _ in range(WINDOWS)]
        await asyncio.sleep(2)
        after = resident(pid)
        beside = [await ask(number) for number in range(_ROUNDS)]
        for each in opened:
            each.close()
    return before, after, alone, beside
