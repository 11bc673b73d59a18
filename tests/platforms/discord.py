"""A fake Discord: the REST API, and the gateway over a websocket.

It speaks as Discord's documents state it (docs.discord.com: "Gateway", "Gateway events", "Message", "Receiving and
responding"). A call that it does not know is an error of the test: `unknown` has it, and `running` raises it at the
end. `faults` are what goes wrong at the next calls that send or change a message.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from itertools import count
from typing import Any

from aiohttp import BodyPartReader, WSMsgType, web

TOKEN = "MTIzNDU2.canary-4f1d7a90.bot-token"
BOT, APPLICATION, ANN, BOB = "1001", "1002", "2001", "2002"
GUILD, CHANNEL, DIRECT, ROLE = "3001", "4001", "4002", "5001"
_EPOCH = 1_420_070_400
_READ_MESSAGES = 1 << 19
_V = "/api/v10"


class Fault(StrEnum):
    """What goes wrong with one call. `DROP_AFTER`: it is carried out, and its answer is lost."""

    TOO_FAST = "429"
    BROKEN = "503"
    DROP_BEFORE = "drop before"
    DROP_AFTER = "drop after"
    HANGS = "hangs"
    SLOW = "slow"


class FakeDiscord:
    """One server with a channel, a bot in it, and two people."""

    def __init__(self) -> None:
        self.url = ""
        self.token: str | None = TOKEN
        self.flags = _READ_MESSAGES
        self.is_in_guild = True
        self.faults: deque[Fault] = deque()
        self.wait_seconds = 1.0
        self.refuses: tuple[int, int] | None = None
        self.unknown: list[str] = []
        self.calls: list[tuple[str, str]] = []
        self.messages: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.channels: dict[str, dict[str, Any]] = {
            CHANNEL: {"id": CHANNEL, "type": 0, "guild_id": GUILD, "name": "general"},
            DIRECT: {"id": DIRECT, "type": 1, "recipients": [{"id": ANN}]},
        }
        self.people = {ANN: "Ann", BOB: "Bob"}
        self.files: dict[str, bytes] = {}
        self.typing = 0
        self.commands: list[dict[str, Any]] = []
        self.answers: list[tuple[str, dict[str, Any]]] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.identified: list[dict[str, Any]] = []
        self.resumed = 0
        self.is_deaf = False
        self.heartbeat_seconds = 10.0
        self.twice = 0
        self._nonces: dict[str, dict[str, Any]] = {}
        self._sent: list[dict[str, Any]] = []
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._last_id = 0
        self._numbers = count(1)
        self._hanging = asyncio.Event()

    async def start(self) -> None:
        """Serve. Also again after `stop`, on the same address: what it knew it still knows."""
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_get("/gateway", self._gateway)
        app.router.add_get("/files/{file}", self._download)
        app.router.add_route("*", "/{path:.*}", self._rest)
        self._hanging.clear()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = int(self._runner.addresses[0][1])
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Nothing answers any more, and connections break. May be called twice."""
        self._hanging.set()
        self.drop_sockets()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # What people do

    async def say(
        self,
        text: str,
        *,
        chat: str = DIRECT,
        user: str = ANN,
        reply_to: str | None = None,
        files: dict[str, bytes] | None = None,
        **more: Any,
    ) -> str:
        """A person writes; the id of the message."""
        message = self._message(chat, {"id": user, "username": self.people[user].lower(), "global_name": None}, text)
        message["mentions"] = [{"id": each} for each in (BOT, ANN, BOB) if f"<@{each}>" in text]
        message["attachments"] = [self._file(name, data) for name, data in (files or {}).items()]
        if reply_to is not None:
            message |= {"type": 19, "message_reference": {"message_id": reply_to, "channel_id": chat}}
            message["referenced_message"] = self.message(chat, reply_to)
        message |= more
        self.messages[chat].append(message)
        await self.dispatch("MESSAGE_CREATE", self._with_place(message))
        return str(message["id"])

    async def edit(self, chat: str, message_id: str, text: str, *, preview_only: bool = False) -> None:
        """A person changes a message; or Discord itself adds the preview of a link."""
        message = self.message(chat, message_id)
        message["content"] = text
        if not preview_only:
            message["edited_timestamp"] = "2026-11-29T00:00:00+00:00"
        await self.dispatch("MESSAGE_UPDATE", self._with_place(message))

    async def delete(self, chat: str, message_id: str) -> None:
        """A person deletes a message."""
        self.messages[chat].remove(self.message(chat, message_id))
        await self.dispatch("MESSAGE_DELETE", self._with_place({"id": message_id, "channel_id": chat}))

    async def react(self, chat: str, message_id: str, emoji: str, *, user: str = ANN, added: bool = True) -> None:
        """A person puts a reaction on a message."""
        data = {"user_id": user, "channel_id": chat, "message_id": message_id, "emoji": {"id": None, "name": emoji}}
        await self.dispatch(f"MESSAGE_REACTION_{'ADD' if added else 'REMOVE'}", self._with_place(data))

    async def click(self, chat: str, message_id: str, value: str, *, user: str = ANN) -> dict[str, Any]:
        """A person presses the button with that value."""
        message = self.message(chat, message_id)
        assert any(each["custom_id"] == value for row in message["components"] for each in row["components"])
        given = {"component_type": 2, "custom_id": value}
        return await self._interact(3, chat, user, given, message={"id": message_id, "channel_id": chat})

    async def command(self, name: str, text: str = "", *, chat: str = DIRECT, user: str = ANN) -> dict[str, Any]:
        """A person gives a slash command."""
        options = [{"name": "text", "type": 3, "value": text}] if text else []
        return await self._interact(2, chat, user, {"id": self._id(), "name": name, "type": 1, "options": options})

    async def new_thread(self) -> str:
        """Somebody begins a thread in the channel; its id."""
        thread_id = self._id()
        self.channels[thread_id] = {
            "id": thread_id, "type": 11, "guild_id": GUILD, "parent_id": CHANNEL, "name": "a thread",
        }  # fmt: skip
        await self.dispatch("THREAD_CREATE", self.channels[thread_id])
        return thread_id

    async def dispatch(self, name: str, data: dict[str, Any]) -> None:
        """Send an event. Where no connection is, it waits for the session to be resumed."""
        frame = {"op": 0, "t": name, "s": len(self._sent) + 1, "d": data}
        self._sent.append(frame)
        for socket in self.sockets:
            if not socket.closed and not self.is_deaf:
                for _ in range(2 if self.twice and name == "MESSAGE_CREATE" else 1):
                    await socket.send_str(json.dumps(frame))
                self.twice = max(0, self.twice - 1)

    # What tests look at

    def message(self, chat: str, message_id: str) -> dict[str, Any]:
        """A message by its id."""
        return next(each for each in self.messages[chat] if each["id"] == message_id)

    def ours(self, chat: str = DIRECT) -> list[dict[str, Any]]:
        """What the bot has written in a chat."""
        return [each for each in self.messages[chat] if each["author"]["id"] == BOT]

    def texts(self, chat: str = DIRECT) -> list[str]:
        """The texts of what the bot has written in a chat."""
        return [each["content"] for each in self.ours(chat)]

    def drop_sockets(self) -> None:
        """The connections break, without a word."""
        for socket in self.sockets:
            if (transport := socket._req.transport if socket._req else None) is not None:
                transport.abort()
        self.sockets.clear()

    async def close_sockets(self, code: int) -> None:
        """Discord closes the connections with that code."""
        for socket in list(self.sockets):
            await socket.close(code=code)

    def forget_nonces(self) -> None:
        """Some minutes later."""
        self._nonces.clear()

    # The server

    async def _interact(self, kind: int, chat: str, user: str, given: dict[str, Any], **more: Any) -> dict[str, Any]:
        person = {"id": user, "username": self.people[user].lower(), "global_name": self.people[user]}
        data: dict[str, Any] = {
            "id": self._id(), "application_id": APPLICATION, "type": kind, "data": given, "channel_id": chat,
            "channel": self.channels[chat], "token": f"canary-4f1d7a90-{next(self._numbers)}", "version": 1, **more,
        }  # fmt: skip
        if "guild_id" in self.channels[chat]:
            data |= {"guild_id": GUILD, "member": {"user": person, "nick": None}}
        else:
            data["user"] = person
        await self.dispatch("INTERACTION_CREATE", data)
        return data

    def _id(self) -> str:
        self._last_id = max(self._last_id + 1, int((time.time() - _EPOCH) * 1000) << 22)
        return str(self._last_id)

    def _message(self, chat: str, author: dict[str, Any], text: str) -> dict[str, Any]:
        message_id = self._id()
        self.channels[chat]["last_message_id"] = message_id
        return {
            "id": message_id, "channel_id": chat, "author": author, "content": text, "type": 0, "tts": False,
            "edited_timestamp": None, "timestamp": "2026-11-29T00:00:00+00:00", "mention_everyone": False,
            "mentions": [], "mention_roles": [], "attachments": [], "embeds": [], "pinned": False, "components": [],
            "reactions": [],
        }  # fmt: skip

    def _with_place(self, message: dict[str, Any]) -> dict[str, Any]:
        guild = self.channels[message["channel_id"]].get("guild_id")
        return message if guild is None else {**message, "guild_id": guild, "member": {"nick": None, "roles": []}}

    def _file(self, name: str, data: bytes) -> dict[str, Any]:
        file_id = self._id()
        self.files[file_id] = data
        return {"id": file_id, "filename": name, "size": len(data), "url": f"{self.url}/files/{file_id}"}

    async def _gateway(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if not self.is_deaf:
            await socket.send_json({"op": 10, "d": {"heartbeat_interval": int(self.heartbeat_seconds * 1000)}})
        async for message in socket:
            if message.type == WSMsgType.TEXT and not self.is_deaf:
                await self._frame(socket, json.loads(message.data))
        if socket in self.sockets:
            self.sockets.remove(socket)
        return socket

    async def _frame(self, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        match frame["op"]:
            case 1:
                await socket.send_json({"op": 11})
            case 2 if frame["d"]["token"] != self.token:
                await socket.close(code=4004)
            case 2 if frame["d"]["intents"] & 1 << 15 and not self.flags:
                await socket.close(code=4014)
            case 2:
                self.identified.append(frame["d"])
                self._sent.clear()
                self.sockets.append(socket)
                guilds = [{"id": GUILD, "unavailable": True}] if self.is_in_guild else []
                ready = {
                    "v": 10, "user": {"id": BOT, "username": "dumbwaiter", "bot": True}, "guilds": guilds,
                    "session_id": "session-1", "application": {"id": APPLICATION, "flags": self.flags},
                    "resume_gateway_url": self.url.replace("http", "ws", 1) + "/gateway",
                }  # fmt: skip
                await self.dispatch("READY", ready)
                if self.is_in_guild:
                    await self.dispatch("GUILD_CREATE", self.guild())
            case 6 if frame["d"]["token"] != self.token:
                await socket.close(code=4004)
            case 6:
                self.resumed += 1
                for missed in self._sent:
                    if missed["s"] > frame["d"]["seq"]:
                        await socket.send_json(missed)
                self.sockets.append(socket)
                await socket.send_json({"op": 0, "t": "RESUMED", "s": len(self._sent), "d": {}})
            case op:
                self.unknown.append(f"gateway op {op}")

    def guild(self) -> dict[str, Any]:
        """The server, as the gateway tells of it."""
        there = [each for each in self.channels.values() if each.get("guild_id") == GUILD]
        return {
            "id": GUILD, "name": "Our server", "system_channel_id": CHANNEL,
            "channels": [each for each in there if each["type"] == 0],
            "threads": [each for each in there if each["type"] == 11],
            "roles": [{"id": ROLE, "name": "Dumbwaiter", "tags": {"bot_id": BOT}}],
        }  # fmt: skip

    async def _download(self, request: web.Request) -> web.Response:
        if "Authorization" in request.headers:
            self.unknown.append("the token was shown to the store of files")
        return web.Response(body=self.files[request.match_info["file"]])

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        path, method = "/" + request.match_info["path"].removeprefix(_V.lstrip("/")).lstrip("/"), request.method
        self.calls.append((method, path))
        parts = path.strip("/").split("/")
        if parts[0] == "interactions" and method == "POST" and parts[3:] == ["callback"]:
            self.answers.append((parts[1], await request.json()))
            return web.Response(status=204)
        if request.headers.get("Authorization") != f"Bot {self.token}":
            return _json({"message": "401: Unauthorized", "code": 0}, status=401)
        is_sending = method in ("POST", "PATCH") and "messages" in parts
        fault = self.faults.popleft() if is_sending and self.faults else None
        if is_sending and self.refuses is not None:
            return _json({"message": "no", "code": self.refuses[1]}, status=self.refuses[0])
        match fault:
            case Fault.TOO_FAST:
                body = {"message": "You are being rate limited.", "retry_after": self.wait_seconds, "global": False}
                return _json(body, status=429, headers={"Via": "1.1 google"})
            case Fault.BROKEN:
                return web.Response(status=503, text="upstream connect error")
            case Fault.DROP_BEFORE:
                return self._cut(request)
            case Fault.HANGS:
                await self._hanging.wait()
                return self._cut(request)
            case Fault.SLOW:
                await asyncio.sleep(self.wait_seconds)
        answer = await self._answer(request, method, parts)
        return self._cut(request) if fault == Fault.DROP_AFTER else answer

    def _cut(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _answer(self, request: web.Request, method: str, parts: list[str]) -> web.Response:
        match [method, *parts]:
            case ["GET", "users", "@me"]:
                return _json({"id": BOT, "username": "dumbwaiter", "global_name": None, "bot": True})
            case ["GET", "applications", "@me"]:
                return _json({"id": APPLICATION, "name": "Dumbwaiter", "flags": self.flags})
            case ["GET", "users", "@me", "guilds"]:
                return _json([{"id": GUILD}] if self.is_in_guild else [])
            case ["GET", "gateway", "bot"]:
                limit = {"total": 1000, "remaining": 999, "reset_after": 1000, "max_concurrency": 1}
                url = self.url.replace("http", "ws", 1) + "/gateway"
                return _json({"url": url, "shards": 1, "session_start_limit": limit})
            case ["PUT", "applications", application, "commands"] if application == APPLICATION:
                self.commands = await request.json()
                return _json(self.commands)
            case ["POST", "users", "@me", "channels"]:
                given = await request.json()
                if given["recipient_id"] not in self.people:
                    return _json({"message": "Unknown User", "code": 10013}, status=404)
                return _json({"id": DIRECT, "type": 1})
            case ["GET", "users", user]:
                return _json({"id": user, "username": self.people[user].lower(), "global_name": "Ann"})
            case ["GET", "channels", channel] if channel in self.channels:
                return _json(self.channels[channel])
            case ["POST", "channels", channel, "typing"] if channel in self.channels:
                self.typing += 1
                return web.Response(status=204)
            case ["GET", "channels", channel, "messages"] if channel in self.channels:
                after, limit = int(request.query.get("after", 0)), int(request.query.get("limit", 50))
                found = [each for each in self.messages[channel] if int(each["id"]) > after]
                page = found[:limit] if after else found[-limit:]
                return _json(list(reversed(page)))
            case ["GET", "channels", channel, "messages", message_id] if channel in self.channels:
                return _json(self.message(channel, message_id))
            case ["POST", "channels", channel, "messages"] if channel in self.channels:
                return await self._create(request, channel)
            case ["PATCH", "channels", channel, "messages", message_id] if channel in self.channels:
                message, given = self.message(channel, message_id), await request.json()
                message |= {"content": given["content"], "components": given.get("components", message["components"])}
                return _json(message)
            case ["DELETE", "channels", channel, "messages", message_id] if channel in self.channels:
                kept = [each for each in self.messages[channel] if each["id"] != message_id]
                if len(kept) == len(self.messages[channel]):
                    return _json({"message": "Unknown Message", "code": 10008}, status=404)
                self.messages[channel] = kept
                return web.Response(status=204)
            case ["PUT" | "DELETE", "channels", channel, "messages", message_id, "reactions", emoji, "@me"]:
                message = self.message(channel, message_id)
                message["reactions"] = [each for each in message["reactions"] if each["emoji"]["name"] != emoji]
                if method == "PUT":
                    message["reactions"].append({"emoji": {"id": None, "name": emoji}, "count": 1, "me": True})
                return web.Response(status=204)
            case [_, "channels", _, *_]:
                return _json({"message": "Unknown Channel", "code": 10003}, status=404)
        self.unknown.append(f"{method} {'/'.join(parts)}")
        return _json({"message": "404: Not Found", "code": 0}, status=404)

    async def _create(self, request: web.Request, channel: str) -> web.Response:
        files: list[tuple[str, bytes]] = []
        if request.content_type == "application/json":
            given = await request.json()
        else:
            async for part in await request.multipart():
                assert isinstance(part, BodyPartReader)
                if part.name == "payload_json":
                    given = json.loads(await part.text())
                else:
                    files.append((part.filename or "", bytes(await part.read())))
        if not given.get("content") and not files:
            return _json({"message": "Cannot send an empty message", "code": 50006}, status=400)
        if len(given.get("content") or "") > 2_000:
            return _json({"message": "Invalid Form Body", "code": 50035}, status=400)
        assert given["enforce_nonce"] is True
        assert len(given["nonce"]) <= 25
        if (known := self._nonces.get(given["nonce"])) is not None:
            return _json(known)
        assert "everyone" not in given["allowed_mentions"]["parse"]
        message = self._message(channel, {"id": BOT, "username": "dumbwaiter", "bot": True}, given.get("content") or "")
        message["components"] = given.get("components", [])
        if (reference := given.get("message_reference")) is not None:
            message |= {"type": 19, "message_reference": reference}
        message["attachments"] = [self._file(name, data) for name, data in files]
        self.messages[channel].append(message)
        self._nonces[given["nonce"]] = message
        await self.dispatch("MESSAGE_CREATE", self._with_place(message))
        return _json(message)


def _json(data: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    # Discord says no charset, and the SDK takes nothing else for JSON.
    head = {"Content-Type": "application/json", **(headers or {})}
    return web.Response(body=json.dumps(data).encode(), status=status, headers=head)


@asynccontextmanager
async def running() -> AsyncIterator[FakeDiscord]:
    """A fake Discord, until the block ends. Raises `AssertionError` for calls that Discord does not know."""
    fake = FakeDiscord()
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()
    assert not fake.unknown, f"Discord knows nothing of {fake.unknown}"
