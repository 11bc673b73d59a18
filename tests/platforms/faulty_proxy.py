"""A reverse proxy in front of a real server, which does wrong what it is told to, to the calls that it is told of.

`stop` is an outage as clients see it: connections break, and none is taken. The server behind it goes on.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import web

Call = Callable[[], Awaitable[web.StreamResponse]]
Trouble = Callable[[web.Request, Call], Awaitable[web.StreamResponse]]
"""What becomes of a call instead: it may be done (the second argument) before, after, or not at all."""

_OWN = {"host", "content-length", "transfer-encoding", "connection", "content-encoding", "accept-encoding"}


class FaultyProxy:
    """`troubles` are of the next calls whose method and path match `counted`; a call of `deaf` is never answered."""

    def __init__(self, target: str, counted: str) -> None:
        self.target = target
        self.troubles: deque[Trouble] = deque()
        self.deaf: re.Pattern[str] | None = None
        self._counted = re.compile(counted)
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Serve. Also again after `stop`, on the same address."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        application = web.Application(client_max_size=64 * 1024**2)
        application.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Break all connections. May be called twice."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _take(self, request: web.Request) -> web.StreamResponse:
        what = f"{request.method} {request.path}"
        body = await request.read()

        async def do() -> web.StreamResponse:
            return await self._pass(request, body)

        if self.deaf is not None and self.deaf.search(what):
            return await never(request, do)
        if self.troubles and self._counted.search(what):
            return await self.troubles.popleft()(request, do)
        return await do()

    async def _pass(self, request: web.Request, body: bytes) -> web.StreamResponse:
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN}
        async with self._session.request(
            request.method, self.target + request.raw_path, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


async def never(request: web.Request, do: Call) -> web.StreamResponse:
    """Not answered, until the connection ends."""
    await asyncio.Event().wait()
    raise AssertionError("it waits for ever")


async def drop_before(request: web.Request, do: Call) -> web.StreamResponse:
    """The connection breaks, and the call is not done."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def drop_after(request: web.Request, do: Call) -> web.StreamResponse:
    """The call is done, and the connection breaks before the answer."""
    await do()
    return await drop_before(request, do)


def slow(seconds: float) -> Trouble:
    """Done after a while."""

    async def trouble(request: web.Request, do: Call) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await do()

    return trouble


def answer(status: int, content: object) -> Trouble:
    """Answered with that, and not done."""

    async def trouble(request: web.Request, do: Call) -> web.StreamResponse:
        return web.json_response(content, status=status)

    return trouble
