"""Talking to an agent in the browser.

    /chat                        the conversations of who is signed in, and how to begin one
    /chat/new?agent=NAME         an empty one; it begins with its first message
    /chat/<session>              one of them; `…/stream` is what happens in it
    /chat/<session>/file/<message>/<number>

Each send has an id that its window made up: a button that is pressed twice, and a window that tries again after the
host was away, send the same id, which the ledger takes once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from host.operations.file_content import content_of
from host.web import guard
from host.web.live import LiveStreams
from host.web.markdown import with_html
from host.web.site import Site, Who, back_to, form
from host.web.visitor import Visitor
from shared_schema.errors import Conflict, InvalidValue, NotFound

_CHUNK = 64 * 1024
_MOST_FIELDS = 40
_UPLOAD_SECONDS = 600.0
_LONGEST_FIELD = 2 * 1024**2
_LONGEST_TITLE = 200
_PICTURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
"""What is shown as a picture, by its first bytes; what its name says does not matter. SVG can hold scripts."""

ACTIONS = {
    "stop": "conversation.interrupt",
    "undo": "session.undo",
    "retry": "session.retry",
    "branch": "session.branch",
    "new": "session.new",
    "compress": "session.compress",
    "resume": "session.resume",
    "archive": "session.archive",
    "delete": "session.delete",
}
"""What can be done with a conversation; whose result is another session, the window goes on there."""


class ChatPages:
    """The conversations of each person who is signed in."""

    def __init__(self, site: Site, live: LiveStreams) -> None:
        self._site = site
        self._live = live
        site.get("/chat", Who.SIGNED_IN, self._list)
        site.get("/chat/new", Who.SIGNED_IN, self._new)
        site.post("/chat/send", Who.SIGNED_IN, self._send)
        site.get("/chat/{session}", Who.SIGNED_IN, self._show)
        site.get("/chat/{session}/stream", Who.SIGNED_IN, self._stream)
        site.get("/chat/{session}/file/{message}/{number}", Who.SIGNED_IN, self._file)
        site.post("/chat/{session}/read", Who.SIGNED_IN, self._read)
        site.post("/chat/{session}/title", Who.SIGNED_IN, self._title)
        site.post("/chat/{session}/do/{action}", Who.SIGNED_IN, self._do)

    async def _list(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        found = await self._site.do(visitor, "conversation.list", user=visitor.user)
        if len(found["agents"]) == 1 and not found["conversations"]:
            return back_to(f"/chat/new?agent={quote(found['agents'][0]['name'])}")
        if "part" in request.query:
            return self._site.page(request, "chat_list.html", **found, session=None)
        return self._site.page(request, "chat_start.html", **found, session=None)

    async def _new(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        found = await self._site.do(visitor, "conversation.list", user=visitor.user)
        agent = request.query.get("agent", "")
        if agent not in {each["name"] for each in found["agents"]}:
            raise NotFound("there is no such agent that you may talk to")
        # The thread is part of the address, so that the page can be loaded again while its first message is sent.
        thread = request.query.get("thread", "")
        if not thread.isalnum() or len(thread) > 40 or not thread.isascii():
            return back_to(f"/chat/new?agent={quote(agent)}&thread={secrets.token_hex(8)}")
        begun = next((each for each in found["conversations"] if each["thread_id"] == thread), None)
        if begun is not None:
            return back_to(f"/chat/{begun['id']}")
        return self._site.page(
            request, "chat.html", **found, session=None, agent=agent, thread=thread, entries=[], limits=self._limits()
        )

    async def _show(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        session = request.match_info["session"]
        shown = await self._site.do(visitor, "conversation.show", user=visitor.user, session=session)
        if not shown["is_own"]:
            return back_to(f"/sessions/{shown['id']}")
        if request.query.get("part") == "meter":
            return self._site.page(request, "chat_meter.html", session=shown)
        found = await self._site.do(visitor, "conversation.list", user=visitor.user)
        entries = await self._site.do(visitor, "conversation.transcript", session=shown["id"])
        return await self._site.made_page(
            request,
            "chat.html",
            lambda: {"entries": with_html(entries)},
            **found,
            session=shown,
            agent=shown["agent_group"],
            thread=shown["thread_id"],
            limits=self._limits(),
        )

    def _limits(self) -> dict[str, int]:
        settings = self._site.services.settings
        return {"files": settings.max_files, "bytes": settings.max_file_bytes, "text": settings.max_text}

    async def _stream(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        shown = await self._site.do(
            visitor, "conversation.show", user=visitor.user, session=request.match_info["session"]
        )
        return await self._live.send(request, visitor, self._told(request, shown["id"]))

    async def _told(self, request: web.Request, session_id: str) -> AsyncIterator[dict[str, Any]]:
        """What happens in a conversation, rendered. Entries go out when they are not what this stream has sent."""
        sent: dict[str, str] = {}
        async for each in self._site.follow("conversation.follow", session=session_id):
            kind = each.pop("type")
            if kind == "entries":
                items = []
                for entry in each["entries"]:
                    mark = hashlib.sha256(json.dumps(entry, sort_keys=True).encode("utf-8", "replace")).hexdigest()[:16]
                    item = {"id": entry["id"], "mark": mark}
                    if sent.get(entry["id"]) != mark:
                        (shown,) = with_html([entry])
                        item["html"] = self._site.render(request, "chat_entry.html", entry=shown, session_id=session_id)
                    items.append(item)
                    sent[entry["id"]] = mark
                yield {"event": "entries", "data": {"items": items}}
            elif kind == "working":
                draft = self._site.render(request, "chat_draft.html", draft=each["draft"]) if each["draft"] else ""
                yield {"event": "working", "data": each | {"draft": draft}}
            else:
                yield {"event": kind, "data": each}

    async def _send(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        folder = Path(await asyncio.to_thread(partial(tempfile.mkdtemp, prefix="upload-", dir=self._spool())))
        try:
            try:
                async with asyncio.timeout(_UPLOAD_SECONDS):
                    given, files = await self._received(request, folder)
            except TimeoutError as error:
                raise InvalidValue("the message did not come in time") from error
            except (
                ValueError,
                LookupError,
                web.RequestPayloadError,
                HttpProcessingError,
            ) as error:  # of a multipart that is none
                raise InvalidValue("this is not what the page sends") from error
            sent = await self._site.do(
                visitor,
                "conversation.send",
                user=visitor.user,
                agent_group=given.get("agent", ""),
                thread=given.get("thread", ""),
                text=given.get("text", ""),
                message_id=given.get("message_id", ""),
                files=files,
            )
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return web.json_response(sent | {"url": f"/chat/{sent['session_id']}"})

    def _spool(self) -> Path:
        folder = self._site.services.settings.layout.downloads / "web"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    async def _received(self, request: web.Request, folder: Path) -> tuple[dict[str, str], list[str]]:
        """The fields of a form and the paths of its files. Raises `InvalidValue` for more than is allowed."""
        if request.content_type != "multipart/form-data":
            return await form(request), []
        limits = self._limits()
        given: dict[str, str] = {}
        files: list[str] = []
        reader = await request.multipart()
        count = 0
        while (part := await reader.next()) is not None:
            count += 1
            if not isinstance(part, BodyPartReader) or count > _MOST_FIELDS + limits["files"]:
                raise InvalidValue("this is not what the page sends")
            if part.filename is None:
                given[str(part.name)] = (await _bounded(part, _LONGEST_FIELD)).decode("utf-8", "replace")
                continue
            if len(files) >= limits["files"]:
                raise InvalidValue(f"a message has {limits['files']} files at most")
            files.append(str(await _kept(part, folder / str(len(files)), limits["bytes"])))
        return given, files

    async def _file(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        number = request.match_info["number"]
        if not number.isascii() or not number.isdecimal() or len(number) > 4:
            raise NotFound("there is no such file in this conversation")
        of = request.match_info
        name, content = await content_of(
            self._site.services, of["session"], of["message"], int(number), user=visitor.user
        )
        picture = _picture(content)
        disposition = "inline" if picture is not None and "save" not in request.query else "attachment"
        return web.Response(
            body=content,
            content_type=picture or "application/octet-stream",
            headers={
                "Content-Disposition": f"{disposition}; filename*=UTF-8''{quote(name, safe='')}",
                "Content-Security-Policy": guard.FILE_POLICY,
                "Cache-Control": "private, max-age=3600",
            },
        )

    async def _read(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        await self._own(request, visitor)
        session = request.match_info["session"]
        return web.json_response(await self._site.do(visitor, "conversation.read", user=visitor.user, session=session))

    async def _title(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        shown = await self._own(request, visitor)
        title = (await form(request)).get("title", "").strip()[:_LONGEST_TITLE]
        if title:
            await self._site.do(visitor, "session.title", session=shown["id"], title=title)
        return back_to(f"/chat/{shown['id']}")

    async def _do(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        shown = await self._own(request, visitor)
        action = request.match_info["action"]
        operation = ACTIONS.get(action)
        if operation is None:
            raise NotFound("that cannot be done with a conversation")
        done = await self._site.do(visitor, operation, session=shown["id"])
        url = "/chat" if action == "delete" else f"/chat/{done.get('id', shown['id'])}"
        texts = done.get("messages") if action == "undo" else None
        return web.json_response({"url": url, "text": "\n\n".join(texts) if texts else None})

    async def _own(self, request: web.Request, visitor: Visitor) -> dict[str, Any]:
        """A conversation of the visitor's own. Raises `NotFound`, `Conflict` for one that an owner may only see."""
        session = request.match_info["session"]
        shown: dict[str, Any] = await self._site.do(visitor, "conversation.show", user=visitor.user, session=session)
        if not shown["is_own"]:
            raise Conflict("this conversation is not one of yours in the browser")
        return shown


async def _bounded(part: BodyPartReader, most: int) -> bytes:
    content = bytearray()
    while chunk := await part.read_chunk(_CHUNK):
        content += chunk
        if len(content) > most:
            raise InvalidValue("the message is too long")
    return bytes(content)


async def _kept(part: BodyPartReader, folder: Path, most: int) -> Path:
    """A file of a form under its own name in a folder of its own; the router gives it a safe name of its session."""
    name = Path(part.filename or "file").name.replace("\0", "")[-100:] or "file"
    path = folder / (name if name not in (".", "..") else "file")
    size = 0
    await asyncio.to_thread(folder.mkdir)
    with await asyncio.to_thread(path.open, "xb") as file:
        while chunk := await part.read_chunk(_CHUNK):
            size += len(chunk)
            if size > most:
                raise InvalidValue(f"'{name}' is larger than {most // 1024**2} MiB, more than a message may bring")
            await asyncio.to_thread(file.write, chunk)
    return path


def _picture(content: bytes) -> str | None:
    """The type of a picture that a browser may show; None for anything else."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _PICTURES.items() if content.startswith(start)), None)
