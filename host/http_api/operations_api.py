"""Every operation over HTTP: what looks is a GET with a query, what changes a POST with JSON.

    GET  /api/session/list?limit=5
    POST /api/session/title    {"session": "ses_…", "title": "…"}

A POST with an Idempotency-Key is done once, however often it comes; a repeated one gets the first one's answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from aiohttp import web

from host.central import keyed_calls
from host.central.keyed_calls import KeyedCall
from host.central.tokens import Token
from host.http_api import rights
from host.http_api.access import Access
from host.http_api.errors import UNEXPECTED, CallRefused, Refusal, as_problem, headers_of, refusal_of
from host.http_api.signatures import from_query, parameters_of, require_known
from host.operations import registry
from shared_schema import json_text
from shared_schema.errors import DumbwaiterError, InvalidValue

log = logging.getLogger(__name__)

T = TypeVar("T")

NOT_OFFERED = frozenset({"session.import", "editor.ask", "editor.stop", "editor.transcript"})
"""The first reads a file of the host's, by its path; an editor is on this machine, and programs have runs."""
STREAMED = ("session.export", "history.rebuild")
_SHOWN_ONCE = frozenset({"token.add", "web.link", "user.claim_code", "hook.add"})
"""Operations whose answer is a secret, which is not kept."""
_KEPT = timedelta(days=7)
_LARGEST_KEPT = 1024**2
_LONGEST_KEY = 200


def path_of(name: str) -> str:
    """Where an operation is: `session.list` is /api/session/list."""
    return "/api/event/list" if name == "events" else f"/api/{name.replace('.', '/')}"


def offered() -> dict[str, Callable[..., Any]]:
    """The operations and streams that are called over HTTP, by their names."""
    operations: dict[str, Callable[..., Any]] = {
        name: each for name, each in registry.OPERATIONS.items() if name not in NOT_OFFERED
    }
    return operations | {name: registry.STREAMS[name] for name in STREAMED}


class OperationsApi:
    """The routes of all operations."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._services = access.services
        self._tasks: set[asyncio.Task[Any]] = set()
        for name, operation in offered().items():
            add = access.get if registry.only_looks(name) else access.post
            add(path_of(name), self._handler(name, operation))

    def _handler(
        self, name: str, operation: Callable[..., Any]
    ) -> Callable[[web.Request, Token], Awaitable[web.StreamResponse]]:
        parameters = parameters_of(name, operation)

        async def look(request: web.Request, token: Token) -> web.StreamResponse:
            try:
                given = await rights.allowed(self._services, token, name, from_query(parameters, request.query))
            except rights.SeesNothing:
                return web.json_response([])
            with self._access.callers.busy(token):
                if name in STREAMED:
                    return await self._streamed(request, name, given)
                result = await registry.call(self._services, name, given)
            return web.json_response(rights.shown(token, name, result))

        async def change(request: web.Request, token: Token) -> web.StreamResponse:
            body = await self._access.bodies.json(request)
            if request.query:
                raise InvalidValue("what is changed takes its parameters as JSON", hint="send them in the body")
            require_known(parameters, body)
            given = await rights.allowed(self._services, token, name, body)
            with self._access.callers.busy(token):
                if name in STREAMED:
                    return await self._streamed(request, name, given)
                return await self.once(request, token, name, given)

        return look if registry.only_looks(name) else change

    async def once(self, request: web.Request, token: Token, name: str, given: Mapping[str, Any]) -> web.Response:
        """Do an operation that changes something; with an Idempotency-Key once, however often it is asked for."""
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return web.json_response(await self._to_its_end(self._do(token, name, given)))
        if not 0 < len(key) <= _LONGEST_KEY or not key.isascii() or not key.isprintable():
            raise InvalidValue(f"an Idempotency-Key has 1 to {_LONGEST_KEY} printable characters of ASCII")
        return await self._to_its_end(self._keyed(token, name, given, key))

    async def _keyed(self, token: Token, name: str, given: Mapping[str, Any], key: str) -> web.Response:
        content = json.dumps([name, given], sort_keys=True)
        digest = hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()
        known = await self._services.central.write(keyed_calls.begin, token.name, key, digest, _KEPT)
        if known is not None:
            return _again(known, digest)
        status, body = await self._outcome(token, name, given)
        answer = json.dumps(body)
        kept = None if name in _SHOWN_ONCE or len(answer) > _LARGEST_KEPT else answer
        await self._services.central.write(lambda c: keyed_calls.end(c, token.name, key, status, kept))
        return _as_answer(status, body)

    async def _outcome(self, token: Token, name: str, given: Mapping[str, Any]) -> tuple[int, Any]:
        try:
            return 200, await self._do(token, name, given)
        except DumbwaiterError as error:
            refusal = refusal_of(error)
        except Exception:  # the boundary of one operation: what came of it is kept under its key
            log.exception("an operation failed", extra={"operation": name})
            refusal = UNEXPECTED
        return refusal.status, as_problem(refusal)

    async def _do(self, token: Token, name: str, given: Mapping[str, Any]) -> Any:
        result = await registry.call(self._services, name, given)
        if registry.changes(name, given):
            log.info("something was changed", extra={"operation": name, "by": f"token {token.name}"})
        return result

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """What was begun is done to its end, also when the program leaves."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _streamed(self, request: web.Request, name: str, given: Mapping[str, Any]) -> web.StreamResponse:
        """Objects, one a line, until there are no more. An error of the first is a refusal, a later one a last line."""
        objects = registry.stream(self._services, name, given)
        first = await anext(objects, None)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        if first is not None:
            await response.write(_line(first))
            await self._rest(response, objects)
        await response.write_eof()
        return response

    async def _rest(self, response: web.StreamResponse, objects: AsyncIterator[dict[str, Any]]) -> None:
        try:
            async for each in objects:
                await response.write(_line(each))
        except DumbwaiterError as error:
            await response.write(_line({"error": as_problem(refusal_of(error))}))


def _again(known: KeyedCall, digest: str) -> web.Response:
    """The answer to a call whose key was used before."""
    if known.digest != digest:
        what, hint = "this key was used for another call", "choose a new Idempotency-Key for each call"
        raise CallRefused(Refusal(409, what, hint, "key_used"))
    if known.status is None:
        what, hint = "this call was begun, and its end is not known", "look whether it was done before you ask anew"
        raise CallRefused(Refusal(409, what, hint, "key_begun"))
    if known.answer is None:
        raise CallRefused(Refusal(409, "this call was done, and its answer is not kept", None, "key_done"))
    return _as_answer(known.status, json_text.parse(known.answer), **{"Idempotency-Replayed": "true"})


def _as_answer(status: int, body: Any, **headers: str) -> web.Response:
    if status == 200:
        return web.json_response(body, headers=headers)
    refusal = Refusal(status, "")
    return web.json_response(
        body, status=status, headers=headers_of(refusal) | headers, content_type="application/problem+json"
    )


def _line(item: Mapping[str, Any]) -> bytes:
    return json.dumps(item, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
