"""Work of agents over HTTP: start it, follow it, stop it, decide what it waits for.

POST /api/runs                            {"agent_group", "text", "session", "files"} → 202 and how it stands
GET  /api/runs, /api/runs/<id>
GET  /api/runs/<id>/events                what it says and does, until it is over (server-sent events)
POST /api/runs/<id>/stop
POST /api/runs/<id>/approvals/<code>      {"answer": "approve" or "deny", "choice"}
GET  /api/runs/<id>/files/<message>/<number>
GET  /api/events                          what happens in the host, numbered, from `Last-Event-ID` on
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from aiohttp import web

from host.central.tokens import Rights, Token
from host.http_api import openai_input, rights
from host.http_api.access import Access
from host.http_api.call_files import handed_in
from host.http_api.event_stream import event, send
from host.http_api.openai_input import InlineFile, refused
from host.http_api.operations_api import OperationsApi
from host.operations import asking, registry
from host.operations.asking import NotAllowed
from host.operations.file_content import content_of
from shared_schema.errors import InvalidValue, NotFound

_LONGEST_NUMBER = 18
"""Digits of an event's number: what has no more is smaller than the ledger's largest."""
_KNOWN = frozenset({"agent_group", "text", "session", "files"})
_ANSWERS = {"approve": "approval.approve", "deny": "approval.deny"}


class RunsApi:
    """The routes of runs and events."""

    def __init__(self, access: Access, operations: OperationsApi) -> None:
        self._access = access
        self._services = access.services
        self._operations = operations
        access.post("/api/runs", self._start)
        access.get("/api/runs", self._list)
        access.get("/api/runs/{id}", self._show)
        access.get("/api/runs/{id}/events", self._follow)
        access.post("/api/runs/{id}/stop", self._stop)
        access.post("/api/runs/{id}/approvals/{code}", self._decide)
        access.get("/api/runs/{id}/files/{message}/{number}", self._file)
        access.get("/api/events", self._events)

    async def _start(self, request: web.Request, token: Token) -> web.StreamResponse:
        body = await self._access.bodies.json(request)
        for name in body.keys() - _KNOWN:
            raise InvalidValue(f"a run has no '{name[:60]}'", hint=f"it has {', '.join(sorted(_KNOWN))}")
        agent_group = openai_input.text_of(body, "agent_group")
        text = openai_input.text_of(body, "text", longest=10_000_000)
        if agent_group is None or text is None:
            raise InvalidValue("a run needs `agent_group` and `text`")
        session = openai_input.text_of(body, "session", longest=10_000)
        key = request.headers.get("Idempotency-Key") or secrets.token_hex(16)
        thread = openai_input.thread_of(session or (f"run {key}" if "Idempotency-Key" in request.headers else None))
        with self._access.callers.busy(token):
            done = await handed_in(
                self._services,
                token,
                agent_group,
                thread,
                text,
                key,
                _files(body.get("files")),
                traceparent=request.headers.get("traceparent"),
            )
            shown = await asking.show(self._services, token, done.message_id)
        return web.json_response(shown, status=202, headers={"Location": f"/api/runs/{done.message_id}"})

    async def _list(self, request: web.Request, token: Token) -> web.StreamResponse:
        limit = request.query.get("limit", "20")
        if not (limit.isascii() and limit.isdecimal() and len(limit) < 10) or request.query.keys() - {"limit"}:
            raise InvalidValue("the list takes `limit`, a number from 1 to 100")
        return web.json_response(await asking.list_all(self._services, token, limit=int(limit)))

    async def _show(self, request: web.Request, token: Token) -> web.StreamResponse:
        return web.json_response(await asking.show(self._services, token, request.match_info["id"]))

    async def _follow(self, request: web.Request, token: Token) -> web.StreamResponse:
        found = await asking.find(self._services, token, request.match_info["id"])
        with self._access.callers.busy(token):
            return await send(request, self._told(token, found.message_id), self._access.callers.while_held(token))

    async def _told(self, token: Token, message_id: str) -> AsyncIterator[bytes]:
        async for each in asking.follow(self._services, token, message_id):
            yield event({name: value for name, value in each.items() if name != "type"}, kind=each["type"])

    async def _stop(self, request: web.Request, token: Token) -> web.StreamResponse:
        _require_may_change(token)
        stopping = asyncio.create_task(asking.stop(self._services, token, request.match_info["id"]))
        return web.json_response(await asyncio.shield(stopping))

    async def _decide(self, request: web.Request, token: Token) -> web.StreamResponse:
        if token.rights != Rights.ADMIN:
            hint = "`dumbwaiter token add NAME --rights admin` makes one that may"
            raise NotAllowed(f"the token '{token.name}' does not decide", hint=hint)
        body = await self._access.bodies.json(request)
        answer, choice = openai_input.text_of(body, "answer"), openai_input.text_of(body, "choice")
        operation = _ANSWERS.get(answer or "")
        if operation is None or body.keys() - {"answer", "choice"} or (choice is not None and answer == "deny"):
            raise InvalidValue("an approval needs `answer`: approve or deny; with approve perhaps `choice`")
        shown = await asking.show(self._services, token, request.match_info["id"])
        code = request.match_info["code"]
        if code.upper() not in {each["code"] for each in shown["approvals"]}:
            raise NotFound(f"nothing waits under '{code[:20]}' in that run", hint="GET the run: its `approvals` wait")
        given = {"code": code} | ({} if choice is None else {"choice": choice})
        return await self._operations.once(request, token, operation, given)

    async def _file(self, request: web.Request, token: Token) -> web.StreamResponse:
        number = request.match_info["number"]
        if not (number.isascii() and number.isdecimal()) or len(number) > 4:
            raise NotFound("there is no such file")
        found = await asking.find(self._services, token, request.match_info["id"])
        name, content = await content_of(self._services, found.session_id, request.match_info["message"], int(number))
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
        return web.Response(body=content, content_type="application/octet-stream", headers=headers)

    async def _events(self, request: web.Request, token: Token) -> web.StreamResponse:
        if request.query.keys() - {"after", "session"}:
            raise InvalidValue("events take `after`, a number, and `session`")
        last = request.headers.get("Last-Event-ID") or request.query.get("after")
        if last is not None and not (last.isascii() and last.isdecimal() and len(last) <= _LONGEST_NUMBER):
            raise InvalidValue("`Last-Event-ID` must be the number of an event")
        given: dict[str, Any] = {} if last is None else {"after": int(last)}
        if "session" in request.query:
            given["session"] = request.query["session"]
        allowed = await rights.allowed(self._services, token, "events", given)
        with self._access.callers.busy(token):
            return await send(request, self._happening(token, allowed), self._access.callers.while_held(token))

    async def _happening(self, token: Token, given: dict[str, Any]) -> AsyncIterator[bytes]:
        async for each in registry.stream(self._services, "events", given):
            if token.reaches(each["agent_group_id"]):
                yield event(each, kind=each["kind"], number=each["number"])


def _require_may_change(token: Token) -> None:
    if token.rights == Rights.READ:
        hint = "`dumbwaiter token add NAME --rights talk` makes one that may"
        raise NotAllowed(f"the token '{token.name}' may read, and changes nothing", hint=hint)


def _files(given: Any) -> tuple[InlineFile, ...]:
    """The files of a run: name and base64 of each. Raises `CallRefused`."""
    if given is None:
        return ()
    if not isinstance(given, list):
        raise refused("`files` must be a list of objects with `name` and `data`", "files")
    files = []
    for number, each in enumerate(given):
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str) or not name or each.keys() - {"name", "data"}:
            raise refused("a file has a `name` and its `data` as base64", "files")
        files.append(InlineFile(name[-100:], openai_input.decoded(each.get("data"), f"files[{number}]")))
    return tuple(files)
