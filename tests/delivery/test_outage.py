"""After an outage: what could not be sent goes out as soon as anything else gets through its channel.

Its next attempt by the plan is five minutes away here. What its platform never takes is not asked for with each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from host.channels.memory import MemoryChannel
from host.channels.protocol import ChannelUnavailable, Outgoing
from host.delivery.rests import Rests
from tests.channels.test_webhook_contract import WebhookPlatform
from tests.platforms import telegram
from tests.platforms.telegram import telegram_server
from tests.support.host import AGENT, Host, running
from tests.support.wait import until

LATER = 300.0
"""Seconds until the next attempt by the plan."""
FAILED = "SELECT platform_id FROM deliveries WHERE status = 'pending' AND attempts > 0 ORDER BY platform_id"


@asynccontextmanager
async def on_the_web(data: Path, *chats: str) -> AsyncIterator[tuple[WebhookPlatform, Host]]:
    """A host with a webhook, whose replies go over real HTTP."""
    platform = WebhookPlatform()
    await platform.start()
    channels = {"webhook": platform.settings()}
    async with running(data, channels=channels, delivery_retry_seconds=LATER) as host:
        for chat in chats:
            await wired(host, f"webhook:{chat}")
        yield platform, host
    await platform.end()


async def wired(host: Host, address: str) -> None:
    await host.do("messaging_group.add", address=address, unknown_sender="public")
    await host.do("wiring.add", messaging_group=address, agent_group=AGENT)


async def failed(host: Host, *chats: str) -> None:
    """Wait until an answer could not be sent in each of these."""

    async def have_failed() -> bool:
        return [row["platform_id"] for row in await host.central(FAILED)] == sorted(chats)

    await until(have_failed, f"answers in {chats} could not be sent", 60)


async def test_an_answer_that_gets_through_brings_those_of_the_other_chats_of_its_channel(tmp_path: Path) -> None:
    async with on_the_web(tmp_path, "alerts", "bills", "other") as (platform, host):
        await platform.stop()
        for platform.chat in ("alerts", "bills"):
            await platform.write(f"one in {platform.chat}")
            await until(lambda: platform.unposted == 0, "it is taken", 60)
        await failed(host, "alerts", "bills")
        await platform.start()
        await host.do("message.inject", messaging_group="webhook:other", text="are you there")

        async def all_there() -> bool:
            return len(await platform.arrived()) == 3

        await until(all_there, "all three have arrived", 60)
        await host.settled()
        rows = await host.central("SELECT platform_id, attempts, status FROM deliveries ORDER BY platform_id")
        assert [tuple(row.values()) for row in rows] == [
            ("alerts", 2, "delivered"), ("bills", 2, "delivered"), ("other", 1, "delivered"),
        ]  # fmt: skip


async def test_a_platform_whose_sending_alone_has_failed_gets_the_answer_with_the_next(tmp_path: Path) -> None:
    async with telegram_server() as server:
        channels = {"telegram": {"token": server.token, "api_url": server.url}}
        async with running(tmp_path, channels=channels, delivery_retry_seconds=LATER) as host:
            for chat in ("5001", "5002"):
                await wired(host, f"telegram:{chat}")
            server.send_faults.append(telegram.status(500))
            server.say("one", chat=5001)
            await failed(host, "5001")
            server.say("two", chat=5002)
            await server.wait_for(2)
            assert sorted(message["text"] for message in server.sent) == ["scripted: one", "scripted: two"]


class Picky(MemoryChannel):
    """A platform that has a fault over one chat, and takes everything in the others."""

    refused = 0

    async def deliver(self, message: Outgoing) -> str | None:
        if message.address.platform_id == "bad":
            self.refused += 1
            raise ChannelUnavailable("it answers with 500")
        return await super().deliver(message)


async def test_a_message_that_its_platform_never_takes_is_not_asked_for_with_each_that_it_takes(tmp_path: Path) -> None:
    channel = Picky()
    async with running(tmp_path, channel=channel, delivery_retry_seconds=LATER) as host:
        for chat in ("bad", "good"):
            await wired(host, f"memory:{chat}")
        await host.say("hello", chat="bad", message_id="b-1")
        await failed(host, "bad")
        for number in range(5):
            await host.say(f"hello {number}", chat="good", message_id=f"g-{number}")
            await channel.wait_for(number + 1)
        await until(lambda: channel.refused == 2, "it was tried once more", 60)
        await host.say("and more", chat="good", message_id="g-9")
        await channel.wait_for(6)
        assert channel.refused == 2
        # An attempt before its time changes nothing of the hours for which it is tried.
        (row,) = await host.central("SELECT attempts FROM deliveries WHERE platform_id = 'bad'")
        assert row["attempts"] == 1


def test_what_is_tried_early_keeps_its_time() -> None:
    rests: Rests[str] = Rests()
    rests.begin("a")
    assert rests.rest_on("a", 10.0) == 0.0
    rests.rest("a", 100.0)
    rests.rest("b", 50.0, is_fixed=True)
    assert rests.resting(20.0) == {"a", "b"}
    rests.wake()
    assert rests.resting(20.0) == {"b"}, "the platform has asked for that one"
    assert rests.next_in(20.0) == 30.0
    rests.begin("a")
    assert rests.rest_on("a", 30.0) == 70.0
    assert rests.resting(30.0) == {"a", "b"}
    assert rests.resting(60.0) == {"a"}
    rests.begin("a")
    assert rests.rest_on("a", 100.0) == 0.0, "its time had come"
    assert not rests.is_any


@pytest.mark.parametrize("asked", [20.0, 99.0])
def test_what_goes_through_early_leaves_nothing_behind(asked: float) -> None:
    rests: Rests[str] = Rests()
    rests.rest("a", 100.0)
    rests.wake()
    rests.begin("a")
    assert rests.resting(asked) == frozenset()
    assert rests.next_in(asked) is None
