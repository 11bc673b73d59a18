"""A host with its page, over HTTP and in a real Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from host.web.serving import serving_page
from tests.support.host import Host, running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="chromium is not installed: apt-get install chromium"
)
AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"


@dataclass
class Site:
    """A host whose page is served."""

    host: Host
    address: str

    async def link(self, user: str | None = None) -> str:
        """A link to sign in with."""
        given = {} if user is None else {"user": user}
        return str((await self.host.do("web.link", **given))["url"])

    @asynccontextmanager
    async def client(self, user: str | None = None) -> AsyncIterator[Client]:
        """A program that is signed in as a browser is."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            client = Client(self.address, session)
            token = (await self.link(user)).partition("#")[2]
            status, _, _ = await client.post("/sign-in", {"token": token}, csrf=False)
            assert status == 303
            _, page, _ = await client.get("/account")
            client.csrf = page.partition('data-csrf="')[2].partition('"')[0]
            yield client


@dataclass
class Client:
    """Requests with the cookie of one browser."""

    address: str
    session: aiohttp.ClientSession
    csrf: str = ""
    seen: list[str] = field(default_factory=list)

    async def get(self, path: str, **headers: str) -> tuple[int, str, Any]:
        """Status, text and headers of a page; redirects are not followed."""
        given = {"Accept": "text/html", **headers}
        async with self.session.get(self.address + path, headers=given, allow_redirects=False) as answer:
            return answer.status, await answer.text(errors="replace"), answer.headers

    async def post(self, path: str, data: Any = None, *, csrf: bool = True, **headers: str) -> tuple[int, str, Any]:
        """The same for something that changes, as a page of the host's own asks for it."""
        given = {"Origin": self.address, **({"X-CSRF-Token": self.csrf} if csrf else {}), **headers}
        async with self.session.post(
            self.address + path, data=data or {}, headers=given, allow_redirects=False
        ) as answer:
            return answer.status, await answer.text(errors="replace"), answer.headers


@asynccontextmanager
async def open_site(data: Path, **settings: Any) -> AsyncIterator[Site]:
    """A host whose page is served on a port of its own, until the block ends."""
    async with running(data, **{"web": {"port": 0}, **settings}) as host, serving_page(host.services):
        yield Site(host, await host.services.page.on())


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


async def signed_in(browser: Browser, site: Site, *, user: str | None = None, **options: Any) -> BrowserContext:
    """A window set that is signed in by its link."""
    context = await browser.new_context(**options)
    context.set_default_timeout(60_000)
    page = await context.new_page()
    await page.goto(await site.link(user))
    await page.wait_for_selector("header.bar")
    await page.close()
    return context


@contextmanager
def without_errors(page: Page) -> Iterator[None]:
    """What a page's scripts complain of is a failure, and so is what its policy has to block."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield
    assert not errors, errors


async def violations(page: Page) -> list[str]:
    """What axe-core finds on a page."""
    # Not `add_script_tag`: the policy of the page blocks it, as it should.
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        f"{each['id']}: {node['html'][:120]} ({node.get('failureSummary', '')[:200]})"
        for each in found
        for node in each["nodes"]
    ]
