"""The host's API on `host.sock`, for the owner of the data folder alone.

POST /v1/operations/<name>   {parameters}  →  200 {"result": …}  |  4xx, 5xx {"error": {type, what, where, hint}}
POST /v1/streams/<name>      {parameters}  →  200, objects one a line; {"type": "error", "error": …} when it breaks

Invariant: what is under way at the same time is bounded: requests, bytes of their bodies, and the time in which a
body or the head of the next request has to come.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext, suppress
from typing import Any

from aiohttp import web

from host.api.client import socket_path
from host.central.audit import Actor, acting
from host.operations.registry import call, changes, stream
from host.services import Services
from shared_schema import json_text
from shared_schema.errors import Conflict, DumbwaiterError, InvalidValue, NotFound
from shared_schema.system_errors import words_of

log = logging.getLogger(__name__)

# Parameters that name what is changed.
_NAMES = ("session", "agent_group", "messaging_group", "address", "name", "destination")
_LONGEST_NAME = 100
_MAX_BODY = 4 * 1024**2
_SMALL_BODY = 64 * 1024
_LARGE_BODIES = 8
"""Bodies larger than `_SMALL_BODY` that are read at the same time; other large ones wait. It bounds their memory."""
_IDLE_SECONDS = 30.0
"""After which a connection without a request is closed, also one whose first head does not come."""
_CLOSE_SECONDS = 5.0
"""In which operations that are under way may come to their end when the host stops."""
_MOST_REQUESTS = 1024
"""Operations and streams that are under way at the same time."""
_AT_A_TIME = 16
"""Connections that asyncio accepts before it does anything else; it calls that the backlog."""
_QUEUE = 4096
"""Connections that wait to be accepted; one more, and the system refuses it with EAGAIN."""
_STATUS: Mapping[type[DumbwaiterError], int] = {InvalidValue: 400, NotFound: 404, Conflict: 409}


class ApiServer:
    """Serves one host's operations until closed."""

    def __init__(self, services: Services, *, body_seconds: float = 10.0) -> None:
        """`body_seconds`: in which the whole body of a request has to come."""
        self._services = services
        self._body_seconds = body_seconds
        self._path = services.settings.layout.socket
        self._tasks: set[asyncio.Task[Any]] = set()
        self._streams = 0
        self._large_bodies = asyncio.Semaphore(_LARGE_BODIES)
        application = web.Application(client_max_size=_MAX_BODY)
        application.router.add_post("/v1/operations/{name}", self._operation)
        application.router.add_post("/v1/streams/{name}", self._stream)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=1.0,
            lingering_time=1.0,
            keepalive_timeout=_IDLE_SECONDS,
        )

    async def start(self) -> None:
        """Listen on the socket. Raises `DumbwaiterError` when that is impossible."""
        path = socket_path(self._path)
        await self._runner.setup()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)  # of a host that is gone: this one holds the lock
            listening.setblocking(False)
            listening.bind(path)
            self._path.chmod(0o600)
            await web.SockSite(self._runner, listening, backlog=_AT_A_TIME).start()
            listening.listen(_QUEUE)  # again: asyncio would accept as many as it lets wait before it does anything else
        except OSError as error:
            listening.close()
            raise DumbwaiterError(f"the socket cannot be made: {words_of(error)}", where=self._path) from error

    async def close(self) -> None:
        """Stop listening and end what is under way."""
        await self._runner.cleanup()
        if self._tasks:  # one of them may wait for an agent; the host does not wait with it
            await asyncio.wait(list(self._tasks), timeout=_CLOSE_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _operation(self, request: web.Request) -> web.Response:
        try:
            self._look_at_load()
            parameters = await self._parameters(request)
            # The client may leave; what was begun is done to its end all the same.
            result = await asyncio.shield(self._begin(request, parameters))
            if changes(request.match_info["name"], parameters):
                log.info("something was changed", extra=_who(request, parameters))
        except DumbwaiterError as error:
            return web.json_response({"error": _shown(error)}, status=_STATUS.get(type(error), 500))
        except Exception as error:  # the boundary of one request
            log.exception("an operation failed", extra={"operation": request.match_info["name"]})
            return web.json_response({"error": _unexpected(error)}, status=500)
        return web.json_response({"result": result})

    def _look_at_load(self) -> None:
        """Raises `Conflict` when too much is under way."""
        if len(self._tasks) + self._streams >= _MOST_REQUESTS:
            raise Conflict(f"the host is busy with {_MOST_REQUESTS} commands", hint="try again in a moment")

    async def _parameters(self, request: web.Request) -> dict[str, Any]:
        is_small = request.content_length is not None and request.content_length <= _SMALL_BODY
        async with nullcontext() if is_small else self._large_bodies:
            try:
                async with asyncio.timeout(self._body_seconds):
                    return await _parameters(request)
            except TimeoutError as error:
                raise InvalidValue(f"the body did not come within {self._body_seconds:g} seconds") from error

    def _begin(self, request: web.Request, parameters: Mapping[str, Any]) -> asyncio.Task[Any]:
        # A task takes over who acts from where it is made; what it changes is theirs in the audit log.
        with acting(Actor(f"uid {_peer(request)}", "command line")):
            task = asyncio.create_task(call(self._services, request.match_info["name"], parameters))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        try:
            self._look_at_load()
            objects = stream(self._services, request.match_info["name"], await self._parameters(request))
        except DumbwaiterError as error:
            return web.json_response({"error": _shown(error)}, status=_STATUS.get(type(error), 500))
        self._streams += 1
        try:
            await self._send(request, response, objects)
        finally:
            self._streams -= 1
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, objects: AsyncIterator[Mapping[str, Any]]
    ) -> None:
        with suppress(ConnectionResetError):  # the client has left
            await response.prepare(request)
            try:
                async for item in objects:
                    await response.write(_line(item))
            except DumbwaiterError as error:
                await response.write(_line({"type": "error", "error": _shown(error)}))
            except ConnectionResetError:
                raise
            except Exception as error:  # the boundary of one request
                log.exception("a stream failed", extra={"operation": request.match_info["name"]})
                await response.write(_line({"type": "error", "error": _unexpected(error)}))


async def _parameters(request: web.Request) -> dict[str, Any]:
    if "Content-Encoding" in request.headers:  # aiohttp waits for ever for the end of one that turns out to be broken
        raise InvalidValue("the body is compressed, and must not be")
    try:
        parameters = json_text.parse(await request.read() or b"{}")  # JSON has no charset to be asked for
    except (ValueError, web.RequestPayloadError) as error:
        raise InvalidValue("the body is not JSON") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise InvalidValue(f"the body is longer than {_MAX_BODY} bytes") from error
    if not isinstance(parameters, dict):
        raise InvalidValue("the body is not a JSON object")
    return parameters


def _who(request: web.Request, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the operation, what it is about, and the user of this machine, without any text that a person wrote."""
    named = [str(parameters[name])[:_LONGEST_NAME] for name in _NAMES if parameters.get(name) is not None]
    of = {"of": ", ".join(named)} if named else {}  # `name` itself belongs to the record of the log
    return {"operation": request.match_info["name"], "by": f"uid {_peer(request)}", **of}


def _peer(request: web.Request) -> int | None:
    """The user at the other end of the socket, where the system says so."""
    found = None if request.transport is None else request.transport.get_extra_info("socket")
    if found is None or not hasattr(socket, "SO_PEERCRED"):
        return None
    _, uid, _ = struct.unpack("3i", found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


def _shown(error: DumbwaiterError) -> dict[str, Any]:
    return {"type": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}


def _unexpected(error: Exception) -> dict[str, Any]:
    return {
        "type": "DumbwaiterError",
        "what": f"something unexpected went wrong: {type(error).__name__}",
        "where": None,
        "hint": "the host's log says more",
    }


def _line(item: Mapping[str, Any]) -> bytes:
    return json.dumps(item, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
