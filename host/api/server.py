"""The host's API on `host.sock`, for the owner of the data folder alone.

POST /v1/operations/<name>   {parameters}  →  200 {"result": …}  |  4xx, 5xx {"error": {type, what, where, hint}}
POST /v1/streams/<name>      {parameters}  →  200, objects one a line; {"type": "error", "error": …} when it breaks
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiohttp import web

from host.api.client import socket_path
from host.operations.registry import call, stream
from host.services import Services
from shared_schema.errors import Conflict, DumbwaiterError, InvalidValue, NotFound

log = logging.getLogger(__name__)

_MAX_BODY = 4 * 1024**2
_STATUS: Mapping[type[DumbwaiterError], int] = {InvalidValue: 400, NotFound: 404, Conflict: 409}


class ApiServer:
    """Serves one host's operations until closed."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._path = services.settings.layout.socket
        self._tasks: set[asyncio.Task[Any]] = set()
        application = web.Application(client_max_size=_MAX_BODY)
        application.router.add_post("/v1/operations/{name}", self._operation)
        application.router.add_post("/v1/streams/{name}", self._stream)
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0, lingering_time=1.0
        )

    async def start(self) -> None:
        """Listen on the socket. Raises `DumbwaiterError` when that is impossible."""
        path = socket_path(self._path)
        await self._runner.setup()
        try:
            self._path.unlink(missing_ok=True)  # of a host that is gone: this one holds the lock
            await web.UnixSite(self._runner, path).start()
            self._path.chmod(0o600)
        except OSError as error:
            raise DumbwaiterError(f"the socket cannot be made: {error.strerror}", where=self._path) from error

    async def close(self) -> None:
        """Stop listening and end what is under way."""
        await self._runner.cleanup()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _operation(self, request: web.Request) -> web.Response:
        try:
            parameters = await _parameters(request)
            # Whoever asked may leave; what was begun is done to its end all the same.
            result = await asyncio.shield(self._begin(request.match_info["name"], parameters))
        except DumbwaiterError as error:
            return web.json_response({"error": _shown(error)}, status=_STATUS.get(type(error), 500))
        except Exception as error:  # the boundary of one request
            log.exception("an operation failed", extra={"operation": request.match_info["name"]})
            return web.json_response({"error": _unexpected(error)}, status=500)
        return web.json_response({"result": result})

    def _begin(self, name: str, parameters: Mapping[str, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(call(self._services, name, parameters))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        try:
            objects = stream(self._services, request.match_info["name"], await _parameters(request))
        except DumbwaiterError as error:
            return web.json_response({"error": _shown(error)}, status=_STATUS.get(type(error), 500))
        with suppress(ConnectionResetError):  # whoever asked has left
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
        return response


async def _parameters(request: web.Request) -> dict[str, Any]:
    if "Content-Encoding" in request.headers:  # aiohttp waits for ever for the end of one that turns out to be broken
        raise InvalidValue("the body is compressed, and must not be")
    try:
        parameters = json.loads(await request.text() or "{}")
    except (ValueError, LookupError, RecursionError, web.RequestPayloadError) as error:  # LookupError: of the charset
        raise InvalidValue("the body is not JSON") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise InvalidValue(f"the body is longer than {_MAX_BODY} bytes") from error
    if not isinstance(parameters, dict):
        raise InvalidValue("the body is not a JSON object")
    return parameters


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
