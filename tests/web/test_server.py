"""The page over HTTP: who gets in, who sees what, and that nothing is got by asking wrongly."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.host import AGENT
from tests.support.script import script
from tests.support.wait import until
from tests.web.browser import Client, Site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path / "data") as there:
        yield there


async def send(
    client: Client, text: str, *, thread: str = "one", message_id: str = "m1", **more: Any
) -> dict[str, Any]:
    status, body, _ = await client.post(
        "/chat/send", {"agent": AGENT, "thread": thread, "text": text, "message_id": message_id, **more}
    )
    assert status == 200, body
    sent: dict[str, Any] = json.loads(body)
    return sent


async def shown(client: Client, session: str, text: str) -> str:
    """The page of a conversation, once it has a text."""

    async def page() -> str | None:
        _, body, _ = await client.get(f"/chat/{session}")
        return body if text in body else None

    return str(await until(page, f"{text!r} is shown", 60))


async def test_a_link_signs_one_browser_in_once_and_a_sign_out_holds_at_once(site: Site) -> None:
    link = await site.link()
    token = link.partition("#")[2]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        client = Client(site.address, session)
        assert (await client.get("/"))[0] == 303
        status, _, headers = await client.post("/sign-in", {"token": token}, csrf=False)
        assert (status, headers["Location"]) == (303, "/")
        assert {"HttpOnly", "SameSite=Strict", "Max-Age=2592000", "Path=/"} <= set(headers["Set-Cookie"].split("; "))
        assert (await client.get("/"))[0] == 200
        (browser,) = await site.host.do("web.list")
        assert browser["user"] == "cli:terminal"
        await site.host.do("web.sign_out", id=browser["id"])
        assert (await client.get("/"))[0] == 303
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        assert (await Client(site.address, session).post("/sign-in", {"token": token}, csrf=False))[0] == 403
    kept = "\n".join(map(str, await site.host.central("SELECT * FROM sign_ins, (SELECT 1)")))
    assert token not in kept
    assert [each["who"] for each in await site.host.do("audit.list", action="web.sign_in")] == ["cli:terminal"]


async def test_a_form_is_not_read_in_a_charset_that_its_sender_chooses(site: Site) -> None:
    """Of `punycode` a megabyte takes minutes, and no one has signed in yet."""
    token = (await site.link()).partition("#")[2]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=punycode"}
        data = f"token={token}&more=-{'aa' * 5_000}"
        status, _, _ = await Client(site.address, session).post("/sign-in", data, csrf=False, **headers)
        assert status == 303


async def test_a_message_is_answered_and_one_that_is_sent_twice_is_taken_once(site: Site) -> None:
    async with site.client() as client:
        first, again = await send(client, "good day"), await send(client, "good day")
        assert (first["duplicate"], again["duplicate"]) == (False, True)
        assert again["message_id"] == first["message_id"]
        await shown(client, first["session_id"], "scripted: good day")
        assert len(await site.host.central("SELECT * FROM ingest WHERE channel_type = 'web'")) == 1
        other = await send(client, "another one", thread="two", message_id="m2")
        assert other["session_id"] != first["session_id"]
        _, listed, _ = await client.get("/chat")
        assert first["session_id"] in listed
        assert other["session_id"] in listed


async def test_files_go_both_ways_and_only_pictures_are_shown(site: Site) -> None:
    async with site.client() as client:
        form = aiohttp.FormData({"agent": AGENT, "thread": "one", "text": "attach notes.svg 20", "message_id": "m1"})
        form.add_field("file", b"\x89PNG\r\n\x1a\n and more", filename="../../evil.png", content_type="text/html")
        status, body, _ = await client.post("/chat/send", form)
        assert status == 200, body
        session = json.loads(body)["session_id"]
        page = await shown(client, session, "attached notes.svg")
        links = re.findall(rf'href="(/chat/{session}/file/[^"?]+)\?save"', page)
        assert len(links) == 2
        status, _, headers = await client.get(links[0])
        assert (status, headers["Content-Type"]) == (200, "image/png")
        assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        status, _, headers = await client.get(links[1])
        assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
        assert headers["Content-Disposition"].startswith("attachment")
        assert [path.name for path in Path(site.host.services.settings.layout.downloads / "web").iterdir()] == []


async def test_a_file_is_there_as_soon_as_its_message_is_shown(site: Site) -> None:
    """Before the session's folder has what a person sent, and before the ledger has what the agent sends."""
    async with site.client() as client:
        session = (await send(client, "good day"))["session_id"]
        await shown(client, session, "scripted: good day")
        folder = Path((await site.host.do("session.show", session=session))["path"])
        (folder / "inbox").rmdir()
        (folder / "inbox").touch()  # nothing can be brought into it
        form = aiohttp.FormData({"agent": AGENT, "thread": "one", "text": "a picture", "message_id": "m2"})
        form.add_field("file", b"GIF89a and more", filename="dot.gif")
        status, body, _ = await client.post("/chat/send", form)
        assert status == 200, body
        link = f"/chat/{session}/file/{json.loads(body)['message_id']}/0"
        assert (await client.get(link))[1] == "GIF89a and more"
        (folder / "inbox").unlink()
        (folder / "inbox").mkdir()
        await shown(client, session, "scripted: a picture")
        assert (await client.get(link))[1] == "GIF89a and more"

        (folder / "sent").rmdir()
        (folder / "sent").touch()  # nothing can be taken over from the agent
        await send(client, "attach notes.svg 20", message_id="m3")
        page = await shown(client, session, "attached notes.svg")
        *_, link = re.findall(rf'href="(/chat/{session}/file/[^"?]+)\?save"', page)
        asking = asyncio.create_task(client.get(link))
        assert (await client.get("/chat"))[0] == 200
        assert not asking.done()
        (folder / "sent").unlink()
        (folder / "sent").mkdir()
        assert (await asking)[0] == 200

        (folder / "sent").rename(folder / "elsewhere")
        assert (await client.get(link))[0] == 404


async def test_what_can_be_done_with_a_conversation_is_done(site: Site) -> None:
    async with site.client() as client:
        session = (await send(client, "remember walrus"))["session_id"]
        await shown(client, session, "scripted: remember walrus")
        status, body, _ = await client.post(f"/chat/{session}/do/undo")
        assert (status, json.loads(body)["text"]) == (200, "remember walrus")
        assert "scripted: remember walrus" not in (await client.get(f"/chat/{session}"))[1]
        await send(client, "remember seal", message_id="m2")
        await shown(client, session, "scripted: remember seal")
        assert (await client.post(f"/chat/{session}/title", {"title": "Sea <b>animals"}))[0] == 303
        assert "Sea &lt;b&gt;animals" in (await client.get(f"/chat/{session}"))[1]
        copy = json.loads((await client.post(f"/chat/{session}/do/branch"))[1])["url"].rpartition("/")[2]
        assert copy != session
        assert "This conversation has ended" in (await client.get(f"/chat/{session}"))[1]
        await send(client, "in the copy", message_id="m3")
        await shown(client, copy, "scripted: in the copy")
        assert (await client.post(f"/chat/{copy}/do/delete"))[0] == 200
        assert (await client.post(f"/sessions/{copy}/do/restore"))[0] == 303
        assert (await client.get(f"/sessions/{copy}"))[0] == 200


async def test_a_conversation_is_asked_again_put_away_taken_up_and_begun_anew(site: Site) -> None:
    async with site.client() as client:
        session = (await send(client, "remember walrus"))["session_id"]
        await shown(client, session, "scripted: remember walrus")
        asked = await client.post(f"/chat/{session}/do/retry")
        assert asked[0] == 200
        again = json.loads(asked[1])["url"]

        async def answered_again() -> bool:
            turns = await site.host.central("SELECT count(*) AS n FROM turns WHERE status = 'completed'")
            return bool(turns[0]["n"] == 2)

        await until(answered_again, "it is answered again", 60)
        assert (await client.get(again))[1].count("scripted: remember walrus") == 1
        session = again.rpartition("/")[2]
        for action, status in (("archive", "archived"), ("resume", "active")):
            assert (await client.post(f"/chat/{session}/do/{action}"))[0] == 200
            assert (await site.host.do("session.show", session=session))["status"] == status
        status, body, _ = await client.post(f"/chat/{session}/do/new")
        fresh = json.loads(body)["url"].rpartition("/")[2]
        assert (status, fresh != session) == (200, True)
        assert "scripted: remember walrus" not in (await client.get(f"/chat/{fresh}"))[1]


async def test_a_member_sees_their_own_chats_alone(site: Site) -> None:
    await site.host.do("role.grant", user="web:ann", role="member", agent_group=AGENT)
    await site.host.do("role.grant", user="telegram:7", role="member", agent_group=AGENT)
    async with site.client() as owner, site.client("web:ann") as ann, site.client("telegram:7") as bob:
        owners = (await send(owner, "of the owner"))["session_id"]
        anns = (await send(ann, "of ann"))["session_id"]
        bobs = (await send(bob, "of bob"))["session_id"]
        for client, own in ((owner, owners), (ann, anns), (bob, bobs)):
            await shown(client, own, "scripted: of")
        assert len({owners, anns, bobs}) == 3
        assert (await ann.get("/"))[2]["Location"] == "/chat"
        for path in ("/sessions", f"/sessions/{anns}", "/agents", "/people", "/audit", "/doctor", f"/chat/{owners}",
                     f"/chat/{bobs}", f"/chat/{owners}/stream", f"/chat/{owners}/file/x/0"):  # fmt: skip
            status, body, _ = await ann.get(path)
            assert (status, "of the owner" in body, "of bob" in body) == (404, False, False), path
        for path in (f"/chat/{owners}/do/delete", f"/chat/{owners}/title", f"/chat/{owners}/read",
                     f"/sessions/{owners}/do/delete", "/approvals/ABCD", f"/agents/{AGENT}"):  # fmt: skip
            assert (await ann.post(path, {"title": "mine"}))[0] == 404, path
        palette = (await ann.get("/palette"))[1]
        assert anns in palette
        assert owners not in palette
        await site.host.do("role.revoke", user="web:ann", role="member", agent_group=AGENT)
        assert (await ann.get(f"/chat/{anns}"))[0] == 303  # at once, however long the cookie holds


async def test_an_approval_is_decided_on_the_first_page(site: Site) -> None:
    await site.host.services.channels["memory"].receive(  # type: ignore[attr-defined]
        _knock()
    )
    async with site.client() as client:
        _, page, _ = await client.get("/")
        (code,) = re.findall(r'action="/approvals/([^"]+)"', page)
        assert "let me &lt;in&gt;" in page
        assert (await client.post(f"/approvals/{code}", {"answer": "no"}))[0] == 303
        assert "This needs you" not in (await client.get("/"))[1]
        (kept,) = await site.host.do("approval.list", state="all")
        assert kept["state"] == "denied"


def _knock() -> Any:
    from host.routing.event import Event
    from shared_schema.rows import Address

    return Event(Address("memory", "private"), "k1", "let me <in>", sender_id="eve", is_mention=True, is_group=False)


async def test_every_page_of_the_owner_is_shown_in_every_language(site: Site) -> None:
    async with site.client() as client:
        session = (await send(client, "good day"))["session_id"]
        await shown(client, session, "scripted: good day")
        views = [f"/sessions/{session}?view={view}" for view in ("conversation", "trace", "files", "database", "log")]
        tables = [f"/sessions/{session}?view=database&table={table}" for table in ("steps", "turns", "session_context")]
        for path in ("/", "/chat", "/sessions", "/sessions?q=good", "/sessions?q=%22", "/sessions?status=deleted",
                     "/agents", f"/agents/{AGENT}", f"/agents/{AGENT}/file?path=AGENT.md", "/people", "/logs",
                     f"/logs?session={session}&level=debug", "/audit", "/doctor", "/account", "/palette",
                     "/schedules", f"/chat/{session}", *views, *tables):  # fmt: skip
            for language in ("en", "de"):
                status, body, headers = await client.get(path, **{"Accept-Language": language})
                assert status in (200, 400 if "%22" in path else 200), (path, body[:500])
                assert "'unsafe" not in headers["Content-Security-Policy"]
                assert " style=" not in body
                assert "<script>" not in body
        status, exported, _ = await client.get(f"/sessions/{session}/export")
        assert status == 200
        assert "good day" in exported


async def test_a_stream_tells_what_happens_and_goes_on_where_it_was(site: Site) -> None:
    async with site.client() as client:
        session = (await send(client, "good day"))["session_id"]
        async with client.session.get(f"{site.address}/chat/{session}/stream") as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            await until(lambda: _told(stream, "scripted: good day"), "the answer is told", 60)
        newest = (await site.host.do("events"))[-1]["number"]
        headers = {"Last-Event-ID": str(newest - 1)}
        async with client.session.get(f"{site.address}/live", headers=headers) as stream:
            await until(lambda: _told(stream, f"id: {newest}"), "what was missed is told", 60)


async def test_a_stream_ends_with_the_sign_in_and_with_the_roles_of_who_looks_on(site: Site) -> None:
    await site.host.do("role.grant", user="web:ann", role="owner")
    await site.host.do("role.grant", user="web:bob", role="member", agent_group=AGENT)
    async with site.client() as leaves, site.client("web:ann") as ann, site.client("web:bob") as bob:
        session = (await send(bob, "good day"))["session_id"]
        await shown(bob, session, "scripted: good day")
        async with (
            leaves.session.get(f"{site.address}/live") as signed_out,
            ann.session.get(f"{site.address}/live") as no_owner_any_more,
            bob.session.get(f"{site.address}/chat/{session}/stream") as no_member_any_more,
            site.client() as stays,
            stays.session.get(f"{site.address}/live") as goes_on,
        ):
            assert (await leaves.post("/sign-out"))[0] == 303
            await site.host.do("role.revoke", user="web:ann", role="owner")
            await site.host.do("role.revoke", user="web:bob", role="member", agent_group=AGENT)
            async with asyncio.timeout(60):
                for stream in (signed_out, no_owner_any_more, no_member_any_more):
                    await stream.content.read()
            assert not goes_on.content.at_eof(), "who is signed in still hears"
            assert await goes_on.content.readline()


async def _told(stream: aiohttp.ClientResponse, text: str) -> bool:
    return text in (await stream.content.readline()).decode()


async def test_health_and_numbers(site: Site) -> None:
    async with aiohttp.ClientSession() as session, site.client() as client:

        async def asked(path: str, **headers: str) -> tuple[int, str]:
            async with session.get(site.address + path, headers=headers) as answer:
                return answer.status, await answer.text()

        assert await asked("/healthz") == (200, "ok\n")
        assert await asked("/readyz", Host="10.1.2.3:8384") == (200, "ready\n")
        assert (await asked("/metrics"))[0] == 200  # from here on what ends is counted
        await shown(client, (await send(client, "good day"))["session_id"], "scripted: good day")
        await site.host.settled()
        status, numbers = await asked("/metrics")
        assert status == 200
        for line in (
            "dumbwaiter_messages_accepted_total 1.0",
            f'dumbwaiter_messages_finished_total{{agent_group="{AGENT}",outcome="completed"}} 1.0',
            f'dumbwaiter_round_trip_seconds_count{{agent_group="{AGENT}"}} 1.0',
            'dumbwaiter_deliveries_finished_total{channel="web",outcome="delivered"} 1.0',
            "dumbwaiter_messages_waiting 0.0",
        ):
            assert line in numbers
        assert (await asked("/metrics", **{"X-Forwarded-For": "127.0.0.1"}))[0] == 403


MANY = "* a\n" * 4_900
"""As much as is taken apart in one text. Of several such ones on a page some stand as they are."""
SAYS = f"""
def answer(message, text):
    for number in range(12):
        reply(message, {MANY!r} + "end " + str(number))
"""


@asynccontextmanager
async def longest_step(limit: float) -> AsyncIterator[None]:
    """The loop of the host takes no longer for a step than `limit` seconds while the block lasts."""
    steps: list[float] = []

    async def watch() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0)
            steps.append(time.monotonic() - began)
            await asyncio.sleep(0.002)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
    assert max(steps) < limit


async def test_pages_of_much_that_an_agent_wrote_delay_no_other(tmp_path: Path) -> None:
    command = script(tmp_path, SAYS)
    async with open_site(tmp_path / "data", command=command) as site, site.client() as client:
        session = (await send(client, "write a lot"))["session_id"]
        page = await shown(client, session, "end 11")
        assert page.count("<li>") > 4_000
        async with longest_step(0.8):
            for path in (f"/chat/{session}", f"/sessions/{session}", f"/sessions/{session}?view=trace"):
                status, body, _ = await client.get(path)
                assert (status, body.count("* a\n") + body.count("<li>a") > 0) == (200, True)


async def test_a_window_has_the_newest_of_what_is_too_much_for_it(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    for number in range(30):
        reply(message, "number " + str(number) + " " + "x" * 90_000)
"""
    async with open_site(tmp_path / "data", command=script(tmp_path, lines)) as site, site.client() as client:
        session = (await send(client, "write a lot"))["session_id"]
        page = await shown(client, session, "number 29 ")
        assert 500_000 < len(page) < 2_000_000
        assert "number 5 " not in page
        assert "What was said or done before this is left out" in page


async def test_a_hundred_hostile_requests_get_nothing(site: Site) -> None:
    """Methods, headers, paths, bodies, origins, and ids of others."""
    async with site.client() as client, aiohttp.ClientSession() as stranger:
        session = (await send(client, "the secret word is xyzzy"))["session_id"]
        await shown(client, session, "scripted: the secret word")
        before = await site.host.central("SELECT count(*) AS n FROM audit")
        outsider = Client(site.address, stranger)
        answers: list[tuple[str, int, str]] = []

        async def note(name: str, asked: Any) -> None:
            status, body, _ = await asked
            answers.append((name, status, body))

        pages = ["/", "/chat", f"/chat/{session}", f"/chat/{session}/stream", "/sessions", f"/sessions/{session}",
                 f"/sessions/{session}/export", "/agents", "/people", "/audit", "/doctor", "/account", "/palette",
                 "/live", f"/chat/{session}/file/x/0"]  # fmt: skip
        for path in pages:
            await note(f"without a sign-in {path}", outsider.get(path))
            await note(f"forged cookie {path}", outsider.get(path, Cookie=f"{_cookie(site)}={'A' * 43}"))
            await note(f"other name {path}", client.get(path, Host="evil.example"))
        changes = [
            "/chat/send", f"/chat/{session}/do/delete", f"/chat/{session}/title", "/sign-out", "/account/sign-out",
            f"/sessions/{session}/do/delete", f"/agents/{AGENT}", "/approvals/ABCD",
        ]  # fmt: skip
        for path in changes:
            await note(f"no token {path}", client.post(path, csrf=False))
            await note(f"wrong token {path}", client.post(path, csrf=False, **{"X-CSRF-Token": "0" * 64}))
            await note(f"other origin {path}", client.post(path, Origin="http://evil.example"))
            await note(f"null origin {path}", client.post(path, Origin="null"))
            await note(f"cross-site {path}", client.post(path, **{"Sec-Fetch-Site": "cross-site"}))
            await note(f"signed out {path}", outsider.post(path))
        wrong = (
            "/static/../server.py", "/static/%2e%2e/%2e%2e/server.py", "/static//etc/passwd", "/..%2f..%2fetc/passwd",
            "/chat/..%2f..%2fetc", "/sessions/%00", "/sessions/ses_%27%20or%201=1", f"/sessions/{session}?view=../x",
            f"/sessions/{session}?view=database&table=sqlite_master", "/chat/" + "a" * 3000, "/chat/%F0%9F",
            f"/chat/{session}/file/../0", f"/chat/{session}/file/x/-1", f"/chat/{session}/file/x/99999999999",
            f"/chat/{session}/file/x/%31%32", "/agents/%3Cscript%3E", "/audit/1", "/.git/config", "/api/openapi.json",
        )  # fmt: skip
        for path in wrong:
            await note(f"path {path[:60]}", client.get(path))
        for body in ("{", "x" * 3_000_000, b"\xff\xfe\x00", "text=" + "%00" * 50):
            await note(
                "body", client.post("/chat/send", _bytes(body), **{"Content-Type": "application/x-www-form-urlencoded"})
            )
            await note(
                "multipart",
                client.post("/chat/send", _bytes(body), **{"Content-Type": "multipart/form-data; boundary=x"}),
            )
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
            async with client.session.request(
                method, f"{site.address}/chat/{session}", headers={"Origin": site.address}
            ) as answer:
                answers.append((method, answer.status, await answer.text()))
        raw = await _raw(site, b"GET / HTTP/1.1\r\nHost: evil\r\nHost: localhost\r\n\r\n")
        answers.append(("two hosts", int(raw.split()[1]), raw.decode("latin-1")))

        assert len(answers) >= 100
        got = [(name, status) for name, status, body in answers if status < 300 or "xyzzy" in body or status >= 500]
        assert not got, got
        assert await site.host.central("SELECT count(*) AS n FROM audit") == before
        assert (await client.get(f"/chat/{session}"))[0] == 200


def _bytes(body: str | bytes) -> io.BytesIO:
    return io.BytesIO(body.encode() if isinstance(body, str) else body)


def _cookie(site: Site) -> str:
    return f"dumbwaiter-{site.host.services.central.install_id.removeprefix('ins_')[:8]}"


async def _raw(site: Site, request: bytes) -> bytes:
    import asyncio

    port = int(site.address.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.readuntil(b"\r\n")
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_port_that_is_taken_is_said_with_what_to_do(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        async with open_host_without(tmp_path / "data", port) as host:
            with pytest.raises(Exception, match=f"port {port}: another program listens there: choose another port"):
                await host.do("web.link")
            assert await host.ask("hello") == "scripted: hello"


def open_host_without(data: Path, port: int) -> Any:
    from contextlib import asynccontextmanager

    from host.web.serving import serving_page
    from tests.support.host import Host, running

    @asynccontextmanager
    async def opened() -> AsyncIterator[Host]:
        async with running(data, web={"port": port}) as host, serving_page(host.services):
            yield host

    return opened()


async def test_one_button_pauses_what_agents_do_by_themselves_and_one_lets_it_go_on(site: Site) -> None:
    async with site.client() as client:
        await site.host.do("schedule.add", agent_group=AGENT, when="every 1h", prompt="tea", name="tea", to="nowhere")
        assert 'action="/schedules/do/pause-all"' in (await client.get("/schedules"))[1]
        assert (await client.post("/schedules/do/pause-all"))[0] == 303
        assert (await site.host.do("status"))["schedules"]["paused"] is not None
        assert 'action="/schedules/do/resume-all"' in (await client.get("/schedules"))[1]
        assert (await client.post("/schedules/do/resume-all"))[0] == 303
        assert (await site.host.do("status"))["schedules"]["paused"] is None


async def test_the_board_for_grafana_asks_for_numbers_that_there_are(site: Site) -> None:
    board = (Path(__file__).resolve().parents[2] / "docs/web/grafana.json").read_text(encoding="utf-8")
    asked = set(re.findall(r"dumbwaiter_[a-z_]+", board))
    assert len(asked) > 15
    async with aiohttp.ClientSession() as session, session.get(f"{site.address}/metrics") as answer:
        types = dict(re.findall(r"^# TYPE (dumbwaiter_\w+) (\w+)$", await answer.text(), re.MULTILINE))
    # Of a counter the type line has the name with `_total`; of a histogram there are buckets.
    known = {f"{name}_bucket" if kind == "histogram" else name for name, kind in types.items()}
    assert asked <= known, asked - known
