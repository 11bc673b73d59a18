"""What an owner changes and looks at: files of an agent, its settings, wirings, questions, calendar, logs."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from host.central import agent_groups, container_changes
from host.central.container_changes import ChangeKind
from host.central.database import Transaction
from host.http_api.openapi import document
from host.http_api.operations_api import NOT_OFFERED, path_of
from host.log import RECENT
from host.operations import schedule_calendar
from host.operations.agent_files import difference
from host.operations.registry import OPERATIONS
from host.web import templates
from host.web.pages.agents import changes_of
from host.web.pages.api import sections_of
from host.web.pages.people import wiring_of
from host.web.pages.schedules import weeks_of
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, FileDamaged, InvalidValue
from shared_schema.packages import Packages
from tests.support.host import AGENT, Host
from tests.support.wait import until
from tests.web.browser import Client, Site, open_site
from tests.web.test_server import send


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path / "data") as there:
        yield there


@pytest.fixture
def recent_lines() -> Iterator[None]:
    root = logging.getLogger()
    root.addHandler(RECENT)
    yield
    root.removeHandler(RECENT)


FILE = f"/agents/{AGENT}/file"


def workspace(host: Host) -> Path:
    return host.services.settings.layout.workspace(AGENT)


async def test_instructions_are_changed_with_a_diff_and_not_over_what_was_changed_meanwhile(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def logged() -> list[str]:
        records = [record.__dict__ for record in caplog.records if record.message == "something was changed"]
        return [each["operation"] for each in records if each["operation"] != "web.link"]

    caplog.set_level(logging.INFO)
    async with site.client() as client:
        first = {"path": "AGENT.md", "text": "Be kind.\r\nBe <brief>.\r\n", "revision": "", "do": "look"}
        status, page, _ = await client.post(FILE, first)
        assert (status, re.findall(r"<ins>(.*?)</ins>", page)) == (200, ["Be kind.", "Be &lt;brief&gt;."])
        assert not (workspace(site.host) / "AGENT.md").exists()
        assert logged() == []  # a look at a difference changes nothing
        assert (await client.post(FILE, {**first, "do": "save"}))[0] == 303
        assert logged() == ["agent_file.set"]
        file = workspace(site.host) / "AGENT.md"
        assert file.read_text() == "Be kind.\nBe <brief>.\n"
        status, page, _ = await client.get(f"{FILE}?path=AGENT.md")
        (revision,) = set(re.findall(r'name="revision" value="([0-9a-f]+)"', page))
        file.write_text("Be kind.\nBe brief.\nBe quick.\n")  # the agent, meanwhile
        mine = {"path": "AGENT.md", "text": "Be kind.\nBe gone.\n", "revision": revision, "do": "save"}
        status, page, _ = await client.post(FILE, mine)
        assert status == 409
        assert "was changed meanwhile" in page
        assert re.findall(r"<del>(.*?)</del>", page) == ["Be brief.", "Be quick."]
        assert file.read_text().endswith("Be quick.\n")
        (newer,) = set(re.findall(r'name="revision" value="([0-9a-f]+)"', page))
        assert (await client.post(FILE, {**mine, "revision": newer}))[0] == 303  # seen, and wanted all the same
        assert file.read_text() == "Be kind.\nBe gone.\n"
        actions = [(each["action"], each["subject"]) for each in await site.host.do("audit.list")]
        assert actions[:2] == [("agent_file.set", f"{AGENT} AGENT.md")] * 2


async def test_memory_and_skills_are_files_that_can_be_begun_changed_and_removed(site: Site) -> None:
    async with site.client() as client:
        for path in ("memory/MEMORY.md", "memory/ann.md", "skills/report/SKILL.md", "HEARTBEAT.md"):
            assert (await client.post(FILE, {"path": path, "text": "text\n", "do": "save"}))[0] == 303, path
            assert (workspace(site.host) / path).read_text() == "text\n"
        page = (await client.get(f"/agents/{AGENT}"))[1]
        assert "skills/report/SKILL.md" in page
        (file,) = [each for each in await site.host.do("agent_file.list", agent_group=AGENT) if "ann" in each["path"]]
        gone = {"path": "memory/ann.md", "revision": file["revision"]}
        assert (await client.post(f"{FILE}/remove", {**gone, "revision": "0"}))[0] == 409
        assert (await client.post(f"{FILE}/remove", gone))[0] == 303
        assert not (workspace(site.host) / "memory/ann.md").exists()


OTHER_PATHS = (
    "", "/etc/passwd", "../dumbwaiter.toml", "memory/../../central.db", "memory", "memory/x.txt", "skills/x/run.sh",
    ".git/config", "memory/.hidden.md", "skills/../AGENT.md", "AGENT.md/", "memory//x.md", "memory/a\u202e.md",
    "skills/a/b/SKILL.md", "memory/\x00.md",
)  # fmt: skip


async def test_no_other_path_is_read_or_written(site: Site) -> None:
    for path in OTHER_PATHS:
        for operation, more in (("show", {}), ("set", {"text": "x"}), ("remove", {"revision": "x"})):
            with pytest.raises(InvalidValue, match="no file of an agent"):
                await site.host.do(f"agent_file.{operation}", agent_group=AGENT, path=path, **more)


async def test_what_an_agent_puts_in_place_of_a_file_is_neither_followed_nor_lost(site: Site, tmp_path: Path) -> None:
    folder = workspace(site.host)
    (folder / "skills").mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    (folder / "AGENT.md").symlink_to(secret)
    (folder / "memory").symlink_to(tmp_path)
    (folder / "skills/fifo").mkdir()
    os.mkfifo(folder / "skills/fifo/SKILL.md")
    (folder / "skills/large").mkdir()
    (folder / "skills/large/SKILL.md").write_bytes(b"x" * 300_000)
    (folder / "skills/bytes").mkdir()
    (folder / "skills/bytes/SKILL.md").write_bytes(b"\xff\xfe\x00")
    listed = {each["path"]: each for each in await site.host.do("agent_file.list", agent_group=AGENT)}
    for path in ("AGENT.md", *(f"skills/{name}/SKILL.md" for name in ("fifo", "large", "bytes"))):
        assert listed[path]["problem"], path
        with pytest.raises(FileDamaged):
            await site.host.do("agent_file.show", agent_group=AGENT, path=path)
    for path in ("AGENT.md", "memory/new.md"):
        with pytest.raises((FileDamaged, Conflict, InvalidValue)):
            await site.host.do("agent_file.set", agent_group=AGENT, path=path, text="mine")
    assert secret.read_text() == "of the host"
    assert not (tmp_path / "new.md").exists()
    async with site.client() as client:
        assert (await client.get(f"/agents/{AGENT}"))[0] == 200


def test_a_difference_is_lines_with_their_kinds() -> None:
    assert [(each["kind"], each["text"]) for each in difference("a\nb\nc\n", "a\nB\nc\n")] == [
        ("place", "@@ -1,3 +1,3 @@"), ("same", "a"), ("removed", "b"), ("added", "B"), ("same", "c"),
    ]  # fmt: skip
    assert difference("x", "x") == []
    assert difference("--- a\n", "") == [
        {"kind": "place", "text": "@@ -1 +0,0 @@"},
        {"kind": "removed", "text": "--- a"},
    ]
    assert [each["kind"] for each in difference("x\n" * 6_000, "y\n" * 6_000)] == ["place"]


async def test_settings_of_an_agent_are_changed_and_what_cannot_be_is_said_on_the_page(site: Site) -> None:
    async with site.client() as client:
        given = {"budget_usd": "2,5", "memory_mib": "512", "allow": "api.example.org\nexample.org", "schedules": "deny"}
        assert (await client.post(f"/agents/{AGENT}", given))[0] == 303
        agent = await site.host.do("agent_group.show", name=AGENT)
        assert (agent["budget_usd"], agent["memory_bytes"], agent["schedules"]) == (2.5, 512 * 1024**2, "deny")
        assert agent["allow"] == ["api.example.org", "example.org"]
        assert (await client.post(f"/agents/{AGENT}", {"budget_usd": "", "allow": "example.org"}))[0] == 303
        agent = await site.host.do("agent_group.show", name=AGENT)
        assert (agent["budget_usd"], agent["allow"]) == (None, ["example.org"])
        status, page, _ = await client.post(f"/agents/{AGENT}", {"cpus": "<many>"})
        assert status == 400
        assert "&#39;&lt;many&gt;&#39; is no number" in page


def test_a_form_changes_what_it_has_and_nothing_else() -> None:
    assert changes_of({}, ["a"]) == {}
    assert changes_of({"pids": " 9 ", "model": ""}, []) == {"pids": 9, "unset": ["model"]}
    for wrong in ({"pids": "-1"}, {"pids": "9" * 30}, {"cpus": "x"}):
        with pytest.raises(InvalidValue):
            changes_of(wrong, [])


async def test_wirings_are_made_changed_and_removed_and_the_rest_of_a_rule_stays(site: Site) -> None:
    await site.host.do("messaging_group.add", address="memory:two")
    where = {"messaging_group": "memory:two", "agent_group": AGENT}
    async with site.client() as client:
        assert (await client.post("/people/wiring", {**where, "engage": "mention", "per_user": "yes"}))[0] == 303
        await site.host.do("wiring.add", **where, reset="idle", reset_minutes=7, per_user=True, engage="mention")
        assert (await client.post("/people/wiring", {**where, "engage": "pattern", "pattern": "^x", "priority": "5"}))[
            0
        ] == 303
        (wiring,) = [each for each in await site.host.do("wiring.list") if each["messaging_group"] == "memory:two"]
        kept = {name: wiring[name] for name in ("engage", "pattern", "per_user", "priority", "reset", "reset_minutes")}
        assert kept == {
            "engage": "pattern", "pattern": "^x", "per_user": False, "priority": 5, "reset": "idle", "reset_minutes": 7,
        }  # fmt: skip
        status, page, _ = await client.post("/people/wiring", {**where, "engage": "pattern", "pattern": "("})
        assert status == 400
        assert 'role="alert"' in page
        assert (await client.post("/people/wiring/remove", where))[0] == 303
        assert "memory:two" not in [each["messaging_group"] for each in await site.host.do("wiring.list")]


def test_a_wiring_keeps_what_a_form_does_not_have() -> None:
    assert wiring_of({"session_mode": "per-thread"}, {"reset": "idle", "created_at": "x"}) == {
        "reset": "idle", "session_mode": "per-thread",
    }  # fmt: skip
    with pytest.raises(InvalidValue):
        wiring_of({"priority": "high"}, {})


async def question(site: Site, client: Client) -> dict[str, Any]:
    await send(client, 'call ask_user_question {"question": "Which colour?", "options": ["red", "blue"]}')
    (asked,) = await until(lambda: site.host.do("question.list"), "an agent asks", 60)
    return dict(asked)


async def test_a_question_of_an_agent_is_answered_on_the_first_page_once(site: Site) -> None:
    async with site.client() as client:
        asked = await question(site, client)
        assert (asked["is_yours"], asked["options"]) == (True, ["red", "blue"])
        assert "The time for an answer is over" not in (await client.get(f"/chat/{asked['session_id']}"))[1]
        assert "Which colour?" in asked["text"]
        page = (await client.get("/"))[1]
        assert f'id="question-{asked["message_id"]}"' in page
        answer = {"session": asked["session_id"], "message": asked["message_id"], "choice": "blue", "text": ""}
        assert (await client.post("/questions", answer))[0] == 303
        assert await site.host.do("question.list") == []
        assert f'id="question-{asked["message_id"]}"' not in (await client.get("/"))[1]
        assert (await client.post("/questions", answer))[0] == 404  # pressed twice
        await site.host.settled()
        said = await site.host.central("SELECT count(*) AS n FROM ingest WHERE session_id = ?", asked["session_id"])
        assert said == [{"n": 2}]


async def test_a_question_of_someone_else_is_shown_and_not_answered_in_their_name(site: Site) -> None:
    await site.host.do("role.grant", user="web:ann", role="member", agent_group=AGENT)
    async with site.client() as owner, site.client("web:ann") as ann:
        asked = await question(site, ann)
        page = (await owner.get("/"))[1]
        assert "It waits for web:ann." in page
        answer = {"session": asked["session_id"], "message": asked["message_id"], "text": "green"}
        assert (await owner.post("/questions", answer))[0] == 404
        assert (await ann.post("/questions", answer))[0] == 404  # the first page is the owner's alone
        assert len(await site.host.do("question.list", user="web:ann")) == 1


async def test_the_calendar_shows_what_is_due_and_not_what_is_paused(site: Site) -> None:
    for name, when in (("tea", "every day at 7:30"), ("often", "every 1m")):
        await site.host.do("schedule.add", agent_group=AGENT, when=when, prompt="x", name=name, to="nowhere")
    async with site.client() as client:
        page = (await client.get("/schedules"))[1]
        assert page.count("</b> tea") >= 19
        assert re.search(r"and \d+ more", page)
        await site.host.do("schedule.pause", name="tea")
        assert "</b> tea" not in (await client.get("/schedules"))[1]
        await site.host.do("schedule.pause_all")
        assert await site.host.do("schedule.upcoming") == []


def test_a_calendar_begins_on_a_monday_and_reads_the_clock_of_its_zone() -> None:
    now = datetime(2026, 11, 26, 23, 30, tzinfo=UTC)  # in Berlin it is Friday
    due = {"at": to_text(now), "schedule": "tea", "agent_group": AGENT}
    weeks = weeks_of(now, "Europe/Berlin", [due] * 6)
    assert {len(week) for week in weeks} == {7}
    assert weeks[0][0]["day"].isoformat() == "2026-11-23"
    (today,) = [day for week in weeks for day in week if day["is_today"]]
    assert (today["day"].isoformat(), today["times"][0]["at"], today["more"]) == ("2026-11-27", "00:30", 2)


@pytest.mark.usefixtures("recent_lines")
async def test_the_log_is_shown_by_session_and_level_as_text(site: Site) -> None:
    async with site.client() as client:
        session = (await send(client, "good day"))["session_id"]
        await site.host.settled()
        log = logging.getLogger("host.test")
        log.warning("one <b>line</b>", extra={"session_id": session})
        log.warning("of another", extra={"session_id": "ses_other"})
        page = (await client.get(f"/logs?session={session}&level=warning"))[1]
        assert "one &lt;b&gt;line&lt;/b&gt;" in page
        assert "of another" not in page
        assert "What its agents printed" in page
        assert (await client.get("/logs"))[0] == 200
        assert (await client.get("/logs?session=nothing"))[0] == 400
        assert (await client.get("/logs?level=loud"))[0] == 400


async def test_the_api_is_a_page_for_who_is_signed_in_and_each_call_stands_there(site: Site) -> None:
    async with site.client() as client, aiohttp.ClientSession() as session:
        page = (await client.get("/api/"))[1]
        for path in (path_of(name) for name in OPERATIONS.keys() - NOT_OFFERED):
            assert f"<code>{path}</code>" in page, path
        stranger = Client(site.address, session)
        status, _, headers = await stranger.get("/api/")
        assert (status, headers["Location"]) == (303, "/sign-in")
        assert (await client.get("/api/openapi.json"))[0] == 401  # a cookie calls nothing


def test_a_field_of_the_page_says_its_type_and_what_holds_without_it() -> None:
    (section,) = [each for each in sections_of(document()) if each["name"] == "host_log"]
    (call,) = section["calls"]
    fields = {each["name"]: (each["type"], each["where"], each["default"]) for each in call["fields"]}
    assert fields["level"] == ("string", "query", "info")
    assert fields["limit"] == ("integer", "query", 200)


async def test_of_many_chats_the_page_shows_the_first_and_finds_the_others(site: Site) -> None:
    for number in range(60):
        await site.host.do("messaging_group.add", address=f"memory:room-{number:02}", name=f"Room {number}")
        await site.host.do("wiring.add", messaging_group=f"memory:room-{number:02}", agent_group=AGENT)
    async with site.client() as client:
        page = (await client.get("/people"))[1]
        assert 'name="q"' in page
        assert page.count('action="/people/wiring"') <= 26
        found = (await client.get("/people?q=room-59"))[1]
        assert found.count('action="/people/wiring"') == 2  # its own, and the one for a new wiring
        assert "room-58" not in found
        assert (await client.get("/people?q=%27%25"))[0] == 200


async def test_the_tools_of_an_agent_are_changed_by_one_person_at_a_time_and_checked_as_at_the_terminal(
    site: Site,
) -> None:
    async def agent() -> dict[str, Any]:
        found: dict[str, Any] = await site.host.do("agent_group.show", name=AGENT)
        return found

    before = (await agent())["tools_revision"]
    given = {
        "tool_servers": '{"mcpServers": {"files": {"command": "npx", "args": ["files"]}}}',
        "ask_before": "bash:git push *\n\nfiles_*\n",
        "policy-hosts": "deny",
        "revision": before,
    }
    where = f"/agents/{AGENT}/tools"
    async with site.client() as client:
        assert (await client.post(where, given))[0] == 303
        changed = await agent()
        assert json.loads(changed["tool_servers"]) == {"files": {"command": ["npx", "files"]}}
        assert changed["ask_before"] == ["bash:git push *", "files_*"]
        assert (changed["policies"]["hosts"], changed["policies"]["mounts"]) == ("deny", "ask")
        page = (await client.get(f"/agents/{AGENT}"))[1]
        assert "files_*" in page
        status, page, _ = await client.post(where, given | {"tool_servers": '{"mine": {"url": "http://x.example"}}'})
        assert status == 409
        assert "its tools were changed meanwhile" in page
        assert "http://x.example" in page
        present = given | {"revision": changed["tools_revision"]}
        for wrong, said in (
            ({"tool_servers": "{<b>"}, "not JSON"),
            ({"tool_servers": '{"x": {}}'}, "neither a command nor a url"),
            ({"policy-hosts": "perhaps"}, "perhaps"),
            ({"ask_before": ":"}, ":"),
        ):
            status, page, _ = await client.post(where, present | wrong)
            assert (status, said in page) == (400, True), wrong
            assert "<b>" not in page
        assert await agent() == changed
        assert (await client.post(where, {"tool_servers": "", "ask_before": "", **_revision(changed)}))[0] == 303
        emptied = await agent()
        assert (emptied["tool_servers"], emptied["ask_before"], emptied["policies"]["hosts"]) == (None, [], "deny")
        assert emptied["tools_revision"] != before
        assert (await client.post(where, given, csrf=False))[0] == 403
    await site.host.do("role.grant", user="web:ann", role="member", agent_group=AGENT)
    async with site.client("web:ann") as member:
        assert (await member.post(where, given))[0] == 404
    kept = await site.host.do("audit.list", limit=5)
    assert [each["from"] for each in kept if each["action"] == "agent_group.set"] == ["web", "web"]


def _revision(agent: dict[str, Any]) -> dict[str, str]:
    return {"revision": agent["tools_revision"]}


async def test_a_schedule_that_is_due_more_often_than_the_calendar_shows_says_so(site: Site) -> None:
    for name, when in (("often", "every 1m"), ("tea", "every day at 7:30")):
        await site.host.do("schedule.add", agent_group=AGENT, when=when, prompt="x", name=name, to="nowhere")
    upcoming = await site.host.do("schedule.upcoming", days=21)
    assert [each["schedule"] for each in upcoming if each["goes_on"]] == ["often"]
    async with site.client() as client:
        page = (await client.get("/schedules"))[1]
        assert f"often of {AGENT} is due more often than is shown" in page
        assert f"tea of {AGENT} is due" not in page


def test_of_many_times_the_last_one_of_each_schedule_that_is_left_out_says_so() -> None:
    times = [{"at": f"{number:05}", "schedule": f"s{number % 3}", "agent_group": "a", "goes_on": False}
             for number in range(2_001)]  # fmt: skip
    told = schedule_calendar.cut(times)
    assert len(told) == 2_000
    assert [each["at"] for each in told if each["goes_on"]] == ["01997"]  # of s2, whose time 2,000 is left out


async def test_a_session_says_how_many_turns_and_tokens_it_had(site: Site) -> None:
    async with site.client() as client:
        session = (await send(client, "good day"))["session_id"]  # of which its agent says nothing of what it used
        await site.host.settled()
        assert (await site.host.do("session.show", session=session))["turn_count"] == 1
        assert "<dt>turns</dt><dd>1</dd>" in (await client.get(f"/sessions/{session}"))[1]


async def test_states_are_said_in_the_language_of_the_browser(site: Site) -> None:
    async with site.client() as client:
        session = (await send(client, "good day"))["session_id"]
        await site.host.settled()
        await site.host.do("schedule.add", agent_group=AGENT, when="every day at 7:30", prompt="x", to="nowhere")
        await site.host.do("schedule.run", name="x")
        await site.host.do("schedule.pause_all")
        for path, english, german in (
            (f"/sessions/{session}?view=trace", ("completed", "<strong>user<"), ("fertig", "<strong>Benutzer<")),
            ("/schedules", ("paused (all)",), ("pausiert (alles)",)),
        ):
            said = (await client.get(path, **{"Accept-Language": "en"}))[1]
            translated = (await client.get(path, **{"Accept-Language": "de"}))[1]
            assert [each in said for each in english] == [True for each in english], path
            assert [each in translated for each in german] == [True for each in german], path
            assert [each in translated for each in english] == [False for each in english], path


async def test_an_image_that_is_kept_can_be_gone_back_to_on_the_page(site: Site) -> None:
    central = site.host.services.central

    def build(tx: Transaction, name: str, package: str) -> int:
        group = agent_groups.get_by_name(tx, AGENT)
        container_changes.add(tx, group.id, None, ChangeKind.PACKAGES, {"apt": [package]})
        number = container_changes.all_open(tx)[-1].number
        container_changes.building(tx, number, Packages(apt=(package,)), "base")
        change = container_changes.get(tx, number)
        assert change is not None
        container_changes.built(tx, change, name, "sha256:0", "")
        container_changes.ready(tx, number)
        return number

    first, second = [await central.write(build, f"image-{name}", name) for name in ("tree", "jq")]
    async with site.client() as client:
        page = (await client.get(f"/agents/{AGENT}"))[1]
        assert f'name="number" value="{first}"' in page
        assert f'name="number" value="{second}"' not in page  # it is in use
        assert (await client.post(f"/agents/{AGENT}/image", {"number": str(first)}))[0] == 303
    images = await site.host.do("agent_image.list", name=AGENT)
    assert [each["number"] for each in images if each["in_use"]] == [first]


def test_a_sentence_shows_code_and_times_and_nothing_else() -> None:
    shown = templates.sentence("since 2026-11-30T18:27:27.287Z: `dumbwaiter <doctor>`, or <b>not</b>")
    assert shown == (
        'since <time datetime="2026-11-30T18:27:27.287Z">2026-11-30 18:27 UTC</time>: '
        "<code>dumbwaiter &lt;doctor&gt;</code>, or &lt;b&gt;not&lt;/b&gt;"
    )


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML) Chrome/156.0 Safari/537.36", "Chrome, Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64) Chrome/156.0 Safari/537.36 Edg/156.0", "Edge, Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604.1", "Safari, iPhone"),
        ("Mozilla/5.0 (Android 16; Mobile; rv:150.0) Gecko/150.0 Firefox/150.0", "Firefox, Android"),
        ("curl/8.1", "curl/8.1"),
        (None, ""),
    ],
)  # fmt: skip
def test_a_browser_is_called_as_people_call_it(agent: str | None, name: str) -> None:
    assert templates.browser(agent) == name


async def test_a_refusal_that_a_person_was_told_of_needs_none_of_the_owners(site: Site) -> None:
    host = site.host
    assert await host.ask("hello") == "scripted: hello"
    (session,) = await host.do("session.list", status="active")
    await host.do("session.archive", session=session["id"])
    assert "archived" in await host.ask("are you there?")
    async with site.client() as client:
        assert "This needs you" not in (await client.get("/"))[1]
        await host.do("session.resume", session=session["id"])
        await host.ask("fail the tea is cold")
        assert "the tea is cold" in (await client.get("/"))[1].partition("This needs you")[2]
