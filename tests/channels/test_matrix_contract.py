"""What every channel must do, over a real Synapse behind a proxy that does wrong what it is told to."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from host.channels.matrix import TYPE
from tests.channels.contract import ALL_ABILITIES, ALL_FAULTS, Ability, Arrived, ChannelContract, Fault, Subject
from tests.platforms import faulty_proxy
from tests.platforms.faulty_proxy import FaultyProxy
from tests.platforms.synapse import Synapse

_SENDING = r"PUT .*/send/m\.room\.message/|POST .*/media/"
_SYNC = r"GET .*/sync|GET .*/whoami"


class MatrixPlatform:
    """A room of Ann's with the bot in it. People talk to the server itself, so they write during an outage as well."""

    def __init__(self, server: Synapse) -> None:
        self._bot, self._ann = server.person("bot"), server.person("ann")
        self._proxy = FaultyProxy(server.url, _SENDING)
        self.chat = self._ann.room(self._bot.user_id, is_direct=True)
        self._bot.join(self.chat)
        self.person = self._ann.user_id
        self._looks = 0

    async def start(self) -> None:
        await self._proxy.start()

    async def stop(self) -> None:
        await self._proxy.stop()

    def settings(self) -> dict[str, Any]:
        return {"homeserver": self._proxy.url, "token": self._bot.token, "sync_seconds": 3}

    async def write(
        self,
        text: str,
        *,
        thread: str | None = None,
        reply_to: str | None = None,
        mention: bool = False,
        files: tuple[tuple[str, bytes], ...] = (),
    ) -> str:
        return await asyncio.to_thread(self._write, text, thread, files)

    def _write(self, text: str, thread: str | None, files: tuple[tuple[str, bytes], ...]) -> str:
        content: dict[str, Any] = {"msgtype": "m.text", "body": text}
        for name, data in files:
            address = self._ann.upload(data, name)
            content = {
                "msgtype": "m.file", "body": text, "filename": name, "url": address, "info": {"size": len(data)},
            }  # fmt: skip
        if thread is not None:
            content["m.relates_to"] = {"rel_type": "m.thread", "event_id": thread}
        return self._ann.send(self.chat, content)

    async def edit(self, message_id: str, text: str) -> None:
        new = {"msgtype": "m.text", "body": text}
        replace = {"rel_type": "m.replace", "event_id": message_id}
        content = {"msgtype": "m.text", "body": f"* {text}", "m.new_content": new, "m.relates_to": replace}
        await asyncio.to_thread(self._ann.send, self.chat, content)

    async def delete(self, message_id: str) -> None:
        await asyncio.to_thread(self._ann.redact, self.chat, message_id)

    async def click(self, message_id: str, value: str) -> None:
        raise NotImplementedError("there are no buttons")

    async def react(self, message_id: str, emoji: str | None) -> None:
        relation = {"rel_type": "m.annotation", "event_id": message_id, "key": emoji}
        await asyncio.to_thread(self._ann.send, self.chat, {"m.relates_to": relation}, "m.reaction")

    async def new_thread(self) -> str:
        return await asyncio.to_thread(self._bot.say, self.chat, "the first of a thread", msgtype="m.notice")

    async def arrived(self) -> list[Arrived]:
        return await asyncio.to_thread(self._arrived)

    def _arrived(self) -> list[Arrived]:
        timeline = self._ann.timeline(self.chat)
        changed = {
            event["content"]["m.relates_to"]["event_id"]: event["content"]["m.new_content"]["body"]
            for event in timeline
            if event["content"].get("m.relates_to", {}).get("rel_type") == "m.replace" and self._is_ours(event)
        }
        return [
            self._seen(event, changed, timeline)
            for event in timeline
            if event["type"] == "m.room.message"
            and self._is_ours(event)
            and event["content"].get("body") not in ("the first of a thread", None)  # None: it was taken away
            and event["content"].get("m.relates_to", {}).get("rel_type") != "m.replace"
        ]

    def _seen(self, event: dict[str, Any], changed: dict[str, str], timeline: list[dict[str, Any]]) -> Arrived:
        content, event_id = event["content"], event["event_id"]
        relation = content.get("m.relates_to", {})
        has_file = "url" in content
        return Arrived(
            event_id,
            changed.get(event_id, content.get("body", "")),
            self.chat,
            relation["event_id"] if relation.get("rel_type") == "m.thread" else None,
            relation.get("m.in_reply_to", {}).get("event_id"),
            files=((content["body"], self._ann.download(content["url"])),) if has_file else (),
            reactions=tuple(
                each["content"]["m.relates_to"]["key"]
                for each in timeline
                if each["type"] == "m.reaction"
                and self._is_ours(each)
                and each["content"].get("m.relates_to", {}).get("event_id") == event_id
            ),
            edits=int(event_id in changed),
        )

    def _is_ours(self, event: dict[str, Any]) -> bool:
        return bool(event["sender"] == self._bot.user_id)

    async def fault(self, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
        limit = {"errcode": "M_LIMIT_EXCEEDED", "error": "too many", "retry_after_ms": int(seconds * 1000)}
        simple = {
            Fault.SLOW: faulty_proxy.slow(seconds),
            Fault.HANGS: faulty_proxy.never,
            Fault.TOO_MANY: faulty_proxy.answer(429, limit),
            Fault.FAILS: faulty_proxy.answer(500, {"errcode": "M_UNKNOWN", "error": "no"}),
            Fault.DROPS_BEFORE: faulty_proxy.drop_before,
            Fault.DROPS_AFTER: faulty_proxy.drop_after,
        }
        if fault in simple:
            self._proxy.troubles.extend([simple[fault]] * times)
        elif fault == Fault.CHAT_GONE:
            await asyncio.to_thread(
                self._ann.call, "POST", f"client/v3/rooms/{self.chat}/kick", {"user_id": self._bot.user_id}
            )
        elif fault == Fault.REVOKED:
            await asyncio.to_thread(self._bot.call, "POST", "client/v3/logout", {})
        else:
            self._proxy.deaf = re.compile(_SYNC)

    async def typing_count(self) -> int:
        return int(await asyncio.to_thread(self._is_typing))

    def _is_typing(self) -> bool:
        # Another filter each time: the server answers the same question for two minutes with what it said first.
        self._looks += 1
        only = f'{{"room": {{"timeline": {{"limit": {self._looks}}}, "ephemeral": {{"types": ["m.typing"]}}}}}}'
        joined = self._ann.call("GET", "client/v3/sync", filter=only)["rooms"]["join"].get(self.chat, {})
        return any(self._bot.user_id in each["content"]["user_ids"] for each in joined["ephemeral"]["events"])


@pytest.mark.full
class TestMatrix(ChannelContract):
    @pytest.fixture
    def subject(self, homeserver: Synapse) -> Subject:
        faults = ALL_FAULTS - {Fault.TWICE, Fault.SWAPPED}  # a sync is one answer: it has each event once, in order
        return Subject(
            platform=MatrixPlatform(homeserver),
            kind=TYPE,
            faults=faults,
            abilities=ALL_ABILITIES - {Ability.CLICK},
            most_text=60_000,  # an event has 64 KiB at most
        )
