"""Pictures of every page for docs/web.md, in light, dark and on a phone: `python -m tests.web.pictures [PAGE …]`.

They are taken in Chromium of a host with sample data (`sample.py`) and go to docs/web/. With `--whole` the pages are
taken in their whole length, into build/pictures/, to be looked at.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from playwright.async_api import Browser, BrowserContext, Page

from tests.conftest import ROOT
from tests.support.host import AGENT
from tests.web.browser import chromium, signed_in
from tests.web.sample import Sample, sample

FOLDER = ROOT / "docs/web"
WHOLE = ROOT / "build/pictures"
_QUALITY = 70
_MOST_HEIGHT = 6_000


@dataclass(frozen=True, slots=True)
class Look:
    """One way to look at a page."""

    name: str
    options: Mapping[str, Any]


LOOKS = (
    Look("light", {"viewport": {"width": 1180, "height": 780}, "color_scheme": "light"}),
    Look("dark", {"viewport": {"width": 1180, "height": 780}, "color_scheme": "dark"}),
    Look("phone", {"viewport": {"width": 390, "height": 780}, "color_scheme": "light", "has_touch": True}),
)
PAGES: Mapping[str, str] = {
    "overview": "/",
    "chat": "/chat/{chat}",
    "sessions": "/sessions",
    "search": "/sessions?q=berth",
    "session": "/sessions/{asked}",
    "trace": "/sessions/{chat}?view=trace",
    "files": "/sessions/{chat}?view=files",
    "tables": "/sessions/{chat}?view=database&table=messages_out",
    "agents": "/agents",
    "agent": f"/agents/{AGENT}",
    "agent-file": f"/agents/{AGENT}/file?path=AGENT.md",
    "people": "/people",
    "schedules": "/schedules",
    "logs": "/logs",
    "audit": "/audit",
    "doctor": "/doctor",
    "account": "/account",
    "api": "/api/",
    "palette": "/chat/{chat}",
}
"""Each page by the name of its pictures."""
_WITHOUT_PLACE = """([place, other]) => {
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(place, other);
}"""
"""`doctor` names the interpreter: the folder in which the pictures are taken is not shown."""


def file_of(page: str, look: str) -> str:
    """The name of a picture."""
    return f"{page}-{look}.webp"


async def _ready(page: Page, name: str) -> None:
    """Bring a page into the state that is shown."""
    if name == "agent-file":
        text = await page.input_value("#file-text")
        await page.fill(
            "#file-text", text.replace("briefly", "in three sentences at most") + "- Sign as *the harbour*.\n"
        )
        await page.click("button[value=look]")
        await page.wait_for_selector(".diff")
    if name == "palette":
        await page.keyboard.press("Control+k")
        await page.wait_for_selector("#palette-list a")
        await page.keyboard.type("be")
    await page.evaluate(_WITHOUT_PLACE, [sys.prefix, "/opt/dumbwaiter/.venv"])
    if name == "api":
        await page.evaluate("document.querySelector('.calls details').open = true")


async def _take(
    context: BrowserContext, shown: Sample, names: list[str], look: Look, folder: Path, whole: bool
) -> None:
    for name in names:
        page = await context.new_page()
        await page.goto(shown.site.address + PAGES[name].format(chat=shown.chat, asked=shown.asked))
        await page.wait_for_load_state("load")
        await _ready(page, name)
        await page.wait_for_timeout(400)
        options: dict[str, Any] = {"format": "webp", "quality": _QUALITY}
        if whole:
            width, height = await page.evaluate(
                "[document.documentElement.clientWidth, document.documentElement.scrollHeight]"
            )
            clip = {"x": 0, "y": 0, "width": width, "height": min(height, _MOST_HEIGHT), "scale": 1}
            options = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        session = await context.new_cdp_session(page)
        taken = await session.send("Page.captureScreenshot", options)
        file = folder / file_of(name, look.name).replace(".webp", ".png" if whole else ".webp")
        file.write_bytes(base64.b64decode(taken["data"]))
        await page.close()


async def _all(names: list[str], folder: Path, whole: bool, language: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dumbwaiter-") as temporary:
        async with sample(Path(temporary) / "data") as shown, chromium() as browser:
            await _of_each_look(browser, shown, names, folder, whole, language)


async def _of_each_look(
    browser: Browser, shown: Sample, names: list[str], folder: Path, whole: bool, language: str
) -> None:
    for look in LOOKS:
        context = await signed_in(browser, shown.site, locale=language, timezone_id="Europe/Berlin", **look.options)
        await _take(context, shown, names, look, folder, whole)
        await context.close()


@click.command()
@click.argument("pages", nargs=-1, type=click.Choice(list(PAGES)))
@click.option("--whole", is_flag=True, help="Whole pages, into build/pictures/.")
@click.option("--language", default="en", help="What the browser asks for.")
def main(pages: tuple[str, ...], whole: bool, language: str) -> None:
    """Take the pictures of pages; without a name, of all."""
    asyncio.run(_all(list(pages or PAGES), WHOLE if whole else FOLDER, whole, language))


if __name__ == "__main__":
    main()
