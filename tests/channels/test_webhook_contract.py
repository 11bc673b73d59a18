"""What every channel must do, over real HTTP: one program posts until it is told "received", another gets the replies.

The first keeps what it could not post and posts it again, in order, as senders of webhooks do.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
import time
from contextlib import suppress
from itertools import count
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from host.channels.webhook import TYPE
from host.channels.webhook.signature import signed
from tests.channels.contract import CANARY, Ability, Arrived, ChannelContract, Fault, Subject
from tests.support.ports import free_port

SECRET = f"{CANARY}-of-the-webhook"
_AGAIN_SECONDS = 0.05


class WebhookPlatform:
    """Both programs: what is posted to the host, and what is posted by it."""

    chat = "alerts"
    person = "ann"

    def __init__(self) -> None:
        self._port = free_port()  # of the channel
        self._reply_port = free_port()
        self._runner: web.AppRunner | None = None
        self._posting: asyncio.Task[None] | None = None
        self._waiting: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self._numbers = count(1)
        self.unposted = 0  # requests that were not received yet
        self._taken: dict[str, dict[str, Any]] = {}
        self._troubles: list[tuple[Fault, float]] = []
        self._is_gone = False
        self._twice = 0
        self._held: list[tuple[str, dict[str, Any]]] | None = None

    async def start(self) -> None:
        application = web.Application(client_max_size=64 * 1024**2)
        application.router.add_post("/replies", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._reply_port, reuse_address=True).start()
        if self._posting is None:
            self._posting = asyncio.create_task(self._post_all())

    async def stop(self) -> None:
        """No reply is taken. What people write is posted all the same: that is another program."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def end(self) -> None:
        """Both programs end."""
        await self.stop()
        if self._posting is not None:
            self._posting.cancel()
            await asyncio.gather(self._posting, return_exceptions=True)

    def settings(self) -> dict[str, Any]:
        return {"secret": SECRET, "port": self._port, "url": f"http://127.0.0.1:{self._reply_port}/replies"}

    async def write(
        self,
        text: str,
        *,
        thread: str | None = None,
        reply_to: str | None = None,
        mention: bool = False,
        files: tuple[tuple[str, bytes], ...] = (),
    ) -> str:
        message_id = f"posted-{next(self._numbers)}"
        body = {"text": text, "sender": self.person} | ({} if thread is None else {"thread": thread})
        if self._held is not None:
            self._held.append((message_id, body))
            if len(self._held) == 2:
                for each in reversed(self._held):
                    self._put(each)
                self._held = None
            return message_id
        self._put((message_id, body))
        if self._twice:
            self._twice -= 1
            self._put((message_id, body))
        return message_id

    def _put(self, request: tuple[str, dict[str, Any]]) -> None:
        self.unposted += 1
        self._waiting.put_nowait(request)

    async def _post_all(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                message_id, body = await self._waiting.get()
                while not await self._post(session, message_id, json.dumps(body).encode()):
                    await asyncio.sleep(_AGAIN_SECONDS)
                self.unposted -= 1

    async def _post(self, session: aiohttp.ClientSession, message_id: str, data: bytes) -> bool:
        """Whether it was received."""
        headers = {"Content-Type": "application/json"} | signed(SECRET, message_id, int(time.time()), data)
        url = f"http://127.0.0.1:{self._port}/{self.chat}"
        with suppress(aiohttp.ClientError, OSError):
            async with session.post(url, data=io.BytesIO(data), headers=headers) as response:
                return response.status == 202
        return False

    async def edit(self, message_id: str, text: str) -> None:
        raise NotImplementedError("a request is not changed")

    async def delete(self, message_id: str) -> None:
        raise NotImplementedError("a request is not taken back")

    async def click(self, message_id: str, value: str) -> None:
        raise NotImplementedError("there are no buttons")

    async def react(self, message_id: str, emoji: str | None) -> None:
        raise NotImplementedError("there are no reactions of people")

    async def new_thread(self) -> str:
        return f"thread-{next(self._numbers)}"

    async def _take(self, request: web.Request) -> web.Response:
        """One reply, the way a careful receiver takes it: its signature is checked, and it is taken once."""
        body = await request.read()
        message_id = request.headers["webhook-id"]
        content = f"{message_id}.{request.headers['webhook-timestamp']}.".encode() + body
        right = base64.b64encode(hmac.digest(SECRET.encode(), content, hashlib.sha256)).decode()
        assert request.headers["webhook-signature"] == f"v1,{right}", "the signature of a reply is not right"
        if self._is_gone:
            return web.Response(status=410)
        fault, seconds = self._troubles.pop(0) if self._troubles else (None, 0.0)
        match fault:
            case Fault.SLOW:
                await asyncio.sleep(seconds)
            case Fault.HANGS:
                await asyncio.Event().wait()
            case Fault.TOO_MANY:
                return web.Response(status=429, headers={"Retry-After": str(int(seconds))})
            case Fault.FAILS:
                return web.Response(status=500)
            case Fault.DROPS_BEFORE:
                return _cut(request)
        self._taken.setdefault(message_id, json.loads(body))
        return _cut(request) if fault == Fault.DROPS_AFTER else web.Response(status=204)

    async def arrived(self) -> list[Arrived]:
        seen: dict[str, dict[str, Any]] = {}
        for message_id, each in self._taken.items():
            match each["type"]:
                case "message":
                    seen[message_id] = each | {"reactions": (), "edits": 0}
                case "edit":
                    before = seen[each["message_id"]]
                    before |= {"text": each["text"], "edits": before["edits"] + 1}
                case "reaction":
                    seen[each["message_id"]]["reactions"] = () if each["emoji"] is None else (each["emoji"],)
        return [
            Arrived(
                message_id,
                each["text"],
                each["chat"],
                each["thread"],
                each["in_reply_to"],
                files=tuple((file["name"], base64.b64decode(file["content"])) for file in each["files"]),
                reactions=each["reactions"],
                edits=each["edits"],
            )
            for message_id, each in seen.items()
        ]

    async def fault(self, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
        if fault == Fault.CHAT_GONE:
            self._is_gone = True
        elif fault == Fault.TWICE:
            self._twice = times
        elif fault == Fault.SWAPPED:
            self._held = []
        else:
            self._troubles.extend([(fault, seconds)] * times)

    @property
    def has_faults(self) -> bool:
        """Whether the next reply meets a fault."""
        return bool(self._troubles)

    def heal(self) -> None:
        """No reply meets a fault any more."""
        self._troubles.clear()

    async def typing_count(self) -> int:
        return 0


class TestWebhook(ChannelContract):
    @pytest.fixture
    async def subject(self) -> Any:
        platform = WebhookPlatform()
        yield Subject(
            platform=platform,
            kind=TYPE,
            faults=frozenset(Fault) - {Fault.REVOKED, Fault.DEAF},  # there is no connection of ours that hears
            abilities=frozenset({Ability.THREADS, Ability.AWAY}),
            is_remote=False,
            most_text=1_000_000,  # what is larger is refused at once (test_webhook.py), and its sender told so
            needs_clock=True,
        )
        await platform.end()


def _cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
