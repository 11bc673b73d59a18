"""The page in a real Chromium: the main path, two windows, a reload, a host that dies, a phone, the keyboard alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.daemon import Daemon
from tests.support.host import AGENT
from tests.support.ports import free_port
from tests.support.script import script
from tests.support.wait import until
from tests.web.browser import Site, chromium, needs_chromium, open_site, signed_in, violations, without_errors
from tests.web.hostile import TEXTS

pytestmark = needs_chromium
PATIENT = 60_000
FILE = f"/agents/{AGENT}/file?path=AGENT.md"
expect.set_options(timeout=PATIENT)
HAND_OVER = """([event, field, name, type, text]) => {
  const files = new DataTransfer();
  files.items.add(new File([text], name, { type }));
  const target = document.getElementById("text");
  const options = { bubbles: true, cancelable: true, [field]: files };
  target.dispatchEvent(event === "drop" ? new DragEvent(event, options) : new ClipboardEvent(event, options));
}"""


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[tuple[Site, Browser]]:
    async with open_site(tmp_path / "data") as site, chromium() as browser:
        yield site, browser


async def say(page: Page, text: str) -> None:
    await page.fill("#text", text)
    await page.press("#text", "Enter")


def answers(page: Page) -> object:
    return page.locator("#entries .entry.theirs")


async def test_from_the_link_to_an_answer_in_two_windows_that_stay_together(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, browser):
        context = await signed_in(browser, site)
        one = await context.new_page()
        with without_errors(one):
            await one.goto(f"{site.address}/chat")
            await expect(one.locator("#no-entries")).to_contain_text("Write to assistant")
            await one.fill("#text", "good **day**")
            await one.evaluate("for (let i = 0; i < 3; i++) document.getElementById('composer').requestSubmit()")
            await expect(answers(one)).to_have_count(1)
            await expect(answers(one).locator("strong").last).to_have_text("day")
            two = await context.new_page()
            await two.goto(one.url)
            await expect(answers(two)).to_have_count(1)
            await say(two, "from the second window")
            for page in (one, two):
                await expect(answers(page)).to_have_count(2)
                await expect(page.locator("#entries .entry.mine")).to_have_count(2)
                await expect(page.locator("#entries .waiting")).to_have_count(0)
        said = await site.host.central("SELECT count(*) AS n FROM ingest WHERE channel_type = 'web'")
        assert said == [{"n": 2}]


async def test_a_reload_in_mid_answer_shows_the_rest_of_it_and_escape_stops_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, browser):
        page = await (await signed_in(browser, site)).new_page()
        await page.goto(f"{site.address}/chat")
        await say(page, "write 0.4 " + "word " * 200)
        await expect(page.locator("#draft")).to_contain_text("word word")
        await expect(page.locator("#doing")).to_contain_text("assistant")
        await page.reload()
        await expect(page.locator("#draft")).to_contain_text("word word")
        await page.keyboard.press("Escape")
        await expect(page.locator("#now")).to_be_hidden()
        await say(page, "and now?")
        await expect(answers(page).last).to_contain_text("and now?")


@pytest.mark.full
async def test_what_is_written_while_the_host_is_away_is_sent_once_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    daemon = Daemon(tmp_path / "data", WEB__PORT=str(port))
    try:
        await asyncio.to_thread(daemon.start)
        link = str(daemon.call("web.link")["url"])
        async with chromium() as browser:
            page = await (await browser.new_context()).new_page()
            page.set_default_timeout(PATIENT)
            await page.goto(link)
            await page.wait_for_selector("header.bar")
            await page.goto(f"http://127.0.0.1:{port}/chat")
            await say(page, "before")
            await expect(answers(page)).to_have_count(1)
            daemon.kill()
            await say(page, "while it was away")
            await expect(page.locator("#entries .waiting")).to_contain_text("sent as soon as it is back")
            await asyncio.to_thread(daemon.start)  # the page is there again, because a browser is signed in
            await expect(answers(page)).to_have_count(2)
            await expect(page.locator("#entries .waiting")).to_have_count(0)
            await page.reload()
            await expect(answers(page)).to_have_count(2)
        rows = daemon.rows("SELECT count(*) AS n FROM ingest WHERE channel_type = 'web'")
        assert rows == [{"n": 2}]
    finally:
        daemon.kill_agents()
        if daemon.process is not None:
            daemon.stop()


async def test_files_come_by_drag_and_by_paste_and_pictures_are_shown(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, browser):
        page = await (await signed_in(browser, site)).new_page()
        with without_errors(page):
            await page.goto(f"{site.address}/chat")
            await expect(page.locator("#text")).to_be_visible()
            await page.evaluate(HAND_OVER, ["drop", "dataTransfer", "notes.txt", "text/plain", "to be read"])
            await page.evaluate(HAND_OVER, ["paste", "clipboardData", "dot.gif", "image/gif", "GIF89a"])
            await say(page, "two files")
            mine = page.locator("#entries .entry.mine:not(.waiting)")
            await expect(mine.locator(".file")).to_have_text(["notes.txt", "dot.gif"])
            await expect(mine.locator("img")).to_have_attribute("alt", "dot.gif")
            await expect(answers(page)).to_have_count(1)
        (session,) = await site.host.do("session.list")
        inbox = Path((await site.host.do("session.show", session=session["id"]))["path"]) / "inbox"
        assert {path.name: path.read_text() for path in inbox.glob("*/*")} == {
            "notes.txt": "to be read", "dot.gif": "GIF89a",
        }  # fmt: skip


@pytest.mark.full
async def test_a_conversation_of_five_thousand_messages_opens_at_its_end_and_goes_on(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    write(*(row(message, f"{text}, line {number}") for number in range(0 if text == "and now?" else 850)))
    reply(message, f"{text}, all of it")
"""
    async with (
        open_site(tmp_path / "data", command=script(tmp_path, lines)) as site,
        chromium() as browser,
    ):
        page = await (await signed_in(browser, site)).new_page()
        with without_errors(page):
            await page.goto(f"{site.address}/chat")
            for number in range(6):
                await say(page, f"part {number}")
                await expect(answers(page).last).to_contain_text(f"part {number}, all of it")
            sent = await site.host.central("SELECT count(*) AS n FROM deliveries WHERE channel_type = 'web'")
            assert sent[0]["n"] > 5_000
            await page.reload()
            await expect(answers(page).last).to_be_in_viewport()
            await expect(answers(page).last).to_contain_text("part 5, all of it")
            assert await page.locator("#entries .entry").count() <= 202
            await say(page, "and now?")
            await expect(answers(page).last).to_contain_text("and now?, all of it")


async def test_the_palette_and_every_page_are_reached_by_keyboard_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, browser):
        page = await (await signed_in(browser, site)).new_page()
        await page.goto(site.address)
        await page.keyboard.press("Tab")
        await expect(page.locator(".skip")).to_be_focused()
        for words, path in (("audit", "/audit"), ("sessions", "/sessions"), (f"talk {AGENT}", "/chat/new")):
            await page.keyboard.press("Control+k")
            await expect(page.locator("#palette-list a").first).to_be_visible()
            await page.keyboard.type(words)
            await page.keyboard.press("Enter")
            await page.wait_for_url(lambda url, path=path: path in url)
        await page.keyboard.type("by keyboard")
        await page.keyboard.press("Enter")
        await expect(answers(page)).to_have_count(1)
        await page.keyboard.press("Control+k")
        await page.keyboard.press("Escape")
        await expect(page.locator("#palette")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=pytest.mark.full)])
async def test_every_page_fits_a_phone_and_axe_finds_nothing(tmp_path: Path, scheme: str) -> None:
    async with opened(tmp_path) as (site, browser):
        context = await signed_in(browser, site)
        page = await context.new_page()
        await page.goto(f"{site.address}/chat")
        await say(page, "# A title\n\nuse 1200\n\n- one\n\n```\n" + "long " * 60 + "\n```")
        await expect(answers(page).first).to_be_visible()
        session = page.url.rpartition("/")[2]
        state = await context.storage_state()
        await site.host.do("agent_file.set", agent_group=AGENT, path="AGENT.md", text="Be kind.\n" * 3)
        await site.host.do(
            "schedule.add", agent_group=AGENT, when="every day at 7:30", prompt="x", name="tea", to="nowhere"
        )
        await say(page, 'call ask_user_question {"question": "Which colour?", "options": ["red", "blue"]}')
        await until(lambda: site.host.do("question.list"), "an agent asks", PATIENT / 1000)
        paths = ["/", f"/chat/{session}", "/sessions", "/sessions?q=title", f"/sessions/{session}",
                 f"/sessions/{session}?view=trace", f"/sessions/{session}?view=files",
                 f"/sessions/{session}?view=database", "/agents", f"/agents/{AGENT}", FILE,
                 "/schedules", "/people", "/logs", f"/logs?session={session}", "/audit", "/doctor", "/api/",
                 "/account"]  # fmt: skip
        found: list[str] = []
        narrow = await browser.new_context(
            viewport={"width": 360, "height": 740}, color_scheme=scheme, storage_state=state
        )
        page = await narrow.new_page()
        for path in paths:
            await page.goto(site.address + path)
            await page.evaluate("document.querySelectorAll('main details').forEach(each => each.open = true)")
            width = await page.evaluate("document.documentElement.scrollWidth")
            found += [] if width <= 360 else [f"{path} is {width} wide"]
            found += [f"{path} {scheme}: {each}" for each in await violations(page)]
        assert not found, "\n".join(found)


async def test_what_others_say_runs_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, browser):
        await site.host.do("agent_group.add", name="other", provider="scripted")
        page = await (await signed_in(browser, site)).new_page()
        with without_errors(page):
            await page.goto(f"{site.address}/chat/new?agent={AGENT}")
            for number, text in enumerate(TEXTS, 1):
                await say(page, text.replace("\n", " "))
                await expect(answers(page)).to_have_count(number)
            session = page.url.rpartition("/")[2]
            await site.host.do("session.title", session=session, title=TEXTS[1][:60])
            await site.host.do("user.add", user="web:x", name=TEXTS[0])
            await site.host.do(
                "agent_file.set", agent_group=AGENT, path="AGENT.md", text="\n".join(TEXTS).replace("\0", "")[:50_000]
            )
            for path in (f"/chat/{session}", f"/sessions/{session}?view=trace", f"/sessions/{session}?view=database",
                         "/sessions?q=owned", "/", "/people", "/audit", FILE):  # fmt: skip
                await page.goto(site.address + path)
                assert await page.evaluate("window.owned") is None, path
                foreign = "main :is(script, iframe, form[action^='http'], style, base, meta, [onerror], [onload])"
                assert await page.locator(foreign).count() == 0, path
                hrefs = await page.eval_on_selector_all("a", "links => links.map(link => link.protocol)")
                assert set(hrefs) <= {"http:", "https:", "mailto:"}, path


async def test_the_overview_and_a_session_are_live_and_looking_at_them_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, browser):
        context = await signed_in(browser, site)
        overview, inside = await context.new_page(), await context.new_page()
        with without_errors(overview), without_errors(inside):
            await overview.goto(site.address)
            await expect(overview.locator("#now-part")).to_contain_text("has written to an agent yet")
            assert await site.host.ask("first walrus") == "scripted: first walrus"
            row = overview.locator("#now-part .rows a[href^='/sessions/']")
            await expect(row).to_have_count(1)
            await inside.goto(site.address + str(await row.get_attribute("href")))
            await expect(inside.locator("#view")).to_contain_text("scripted: first walrus")
            assert await site.host.ask("second walrus") == "scripted: second walrus"
            await expect(inside.locator("#view")).to_contain_text("scripted: second walrus")
            await site.host.settled()
            asked: list[str] = []
            inside.on("request", lambda request: asked.append(request.url))
            await overview.goto(f"{site.address}/sessions")
            await overview.fill("input[type=search]", "second")
            await expect(overview.locator("#found mark").first).to_have_text("second")
            assert len(asked) <= 4  # a look is no news of the session that is looked at


async def test_an_answer_that_is_being_written_is_not_lost_by_what_happens_meanwhile(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, browser):
        page = await (await signed_in(browser, site)).new_page()
        with without_errors(page):
            await page.goto(f"{site.address}/chat")
            await say(page, 'call ask_user_question {"question": "Which colour?", "options": ["red", "blue"]}')
            await until(lambda: site.host.do("question.list"), "an agent asks", PATIENT / 1000)
            await page.goto(site.address)
            await page.fill(".ask input[name=text]", "gre")
            assert await site.host.ask("meanwhile") == "scripted: meanwhile"
            other = await page.context.new_page()
            await other.goto(site.address)
            await expect(other.locator("#now-part")).to_contain_text("meanwhile")
            await other.close()
            await page.type(".ask input[name=text]", "en")
            await expect(page.locator(".ask input[name=text]")).to_have_value("green")
            await page.click(".ask button:has-text('Answer')")
            await page.wait_for_url(f"{site.address}/sessions/**")
            await expect(page.locator("#view")).to_contain_text("green")
