"""The contract of channels over Slack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from host.channels.protocol import Button
from host.channels.slack import TYPE
from host.channels.slack.emoji import to_character
from shared_schema.rows import Address
from tests.channels.contract import ALL_ABILITIES, ALL_FAULTS, Arrived, ChannelContract, Fault, Line, Subject
from tests.platforms import slack
from tests.platforms.slack import ANN, APP_TOKEN, BOT_TOKEN, CHANNEL, DIRECT, FakeSlack

_OF_CALLS = {
    Fault.SLOW: slack.Fault.SLOW,
    Fault.HANGS: slack.Fault.HANGS,
    Fault.TOO_MANY: slack.Fault.TOO_FAST,
    Fault.FAILS: slack.Fault.BROKEN,
    Fault.DROPS_BEFORE: slack.Fault.DROP_BEFORE,
    Fault.DROPS_AFTER: slack.Fault.DROP_AFTER,
}


class SlackPlatform:
    """The fake Slack as the contract plays it, in the direct chat of one person."""

    chat = DIRECT
    person = ANN

    def __init__(self) -> None:
        self.fake = FakeSlack()

    async def start(self) -> None:
        await self.fake.start()

    async def stop(self) -> None:
        await self.fake.stop()
        assert not self.fake.unknown

    def settings(self) -> dict[str, Any]:
        tokens = {"token": BOT_TOKEN, "app_token": APP_TOKEN}
        return {"type": "slack", **tokens, "base_url": f"{self.fake.url}/api/", "deaf_seconds": 3.0}

    async def write(
        self,
        text: str,
        *,
        thread: str | None = None,
        reply_to: str | None = None,
        mention: bool = False,
        files: tuple[tuple[str, bytes], ...] = (),
    ) -> str:
        return await self.fake.say(text, thread=thread, files=dict(files))

    async def edit(self, message_id: str, text: str) -> None:
        await self.fake.edit(DIRECT, message_id, text)

    async def delete(self, message_id: str) -> None:
        await self.fake.delete(DIRECT, message_id)

    async def click(self, message_id: str, value: str) -> None:
        buttons = _buttons(self.fake.message(DIRECT, message_id))
        await self.fake.click(DIRECT, message_id, next(each.label for each in buttons if each.value == value))

    async def react(self, message_id: str, emoji: str | None) -> None:
        await self.fake.react(DIRECT, message_id, "thumbsup", added=emoji is not None)

    async def new_thread(self) -> str:
        message = {"type": "message", "user": ANN, "text": "the first of a thread", "ts": "1700000000.000001"}
        self.fake.messages[DIRECT].append(message)
        return str(message["ts"])

    async def arrived(self) -> list[Arrived]:
        return [
            Arrived(
                id=message["ts"],
                text=message["text"],
                chat=DIRECT,
                thread=message.get("thread_ts"),
                buttons=_buttons(message),
                files=tuple((each["name"], self.fake.files[each["id"]]["data"]) for each in message.get("files", [])),
                reactions=tuple(to_character(each["name"]) for each in message.get("reactions", [])),
            )
            for message in self.fake.ours()
        ]

    async def fault(self, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
        self.fake.wait_seconds = int(seconds)
        match fault:
            case Fault.TWICE:
                self.fake.twice = times
            case Fault.SWAPPED:
                self.fake.swaps = True
            case Fault.REVOKED:
                self.fake.revoked = "token_revoked"
                await self.fake.drop_sockets()
            case Fault.DEAF:
                self.fake.is_deaf = True
            case Fault.CHAT_GONE:
                self.fake.refuses["chat.postMessage"] = "is_archived"
            case _:
                self.fake.faults["chat.postMessage"].extend([_OF_CALLS[fault]] * times)

    async def typing_count(self) -> int:
        return len(self.fake.statuses)


def _buttons(message: dict[str, Any]) -> tuple[Button, ...]:
    rows = [block["elements"] for block in message.get("blocks", []) if block["type"] == "actions"]
    return tuple(Button(each["text"]["text"], each["value"]) for row in rows for each in row)


class TestSlack(ChannelContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        return Subject(platform=SlackPlatform(), kind=TYPE, faults=ALL_FAULTS, abilities=ALL_ABILITIES)

    async def test_it_shows_that_it_works(self, line: Line, subject: Subject, platform: SlackPlatform) -> None:  # type: ignore[override]
        """In threads: Slack has no such sign elsewhere."""
        await line.channel.typing(Address(subject.name, CHANNEL, "1700000000.000001"))
        assert await platform.typing_count() == 1
