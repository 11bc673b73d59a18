"""What live views are told: the events so far, and those to come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from host.central import events, session_lookup
from host.central.database import Queryable
from host.central.events import LiveEvent
from host.services import Services
from shared_schema.errors import InvalidValue

_MAX_LIST = 1000
_LOOK_SECONDS = 5.0
_GATHER_SECONDS = 0.02
"""What happens at nearly the same time is read at once."""


async def list_all(
    services: Services, *, after: int | None = None, session: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Events behind a number, oldest first; without a number the newest."""
    if not 1 <= limit <= _MAX_LIST:
        raise InvalidValue(f"the limit must be 1 to {_MAX_LIST}, not {limit}")

    def load(connection: Queryable) -> list[LiveEvent]:
        session_id = None if session is None else session_lookup.find(connection, session, deleted=True).id
        if after is None:
            return events.last(connection, limit, session_id)
        return events.after(connection, after, limit, session_id)

    return [_shown(event) for event in await services.central.read(load)]


async def follow(
    services: Services, *, after: int | None = None, session: str | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Events behind a number, and then each as it comes, without end; without a number those from now on."""
    session_id, number = await services.central.read(_place, session, after)
    with services.dispatcher.following() as news:
        while True:
            news.clear()
            found = await services.central.read(events.after, number=number, limit=_MAX_LIST, session_id=session_id)
            for event in found:
                yield _shown(event)
                number = event.number
            if len(found) < _MAX_LIST:
                await _wait_for(news)


async def _wait_for(news: asyncio.Event) -> None:
    """Wait until something was committed, and a moment more; or for long, should the news have been lost."""
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            await news.wait()
            await asyncio.sleep(_GATHER_SECONDS)
    except TimeoutError:
        pass


def _place(connection: Queryable, session: str | None, after: int | None) -> tuple[str | None, int]:
    session_id = None if session is None else session_lookup.find(connection, session, deleted=True).id
    return session_id, events.newest(connection) if after is None else after


def _shown(event: LiveEvent) -> dict[str, Any]:
    return {
        "number": event.number,
        "at": event.at,
        "kind": event.kind,
        "session_id": event.session_id,
        "agent_group_id": event.agent_group_id,
        "data": json.loads(event.data),
    }
