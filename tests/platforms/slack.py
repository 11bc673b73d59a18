"""A fake Slack: the Web API over HTTP, the socket of Socket Mode, and events posted to us.

It speaks as Slack's documents state it (docs.slack.dev: "Using Socket Mode", "Verifying requests", the pages of the
methods). A method or an argument that it does not know is an error of the test: `unknown` has it, and `running` raises
it at the end. `faults` says for a method what goes wrong at its next calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from itertools import count
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import WSMsgType, web

BOT_TOKEN = "xoxb-canary-4f1d7a90-bot"
APP_TOKEN = "xapp-canary-4f1d7a90-app"
SIGNING_SECRET = "canary-4f1d7a90-signing-secret"
BOT, BOT_ID, TEAM, ANN, BOB = "UBOT1", "BBOT1", "T1", "UANN1", "UBOB1"
DIRECT, CHANNEL = "D1", "C1"
ALL_SCOPES = (
    "app_mentions:read,channels:history,channels:read,chat:write,commands,files:read,files:write,groups:history,"
    "groups:read,im:history,im:read,im:write,mpim:history,mpim:read,reactions:read,reactions:write,users:read"
)


class Fault(StrEnum):
    """What goes wrong with one call. `DROP_AFTER`: it is carried out, and its answer is lost."""

    TOO_FAST = "429"
    BROKEN = "503"
    NOT_JSON = "text"
    NO_OBJECT = "array"
    DROP_BEFORE = "drop before"
    DROP_AFTER = "drop after"
    HANGS = "hangs"
    SLOW = "slow"


_ARGUMENTS: dict[str, set[str]] = {
    "auth.test": set(),
    "apps.connections.open": set(),
    "chat.postMessage": {"channel", "thread_ts", "text", "blocks", "metadata", "unfurl_links", "unfurl_media"},
    "chat.update": {"channel", "ts", "text", "blocks", "metadata"},
    "chat.delete": {"channel", "ts"},
    "chat.startStream": {"channel", "thread_ts", "markdown_text", "recipient_team_id", "recipient_user_id"},
    "chat.appendStream": {"channel", "ts", "markdown_text"},
    "chat.stopStream": {"channel", "ts", "markdown_text", "blocks", "metadata"},
    "conversations.history": {"channel", "oldest", "latest", "limit", "cursor", "include_all_metadata"},
    "conversations.replies": {"channel", "ts", "oldest", "latest", "limit", "cursor", "include_all_metadata"},
    "conversations.info": {"channel"},
    "conversations.open": {"users"},
    "users.conversations": {"types", "exclude_archived", "limit", "cursor"},
    "users.info": {"user"},
    "reactions.add": {"channel", "timestamp", "name"},
    "reactions.remove": {"channel", "timestamp", "name"},
    "reactions.get": {"channel", "timestamp"},
    "files.info": {"file"},
    "files.getUploadURLExternal": {"filename", "length"},
    "files.completeUploadExternal": {"files", "channel_id", "thread_ts", "initial_comment"},
    "assistant.threads.setStatus": {"channel_id", "thread_ts", "status"},
}


class FakeSlack:
    """One workspace with one app in it."""

    def __init__(self) -> None:
        self.url = ""
        self.token, self.app_token = BOT_TOKEN, APP_TOKEN
        self.scopes = ALL_SCOPES
        self.revoked: str | None = None
        self.refuses: dict[str, str] = {}
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.unknown: list[str] = []
        self.messages: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.chats: dict[str, dict[str, Any]] = {
            DIRECT: {"id": DIRECT, "is_im": True, "user": ANN},
            CHANNEL: {"id": CHANNEL, "is_channel": True, "name": "general"},
        }
        self.users = {ANN: "Ann", BOB: "Bob"}
        self.files: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, tuple[str, bytes]] = {}
        self.statuses: list[tuple[str, str, str]] = []
        self.offers_streams = False
        self.streaming: set[str] = set()
        self.sockets: list[web.WebSocketResponse] = []
        self.is_open = True
        self.greets = True
        self.answers_pings = True
        self.is_deaf = False
        self.swaps = False
        self._late: dict[str, Any] | None = None
        self.acknowledged: set[str] = set()
        self.envelopes: dict[str, dict[str, Any]] = {}
        self.post_to: str | None = None
        self.redirect: str | None = None
        self.wait_seconds = 1
        self.twice = 0
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._numbers = count(1)
        self._hanging = asyncio.Event()

    async def start(self) -> None:
        """Serve. Also again after `stop`, on the same address: what it knew it still knows."""
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_post("/api/{method}", self._api)
        app.router.add_get("/link", self._link)
        app.router.add_post("/upload/{file}", self._upload)
        app.router.add_get("/files/{file}", self._download)
        self._hanging.clear()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = int(self._runner.addresses[0][1])
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Nothing answers any more, and connections break. May be called twice."""
        self._hanging.set()
        await self.drop_sockets()
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
        thread: str | None = None,
        files: dict[str, bytes] | None = None,
        **more: Any,
    ) -> str:
        """A person writes; the `ts` of the message. A mention in a channel comes as two events, as Slack does it."""
        ts = self._ts()
        message: dict[str, Any] = {"type": "message", "user": user, "text": text, "ts": ts, "team": TEAM, **more}
        if thread is not None:
            message["thread_ts"] = thread
            parent = self.message(chat, thread)
            parent["latest_reply"] = ts
            message["parent_user_id"] = parent.get("user", BOT)
        if files:
            message["subtype"] = "file_share"
            message["files"] = [self._file(name, data) for name, data in files.items()]
        self.messages[chat].append(message)
        kind = "im" if chat.startswith("D") else "channel"
        await self.send_event({**message, "channel": chat, "channel_type": kind, "event_ts": ts})
        if f"<@{BOT}>" in text and kind == "channel":
            mention = {key: value for key, value in message.items() if key != "subtype"}
            await self.send_event({**mention, "type": "app_mention", "channel": chat, "event_ts": ts})
        return ts

    async def edit(self, chat: str, ts: str, text: str) -> None:
        """A person changes a message."""
        message = self.message(chat, ts)
        before = dict(message)
        message.update(text=text, edited={"user": message["user"], "ts": self._ts()})
        await self.send_event(
            {
                "type": "message", "subtype": "message_changed", "hidden": True, "channel": chat, "ts": self._ts(),
                "message": dict(message), "previous_message": before, "channel_type": "im",
            }
        )  # fmt: skip

    async def delete(self, chat: str, ts: str) -> None:
        """A person deletes a message."""
        message = self.message(chat, ts)
        self.messages[chat].remove(message)
        await self.send_event(
            {
                "type": "message", "subtype": "message_deleted", "hidden": True, "channel": chat, "ts": self._ts(),
                "deleted_ts": ts, "previous_message": message,
            }
        )  # fmt: skip

    async def react(self, chat: str, ts: str, name: str, *, user: str = ANN, added: bool = True) -> None:
        """A person puts a reaction on a message."""
        item = {"type": "message", "channel": chat, "ts": ts}
        kind = "reaction_added" if added else "reaction_removed"
        await self.send_event(
            {"type": kind, "user": user, "reaction": name, "item": item, "item_user": BOT, "event_ts": self._ts()}
        )

    async def click(self, chat: str, ts: str, label: str, *, user: str = ANN) -> str:
        """A person presses the button with that label; the envelope's id."""
        message = self.message(chat, ts)
        buttons = [each for block in message["blocks"] if block["type"] == "actions" for each in block["elements"]]
        button = next(each for each in buttons if each["text"]["text"] == label)
        payload = {
            "type": "block_actions",
            "user": {"id": user, "username": self.users[user].lower(), "name": self.users[user], "team_id": TEAM},
            "trigger_id": f"trigger-{next(self._numbers)}",
            "team": {"id": TEAM},
            "container": {"type": "message", "message_ts": ts, "channel_id": chat},
            "channel": {"id": chat, "name": "general"},
            "message": message,
            "actions": [
                {
                    "type": "button", "action_id": button["action_id"], "block_id": "b", "value": button["value"],
                    "text": button["text"], "action_ts": self._ts(),
                }
            ],
        }  # fmt: skip
        return await self._send("interactive", payload)

    async def command(self, command: str, text: str, *, chat: str = DIRECT, user: str = ANN) -> None:
        """A person gives a slash command."""
        await self._send(
            "slash_commands",
            {
                "command": command, "text": text, "user_id": user, "user_name": self.users[user].lower(),
                "channel_id": chat, "channel_name": "general", "team_id": TEAM,
                "trigger_id": f"trigger-{next(self._numbers)}",
            },
        )  # fmt: skip

    async def send_event(self, event: dict[str, Any]) -> str:
        """Send an event of the Events API; the envelope's id."""
        number = next(self._numbers)
        return await self._send(
            "events_api",
            {
                "type": "event_callback",
                "team_id": TEAM,
                "event_id": f"Ev{number}",
                "event": event,
            },
        )

    async def send_again(self) -> None:
        """Slack sends what was not acknowledged once more."""
        for envelope_id, envelope in list(self.envelopes.items()):
            if envelope_id not in self.acknowledged:
                await self._to_socket({**envelope, "retry_attempt": 1, "retry_reason": "timeout"})

    async def send_twice(self, envelope_id: str) -> None:
        """An envelope comes a second time, though it was acknowledged."""
        await self._to_socket({**self.envelopes[envelope_id], "retry_attempt": 1})

    # What tests look at

    def message(self, chat: str, ts: str) -> dict[str, Any]:
        """A message by its `ts`."""
        return next(each for each in self.messages[chat] if each["ts"] == ts)

    def ours(self, chat: str = DIRECT) -> list[dict[str, Any]]:
        """What the bot has written in a chat."""
        return [each for each in self.messages[chat] if each.get("user") == BOT]

    def texts(self, chat: str = DIRECT) -> list[str]:
        """The texts of what the bot has written in a chat."""
        return [each["text"] for each in self.ours(chat)]

    def called(self, method: str) -> list[dict[str, Any]]:
        """The arguments of the calls of a method."""
        return [arguments for name, arguments in self.calls if name == method]

    async def drop_sockets(self) -> None:
        """The connections break, without a word."""
        for socket in list(self.sockets):
            if (transport := socket._req.transport if socket._req else None) is not None:
                transport.abort()
        self.sockets.clear()

    async def to_sockets(self, text: str) -> None:
        """Send this to every connection, as it is."""
        for socket in self.sockets:
            await socket.send_str(text)

    # The server

    async def _send(self, kind: str, payload: dict[str, Any]) -> str:
        envelope_id = f"envelope-{next(self._numbers)}"
        envelope = {"envelope_id": envelope_id, "type": kind, "payload": payload, "accepts_response_payload": False}
        self.envelopes[envelope_id] = envelope
        if self.post_to is not None:
            await self.post(kind, payload)
        else:
            await self._to_socket(envelope)
        return envelope_id

    async def post(self, kind: str, payload: dict[str, Any], *, secret: str = SIGNING_SECRET, moment: int | None = None,
                   head: dict[str, str] | None = None) -> tuple[int, dict[str, str]]:  # fmt: skip
        """Post to the app, signed; the status, and the head that was sent (to send the same again)."""
        assert self.post_to is not None
        if kind == "events_api":
            body, content_type = json.dumps(payload), "application/json"
        else:
            fields = {"payload": json.dumps(payload)} if kind == "interactive" else payload
            body, content_type = urlencode(fields), "application/x-www-form-urlencoded"
        stamp = str(int(time.time()) if moment is None else moment)
        signature = hmac.new(secret.encode(), f"v0:{stamp}:{body}".encode(), hashlib.sha256).hexdigest()
        head = (
            head if head is not None else {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={signature}"}
        )
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                self.post_to, data=io.BytesIO(body.encode()), headers={**head, "Content-Type": content_type}
            ) as response,
        ):
            return response.status, head

    async def _to_socket(self, envelope: dict[str, Any]) -> None:
        if self.swaps:  # this one is sent behind the next one
            self.swaps = False
            self._late = envelope
            return
        late, self._late = self._late, None
        await self._to_socket_now(envelope)
        if late is not None:
            await self._to_socket_now(late)

    async def _to_socket_now(self, envelope: dict[str, Any]) -> None:
        for socket in reversed(self.sockets):
            if not socket.closed:
                if self.is_deaf:
                    return
                for _ in range(2 if self.twice else 1):
                    await socket.send_str(json.dumps(envelope))
                self.twice = max(0, self.twice - 1)
                return

    def _ts(self) -> str:
        return f"{int(time.time())}.{next(self._numbers):06d}"

    def _file(self, name: str, data: bytes) -> dict[str, Any]:
        file_id = f"F{next(self._numbers)}"
        self.files[file_id] = {
            "id": file_id, "name": name, "title": name, "size": len(data), "mode": "hosted", "mimetype": "text/plain",
            "url_private_download": f"{self.url}/files/{file_id}", "data": data,
        }  # fmt: skip
        return {key: value for key, value in self.files[file_id].items() if key != "data"}

    async def _api(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        arguments = dict(await request.post())
        if method not in _ARGUMENTS or not set(arguments) <= _ARGUMENTS[method]:
            self.unknown.append(f"{method} {sorted(arguments)}")
            return web.json_response({"ok": False, "error": "unknown_method"})
        for name in ("blocks", "metadata", "files"):
            if name in arguments:
                arguments[name] = json.loads(str(arguments[name]))
        self.calls.append((method, arguments))
        fault = self.faults[method].popleft() if self.faults[method] else None
        match fault:
            case Fault.TOO_FAST:
                return _too_fast(self.wait_seconds)
            case Fault.BROKEN:
                return web.Response(status=503, text="<html>try later</html>", content_type="text/html")
            case Fault.NOT_JSON:
                return web.Response(status=200, text="upstream connect error")
            case Fault.NO_OBJECT:
                return web.json_response([1])
            case Fault.DROP_BEFORE:
                return self._cut(request)
            case Fault.SLOW:
                await asyncio.sleep(self.wait_seconds)
            case Fault.HANGS:
                await self._hanging.wait()
                return self._cut(request)
        answer = self._answer(method, arguments, request.headers.get("Authorization", ""))
        if fault == Fault.DROP_AFTER:
            return self._cut(request)
        head = {"x-oauth-scopes": self.scopes} if method == "auth.test" else {}
        return web.json_response(answer, headers=head)

    def _cut(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _answer(self, method: str, given: dict[str, Any], authorization: str) -> dict[str, Any]:
        wanted = self.app_token if method == "apps.connections.open" else self.token
        if self.revoked is not None:
            return {"ok": False, "error": self.revoked}
        if authorization != f"Bearer {wanted}":
            return {"ok": False, "error": "invalid_auth"}
        if (code := self.refuses.get(method)) is not None:
            return {"ok": False, "error": code, "needed": "some:scope", "provided": "none"}
        name = method.replace(".", "_")
        found: dict[str, Any] = getattr(self, f"_do_{name}")(given)
        return {"ok": "error" not in found, **found}

    def _do_auth_test(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"url": "https://x.slack.com/", "team": "X", "user": "dumbwaiter", "team_id": TEAM, "user_id": BOT,
                "bot_id": BOT_ID}  # fmt: skip

    def _do_apps_connections_open(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"url": self.url.replace("http", "ws", 1) + f"/link?ticket=canary-{next(self._numbers)}"}

    def _do_chat_postMessage(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["channel"] not in self.chats:
            return {"error": "channel_not_found"}
        if not given.get("text") and not given.get("blocks"):
            return {"error": "no_text"}
        if len(given.get("text", "")) > 40_000 or any(
            len(block.get("text", {}).get("text", "")) > 3_000 for block in given.get("blocks", [])
        ):
            return {"error": "msg_too_long"}
        ts = self._ts()
        message = {"type": "message", "user": BOT, "bot_id": BOT_ID, "ts": ts, "text": given.get("text", ""),
                   "blocks": given.get("blocks", []), "metadata": given.get("metadata")}  # fmt: skip
        if "thread_ts" in given:
            message["thread_ts"] = given["thread_ts"]
        self.messages[given["channel"]].append(message)
        return {"channel": given["channel"], "ts": ts, "message": message}

    def _do_chat_update(self, given: dict[str, Any]) -> dict[str, Any]:
        found = [each for each in self.messages[given["channel"]] if each["ts"] == given["ts"]]
        if not found:
            return {"error": "message_not_found"}
        if found[0].get("user") != BOT:
            return {"error": "cant_update_message"}
        if given["ts"] in self.streaming:
            return {"error": "streaming_state_conflict"}
        if len(given["text"]) > 4_000:
            return {"error": "msg_too_long"}
        found[0].update(text=given["text"], blocks=given.get("blocks", found[0]["blocks"]))
        return {"channel": given["channel"], "ts": given["ts"], "text": given["text"]}

    def _do_chat_startStream(self, given: dict[str, Any]) -> dict[str, Any]:
        if not self.offers_streams:
            return {"error": "feature_not_enabled"}
        if "thread_ts" not in given:
            return {"error": "invalid_arguments"}
        if given["channel"].startswith("C") and not {"recipient_team_id", "recipient_user_id"} <= given.keys():
            return {"error": "missing_recipient_user_id"}
        made = self._do_chat_postMessage({"channel": given["channel"], "thread_ts": given["thread_ts"],
                                          "text": given["markdown_text"]})  # fmt: skip
        self.streaming.add(made["ts"])
        return {"channel": given["channel"], "ts": made["ts"]}

    def _do_chat_appendStream(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["ts"] not in self.streaming:
            return {"error": "message_not_in_streaming_state"}
        (found,) = [each for each in self.messages[given["channel"]] if each["ts"] == given["ts"]]
        found["text"] += given["markdown_text"]
        return {"channel": given["channel"], "ts": given["ts"]}

    def _do_chat_stopStream(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["ts"] not in self.streaming:
            return {"error": "message_not_in_streaming_state"}
        self.streaming.discard(given["ts"])
        return {"channel": given["channel"], "ts": given["ts"]}

    def _do_chat_delete(self, given: dict[str, Any]) -> dict[str, Any]:
        found = [each for each in self.messages[given["channel"]] if each["ts"] == given["ts"]]
        if not found:
            return {"error": "message_not_found"}
        if found[0].get("user") != BOT:
            return {"error": "cant_delete_message"}
        self.messages[given["channel"]].remove(found[0])
        return {"channel": given["channel"], "ts": given["ts"]}

    def _do_conversations_history(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["channel"] not in self.chats:
            return {"error": "channel_not_found"}
        top = [each for each in self.messages[given["channel"]] if each.get("thread_ts") in (None, each["ts"])]
        return self._page(list(reversed(top)), given)

    def _do_conversations_replies(self, given: dict[str, Any]) -> dict[str, Any]:
        thread = [
            each for each in self.messages[given["channel"]] if given["ts"] in (each["ts"], each.get("thread_ts"))
        ]
        return self._page(thread, given) if thread else {"error": "thread_not_found"}

    def _page(self, messages: list[dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
        oldest = float(given.get("oldest", 0))
        found = [dict(each) for each in messages if float(each["ts"]) > oldest]
        if given.get("include_all_metadata") != "true":
            for each in found:
                each.pop("metadata", None)
        start, limit = int(given.get("cursor", 0)), int(given.get("limit", 100))
        more = str(start + limit) if len(found) > start + limit else ""
        return {"messages": found[start : start + limit], "response_metadata": {"next_cursor": more}}

    def _do_conversations_info(self, given: dict[str, Any]) -> dict[str, Any]:
        chat = self.chats.get(given["channel"])
        return {"error": "channel_not_found"} if chat is None else {"channel": chat}

    def _do_conversations_open(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["users"] not in self.users:
            return {"error": "user_not_found"}
        return {"channel": {"id": DIRECT if given["users"] == ANN else f"D-{given['users']}"}}

    def _do_users_conversations(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"channels": list(self.chats.values()), "response_metadata": {"next_cursor": ""}}

    def _do_users_info(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["user"] not in self.users:
            return {"error": "user_not_found"}
        name = self.users[given["user"]]
        return {"user": {"id": given["user"], "name": name.lower(), "profile": {"display_name": name}}}

    def _do_reactions_add(self, given: dict[str, Any]) -> dict[str, Any]:
        reactions = self.message(given["channel"], given["timestamp"]).setdefault("reactions", [])
        if any(each["name"] == given["name"] for each in reactions):
            return {"error": "already_reacted"}
        reactions.append({"name": given["name"], "users": [BOT], "count": 1})
        return {}

    def _do_reactions_remove(self, given: dict[str, Any]) -> dict[str, Any]:
        message = self.message(given["channel"], given["timestamp"])
        message["reactions"] = [each for each in message.get("reactions", []) if each["name"] != given["name"]]
        return {}

    def _do_reactions_get(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"type": "message", "message": self.message(given["channel"], given["timestamp"])}

    def _do_files_info(self, given: dict[str, Any]) -> dict[str, Any]:
        file = self.files.get(given["file"])
        if file is None:
            return {"error": "file_not_found"}
        return {"file": {key: value for key, value in file.items() if key != "data"}}

    def _do_files_getUploadURLExternal(self, given: dict[str, Any]) -> dict[str, Any]:
        if int(given["length"]) == 0:
            return {"error": "invalid_arguments"}
        file_id = f"F{next(self._numbers)}"
        self.uploads[file_id] = (given["filename"], b"")
        return {"upload_url": f"{self.url}/upload/{file_id}", "file_id": file_id}

    def _do_files_completeUploadExternal(self, given: dict[str, Any]) -> dict[str, Any]:
        files = []
        for each in given["files"]:
            name, data = self.uploads[each["id"]]
            self.files[each["id"]] = {"id": each["id"], "name": name, "title": each.get("title", name), "data": data}
            files.append({"id": each["id"], "name": name, "title": each.get("title", name)})
        message = {"type": "message", "user": BOT, "bot_id": BOT_ID, "ts": self._ts(), "text": "", "files": files}
        if "thread_ts" in given:
            message["thread_ts"] = given["thread_ts"]
        self.messages[given["channel_id"]].append(message)
        return {"files": files}

    def _do_assistant_threads_setStatus(self, given: dict[str, Any]) -> dict[str, Any]:
        self.statuses.append((given["channel_id"], given["thread_ts"], given["status"]))
        return {}

    async def _upload(self, request: web.Request) -> web.Response:
        file_id = request.match_info["file"]
        self.uploads[file_id] = (self.uploads[file_id][0], await request.read())
        return web.Response(text="OK - 1")

    async def _download(self, request: web.Request) -> web.Response:
        if self.redirect is not None:
            raise web.HTTPFound(self.redirect)
        if request.headers.get("Authorization") != f"Bearer {self.token}" or "files:read" not in self.scopes:
            return web.Response(text="<html>Log in</html>", content_type="text/html")
        return web.Response(body=self.files[request.match_info["file"]]["data"], content_type="text/plain")

    async def _link(self, request: web.Request) -> web.StreamResponse:
        if not self.is_open:
            return web.Response(status=503)
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        if self.greets:
            await socket.send_json({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}})
        self.sockets.append(socket)
        try:
            async for message in socket:
                if message.type == WSMsgType.PING and not self.is_deaf and self.answers_pings:
                    await socket.pong(message.data)
                elif message.type == WSMsgType.TEXT:
                    self.acknowledged.add(json.loads(message.data)["envelope_id"])
        finally:
            if socket in self.sockets:
                self.sockets.remove(socket)
        return socket


def _too_fast(seconds: int) -> web.Response:
    return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers={"Retry-After": str(seconds)})


@asynccontextmanager
async def running() -> AsyncIterator[FakeSlack]:
    """A fake Slack, until the block ends. Raises `AssertionError` for calls that Slack does not know."""
    fake = FakeSlack()
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()
    assert not fake.unknown, f"Slack knows nothing of {fake.unknown}"
