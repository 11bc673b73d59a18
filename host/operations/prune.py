"""Removing old sessions: those that ended long ago, when somebody asks, and those that were deleted, after a while."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from host.central import agent_groups, sessions
from host.operations.ending import delete, remove
from host.operations.sessions import shown
from host.services import Services
from shared_schema.clock import to_text
from shared_schema.errors import DumbwaiterError, FileTrouble, InvalidValue

log = logging.getLogger(__name__)

_LOOK_SECONDS = 600.0
_MAX_DAYS = 100_000


async def prune(
    services: Services,
    *,
    older_than_days: float,
    agent_group: str | None = None,
    apply: bool = False,
    for_good: bool = False,
) -> dict[str, Any]:
    """Delete the sessions that ended so long ago and were not active since: `pruned` or not, and `sessions`.

    Nothing is deleted unless `apply` says so; what is deleted can be restored for a while, unless it is `for_good`.
    """
    if not 0 <= older_than_days <= _MAX_DAYS:
        raise InvalidValue(f"the age must be 0 to {_MAX_DAYS} days, not {older_than_days:g}")
    before = to_text(services.clock.now() - timedelta(days=older_than_days))

    def load(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        group = None if agent_group is None else agent_groups.named(connection, agent_group).id
        return [shown(services, connection, each) for each in sessions.ended_before(connection, before, group)]

    found = await services.central.read(load)
    for each in found if apply else ():
        await delete(services, session=each["id"], for_good=for_good)
    return {"pruned": apply, "sessions": found}


async def remove_deleted(services: Services) -> int:
    """Remove for good what was deleted longer ago than it is kept; how many sessions that were."""
    before = to_text(services.clock.now() - timedelta(hours=services.settings.deleted_hours))
    removed = 0
    for session_id in await services.central.read(lambda c: sessions.deleted_before(c, before)):
        try:
            await remove(services, await services.central.read(partial(sessions.get, session_id=session_id)))
        except DumbwaiterError as error:  # the next time
            log.error("a deleted session cannot be removed", extra={"session": session_id, "error": str(error)})
        else:
            removed += 1
    return removed


@asynccontextmanager
async def removing_deleted(services: Services) -> AsyncIterator[None]:
    """Do that now and every ten minutes, until the block ends."""
    task = asyncio.create_task(_keep_removing(services), name="remove deleted sessions")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep_removing(services: Services) -> None:
    while True:
        try:
            while await remove_deleted(services):
                pass
        except FileTrouble as error:
            log.error("deleted sessions cannot be looked for", extra={"error": str(error)})
        await asyncio.sleep(_LOOK_SECONDS)
