"""A fake of Telegram's Bot API: https://core.telegram.org/bots/api, as far as bots of ours use it.

    POST or GET /bot<token>/<method>   parameters in the query, as a form, as JSON or as multipart
    GET /file/bot<token>/<path>        a file

It keeps what a bot sends (`sent`), gives updates to long polls or to a webhook until they are confirmed, refuses what
Telegram refuses, in its words, counts its rate limits (`breaches`), and can fail in every way (`faults`). A call or a
parameter that it does not know is answered with an error and kept in `complaints`, which fails the test at its end.

    async with telegram_server() as server:
        # api_url = server.url
        server.say("hello")
        await server.wait_for(1)
"""

from __future__ import annotations

import asyncio
import contextlib
import html.parser
import json
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

TOKEN = "123456789:AAF-canary-4f1d7a90_Of_The_Fake-Bot00"
ME = {
    "id": 123456789, "is_bot": True, "first_name": "Waiter", "username": "waiter_bot", "can_join_groups": True,
    "can_read_all_group_messages": True, "supports_inline_queries": False, "can_connect_to_business": False,
    "has_main_web_app": False,
}  # fmt: skip
ANN = {"id": 1001, "is_bot": False, "first_name": "Ann", "username": "ann"}
GROUP = -500
SUPERGROUP = -1001234567890

_MAX_UPLOAD = 50 * 1024**2
_SEND = {"chat_id", "message_thread_id", "reply_parameters", "reply_markup", "disable_notification", "protect_content"}
_KNOWN: dict[str, set[str]] = {
    "getMe": set(),
    "getUpdates": {"offset", "limit", "timeout", "allowed_updates"},
    "setWebhook": {"url", "secret_token", "allowed_updates", "max_connections", "drop_pending_updates"},
    "deleteWebhook": {"drop_pending_updates"},
    "getWebhookInfo": set(),
    "sendMessage": _SEND | {"text", "parse_mode", "link_preview_options"},
    "editMessageText": {"chat_id", "message_id", "text", "parse_mode", "link_preview_options", "reply_markup"},
    "deleteMessage": {"chat_id", "message_id"},
    "sendPhoto": _SEND | {"photo", "caption", "parse_mode"},
    "sendDocument": _SEND | {"document", "caption", "parse_mode"},
    "sendMediaGroup": _SEND | {"media"},
    "sendChatAction": {"chat_id", "message_thread_id", "action"},
    "setMessageReaction": {"chat_id", "message_id", "reaction", "is_big"},
    "answerCallbackQuery": {"callback_query_id", "text", "show_alert"},
    "getFile": {"file_id"},
    "getChat": {"chat_id"},
}
_COUNTED = {"sendMessage", "editMessageText", "sendPhoto", "sendDocument", "sendMediaGroup"}
_TAGS = {"b", "strong", "i", "em", "u", "s", "code", "pre", "a", "blockquote", "tg-spoiler"}
_EMOJI = {"👍", "👎", "❤", "🔥", "👏", "😁", "🤔", "🎉", "👀", "⚡", "🙏", "👌", "💯", "🤝", "🫡", "🏆"}


@dataclass
class Call:
    """One call as it came; `files` are the bytes of what was uploaded, by the name of the part."""

    method: str
    parameters: dict[str, Any]
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    at: float = 0.0

    @property
    def text(self) -> str:
        """The text or caption."""
        return str(self.parameters.get("text") or self.parameters.get("caption") or "")


class Refusal(Exception):
    """What Telegram answers with instead of a result."""

    def __init__(self, code: int, description: str, **parameters: Any) -> None:
        super().__init__(description)
        self.code, self.description, self.parameters = code, description, parameters


Fault = Callable[[Call, Callable[[], Awaitable[web.StreamResponse]], web.Request], Awaitable[web.StreamResponse]]
"""What becomes of a call instead: it may do it (the second argument) before, after, or not at all."""


def status(code: int, retry_after: int | None = None) -> Fault:
    """Answered with that status, and not done."""

    async def fault(call: Call, do: Any, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = {"ok": False, "error_code": code, "description": "fault"}
        if retry_after is not None:
            body["parameters"] = {"retry_after": retry_after}
        return web.json_response(body, status=code)

    return fault


def slow(seconds: float) -> Fault:
    """Done after a while."""

    async def fault(call: Call, do: Any, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        found: web.StreamResponse = await do()
        return found

    return fault


async def drop_before(call: Call, do: Any, request: web.Request) -> web.StreamResponse:
    """The connection is dropped, and the call not done."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def drop_after(call: Call, do: Any, request: web.Request) -> web.StreamResponse:
    """The call is done, and the connection dropped before the answer."""
    await do()
    return await drop_before(call, do, request)


async def hang(call: Call, do: Any, request: web.Request) -> web.StreamResponse:
    """Nothing is answered, ever."""
    await asyncio.sleep(3600)
    return web.Response()


async def garbage(call: Call, do: Any, request: web.Request) -> web.StreamResponse:
    """An answer that is no JSON, as proxies give it."""
    return web.Response(text="<html>no", content_type="text/html")


class TelegramServer:
    """One fake Bot API with one bot."""

    def __init__(self, token: str = TOKEN, me: dict[str, Any] | None = None) -> None:
        self.token = token
        self.me = me or dict(ME)
        self.url = ""
        self.is_down = False
        self.revoked = False
        self.calls: list[Call] = []
        self.sent: list[dict[str, Any]] = []
        """Messages of the bot, in order, as they are now: edits change them."""
        self.complaints: list[str] = []
        self.breaches: list[str] = []
        self.limits = True
        """Whether what comes too fast is answered with 429."""
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        """What becomes of the next calls of a method; of getUpdates, too."""
        self.send_faults: deque[Fault] = deque()
        """What becomes of the next calls that send, edit or upload something."""
        self.is_deaf = False
        self.refuses: Callable[[Call], Refusal | None] = lambda call: None
        self.chats: dict[int, dict[str, Any]] = {}
        self.blocked: set[int] = set()
        self.moved: dict[int, int] = {}
        self.files: dict[str, bytes] = {}
        self.lying_sizes = False
        self.pending: list[dict[str, Any]] = []
        self.confirmed = 0
        self.webhook: dict[str, Any] = {}
        self.answered_clicks: list[str] = []
        self.reactions: dict[tuple[int, int], list[str]] = {}
        self.polls = 0
        self._update_id = 700_000_000
        self._message_ids: dict[int, int] = defaultdict(lambda: 100)
        self._messages: dict[tuple[int, int], dict[str, Any]] = {}
        self._changed = asyncio.Condition()
        self._poller: asyncio.Task[Any] | None = None
        self._times: dict[object, deque[float]] = defaultdict(deque)
        self._hooks: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._port = 0

    # --- what people do ---

    def chat(self, chat_id: int, **more: Any) -> dict[str, Any]:
        """A chat, made the first time it is spoken of."""
        if chat_id not in self.chats:
            if chat_id > 0:
                made: dict[str, Any] = {"id": chat_id, "type": "private", "first_name": f"Person {chat_id}"}
            elif chat_id < -(10**12):
                made = {"id": chat_id, "type": "supergroup", "title": "Kitchen"}
            else:
                made = {"id": chat_id, "type": "group", "title": "Kitchen"}
            self.chats[chat_id] = made
        self.chats[chat_id] |= more
        return self.chats[chat_id]

    def message(self, text: str | None = None, *, chat: int = 1001, sender: Any = None, **more: Any) -> dict[str, Any]:
        """A message of a person's, which nobody has got yet."""
        self._message_ids[chat] += 1
        made = {
            "message_id": self._message_ids[chat],
            "date": int(time.time()),
            "chat": self.chat(chat),
            "from": sender or (dict(ANN) if chat < 0 or chat == 1001 else dict(ANN, id=chat, first_name=f"P{chat}")),
        }
        if text is not None:
            made["text"] = text
        made |= more
        self._messages[chat, made["message_id"]] = made
        return made

    def say(self, text: str | None = None, **options: Any) -> dict[str, Any]:
        """Somebody writes."""
        message = self.message(text, **options)
        self.push(message=message)
        return message

    def push(self, **happened: Any) -> int:
        """An update, with what happened as the API calls it; its number."""
        self._update_id += 1
        return self.push_raw({"update_id": self._update_id, **happened})

    def push_raw(self, update: Any) -> int:
        """An update as it is, however odd."""
        self.pending.append(update)
        self._notify()
        return self._update_id

    def next_update_id(self) -> int:
        """A fresh number for `push_raw`."""
        self._update_id += 1
        return self._update_id

    def edit(self, message: dict[str, Any], text: str) -> None:
        """Somebody changes a message."""
        message |= {"text": text, "edit_date": int(time.time())}
        self.push(edited_message=dict(message))

    def click(self, message: dict[str, Any], row: int, *, sender: Any = None, click_id: str = "4711") -> None:
        """Somebody presses a button."""
        button = message["reply_markup"]["inline_keyboard"][row][0]
        self.push(
            callback_query={
                "id": click_id, "from": sender or dict(ANN), "message": message, "chat_instance": "1",
                "data": button["callback_data"],
            }
        )  # fmt: skip

    def react(self, message: dict[str, Any], emoji: str | None) -> None:
        """Somebody reacts to a message."""
        new = [] if emoji is None else [{"type": "emoji", "emoji": emoji}]
        self.push(
            message_reaction={
                "chat": message["chat"], "message_id": message["message_id"], "user": dict(ANN),
                "date": int(time.time()), "old_reaction": [], "new_reaction": new,
            }
        )  # fmt: skip

    def member(self, chat: int, before: str, now: str) -> None:
        """The bot is added, thrown out, blocked."""
        self.push(
            my_chat_member={
                "chat": self.chat(chat), "from": dict(ANN), "date": int(time.time()),
                "old_chat_member": _member(self.me, before), "new_chat_member": _member(self.me, now),
            }
        )  # fmt: skip

    def file(self, content: bytes, *, size: int | None = None, **more: Any) -> dict[str, Any]:
        """A file that a message may carry."""
        file_id = f"file{len(self.files)}"
        self.files[file_id] = content
        return {"file_id": file_id, "file_unique_id": f"u{file_id}", "file_size": size or len(content), **more}

    # --- what tests ask ---

    async def wait_for(self, count: int, seconds: float = 30.0) -> list[dict[str, Any]]:
        """Wait until that many messages were sent."""
        await self.until(lambda: len(self.sent) >= count, seconds, lambda: f"{len(self.sent)} of {count} were sent")
        return self.sent

    async def until(
        self,
        condition: Callable[[], object],
        seconds: float = 30.0,
        what: Callable[[], str] = lambda: "it did not come",
    ) -> None:
        """Wait until something is true that calls bring about."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise AssertionError(f"not within {seconds:g} s: {what()}") from None

    def calls_of(self, method: str) -> list[Call]:
        """The calls of one method."""
        return [call for call in self.calls if call.method == method]

    # --- the wire ---

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(client_max_size=_MAX_UPLOAD + 2 * 1024**2)
        application.router.add_route("*", "/bot{token}/{method}", self._call)
        application.router.add_get("/file/bot{token}/{path:.*}", self._file)
        return application

    async def _call(self, request: web.Request) -> web.StreamResponse:
        if self.is_down:
            return await drop_before(Call("", {}), None, request)
        call = Call(request.match_info["method"], *await _parameters(request), at=time.monotonic())
        token = request.match_info["token"]
        self.calls.append(call)

        async def do() -> web.StreamResponse:
            try:
                if token != self.token or self.revoked:
                    raise Refusal(401, "Unauthorized")
                result = await self._do(call)
            except Refusal as refusal:
                body: dict[str, Any] = {"ok": False, "error_code": refusal.code, "description": refusal.description}
                if refusal.parameters:
                    body["parameters"] = refusal.parameters
                return web.json_response(body, status=refusal.code)
            finally:
                self._notify()
            return web.json_response({"ok": True, "result": result})

        if self.is_deaf and call.method in ("getUpdates", "getMe"):
            return await hang(call, do, request)
        if call.method in _COUNTED and self.send_faults:
            return await self.send_faults.popleft()(call, do, request)
        if self.faults[call.method]:
            return await self.faults[call.method].popleft()(call, do, request)
        return await do()

    async def _do(self, call: Call) -> Any:
        if call.method not in _KNOWN:
            self.complaints.append(f"unknown method {call.method}")
            raise Refusal(404, "Not Found")
        if unknown := set(call.parameters) - _KNOWN[call.method]:
            self.complaints.append(f"{call.method} has no parameters {sorted(unknown)}")
            raise Refusal(400, f"Bad Request: unknown parameters {sorted(unknown)}")
        if "chat_id" in call.parameters and call.method != "getChat":
            self._require_chat(call)
        if call.method in _COUNTED:
            self._count(call)
        if (refusal := self.refuses(call)) is not None:
            raise refusal
        handler = getattr(self, "_" + "".join(f"_{c.lower()}" if c.isupper() else c for c in call.method))
        return await handler(call)

    def _require_chat(self, call: Call) -> None:
        chat = _int(call, "chat_id")
        if chat in self.moved:
            raise Refusal(
                400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=self.moved[chat]
            )
        if chat in self.blocked:
            said = "bot was blocked by the user" if chat > 0 else "bot was kicked from the group chat"
            raise Refusal(403, f"Forbidden: {said}")
        if chat not in self.chats:
            raise Refusal(400, "Bad Request: chat not found")

    def _count(self, call: Call) -> None:
        """30 a second in all, 20 a minute in a group; in a chat one a second, with short bursts."""
        chat, now = _int(call, "chat_id"), time.monotonic()
        rules: list[tuple[object, int, float]] = [("all", 30, 1.0), (chat, 5, 3.0), (("steady", chat), 60, 60.0)]
        if chat < 0:
            rules.append((("group", chat), 20, 60.0))
        for key, count, seconds in rules:
            times = self._times[key]
            while times and times[0] <= now - seconds:
                times.popleft()
            if len(times) >= count:
                self.breaches.append(f"{key}: more than {count} in {seconds:g} s")
                if self.limits:
                    wait = max(1, round(times[0] + seconds - now + 0.5))
                    raise Refusal(429, f"Too Many Requests: retry after {wait}", retry_after=wait)
            times.append(now)

    # --- the methods ---

    async def _get_me(self, call: Call) -> Any:
        return self.me

    async def _get_updates(self, call: Call) -> Any:
        if self.webhook.get("url"):
            raise Refusal(409, "Conflict: can't use getUpdates method while webhook is active")
        if self._poller is not None and not self._poller.done():
            self._poller.cancel()  # the later one wins
        self.polls += 1
        offset = int(call.parameters.get("offset") or 0)
        limit = int(call.parameters.get("limit") or 100)
        if offset > 0:
            kept = [update for update in self.pending if not _is_below(update, offset)]
            self.confirmed += len(self.pending) - len(kept)
            self.pending = kept
            self._notify()
        wait = asyncio.ensure_future(self._something(float(call.parameters.get("timeout") or 0)))
        self._poller = wait
        try:
            await wait
        except asyncio.CancelledError:
            if wait.cancelled() and self._poller is not wait:
                raise Refusal(
                    409,
                    "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
                ) from None
            wait.cancel()
            raise
        allowed = json.loads(call.parameters.get("allowed_updates") or "[]")
        found = [update for update in self.pending if _is_wanted(update, allowed)]
        return found[:limit]

    async def _something(self, seconds: float) -> None:
        if seconds <= 0:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: bool(self.pending))

    async def _set_webhook(self, call: Call) -> Any:
        self.webhook = {"url": call.parameters["url"], "secret": call.parameters.get("secret_token")}
        if self._hooks is None:
            self._hooks = asyncio.create_task(self._call_webhook())
        return True

    async def _delete_webhook(self, call: Call) -> Any:
        self.webhook = {}
        return True

    async def _get_webhook_info(self, call: Call) -> Any:
        info = {
            "url": self.webhook.get("url", ""), "has_custom_certificate": False,
            "pending_update_count": len(self.pending),
        }  # fmt: skip
        if "error" in self.webhook:
            info |= {"last_error_message": self.webhook["error"], "last_error_date": int(time.time())}
        return info

    async def _send_message(self, call: Call) -> Any:
        shown = _shown(call, "text", 4096)
        if not shown.strip():
            raise Refusal(400, "Bad Request: message text is empty")
        return self._keep(call, {"text": shown, "html": call.parameters.get("text")})

    async def _edit_message_text(self, call: Call) -> Any:
        message = self._messages.get((_int(call, "chat_id"), _int(call, "message_id")))
        if message is None:
            raise Refusal(400, "Bad Request: message to edit not found")
        if message["from"]["id"] != self.me["id"]:
            raise Refusal(400, "Bad Request: message can't be edited")
        shown, keyboard = _shown(call, "text", 4096), _keyboard(call)
        if not shown.strip():
            raise Refusal(400, "Bad Request: message text is empty")
        if shown == message.get("text") and keyboard == message.get("reply_markup"):
            raise Refusal(
                400,
                "Bad Request: message is not modified: specified new message content and reply markup are exactly "
                "the same as a current content and reply markup of the message",
            )
        message |= {"text": shown, "html": call.parameters["text"], "edit_date": int(time.time())}
        message.pop("reply_markup", None)
        if keyboard is not None:
            message["reply_markup"] = keyboard
        return _public(message)

    async def _delete_message(self, call: Call) -> Any:
        message = self._messages.get((_int(call, "chat_id"), _int(call, "message_id")))
        if message is None:
            raise Refusal(400, "Bad Request: message to delete not found")
        if message["from"]["id"] != self.me["id"]:
            raise Refusal(400, "Bad Request: message can't be deleted")
        del self._messages[_int(call, "chat_id"), _int(call, "message_id")]
        self.sent = [each for each in self.sent if each["message_id"] != message["message_id"]]
        return True

    async def _send_photo(self, call: Call) -> Any:
        name, content = self._upload(call, "photo")
        if not content.startswith((b"\x89PNG", b"\xff\xd8", b"RIFF")):
            raise Refusal(400, "Bad Request: IMAGE_PROCESS_FAILED")
        size = self.file(content, width=1, height=1)
        return self._keep(
            call, {"photo": [size], "caption": _shown(call, "caption", 1024), "uploads": [(name, content)]}
        )

    async def _send_document(self, call: Call) -> Any:
        name, content = self._upload(call, "document")
        made = {"document": self.file(content, file_name=name), "caption": _shown(call, "caption", 1024)}
        return self._keep(call, made | {"uploads": [(name, content)]})

    async def _send_media_group(self, call: Call) -> Any:
        media = json.loads(call.parameters["media"])
        if not 2 <= len(media) <= 10:
            raise Refusal(400, "Bad Request: wrong number of messages in an album")
        if len({each["type"] for each in media}) != 1:
            raise Refusal(400, "Bad Request: documents can't be mixed with other media types")
        made = []
        for each in media:
            part = each["media"].removeprefix("attach://")
            name, content = call.files[part]
            one = Call(
                call.method, {**call.parameters, **{k: v for k, v in each.items() if k in ("caption", "parse_mode")}}
            )
            uploaded = self.file(content)
            what = (
                {"photo": [uploaded | {"width": 1, "height": 1}]} if each["type"] == "photo" else {"document": uploaded}
            )
            shown = {"caption": _shown(one, "caption", 1024), "uploads": [(name, content)], "media_group_id": "77"}
            made.append(self._keep(call, what | shown))
        return made

    async def _send_chat_action(self, call: Call) -> Any:
        return True

    async def _set_message_reaction(self, call: Call) -> Any:
        wanted = json.loads(call.parameters.get("reaction") or "[]")
        if any(each.get("emoji") not in _EMOJI for each in wanted):
            raise Refusal(400, "Bad Request: REACTION_INVALID")
        key = (_int(call, "chat_id"), _int(call, "message_id"))
        if key not in self._messages:
            raise Refusal(400, "Bad Request: message to react not found")
        self.reactions[key] = [each["emoji"] for each in wanted]
        return True

    async def _answer_callback_query(self, call: Call) -> Any:
        self.answered_clicks.append(call.parameters["callback_query_id"])
        return True

    async def _get_file(self, call: Call) -> Any:
        file_id = call.parameters["file_id"]
        if file_id not in self.files:
            raise Refusal(400, "Bad Request: wrong file_id or the file is temporarily unavailable")
        size = len(self.files[file_id])
        if size > 20 * 1024**2 and not self.lying_sizes:
            raise Refusal(400, "Bad Request: file is too big")
        return {"file_id": file_id, "file_unique_id": f"u{file_id}", "file_size": size, "file_path": f"docs/{file_id}"}

    async def _get_chat(self, call: Call) -> Any:
        chat = _int(call, "chat_id")
        if chat not in self.chats:
            raise Refusal(400, "Bad Request: chat not found")
        return self.chats[chat] | {"accent_color_id": 0, "max_reaction_count": 11, "accepted_gift_types": {
            "unlimited_gifts": True, "limited_gifts": True, "unique_gifts": True, "premium_subscription": True,
            "gifts_from_channels": True,
        }}  # fmt: skip

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["token"] != self.token:
            return web.Response(status=401)
        content = self.files.get(request.match_info["path"].removeprefix("docs/"))
        return web.Response(status=404) if content is None else web.Response(body=content)

    # --- inside ---

    def _upload(self, call: Call, name: str) -> tuple[str, bytes]:
        if name not in call.files:
            raise Refusal(400, f"Bad Request: there is no {name} in the request")
        file_name, content = call.files[name]
        if not content:
            raise Refusal(400, "Bad Request: file must be non-empty")
        if len(content) > _MAX_UPLOAD:
            raise Refusal(413, "Request Entity Too Large")
        return file_name, content

    def _keep(self, call: Call, content: dict[str, Any]) -> dict[str, Any]:
        chat = _int(call, "chat_id")
        reply = json.loads(call.parameters.get("reply_parameters") or "{}")
        made: dict[str, Any] = {key: value for key, value in content.items() if value not in (None, "")}
        self._message_ids[chat] += 1
        made |= {
            "message_id": self._message_ids[chat], "date": int(time.time()), "chat": self.chats[chat],
            "from": {key: self.me[key] for key in ("id", "is_bot", "first_name", "username")},
        }  # fmt: skip
        if reply:
            target = self._messages.get((chat, reply["message_id"]))
            if target is not None:
                made["reply_to_message"] = _public(target)
            elif not reply.get("allow_sending_without_reply"):
                raise Refusal(400, "Bad Request: message to be replied not found")
        if "message_thread_id" in call.parameters:
            made |= {"message_thread_id": _int(call, "message_thread_id"), "is_topic_message": True}
        if (keyboard := _keyboard(call)) is not None:
            made["reply_markup"] = keyboard
        made["at"] = time.monotonic()
        self._messages[chat, made["message_id"]] = made
        self.sent.append(made)
        return _public(made)

    def _notify(self) -> None:
        async def tell() -> None:
            async with self._changed:
                self._changed.notify_all()

        with contextlib.suppress(RuntimeError):  # a test may prepare it without a loop
            task = asyncio.get_running_loop().create_task(tell())
            self._telling = task

    async def _call_webhook(self) -> None:
        """Updates to the webhook, one after the other, each again until it is taken."""
        async with aiohttp.ClientSession() as session:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: bool(self.pending and self.webhook.get("url")))
                update = self.pending[0]
                headers = {"X-Telegram-Bot-Api-Secret-Token": self.webhook["secret"] or ""}
                try:
                    async with session.post(self.webhook["url"], json=update, headers=headers) as answer:
                        if answer.status == 200:
                            self.pending.remove(update)
                            self.confirmed += 1
                            self._notify()
                            continue
                        self.webhook["error"] = f"Wrong response from the webhook: {answer.status}"
                except aiohttp.ClientError as error:
                    self.webhook["error"] = type(error).__name__
                await asyncio.sleep(0.05)

    async def start(self, port: int = 0) -> None:
        """Serve. After `stop` at the same address, with everything that it knew."""
        assert self._runner is None, "it serves already"
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port or self._port).start()
        self._port = runner.addresses[0][1]
        self._runner = runner
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Nothing answers any more, and connections break. May be called twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            for connection in list(runner.server.connections if runner.server is not None else ()):
                if connection.transport is not None:
                    connection.transport.abort()
            await runner.cleanup()

    async def close(self) -> None:
        """Stop what runs beside the calls."""
        if self._hooks is not None:
            self._hooks.cancel()
            await asyncio.gather(self._hooks, return_exceptions=True)


@asynccontextmanager
async def telegram_server(token: str = TOKEN, port: int = 0, **options: Any) -> AsyncIterator[TelegramServer]:
    """A fake on a port of its own. Ends with a failure where it was called in a way that Telegram does not know."""
    server = TelegramServer(token, **options)
    await server.start(port)
    try:
        yield server
    finally:
        await server.close()
        await server.stop()
    assert server.complaints == []


class _Entities(html.parser.HTMLParser):
    """Telegram's HTML: known tags, closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.shown: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in _TAGS:
            raise Refusal(400, f'Bad Request: can\'t parse entities: Unsupported start tag "{tag}" at byte offset 0')
        if tag == "blockquote" and "blockquote" in self.open:
            raise Refusal(400, "Bad Request: can't parse entities: blockquotes can't be nested")
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            raise Refusal(400, f'Bad Request: can\'t parse entities: Unexpected end tag "{tag}" at byte offset 0')

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


def _shown(call: Call, name: str, longest: int) -> str:
    """The text as people see it. Raises what Telegram answers to one that it does not take."""
    text = str(call.parameters.get(name) or "")
    if (mode := call.parameters.get("parse_mode")) is not None:
        if mode != "HTML":
            raise Refusal(400, "Bad Request: unsupported parse_mode")
        parser = _Entities()
        parser.feed(text)
        parser.close()
        if parser.open:
            raise Refusal(400, f"Bad Request: can't parse entities: Can't find end tag corresponding to {parser.open}")
        text = "".join(parser.shown)
    if len(text.encode("utf-16-le", "surrogatepass")) // 2 > longest:
        raise Refusal(400, "Bad Request: message is too long" if name == "text" else "Bad Request: caption is too long")
    return text


def _keyboard(call: Call) -> Any:
    if "reply_markup" not in call.parameters:
        return None
    keyboard = json.loads(call.parameters["reply_markup"])
    for row in keyboard["inline_keyboard"]:
        for button in row:
            if not 1 <= len(button["callback_data"].encode()) <= 64:
                raise Refusal(400, "Bad Request: BUTTON_DATA_INVALID")
            if not button["text"]:
                raise Refusal(400, "Bad Request: text buttons must be non-empty")
    return keyboard


def _public(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key not in ("uploads", "html", "at")}


def _int(call: Call, name: str) -> int:
    try:
        return int(call.parameters[name])
    except (KeyError, ValueError):
        raise Refusal(400, f"Bad Request: {name} is empty or invalid") from None


def _is_below(update: Any, offset: int) -> bool:
    number = update.get("update_id") if isinstance(update, dict) else None
    return isinstance(number, int) and number < offset


def _is_wanted(update: Any, allowed: list[str]) -> bool:
    kinds = set(update) - {"update_id"} if isinstance(update, dict) else set()
    known = {
        "message_reaction",
        "edited_message",
        "channel_post",
        "edited_channel_post",
        "callback_query",
        "my_chat_member",
    }
    return not (kinds & known) or not allowed or bool(kinds & set(allowed))


def _member(user: dict[str, Any], state: str) -> dict[str, Any]:
    member: dict[str, Any] = {"user": {key: user[key] for key in ("id", "is_bot", "first_name")}, "status": state}
    if state == "kicked":
        member["until_date"] = 0
    return member


async def _parameters(request: web.Request) -> tuple[dict[str, Any], dict[str, tuple[str, bytes]]]:
    """The parameters of a call, from all the places where the Bot API takes them, and its files."""
    found: dict[str, Any] = dict(request.query)
    files: dict[str, tuple[str, bytes]] = {}
    if request.content_type == "application/json":
        found |= await request.json()
    elif request.content_type == "multipart/form-data":
        async for part in await request.multipart():
            content = bytes(await part.read())  # type: ignore[union-attr]
            if part.filename is not None:  # type: ignore[union-attr]
                files[str(part.name)] = (part.filename, content)  # type: ignore[union-attr]
            else:
                found[str(part.name)] = content.decode()  # type: ignore[union-attr]
    elif request.can_read_body:
        found |= dict(await request.post())
    return found, files


async def _serve(port: int) -> None:
    async with telegram_server(port=port) as server:
        print(f"api_url {server.url}  token {server.token}", flush=True)
        loop = asyncio.get_running_loop()
        shown = 0
        while line := await loop.run_in_executor(None, input):
            server.say(line)
            await server.until(lambda: len(server.sent) > shown)  # noqa: B023
            for message in server.sent[shown:]:
                print("bot:", message.get("text") or message.get("caption"), flush=True)
            shown = len(server.sent)


if __name__ == "__main__":
    import sys

    asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 8081))
