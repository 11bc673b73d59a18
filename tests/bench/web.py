"""The page: how soon it is there with 10,000 sessions, how soon it shows an answer, what its windows cost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from host.web.serving import serving_page
from shared_schema.layout import OUTBOUND
from tests.bench.figure import Figure, at_most, percentile, times
from tests.bench.observer import observing
from tests.bench.population import Population, quick
from tests.bench.process import resident
from tests.bench.session_list import SPREAD
from tests.bench.workbench import BenchHost, Workbench
from tests.support.daemon import Daemon
from tests.support.host import AGENT
from tests.support.wait import until

SESSIONS = 10_000
WINDOWS = 200
PAGES = ("/", "/chat", "/sessions", "/sessions?status=ended", "/agents", "/schedules", "/people", "/logs", "/audit")
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
    opened: list[aiohttp.ClientResponse] = field(default_factory=list)

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

    async def send(self, text: str) -> str:
        """Say something in the one conversation; its session."""
        self.sent += 1
        data = {"agent": AGENT, "thread": "bench", "text": text, "message_id": f"m{self.sent}"}
        headers = {"Origin": self.address, "X-CSRF-Token": self.csrf}
        async with self.session.post(f"{self.address}/chat/send", data=data, headers=headers) as answer:
            return str((await answer.json(content_type=None))["session_id"])

    async def open_window(self, session: str) -> None:
        """A live window of a conversation, as it stays open."""
        answer = await self.session.get(f"{self.address}/chat/{session}/stream")
        assert answer.status == 200
        await answer.content.readline()
        self.opened.append(answer)


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
    yield asyncio.run(_first_word(bench))
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


async def _first_word(bench: Workbench) -> Figure:
    """From the agent's commit to the event in the window that has the answer."""
    runtime = bench.runtimes[0]
    found: list[float] = []
    async with bench.host(runtime, web={"port": 0}) as host, serving_page(host.services):
        link = str((await host.do("web.link"))["url"])
        async with _browsing(link.partition("/sign-in")[0], link) as browser:
            session = await browser.send("warm up")
            await host.settled()
            await browser.open_window(session)
            (folder,) = [each["path"] for each in await host.do("session.list") if each["id"] == session]
            found = await _until_shown(host, browser, folder)
    return Figure(
        f"an answer in a window of the page, {runtime}, behind the agent's row, p50",
        percentile(found, 50) * _MS,
        "ms",
        None,
        at_most(5.0),
    )


async def _until_shown(host: BenchHost, browser: _Browser, folder: str) -> list[float]:
    (window,) = browser.opened
    found: list[float] = []
    commits: list[float] = []
    async with observing(Path(folder)) as observer:

        async def note() -> None:
            while True:
                moment, name = await observer.next()
                if name == OUTBOUND:
                    commits.append(moment)

        noting = asyncio.create_task(note())
        for number in range(_ROUNDS):
            await browser.send(f"message {number}")
            arrived = await _shown(window, f"message {number}")
            await host.settled()
            await until(lambda arrived=arrived: any(each < arrived for each in commits), "the commit was seen")  # type: ignore[misc]
            found.append(arrived - max(each for each in commits if each < arrived))
        noting.cancel()
    return found


async def _shown(window: aiohttp.ClientResponse, text: str) -> float:
    """The moment at which a window is told that an agent said so."""
    async with asyncio.timeout(60):
        while True:
            line = await window.content.readline()
            arrived = time.perf_counter()
            assert line, "the window was closed"
            told = json.loads(line[6:]) if line.startswith(b"data: {") else {}
            if any("theirs" in each.get("html", "") and text in each["html"] for each in told.get("items", ())):
                return arrived


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
        for _ in range(WINDOWS):
            await browser.open_window(session)
        await asyncio.sleep(2)
        after = resident(pid)
        beside = [await ask(number) for number in range(_ROUNDS)]
        for each in browser.opened:
            each.close()
    return before, after, alone, beside
