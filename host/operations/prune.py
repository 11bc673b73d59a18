"""Removing what is old: sessions that ended long ago, when a person asks; those that were deleted, after a while; those
of old runs of schedules, and files that came with messages no agent will see."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from host.background import in_background, repeat
from host.central import agent_groups, rate_limits, schedule_runs, sessions
from host.central.database import Queryable, Transaction
from host.central.sessions import Session
from host.operations.session_change import change
from host.operations.session_stop import remove
from host.operations.sessions import shown
from host.services import Services
from host.sessions import transitions
from shared_schema.clock import to_text
from shared_schema.errors import DumbwaiterError, InvalidValue, NotFound

log = logging.getLogger(__name__)

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

    def load(connection: Queryable) -> list[dict[str, Any]]:
        group = None if agent_group is None else agent_groups.get_by_name(connection, agent_group).id
        return [shown(services, connection, each) for each in sessions.ended_before(connection, before, group)]

    found = await services.central.read(load)
    if apply:
        found = [each for each in found if await _delete(services, each["id"], before, for_good=for_good)]
    return {"pruned": apply, "sessions": found}


async def _delete(services: Services, session_id: str, before: str, *, for_good: bool) -> bool:
    """Delete a session that ended before a time; false when it is gone meanwhile, or was taken up again."""

    def require(connection: Queryable) -> None:
        if not sessions.has_ended_before(connection, session_id, before):
            raise NotFound(
                f"session {session_id} is not one of those that ended", hint="`dumbwaiter session prune` names them"
            )

    def hide(tx: Transaction) -> int:
        require(tx)
        return transitions.delete(tx, session)

    try:
        session = await services.central.read(sessions.get, session_id=session_id)
        await (
            remove(services, session, require) if for_good else change(services, session, hide, action="session.delete")
        )
    except NotFound:
        return False
    return True


async def remove_deleted(services: Services) -> int:
    """Remove for good what was deleted longer ago than it is kept; how many sessions that were."""
    before = to_text(services.clock.now() - timedelta(hours=services.settings.deleted_hours))
    removed = 0
    for session_id in await services.central.read(sessions.deleted_before, before):
        try:
            session = await services.central.read(sessions.get, session_id=session_id)
            await remove(services, session, partial(_require_deleted, session_id=session_id, before=before))
        except NotFound:
            continue
        except (DumbwaiterError, OSError) as error:  # the next time; what is left of it, at the next start
            log.error("a deleted session cannot be removed", extra={"session_id": session_id, "error": str(error)})
        else:
            removed += 1
    return removed


async def remove_old_runs(services: Services) -> int:
    """Remove the conversations of old runs of schedules for good; how many. Their lines in the log stay."""
    settings = services.settings
    before = to_text(services.clock.now() - timedelta(days=settings.schedule_run_days))
    removed = 0

    for session in await services.central.read(schedule_runs.old_sessions, before, settings.schedule_runs_kept):
        try:
            await remove(services, session, partial(_require_untouched, session=session))
        except NotFound:
            continue
        except (DumbwaiterError, OSError) as error:  # the next time; what is left of it, at the next start
            log.error("the run of a schedule cannot be removed", extra={"session_id": session.id, "error": str(error)})
        else:
            removed += 1
    return removed


def _require_untouched(connection: Queryable, session: Session) -> None:
    current = sessions.get(connection, session.id)
    if (current.status, current.last_active) != (session.status, session.last_active):  # a person has taken it up again
        raise NotFound(f"session {session.id} is not an old one any more")


def _require_deleted(connection: Queryable, session_id: str, before: str) -> None:
    if not sessions.is_deleted_before(connection, session_id, before):
        raise NotFound(f"session {session_id} was restored")


async def clear_away(services: Services, spooled: Set[str]) -> set[str]:
    """Remove what was deleted, and what lies in the spool for no message any more.

    `spooled` is what the last time returned: the folders that nothing needed then. Raises `FileTrouble` and `OSError`;
    what is left then is removed the next time.
    """
    while await remove_deleted(services) or await remove_old_runs(services):
        pass
    await services.central.write(rate_limits.trim)
    return await asyncio.to_thread(services.inbox_sync.clear_spool, spooled)


@asynccontextmanager
async def clearing_away(services: Services, *, seconds: float = 600.0) -> AsyncIterator[None]:
    """Do that now and again after so many seconds, until the block ends."""
    spooled: set[str] = set()

    async def clear() -> float:
        nonlocal spooled
        spooled = await clear_away(services, spooled)
        return seconds

    failure = "what is old cannot be cleared away"
    async with in_background(repeat(clear, log=log, failure=failure, retry_seconds=seconds), name="clear away"):
        yield
