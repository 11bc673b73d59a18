"""The conversation of talk.py on every platform. FAILURES 17, 19: what an outage holds up comes once, where it belongs.

Quickly on Telegram with agents in processes, and in `make chaos` on each platform with agents in containers.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from host.channels.discord import TYPE as DISCORD
from host.channels.email import TYPE as EMAIL
from host.channels.github import TYPE as GITHUB
from host.channels.matrix import TYPE as MATRIX
from host.channels.slack import TYPE as SLACK
from host.channels.telegram import TYPE as TELEGRAM
from host.channels.webhook import TYPE as WEBHOOK
from host.runtime.specification import INSTALL_LABEL
from tests.channels.contract import ALL_ABILITIES, Ability, PlatformFake, Subject
from tests.channels.talk import talking
from tests.channels.test_discord_contract import DiscordPlatform
from tests.channels.test_email_contract import EmailPlatform
from tests.channels.test_github_contract import GitHubPlatform
from tests.channels.test_matrix_contract import MatrixPlatform
from tests.channels.test_slack_contract import SlackPlatform
from tests.channels.test_telegram_contract import Telegram
from tests.channels.test_webhook_contract import WebhookPlatform
from tests.conftest import AgentImage
from tests.platforms.discord import CHANNEL
from tests.support.daemon import Daemon

Command = Callable[[str], Awaitable[object]]


@dataclass
class Place:
    """A platform to talk on; how a person gives a command there, and what ends the platform."""

    subject: Subject
    command: Command | None = None
    end: Callable[[], Awaitable[None]] | None = None


def telegram() -> Place:
    platform = Telegram()
    subject = Subject(platform, kind=TELEGRAM, abilities=ALL_ABILITIES - {Ability.DELETE}, grows=True)
    return Place(subject)


def slack() -> Place:
    platform = SlackPlatform()
    subject = Subject(platform, kind=SLACK, abilities=ALL_ABILITIES, grows=True)
    return Place(subject, lambda word: platform.fake.command("/dw", word))


def discord() -> Place:
    platform = DiscordPlatform()
    subject = Subject(platform, kind=DISCORD, abilities=ALL_ABILITIES, grows=True)
    return Place(subject, lambda word: platform.fake.command(word, chat=CHANNEL))


def github() -> Place:
    abilities = frozenset({Ability.THREADS, Ability.EDIT})
    return Place(Subject(GitHubPlatform(), kind=GITHUB, abilities=abilities, takes_files=False))


def webhook() -> Place:
    platform = WebhookPlatform()
    return Place(Subject(platform, kind=WEBHOOK, abilities=frozenset({Ability.THREADS})), end=platform.end)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    """Real servers are started where they are asked for."""
    match request.param:
        case "email":
            mailbox: PlatformFake = EmailPlatform.new(request.getfixturevalue("imap"))
            return Place(Subject(mailbox, kind=EMAIL, abilities=frozenset({Ability.THREADS, Ability.FILES})))
        case "matrix":
            room: PlatformFake = MatrixPlatform(request.getfixturevalue("homeserver"))
            return Place(Subject(room, kind=MATRIX, abilities=ALL_ABILITIES - {Ability.CLICK}, grows=True))
        case make:
            made: Place = make()
            return made


@pytest.mark.full
async def test_a_conversation_on_telegram(tmp_path: Path) -> None:
    there = telegram()
    async with talking(there.subject, tmp_path / "data") as talk:
        await talk.run_shortly()


EVERYWHERE = [telegram, slack, discord, github, webhook, "email", "matrix"]


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.parametrize("place", EVERYWHERE, indirect=True, ids=lambda each: getattr(each, "__name__", each))
async def test_thirty_messages_with_agents_in_containers(place: Place, tmp_path: Path, agent_image: AgentImage) -> None:
    data = tmp_path / "data"
    settings = {"RUNTIME": "docker", "IMAGE": agent_image.name}
    try:
        async with talking(place.subject, data, kill_agents=kill_containers, command=place.command, **settings) as talk:
            await talk.run()
    finally:
        if place.end is not None:
            await place.end()


async def kill_containers(host: Daemon) -> None:
    """SIGKILL to the agents of this install."""
    label = f"label={INSTALL_LABEL}={host.rows('SELECT id FROM install')[0]['id']}"
    listed = await asyncio.to_thread(_docker, "ps", "-q", "--filter", label)
    assert listed
    await asyncio.to_thread(_docker, "kill", *listed.split())


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout
