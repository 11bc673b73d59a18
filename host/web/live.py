"""Server-sent events of the page: objects as they come, until the browser leaves.

/live   `event: change` whenever something was committed, and the numbered events of the host for its owner, each
        with its number as id: a browser that comes back says the last one it had (`Last-Event-ID`)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

from aiohttp import web

from host.http_api import event_stream
from host.web.site import Site, Who
from host.web.visitor import Visitor
from shared_schema.errors import DumbwaiterError

_CHANGE_SECONDS = 1.0
"""Pages look again so often at most, however much is committed."""
_MOST_STREAMS = 500
_LONGEST_NUMBER = 18
"""Digits of an event's number: what has no more is smaller than the ledger's largest."""


class LiveStreams:
    """All streams of a server; so many of them at most."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._open = 0
        site.get("/live", Who.SIGNED_IN, self._live)

    async def send(
        self, request: web.Request, visitor: Visitor, objects: AsyncIterator[dict[str, Any]]
    ) -> web.StreamResponse:
        """Send objects with `event`, `data` and perhaps `id` until the browser leaves or there are no more.

        It ends as well when the browser is signed out or the roles of its user change: it comes back with what it may
        see then.
        """
        if self._open >= _MOST_STREAMS:
            return web.Response(status=503, text="too many windows are open", headers={"Retry-After": "10"})
        self._open += 1
        try:
            return await event_stream.send(request, _events(objects), partial(self._site.is_still, request, visitor))
        finally:
            self._open -= 1

    async def _live(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        last = request.headers.get("Last-Event-ID", "")
        after = int(last) if last.isascii() and last.isdecimal() and len(last) <= _LONGEST_NUMBER else None
        return await self.send(request, visitor, self._changes(visitor, after))

    async def _changes(self, visitor: Visitor, after: int | None) -> AsyncIterator[dict[str, Any]]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1000)

        async def numbered() -> None:
            async for each in self._site.follow("events", after=after):
                await queue.put({"event": "event", "id": each["number"], "data": each})

        async def unnumbered(changed: asyncio.Event) -> None:
            while True:
                await changed.wait()
                changed.clear()
                await queue.put({"event": "change", "data": {}})
                await asyncio.sleep(_CHANGE_SECONDS)

        with self._site.services.dispatcher.following() as changed:
            tasks = [asyncio.create_task(unnumbered(changed))]
            if visitor.is_owner:  # events tell of everybody's conversations
                tasks.append(asyncio.create_task(numbered()))
            try:
                while True:
                    yield await queue.get()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)


async def _events(objects: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    async with aclosing(objects) as items:  # type: ignore[type-var]
        try:
            async for item in items:
                yield event_stream.event(item["data"], kind=item["event"], number=item.get("id"))
        except DumbwaiterError:  # what was looked at is gone: the page that is loaded again says so
            yield event_stream.event({}, kind="gone")
