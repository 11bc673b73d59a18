"""The host as an MCP server, at `/mcp`: its agents, asking one of them, searching, schedules.

Stateless streamable HTTP: each POST is one request with all that it needs, and nothing is kept between two of them. So
it serves the revision of 2026-07-28, which has no handshake, and also those before, whose handshake it answers and
forgets. What is offered are operations, with the rights that the token has for them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp import web

from host.central.tokens import Token
from host.http_api import rights
from host.http_api.access import Access
from host.http_api.call_files import handed_in
from host.http_api.errors import CallRefused
from host.http_api.event_stream import event, send
from host.http_api.openai_input import thread_of
from host.operations import asking, registry
from shared_schema.errors import DumbwaiterError, InvalidValue

log = logging.getLogger(__name__)

STATELESS = ("2026-07-28",)
WITH_HANDSHAKE = ("2025-03-26", "2025-06-18", "2025-11-25")
_INVALID_REQUEST, _NO_METHOD, _INVALID_PARAMS, _UNSUPPORTED = -32600, -32601, -32602, -32022
_NAME = {"name": "dumbwaiter", "version": "1"}
_CAN = {"tools": {"listChanged": False}}
_ABOUT = "Agents that live on this host. Each remembers its conversations: `session` is your name for one."
_LARGEST = 4 * 1024**2
_TEXT = {"type": "string"}
_AGENT = {"type": "string", "description": "The name of an agent, as list_agents gives it."}
TOOLS: tuple[dict[str, Any], ...] = (
    {
        "name": "list_agents",
        "description": "The agents that can be asked.",
        "inputSchema": {"type": "object", "properties": {}, "additionalProperties": False},
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": "ask_agent",
        "description": "Ask an agent something, and wait for its answer.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "agent": _AGENT,
                "text": {"type": "string", "description": "What is asked, in plain words."},
                "session": {"type": "string", "description": "A name for the conversation; without one it is new."},
            },
            "required": ["agent", "text"],
            "additionalProperties": False,
        },
    },
    {
        "name": "search",
        "description": "Search all that was said in conversations.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": _TEXT,
                "agent": _AGENT,
                "session": {"type": "string", "description": "Only in this session: its id or title."},
                "limit": {"type": "integer", "minimum": 1, "maximum": 100},
            },
            "required": ["query"],
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": "schedules",
        "description": "What agents do by themselves, and when next.",
        "inputSchema": {"type": "object", "properties": {"agent": _AGENT}, "additionalProperties": False},
        "annotations": {"readOnlyHint": True},
    },
)
_OPERATIONS = {"search": "session.search", "schedules": "schedule.list"}


class _Wrong(Exception):
    """A request that gets an error of JSON-RPC."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({} if data is None else {"data": data})


class McpApi:
    """The one route of MCP."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._services = access.services
        access.post("/mcp", self._request)

    async def _request(self, request: web.Request, token: Token) -> web.StreamResponse:
        body = await self._access.bodies.json(request, largest=_LARGEST)
        request_id = body.get("id")
        if "id" not in body and isinstance(body.get("method"), str):
            return web.Response(status=202)  # a notification: there is nothing here that it could change
        try:
            if isinstance(request_id, bool) or not isinstance(request_id, str | int):
                raise _Wrong(_INVALID_REQUEST, "a request has an id, a text or a number")
            method, parameters = body.get("method"), body.get("params", {})
            if body.get("jsonrpc") != "2.0" or not isinstance(method, str) or not isinstance(parameters, dict):
                raise _Wrong(_INVALID_REQUEST, "the body is no request of JSON-RPC 2.0")
            version = request.headers.get("MCP-Protocol-Version")
            if version is not None and version not in (*STATELESS, *WITH_HANDSHAKE):
                known = {"supported": [*STATELESS, *WITH_HANDSHAKE], "requested": version[:40]}
                raise _Wrong(_UNSUPPORTED, "this version of the protocol is not spoken here", known)
            if method == "tools/call":
                return await self._call(request, token, request_id, parameters)
            result = _answered(method, parameters)
        except _Wrong as wrong:
            given = request_id if isinstance(request_id, str | int) else None
            status = 404 if wrong.error["code"] == _NO_METHOD else 400
            return web.json_response({"jsonrpc": "2.0", "id": given, "error": wrong.error}, status=status)
        if not result and version not in STATELESS:  # clients of earlier revisions refuse more than nothing
            return web.json_response({"jsonrpc": "2.0", "id": request_id, "result": {}})
        return web.json_response(_response(request_id, result))

    async def _call(
        self, request: web.Request, token: Token, request_id: str | int, parameters: Mapping[str, Any]
    ) -> web.StreamResponse:
        name, arguments = parameters.get("name"), parameters.get("arguments") or {}
        tool = next((each for each in TOOLS if each["name"] == name), None)
        if tool is None or not isinstance(arguments, dict):
            raise _Wrong(_INVALID_PARAMS, f"there is no tool '{str(name)[:60]}'")
        _require_fit(tool["inputSchema"], arguments)
        meta = parameters.get("_meta")
        said = meta.get("traceparent") if isinstance(meta, dict) else None
        traceparent = said if isinstance(said, str) else request.headers.get("traceparent")
        with self._access.callers.busy(token):
            if name == "ask_agent" and "text/event-stream" in request.headers.get("Accept", ""):
                events = self._as_event(token, request_id, str(name), arguments, traceparent)
                return await send(request, events, self._access.callers.while_held(token))
            result = await self._result(token, str(name), arguments, traceparent)
            return web.json_response(_response(request_id, result))

    async def _as_event(
        self, token: Token, request_id: str | int, name: str, arguments: Mapping[str, Any], traceparent: str | None
    ) -> AsyncIterator[bytes]:
        """The one answer, as an event: an agent may take long, and proxies cut what is silent."""
        yield event(_response(request_id, await self._result(token, name, arguments, traceparent)), kind="message")

    async def _result(
        self, token: Token, name: str, arguments: Mapping[str, Any], traceparent: str | None
    ) -> dict[str, Any]:
        """What a tool gives; an error is a result as well, which a model can read."""
        try:
            found = await self._done(token, name, arguments, traceparent)
        except DumbwaiterError as error:
            return _told(error.what if error.own_hint is None else f"{error.what}: {error.own_hint}", is_error=True)
        except CallRefused as error:
            return _told(error.refusal.sentence, is_error=True)
        except asyncio.CancelledError:
            raise
        except Exception:  # the boundary of one tool
            log.exception("a tool failed", extra={"tool": name})
            return _told("something unexpected went wrong", is_error=True)
        if isinstance(found, str):
            return _told(found)
        return _told(json.dumps(found, ensure_ascii=False)) | {"structuredContent": {"result": found}}

    async def _done(self, token: Token, name: str, arguments: Mapping[str, Any], traceparent: str | None) -> Any:
        if name == "list_agents":
            return await asking.agents(self._services, token)
        if name == "ask_agent":
            return await self._asked(token, arguments, traceparent)
        operation = _OPERATIONS[name]
        given = {"agent_group" if key == "agent" else key: value for key, value in arguments.items()}
        allowed = await rights.allowed(self._services, token, operation, given)
        return rights.shown(token, operation, await registry.call(self._services, operation, allowed))

    async def _asked(self, token: Token, arguments: Mapping[str, Any], traceparent: str | None) -> str:
        thread, key = thread_of(arguments.get("session")), secrets.token_hex(16)
        done = await handed_in(
            self._services, token, arguments["agent"], thread, arguments["text"], key, traceparent=traceparent
        )
        shown: dict[str, Any] = {}
        async for each in asking.follow(self._services, token, done.message_id):
            shown = each
        if shown["status"] != "completed":
            raise InvalidValue(shown["error"] or f"the message was {shown['status']}")
        return str(shown["text"])


def _answered(method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What needs no operation."""
    match method:
        case "initialize":
            asked = parameters.get("protocolVersion")
            version = asked if asked in WITH_HANDSHAKE else WITH_HANDSHAKE[-1]
            return {"protocolVersion": version, "capabilities": _CAN, "serverInfo": _NAME, "instructions": _ABOUT}
        case "server/discover":
            found = {"supportedVersions": [*STATELESS], "capabilities": _CAN, "instructions": _ABOUT}
            return _cacheable(found) | {"_meta": {"io.modelcontextprotocol/serverInfo": _NAME}}
        case "ping":
            return {}
        case "tools/list":
            return _cacheable({"tools": list(TOOLS)})
        case _:
            raise _Wrong(_NO_METHOD, f"there is no method '{method[:60]}'")


def _cacheable(result: dict[str, Any]) -> dict[str, Any]:
    return result | {"ttlMs": 60_000, "cacheScope": "private"}


def _require_fit(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Raises `_Wrong` for arguments that are missing, unknown or of another type."""
    known: Mapping[str, Any] = schema["properties"]
    for name in schema.get("required", ()):
        if name not in arguments:
            raise _Wrong(_INVALID_PARAMS, f"the argument '{name}' is missing")
    for name, value in arguments.items():
        kind = known.get(name, {}).get("type")
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if kind is None or (kind == "string" and not isinstance(value, str)) or (kind == "integer" and not is_number):
            raise _Wrong(_INVALID_PARAMS, f"the argument '{name[:60]}' does not fit")


def _response(request_id: str | int, result: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "result": {**result, "resultType": "complete"}}


def _told(text: str, *, is_error: bool = False) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": is_error}
