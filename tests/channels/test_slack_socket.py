"""Deaf is worse than down: a socket of Slack that does not greet, or answers no ping, is given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from host.channels.protocol import ChannelUnavailable
from host.channels.slack.socket import Socket
from tests.platforms import slack
from tests.platforms.slack import FakeSlack


@pytest.fixture
async def fake() -> AsyncIterator[FakeSlack]:
    async with slack.running() as fake:
        yield fake


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def nothing() -> None:
    return


async def test_a_socket_that_does_not_greet_is_given_up(fake: FakeSlack, session: aiohttp.ClientSession) -> None:
    fake.greets = False
    with pytest.raises(ChannelUnavailable, match="did not greet"):
        await Socket.open(session, f"{fake.url}/link", nothing, hello_seconds=0.3)


async def test_a_socket_that_answers_no_ping_is_deaf(fake: FakeSlack, session: aiohttp.ClientSession) -> None:
    fake.answers_pings = False
    socket = await Socket.open(session, f"{fake.url}/link", nothing, ping_seconds=0.1, deaf_seconds=0.5)
    with pytest.raises(ChannelUnavailable, match="not even an answer to pings"):
        async with asyncio.timeout(60):
            await socket.receive()
    await socket.close()


async def test_answers_to_pings_prove_that_we_hear(fake: FakeSlack, session: aiohttp.ClientSession) -> None:
    heard = asyncio.Semaphore(0)
    socket = await Socket.open(session, f"{fake.url}/link", heard.release, ping_seconds=0.05, deaf_seconds=20)
    reading = asyncio.create_task(socket.receive())
    async with asyncio.timeout(60):
        for _ in range(3):
            await heard.acquire()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await socket.close()
