"""The contract of channels over Telegram: the real SDK against the fake Bot API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from host.channels.protocol import Button
from host.channels.telegram import TYPE
from tests.channels.contract import ALL_ABILITIES, ALL_FAULTS, Ability, Arrived, ChannelContract, Fault, Subject
from tests.platforms import telegram
from tests.platforms.telegram import SUPERGROUP, TelegramServer

TOPIC = 42


class Telegram:
    """A supergroup with topics, in which Ann writes."""

    chat = str(SUPERGROUP)
    person = str(telegram.ANN["id"])

    def __init__(self) -> None:
        self.server = TelegramServer()
        self.server.chat(SUPERGROUP, is_forum=True)
        self._messages: dict[str, dict[str, Any]] = {}
        self._twice = 0
        self._held: list[dict[str, Any]] | None = None

    async def start(self) -> None:
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()

    def settings(self) -> dict[str, Any]:
        return {
            "token": self.server.token,
            "api_url": self.server.url,
            "poll_seconds": 3.0,
            "probe_seconds": 1.0,
            "timeout_seconds": 4.0,
            "album_seconds": 0.2,
        }

    async def write(
        self,
        text: str,
        *,
        thread: str | None = None,
        reply_to: str | None = None,
        mention: bool = False,
        files: tuple[tuple[str, bytes], ...] = (),
    ) -> str:
        more: dict[str, Any] = {}
        if thread is not None:
            more |= {"message_thread_id": int(thread), "is_topic_message": True}
        if reply_to is not None:
            more["reply_to_message"] = self._known(reply_to)
        if mention:
            text = f"@waiter_bot {text}"
            more["entities"] = [{"type": "mention", "offset": 0, "length": 11}]
        for name, content in files:
            more |= {"document": self.server.file(content, file_name=name), "caption": text}
        message = self.server.message(None if files else text, chat=SUPERGROUP, **more)
        self._messages[str(message["message_id"])] = message
        update = {"update_id": self.server.next_update_id(), "message": message}
        if self._held is not None:
            self._held.append(update)
            if len(self._held) == 2:
                for each in reversed(self._held):
                    self.server.push_raw(each)
                self._held = None
            return str(message["message_id"])
        self.server.push_raw(update)
        if self._twice:
            self._twice -= 1
            self.server.push_raw(update | {"update_id": self.server.next_update_id()})
        return str(message["message_id"])

    async def edit(self, message_id: str, text: str) -> None:
        self.server.edit(self._known(message_id), text)

    async def delete(self, message_id: str) -> None:
        raise NotImplementedError("Telegram tells no bot of it")

    async def click(self, message_id: str, value: str) -> None:
        message = next(each for each in self.server.sent if str(each["message_id"]) == message_id)
        keyboard = message["reply_markup"]["inline_keyboard"]
        row = next(number for number, buttons in enumerate(keyboard) if buttons[0]["callback_data"] == value)
        self.server.click(message, row)

    async def react(self, message_id: str, emoji: str | None) -> None:
        self.server.react(self._known(message_id), emoji)

    async def new_thread(self) -> str:
        return str(TOPIC)

    async def arrived(self) -> list[Arrived]:
        return [
            Arrived(
                str(message["message_id"]),
                message.get("text") or message.get("caption") or "",
                str(message["chat"]["id"]),
                None if "message_thread_id" not in message else str(message["message_thread_id"]),
                None if "reply_to_message" not in message else str(message["reply_to_message"]["message_id"]),
                tuple(
                    Button(button["text"], button["callback_data"])
                    for row in message.get("reply_markup", {}).get("inline_keyboard", [])
                    for button in row
                ),
                tuple(message.get("uploads", ())),
                tuple(self.server.reactions.get((message["chat"]["id"], message["message_id"]), ())),
                int("edit_date" in message),
            )
            for message in self.server.sent
        ]

    async def fault(self, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
        simple = {
            Fault.SLOW: telegram.slow(seconds),
            Fault.HANGS: telegram.hang,
            Fault.TOO_MANY: telegram.status(429, int(seconds)),
            Fault.FAILS: telegram.status(500),
            Fault.DROPS_BEFORE: telegram.drop_before,
            Fault.DROPS_AFTER: telegram.drop_after,
        }
        if fault in simple:
            self.server.send_faults.extend([simple[fault]] * times)
        elif fault == Fault.CHAT_GONE:
            self.server.blocked.add(SUPERGROUP)
        elif fault == Fault.TWICE:
            self._twice = times
        elif fault == Fault.SWAPPED:
            self._held = []
        elif fault == Fault.REVOKED:
            self.server.revoked = True
        else:
            self.server.is_deaf = True

    async def typing_count(self) -> int:
        return len(self.server.calls_of("sendChatAction"))

    def _known(self, message_id: str) -> dict[str, Any]:
        known = self._messages | {str(each["message_id"]): each for each in self.server.sent}
        return {key: value for key, value in known[message_id].items() if key not in ("uploads", "html", "at")}


class TestTelegram(ChannelContract):
    @pytest.fixture
    def subject(self) -> Iterator[Subject]:
        platform = Telegram()
        yield Subject(platform, kind=TYPE, faults=ALL_FAULTS, abilities=ALL_ABILITIES - {Ability.DELETE})
        assert platform.server.complaints == []
        assert platform.server.breaches == []
