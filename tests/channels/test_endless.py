"""Platforms whose lists never end, and that answer at once where they should wait: each channel asks a bounded number
of times, and not faster than once a second.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from host.channels.bounded_answer import AnswerTooLarge
from host.channels.build import settings_of
from host.channels.discord import catch_up as of_discord
from host.channels.email import TYPE as EMAIL
from host.channels.github import TYPE as GITHUB
from host.channels.github.client import GitHubClient
from host.channels.matrix import TYPE as MATRIX
from host.channels.matrix.client import MatrixClient
from host.channels.protocol import ChannelUnavailable, DeliveryRefused
from host.channels.slack import files as of_slack
from host.channels.slack.catch_up import messages_since
from host.channels.slack.client import SlackApi
from host.channels.telegram import TYPE as TELEGRAM
from host.channels.telegram import files as of_telegram
from host.channels.telegram.client import Client as TelegramClient
from shared_schema.pages import PageCursors
from tests.channels.open_host import channel_host
from tests.platforms.telegram import telegram_server
from tests.support.wait import until

Answer = Callable[[web.Request], Awaitable[Any]]
ENDLESS = {"same": itertools.repeat("again"), "new": map(str, itertools.count(1))}
"""Cursors of a server that always names one more: the same for ever, or another each time."""
POLLS = 3
"""Questions for news, between which a second lies."""


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[tuple[str, Counter[str]]]:
    """A server that says this to everything; its URL, and how often each path was asked for."""
    asked: Counter[str] = Counter()

    async def take(request: web.Request) -> web.StreamResponse:
        asked[request.path] += 1
        return web.json_response(await answer(request))

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


@given(st.lists(st.text(max_size=2) | st.none() | st.integers()), st.integers(1, 20))
def test_no_list_is_followed_for_ever_and_no_page_is_read_twice(said: list[object], most: int) -> None:
    cursors = PageCursors(most)
    followed = list(itertools.takewhile(lambda cursor: cursor is not None, map(cursors.next, said)))
    assert len(followed) < most
    assert len(set(followed)) == len(followed)
    assert followed == said[: len(followed)]


@pytest.mark.parametrize(("cursors", "most"), [("same", 2), ("new", 50)])
@pytest.mark.parametrize("has_chats", [True, False])
async def test_chats_of_slack_without_end(cursors: str, most: int, has_chats: bool) -> None:
    """A page without a chat counts as well."""

    async def answer(request: web.Request) -> Any:
        if request.path.endswith("users.conversations"):
            page: dict[str, Any] = {"channels": [{"id": 1}] if has_chats else []}
        else:
            page = {"messages": []}
        return {"ok": True, **page, "response_metadata": {"next_cursor": next(ENDLESS[cursors])}}

    async with answering(answer) as (url, asked), aiohttp.ClientSession() as session:
        found = [each async for each in messages_since(SlackApi("xoxb-1", f"{url}/", session), 0.0)]
    assert found == []
    assert asked == {"/users.conversations": most}


@pytest.mark.parametrize(("cursors", "most"), [("same", 2), ("new", 10)])
async def test_a_history_of_slack_without_end(cursors: str, most: int) -> None:
    async def answer(request: web.Request) -> Any:
        if request.path.endswith("users.conversations"):
            return {"ok": True, "channels": [{"id": "C1"}]}
        return {"ok": True, "messages": [], "response_metadata": {"next_cursor": next(ENDLESS[cursors])}}

    async with answering(answer) as (url, asked), aiohttp.ClientSession() as session:
        assert [each async for each in messages_since(SlackApi("xoxb-1", f"{url}/", session), 0.0)] == []
    assert asked["/conversations.history"] == most + 1  # one more looks for threads


async def test_a_channel_of_discord_that_gives_the_same_page_for_ever() -> None:
    """The library is played at its seam."""
    asked: list[int] = []

    async def logs_from(channel_id: str, limit: int, *, after: int) -> list[dict[str, Any]]:
        asked.append(after)
        return [{"id": str(number)} for number in range(1, 101)]

    client: Any = SimpleNamespace(calls=SimpleNamespace(logs_from=logs_from))
    found = [each async for each in of_discord.messages_since(client, ["1"], 0)]
    assert asked == [0, 100]
    assert len(found) == 200


async def test_a_list_of_github_that_has_the_same_page_for_every_number() -> None:
    async def answer(request: web.Request) -> Any:
        return [{"id": number} for number in range(100)]

    async with answering(answer) as (url, asked):
        given = {"type": "github", "token": "github_pat_1", "repositories": ["acme/rocket"], "api_url": url}
        client = GitHubClient(settings_of(GITHUB, "github", given))  # type: ignore[arg-type]
        assert len(await client.pages("/repos/acme/rocket/issues")) == 100
    assert sum(asked.values()) == 2


@asynccontextmanager
async def matrix_client(url: str) -> AsyncIterator[MatrixClient]:
    client = MatrixClient(settings_of(MATRIX, "matrix", matrix(url)))  # type: ignore[arg-type]
    await client.who()
    yield client
    await client.close()


def matrix(url: str) -> dict[str, Any]:
    return {"type": "matrix", "homeserver": url, "token": "syt_1", "sync_seconds": 30}


def _event(number: str) -> dict[str, Any]:
    content = {"msgtype": "m.text", "body": "hello"}
    return {
        "type": "m.room.message", "event_id": f"${number}", "sender": "@ann:x", "origin_server_ts": 1,
        "room_id": "!r:x", "content": content,
    }  # fmt: skip


@pytest.mark.parametrize(("cursors", "most"), [("same", 2), ("new", 10)])
async def test_reactions_of_matrix_without_end(cursors: str, most: int) -> None:
    async def answer(request: web.Request) -> Any:
        if "relations" in request.path:
            return {"chunk": [], "next_batch": next(ENDLESS[cursors])}
        return {"user_id": "@bot:x", "displayname": "bot"}

    async with answering(answer) as (url, asked), matrix_client(url) as client:
        assert await client.reactions_of_mine("!r:x", "$1") == []
    assert sum(count for path, count in asked.items() if "relations" in path) == most


@pytest.mark.parametrize(("cursors", "most"), [("same", 2), ("new", 10)])
async def test_a_history_of_matrix_without_end(cursors: str, most: int) -> None:
    async def answer(request: web.Request) -> Any:
        if request.path.endswith("messages"):
            return {"chunk": [_event("1")], "start": "s", "end": next(ENDLESS[cursors])}
        return {"user_id": "@bot:x", "displayname": "bot"}

    async with answering(answer) as (url, asked), matrix_client(url) as client:
        found = await client.history("!r:x", "s1", "s0", 200)  # of single events, five times as many pages at most
    assert len(found) == most == sum(count for path, count in asked.items() if path.endswith("messages"))


async def test_a_homeserver_that_answers_at_once_is_not_asked_without_end(tmp_path: Path) -> None:
    tokens = itertools.count(1)
    syncs: list[float] = []

    async def answer(request: web.Request) -> Any:
        if request.path.endswith("sync"):
            syncs.append(time.monotonic())
            return {"next_batch": str(next(tokens)), "rooms": {}}
        return {"user_id": "@bot:x", "displayname": "bot", "device_id": "D"}

    async with answering(answer) as (url, _), channel_host(tmp_path, MATRIX, matrix(url), has_folder=False):
        await until(lambda: len(syncs) > POLLS, "it asks on", 30)
    assert_unhurried(syncs)


async def test_a_bot_api_that_answers_at_once_is_not_asked_without_end(tmp_path: Path) -> None:
    polls: list[float] = []

    async def nothing(call: Any, do: Any, request: web.Request) -> web.StreamResponse:
        polls.append(time.monotonic())
        return web.json_response({"ok": True, "result": []})

    async with telegram_server() as server:
        server.faults["getUpdates"].extend([nothing] * 10_000)
        given = {"token": server.token, "api_url": server.url}
        async with channel_host(tmp_path, TELEGRAM, given):
            await until(lambda: len(polls) > POLLS, "it asks on", 30)
    assert_unhurried(polls)


async def test_a_mail_server_that_announces_without_end_is_not_searched_without_end(tmp_path: Path) -> None:
    searches: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        idle = b""
        writer.write(b"* OK ready\r\n")
        while line := (await reader.readline()).decode():
            tag, _, said = line.strip().partition(" ")
            if tag == "DONE":
                writer.write(b"%s OK done\r\n" % idle)
            elif said.upper().startswith("CAPABILITY"):
                writer.write(b"* CAPABILITY IMAP4rev1 IDLE\r\n%s OK done\r\n" % tag.encode())
            elif said.upper().startswith("SELECT"):
                writer.write(b"* OK [UIDVALIDITY 1] x\r\n* OK [UIDNEXT 1] x\r\n%s OK done\r\n" % tag.encode())
            elif said.upper().startswith("UID SEARCH"):
                searches.append(time.monotonic())
                writer.write(b"* SEARCH\r\n%s OK done\r\n" % tag.encode())
            elif said.upper().startswith("IDLE"):
                idle = tag.encode()
                writer.write(b"+ idling\r\n* 1 EXISTS\r\n")
            else:
                writer.write(b"%s OK done\r\n" % tag.encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    given = {
        "address": "bot@example.org", "password": "1234", "imap_host": "127.0.0.1", "imap_security": "none",
        "imap_port": server.sockets[0].getsockname()[1], "smtp_host": "127.0.0.1", "verify_senders": False,
    }  # fmt: skip
    async with server, channel_host(tmp_path, EMAIL, given):
        await until(lambda: len(searches) > POLLS, "it searches on", 30)
    assert_unhurried(searches)


@pytest.mark.parametrize("platform", ["telegram", "slack"])
async def test_a_file_that_is_small_on_its_way_and_without_end_once_unpacked_is_left(
    platform: str, tmp_path: Path
) -> None:
    """A zip bomb in the way it is sent: 64 MB of nothing in 64 kB."""
    packed = gzip.compress(bytes(64 * 1024**2))

    async def bomb(request: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip", "Content-Type": "image/png"})

    application = web.Application()
    application.router.add_get("/file", bomb)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base, target = f"http://127.0.0.1:{runner.addresses[0][1]}", tmp_path / "file"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def fetch() -> None:
        if platform == "telegram":
            await of_telegram._fetch(f"{base}/file", target, 1_000_000, 30.0)
            return
        async with aiohttp.ClientSession() as session:
            api = SlackApi("xoxb-1", f"{base}/", session)
            await of_slack._fetch(api, session, base, f"{base}/file", target, 1_000_000, is_page=False)

    try:
        with pytest.raises(DeliveryRefused, match="more than the 1000000 bytes"):
            await fetch()
    finally:
        await runner.cleanup()
    assert not target.exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def assert_unhurried(times: list[float]) -> None:
    """A second lies between two questions; the first may come twice, at the start of a connection."""
    assert times[POLLS] - times[0] >= POLLS - 1
    assert len(times) <= POLLS + 2


@asynccontextmanager
async def without_end(*, is_packed: bool) -> AsyncIterator[str]:
    """A server whose every answer is 256 MB of nothing; its URL."""
    packed = gzip.compress(bytes(256 * 1024**2))

    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": "application/json"}
        if is_packed:
            return web.Response(body=packed, headers=headers | {"Content-Encoding": "gzip"})
        response = web.StreamResponse(headers=headers)
        with suppress(ConnectionResetError):
            await response.prepare(request)
            for _ in range(256):
                await response.write(b" " * 1024**2)
        return response

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


PACKED = pytest.mark.parametrize("is_packed", [False, True], ids=["as it is", "packed"])


@PACKED
async def test_an_answer_of_telegram_without_end_is_given_up(is_packed: bool) -> None:
    async with without_end(is_packed=is_packed) as url:
        client = TelegramClient("1:x", url, 20.0)
        with pytest.raises(TimeoutError, match="the answer is compressed" if is_packed else "the answer is too large"):
            await client.updates(None, 0.0, "[]", 100)
        await client.close()


@PACKED
async def test_an_answer_of_matrix_without_end_is_given_up(is_packed: bool) -> None:
    async with without_end(is_packed=is_packed) as url:
        client = MatrixClient(settings_of(MATRIX, "matrix", matrix(url)))
        with pytest.raises(ChannelUnavailable) as refused:
            await client.who()
        await client.close()
    assert isinstance(refused.value.__context__, AnswerTooLarge)
