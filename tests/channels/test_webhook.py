"""The channel `webhook` over real HTTP, in a real host with real agents."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from host.channels.protocol import ChannelUnavailable, DeliveryRefused, Outgoing
from host.channels.webhook import TYPE as WEBHOOK
from host.channels.webhook.signature import signed
from host.routing.event import Incoming, Receipt
from shared_schema.errors import FileTrouble
from shared_schema.rows import Address
from tests.channels.open_host import ChannelHost, DyingHost, channel_host
from tests.platforms.webhook_receiver import receiving
from tests.support.ports import free_port
from tests.support.wait import until

SECRET = "canary-secret-of-the-webhook"
SETTINGS: dict[str, Any] = {"secret": SECRET, "port": 0}


@dataclass
class Caller:
    """A program that sends signed requests."""

    url: str
    session: aiohttp.ClientSession

    async def post(
        self,
        body: Any,
        *,
        message_id: str = "first",
        chat: str = "alerts",
        secret: str = SECRET,
        seconds_ago: float = 0,
        wait: bool = False,
        **headers: str,
    ) -> tuple[int, dict[str, Any]]:
        """Send a body (JSON unless it is bytes); status and answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} | signed(secret, message_id, int(time.time() - seconds_ago), data)
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.url}/{chat}" + ("?wait=true" if wait else "")
        async with self.session.post(url, data=io.BytesIO(data), headers=given) as response:
            return response.status, await response.json()


def caller(there: ChannelHost, session: aiohttp.ClientSession) -> Caller:
    return Caller(there.channel.url, session)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[ChannelHost]:
    async with channel_host(tmp_path / "data", WEBHOOK, SETTINGS, chats=["alerts"]) as there:
        yield there


async def test_a_caller_that_waits_gets_the_reply(there: ChannelHost, session: aiohttp.ClientSession) -> None:
    status, answer = await caller(there, session).post({"text": "reply 1 pong", "sender": "ann"}, wait=True)

    assert (status, answer["text"]) == (200, "pong 1")
    (event,) = there.events()
    assert (event.sender_id, event.address) == ("ann", Address("webhook", "alerts"))


async def test_the_reply_is_posted_signed_to_the_url(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with receiving(SECRET) as receiver:
        settings = SETTINGS | {"url": receiver.url}
        async with channel_host(tmp_path / "data", WEBHOOK, settings, chats=["alerts"]) as there:
            status, answer = await caller(there, session).post({"text": "attach list.txt", "thread": "t-1"})
            (message,) = await receiver.got(1)

    assert status == 202
    assert len(answer["accepted"]) == 1
    assert (message["chat"], message["thread"], message["text"]) == ("alerts", "t-1", "attached list.txt")
    assert [(file["name"], file["size"]) for file in message["files"]] == [("list.txt", 16)]


async def test_a_caller_that_waits_is_answered_there_and_nowhere_else(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with receiving(SECRET) as receiver:
        settings = SETTINGS | {"url": receiver.url}
        async with channel_host(tmp_path / "data", WEBHOOK, settings, chats=["alerts"]) as there:
            _, answer = await caller(there, session).post({"text": "reply 1 here"}, wait=True)
            await caller(there, session).post({"text": "reply 1 there"}, message_id="second")
            messages = await receiver.got(1)

    assert answer["text"] == "here 1"
    assert [message["text"] for message in messages] == ["there 1"]


async def test_what_is_sent_twice_is_answered_once(there: ChannelHost, session: aiohttp.ClientSession) -> None:
    client = caller(there, session)
    _, first = await client.post({"text": "reply 1 pong"})
    await there.answered(1)
    _, second = await client.post({"text": "reply 1 pong"}, wait=True)

    assert [each["duplicate"] for each in (*first["accepted"], *second["accepted"])] == [False, True]
    assert second["text"] == "pong 1"
    assert len(await there.answered(1)) == 1


async def test_a_reply_is_there_for_a_caller_that_asks_again_after_a_restart(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with channel_host(tmp_path / "data", WEBHOOK, SETTINGS, chats=["alerts"]) as there:
        await caller(there, session).post({"text": "reply 2 pong"})
        await there.answered(2)
    async with channel_host(tmp_path / "data", WEBHOOK, SETTINGS) as there:
        status, answer = await caller(there, session).post({"text": "reply 2 pong"}, wait=True)

    assert (status, answer["text"]) == (200, "pong 1\n\npong 2")


async def test_a_host_that_dies_before_it_answers_knows_the_request_when_it_comes_again(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    data = tmp_path / "data"
    port = free_port()
    async with DyingHost(data, "webhook", SETTINGS | {"port": port}, "alerts") as dying:
        with pytest.raises(aiohttp.ClientError):
            await Caller(f"http://127.0.0.1:{port}", session).post({"text": "reply 1 pong"})
        await dying.dead()

    async with channel_host(data, WEBHOOK, SETTINGS) as there:
        status, answer = await caller(there, session).post({"text": "reply 1 pong"}, wait=True)
        deliveries = await there.answered(1)

    assert (status, answer["text"]) == (200, "pong 1")
    assert answer["accepted"][0]["duplicate"]
    assert len(deliveries) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"secret": "another secret than ours"}, "the signature is not right"),
        ({"seconds_ago": 301}, "s old"),
        ({"seconds_ago": -305}, "s in the future"),
        ({"webhook_timestamp": "yesterday"}, "must be seconds"),
        ({"webhook_signature": "v1,"}, "the signature is not right"),
        ({"webhook_signature": "v2,AAAA"}, "the signature is not right"),
        ({"webhook_signature": ""}, "webhook-signature is missing"),
        ({"webhook_id": "other"}, "the signature is not right"),
    ],
)
async def test_a_request_that_is_not_signed_now_is_refused(
    there: ChannelHost, session: aiohttp.ClientSession, options: dict[str, Any], reason: str
) -> None:
    status, answer = await caller(there, session).post({"text": "hello"}, **options)

    assert status == 401
    assert reason in answer["error"]
    assert there.events() == []


async def test_a_request_of_an_hour_ago_is_refused_by_a_clock_that_is_right(
    there: ChannelHost, session: aiohttp.ClientSession
) -> None:
    _, answer = await caller(there, session).post({"text": "hello"}, seconds_ago=timedelta(hours=1).total_seconds())

    assert "compare the clocks" in answer["error"]


async def test_a_body_that_is_too_large_compressed_or_no_json_is_refused(
    there: ChannelHost, session: aiohttp.ClientSession
) -> None:
    client = caller(there, session)

    assert (await client.post({"text": "x" * 1024**2}))[0] == 413
    assert (await client.post(gzip.compress(b"{}"), Content_Encoding="gzip"))[0] == 415
    assert (await client.post(b"{"))[0] == 400
    assert (await client.post(b"[" * 100_000))[0] == 400
    assert (await client.post({"text": "hello", "thread": "\u202e"}))[0] == 400
    assert (await client.post({"text": "hello"}, chat="a%2Fb"))[0] == 400
    assert there.events() == []
    assert (await client.post({"text": "reply 1 well"}, wait=True))[1]["text"] == "well 1"


async def test_a_body_without_a_length_is_bounded_too(there: ChannelHost, session: aiohttp.ClientSession) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    headers = signed(SECRET, "first", int(time.time()), b"")
    try:
        async with session.post(f"{there.channel.url}/alerts", data=endless(), headers=headers) as response:
            assert response.status == 413
    except aiohttp.ClientConnectionError:
        pass  # the host closed while more was on its way
    assert there.events() == []


async def test_each_chat_may_have_its_own_template(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    hook = {"text": "reply 1 {/alert/title} {/alert/labels/0}", "sender": "/by/id", "thread": "/alert/id"}
    settings = SETTINGS | {"hooks": {"grafana": hook}}
    body = {"by": {"id": 7}, "alert": {"id": "a/1", "title": "disk full", "labels": ["db"]}}
    async with channel_host(tmp_path / "data", WEBHOOK, settings, chats=["grafana"]) as there:
        _, answer = await caller(there, session).post(body, chat="grafana", wait=True)
        (event,) = there.events()

    assert answer["text"] == "disk full db 1"
    assert (event.sender_id, event.address.thread_id) == ("7", "a/1")


async def test_text_is_taken_as_it_is_and_a_caller_without_a_name_has_that_of_its_chat(
    there: ChannelHost, session: aiohttp.ClientSession
) -> None:
    _, answer = await caller(there, session).post(b"reply 1 pong", wait=True, Content_Type="text/plain")

    assert answer["text"] == "pong 1"
    assert there.events()[0].sender_id == "alerts"


async def test_a_request_for_a_chat_that_is_not_registered_is_told_so(
    there: ChannelHost, session: aiohttp.ClientSession
) -> None:
    status, answer = await caller(there, session).post({"text": "hello"}, chat="elsewhere", wait=True)

    assert (status, answer["accepted"]) == (202, [])
    assert answer["dropped"]


async def test_a_request_that_cannot_be_kept_is_not_acknowledged(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async def full(event: Incoming) -> Receipt:
        raise FileTrouble("the disk is full")

    async with channel_host(
        tmp_path / "data", WEBHOOK, SETTINGS, chats=["alerts"], around=lambda ingest: full
    ) as there:
        status, answer = await caller(there, session).post({"text": "hello"})

    assert status == 503
    assert answer == {"error": "it could not be kept; send it again"}


async def test_both_secrets_are_taken_while_callers_change_over(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    settings = SETTINGS | {"old_secret": "the secret of last year"}
    async with channel_host(tmp_path / "data", WEBHOOK, settings, chats=["alerts"]) as there:
        client = caller(there, session)
        statuses = [
            (await client.post({"text": "hello"}, message_id=secret[:5], secret=secret))[0]
            for secret in (SECRET, "the secret of last year", "the secret of nobody")
        ]

    assert statuses == [202, 202, 401]


async def test_a_url_that_is_away_gets_the_reply_once_when_it_is_back(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with receiving(SECRET) as receiver:
        receiver.answers = [500, 503, 404]
        receiver.drops_after_taking = 1
        settings = SETTINGS | {"url": receiver.url}
        async with channel_host(tmp_path / "data", WEBHOOK, settings, chats=["alerts"]) as there:
            await caller(there, session).post({"text": "reply 1 pong"})
            await there.answered(1)

    assert [message["text"] for message in receiver.messages] == ["pong 1"]
    assert len(receiver.attempts) == 5
    assert len({attempt["webhook-id"] for attempt in receiver.attempts}) == 1


async def test_neither_secret_nor_url_gets_into_a_log_or_an_error(
    tmp_path: Path, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with receiving(SECRET) as receiver:
        receiver.answers = [500, 410]
        settings = SETTINGS | {"url": receiver.url}
        async with channel_host(tmp_path / "data", WEBHOOK, settings, chats=["alerts"]) as there:
            await caller(there, session).post({"text": "reply 1 pong"}, secret="another secret than ours")
            await caller(there, session).post({"text": "reply 1 pong"})
            await until(lambda: len(receiver.attempts) >= 2, "the URL has refused it")
            await there.host.settled()
            rows = await there.host.central("SELECT error FROM deliveries WHERE error IS NOT NULL")
    there.channel._settings = WEBHOOK.settings.model_validate(
        {**settings, "type": "webhook", "url": "http://127.0.0.1:1/x"}
    )
    with pytest.raises(ChannelUnavailable) as caught:
        await there.channel.deliver(Outgoing("key", Address("webhook", "alerts"), "chat", "hello"))
    await there.channel.close()

    said = caplog.text + json.dumps(rows) + str(caught.value) + repr(settings | {"secret": "", "url": ""})
    said += repr(there.channel._settings)
    assert "status 410" in json.dumps(rows)
    assert SECRET not in said
    assert "token-of-the-url" not in said


async def test_without_a_url_only_what_answers_a_request_can_be_delivered(there: ChannelHost) -> None:
    with pytest.raises(DeliveryRefused, match=r"set `url` under \[channels.webhook\]"):
        await there.channel.deliver(Outgoing("key", Address("webhook", "alerts"), "chat", "good morning"))


async def test_it_listens_on_the_loopback_unless_told_otherwise_and_says_when_its_port_is_taken(
    there: ChannelHost, tmp_path: Path
) -> None:
    assert there.channel.url.startswith("http://127.0.0.1:")

    other = WEBHOOK.make(
        WEBHOOK.settings.model_validate(SETTINGS | {"type": "webhook", "port": there.channel.port}), there.context
    )
    with pytest.raises(ChannelUnavailable, match=r"another program has the port; set `port`"):
        await other.start(there.host.services.router.ingest)
    await other.close()


async def test_a_caller_that_leaves_loses_nothing(there: ChannelHost, session: aiohttp.ClientSession) -> None:
    client = caller(there, session)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await client.post({"text": "think 1"}, wait=True)

    _, answer = await client.post({"text": "think 1"}, wait=True)

    assert answer["text"] == "thought for 1 s"
    assert len(await there.answered(1)) == 1
