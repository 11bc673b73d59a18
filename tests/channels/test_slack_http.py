"""Slack posts events to us: signed, fresh, once, and answered when they are on the disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from host.channels.protocol import ChannelRefused
from host.channels.slack import SLACK
from host.channels.slack.http_events import MAX_BYTES, PATH
from host.routing.event import Incoming, Receipt
from shared_schema.errors import FileTrouble
from tests.channels.open_host import ChannelHost, channel_host
from tests.platforms import slack
from tests.platforms.slack import ANN, BOT_TOKEN, DIRECT, SIGNING_SECRET, FakeSlack

EVENT = {
    "type": "event_callback",
    "event": {"type": "message", "user": ANN, "text": "hello", "ts": "1700000000.000001", "channel": DIRECT},
}


@pytest.fixture
async def fake() -> AsyncIterator[FakeSlack]:
    async with slack.running() as fake:
        yield fake


def settings(fake: FakeSlack, listen: str = "127.0.0.1:0") -> dict[str, Any]:
    secrets = {"token": BOT_TOKEN, "signing_secret": SIGNING_SECRET}
    return {**secrets, "listen": listen, "base_url": f"{fake.url}/api/"}


@pytest.fixture
async def there(tmp_path: Path, fake: FakeSlack) -> AsyncIterator[ChannelHost]:
    async with channel_host(tmp_path, SLACK, settings(fake), chats=[DIRECT]) as there:
        fake.post_to = f"http://127.0.0.1:{there.channel.port}{PATH}"
        yield there


async def test_a_message_is_answered(there: ChannelHost, fake: FakeSlack) -> None:
    await fake.say("hello")
    await there.answered(1)
    assert fake.texts() == ["scripted: hello"]


async def test_the_address_is_confirmed(there: ChannelHost, fake: FakeSlack) -> None:
    assert (await fake.post("events_api", {"type": "url_verification", "challenge": "c1"}))[0] == 200


async def test_what_is_not_signed_or_old_or_came_before_is_refused(there: ChannelHost, fake: FakeSlack) -> None:
    now = int(time.time())
    assert (await fake.post("events_api", EVENT, secret="another"))[0] == 401
    assert (await fake.post("events_api", EVENT, moment=now - 3600))[0] == 401
    assert (await fake.post("events_api", EVENT, moment=now + 3600))[0] == 401
    for head in ({}, {"X-Slack-Request-Timestamp": "x", "X-Slack-Signature": "é"}):
        assert (await fake.post("events_api", EVENT, head=head))[0] == 401
    assert there.events() == []

    status, head = await fake.post("events_api", EVENT)
    again, _ = await fake.post("events_api", EVENT, head=head)
    assert (status, again, len(there.events())) == (200, 401, 1)


async def test_what_could_not_be_kept_is_not_acknowledged_and_may_come_again(tmp_path: Path, fake: FakeSlack) -> None:
    full = [True]

    async def ingest(event: Incoming) -> Receipt:
        if full[0]:
            raise FileTrouble("the disk is full")
        return Receipt(())

    async with channel_host(tmp_path, SLACK, settings(fake), is_started=False) as there:
        there.around = lambda _: ingest
        await there.start()
        fake.post_to = f"http://127.0.0.1:{there.channel.port}{PATH}"
        status, head = await fake.post("events_api", EVENT)
        full[0] = False
        again, _ = await fake.post("events_api", EVENT, head=head)
        assert (status, again) == (503, 200)


async def test_what_is_too_large_or_no_event_is_refused(there: ChannelHost, fake: FakeSlack) -> None:
    large = {**EVENT, "more": "x" * MAX_BYTES}
    assert (await fake.post("events_api", large))[0] == 413
    assert (await fake.post("events_api", {"event": {"type": "message", "user": ANN}}))[0] == 400
    async with aiohttp.ClientSession() as session, session.post(str(fake.post_to), data=b"\xff\xfe") as response:
        assert response.status == 401
    await fake.say("hello")
    await there.answered(1)


async def test_an_address_that_is_taken_is_said(tmp_path: Path, fake: FakeSlack) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    taken = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with channel_host(tmp_path, SLACK, settings(fake, taken), is_started=False) as there:
        with pytest.raises(ChannelRefused, match=f"nothing can listen on {taken}"):
            await there.start()
    server.close()
    await server.wait_closed()
