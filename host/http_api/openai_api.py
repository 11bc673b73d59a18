"""OpenAI's API over agents: a model is an agent group.

    GET  /v1/models, /v1/models/<name>
    POST /v1/chat/completions          whole or as events
    POST /v1/responses                 whole, as events, or in the background
    GET  /v1/responses/<id>            how it stands; `?stream=true` follows it
    POST /v1/responses/<id>/cancel
    GET  /v1/files/<id>/content        a file of an answer

Conversations: `previous_response_id`, or the header `X-Session`, or `user` names one; a call without any begins one.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

from aiohttp import web

from host.central.tokens import Token
from host.http_api import openai_input, openai_output
from host.http_api.access import Access
from host.http_api.call_files import handed_in
from host.http_api.errors import CallRefused, Refusal, as_openai, refusal_of
from host.http_api.event_stream import DONE, event, send
from host.http_api.growing import Growing
from host.http_api.openai_input import refused
from host.operations import asking
from host.operations.asking import HandedIn
from host.operations.file_content import content_of
from shared_schema.errors import DumbwaiterError, NotFound

log = logging.getLogger(__name__)


class OpenAiApi:
    """The routes below `/v1`."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._services = access.services
        access.get("/v1/models", self._models)
        access.get("/v1/models/{name}", self._model)
        access.post("/v1/chat/completions", self._chat)
        access.post("/v1/responses", self._respond)
        access.get("/v1/responses/{id}", self._response)
        access.post("/v1/responses/{id}/cancel", self._cancel)
        access.get("/v1/files/{id}/content", self._file)

    async def _models(self, request: web.Request, token: Token) -> web.StreamResponse:
        found = await asking.agents(self._services, token)
        return web.json_response({"object": "list", "data": [openai_output.model(each) for each in found]})

    async def _model(self, request: web.Request, token: Token) -> web.StreamResponse:
        name = request.match_info["name"]
        for each in await asking.agents(self._services, token):
            if each["name"] == name:
                return web.json_response(openai_output.model(each))
        raise _no_model(name)

    async def _chat(self, request: web.Request, token: Token) -> web.StreamResponse:
        body = await self._access.bodies.json(request)
        openai_input.require_possible(body)
        messages = openai_input.chat_messages(body)
        is_stream = openai_input.flag_of(body, "stream")
        options = body.get("stream_options")
        with_usage = isinstance(options, dict) and options.get("include_usage") is True
        with self._access.callers.busy(token):
            handed_in = await self._ask(request, token, body, messages, None)
            if is_stream:
                events = self._chat_events(token, handed_in, with_usage=with_usage)
                return await send(request, events, self._access.callers.while_held(token))
            shown = await self._answer(token, handed_in)
        return web.json_response(openai_output.chat_completion(shown))

    async def _respond(self, request: web.Request, token: Token) -> web.StreamResponse:
        body = await self._access.bodies.json(request)
        openai_input.require_possible(body)
        messages = openai_input.response_messages(body)
        is_stream = openai_input.flag_of(body, "stream")
        previous = openai_input.text_of(body, "previous_response_id")
        with self._access.callers.busy(token):
            handed_in = await self._ask(request, token, body, messages, previous)
            if is_stream:
                events = self._response_events(token, handed_in.message_id, previous)
                return await send(request, events, self._access.callers.while_held(token))
            if openai_input.flag_of(body, "background"):
                shown = await asking.show(self._services, token, handed_in.message_id)
            else:
                shown = await self._answer(token, handed_in)
        return web.json_response(openai_output.response(shown, previous=previous))

    async def _response(self, request: web.Request, token: Token) -> web.StreamResponse:
        message_id = _message_id(request.match_info["id"])
        shown = await asking.show(self._services, token, message_id)
        if request.query.get("stream") == "true":
            with self._access.callers.busy(token):
                events = self._response_events(token, message_id, None)
                return await send(request, events, self._access.callers.while_held(token))
        return web.json_response(openai_output.response(shown))

    async def _cancel(self, request: web.Request, token: Token) -> web.StreamResponse:
        shown = await asking.stop(self._services, token, _message_id(request.match_info["id"]))
        return web.json_response(openai_output.response(shown))

    async def _file(self, request: web.Request, token: Token) -> web.StreamResponse:
        kind, _, rest = request.match_info["id"].partition("-")
        asked, _, rest = rest.partition("-")
        message, _, number = rest.partition("-")
        if kind != "file" or not number.isascii() or not number.isdecimal() or len(number) > 4:
            raise NotFound("there is no such file")
        found = await asking.find(self._services, token, f"msg_{asked}")
        name, content = await content_of(self._services, found.session_id, f"msg_{message}", int(number))
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
        return web.Response(body=content, content_type="application/octet-stream", headers=headers)

    async def _ask(
        self,
        request: web.Request,
        token: Token,
        body: dict[str, Any],
        messages: Sequence[openai_input.CallMessage],
        previous: str | None,
    ) -> HandedIn:
        """Hand in what a call says. Raises `CallRefused`, and what `asking.hand_in` raises."""
        name = openai_input.text_of(body, "model")
        if not name:
            raise refused("`model` is missing", "model", "GET /v1/models lists the agents of this token")
        key = request.headers.get("Idempotency-Key")
        if previous is not None:
            thread = await self._thread_of(token, previous, name)
        else:
            user = openai_input.conversation_of(body) or openai_input.text_of(body, "user", longest=10_000)
            thread = openai_input.thread_of(request.headers.get("X-Session") or user or (key and f"call {key}"))
        begun = await asking.has_begun(self._services, token, name, thread)
        given = openai_input.for_agent(messages, is_new=not begun)
        # A call that is sent again finds its conversation begun, by itself.
        before = openai_input.for_agent(messages, is_new=begun).text
        try:
            key = key or secrets.token_hex(16)
            return await handed_in(
                self._services,
                token,
                name,
                thread,
                given.text,
                key,
                given.files,
                before,
                traceparent=request.headers.get("traceparent"),
            )
        except NotFound as error:
            raise _no_model(name) from error

    async def _thread_of(self, token: Token, previous: str, name: str) -> str:
        """The conversation of an earlier response, which must be one of this token's with the same agent."""
        try:
            found = await asking.find(self._services, token, _message_id(previous))
        except NotFound as error:
            what = f"there is no response '{previous[:60]}' of this token"
            raise CallRefused(
                Refusal(400, what, None, "previous_response_not_found", "previous_response_id")
            ) from error
        if found.platform_id != token.name or found.thread_id is None:
            what = "that response belongs to a conversation of another token"
            raise CallRefused(Refusal(400, what, None, "previous_response_not_found", "previous_response_id"))
        if found.agent_group != name:
            raise refused(f"that response is one of '{found.agent_group}'", "model", "go on with the same model")
        return found.thread_id

    async def _answer(self, token: Token, handed_in: HandedIn) -> dict[str, Any]:
        """What answers a message, once it is answered. Raises `CallRefused` when it is not."""
        shown: dict[str, Any] = {}
        async for each in asking.follow(self._services, token, handed_in.message_id):
            shown = each
        if (refusal := _failure(shown)) is not None:
            raise CallRefused(refusal)
        return shown

    async def _chat_events(self, token: Token, handed_in: HandedIn, *, with_usage: bool) -> AsyncIterator[bytes]:
        shown = await asking.show(self._services, token, handed_in.message_id)
        yield event(openai_output.chat_chunk(shown, {"role": "assistant", "content": ""}))
        growing = Growing()
        try:
            async for each in asking.follow(self._services, token, handed_in.message_id):
                if piece := _piece(growing, each):
                    yield event(openai_output.chat_chunk(shown, {"content": piece}))
                if each["type"] == "done":
                    shown = each
        except DumbwaiterError as error:
            yield event(as_openai(refusal_of(error)))
            return
        if (refusal := _failure(shown)) is not None:
            yield event(as_openai(refusal))
            return
        files = openai_output.files_of(shown)
        yield event(openai_output.chat_chunk(shown, {"files": files} if files else {}, finish="stop"))
        if with_usage:
            yield event(openai_output.chat_usage_chunk(shown))
        yield event(DONE)

    async def _response_events(self, token: Token, message_id: str, previous: str | None) -> AsyncIterator[bytes]:
        shown = await asking.show(self._services, token, message_id)
        events, growing = openai_output.ResponseEvents(shown, previous), Growing()
        for each in events.begin():
            yield event(each, kind=each["type"])
        try:
            async for news in asking.follow(self._services, token, message_id):
                if piece := _piece(growing, news):
                    yield event(events.delta(piece), kind="response.output_text.delta")
                if news["type"] == "done":
                    for each in events.end(news, growing.text):
                        yield event(each, kind=each["type"])
        except DumbwaiterError as error:
            message = refusal_of(error).sentence
            yield event({"type": "error", "code": "server_error", "message": message, "param": None}, kind="error")


def _piece(growing: Growing, news: dict[str, Any]) -> str:
    match news["type"]:
        case "draft":
            return growing.draft(news["text"])
        case "message":
            return growing.message(news["text"])
        case _:
            return ""


def _failure(shown: dict[str, Any]) -> Refusal | None:
    """Why there is no answer; None when there is one."""
    if shown["status"] == "completed":
        return None
    if shown["status"] == "cancelled":
        return Refusal(409, "the message was cancelled before it was answered", None, "cancelled")
    what = shown["error"] or "the agent failed"
    if shown["is_over_budget"]:
        return Refusal(429, what, None, "insufficient_quota")
    return Refusal(502, what, None, "agent_failed")


def _no_model(name: str) -> CallRefused:
    what, hint = f"there is no agent '{name[:60]}' that this token reaches", "GET /v1/models lists those that are"
    return CallRefused(Refusal(404, what, hint, "model_not_found", "model"))


def _message_id(response_id: str) -> str:
    return f"msg_{response_id.removeprefix('resp_')}" if response_id.startswith("resp_") else ""
