"""When schedules are due in the next days, as far as that is known today."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from host.central import agent_groups
from host.central import schedules as table
from host.central.database import Queryable
from host.central.schedules import Schedule
from host.schedules.recurrence import following
from host.schedules.runs import recurrence_of
from host.services import Services
from shared_schema.clock import from_text, to_text
from shared_schema.errors import InvalidValue

MOST_DAYS = 62
MOST_TIMES = 100
"""Times of one schedule: one that is due every minute would hide the others."""
_MOST_SCHEDULES = 1_000
_MOST = 2_000


async def upcoming(services: Services, *, agent_group: str | None = None, days: int = 14) -> list[dict[str, Any]]:
    """What is due in the next days, in its order: at, schedule, agent_group. What is paused is not due.

    Raises `InvalidValue`, `NotFound`.
    """
    if not 1 <= days <= MOST_DAYS:
        raise InvalidValue(f"1 to {MOST_DAYS} days can be shown, not {days}")
    until = services.clock.now() + timedelta(days=days)

    def load(connection: Queryable) -> list[dict[str, Any]]:
        if table.paused(connection) is not None:
            return []
        group = None if agent_group is None else agent_groups.get_by_name(connection, agent_group).id
        rows = table.listed(connection, agent_group_id=group, limit=_MOST_SCHEDULES)
        return [
            {"at": to_text(at), "schedule": row["name"], "agent_group": row["agent_group"]}
            for row in rows
            for at in _times(Schedule.from_row(row), until)
        ]

    found = await services.central.read(load)
    return sorted(found, key=lambda each: (each["at"], each["schedule"], each["agent_group"]))[:_MOST]


def _times(schedule: Schedule, until: datetime) -> Iterator[datetime]:
    if schedule.next_at is None or schedule.status != "active":
        return
    at: datetime | None = from_text(schedule.next_at)
    for _ in range(MOST_TIMES):
        if at is None or at > until:
            return
        yield at
        at = following(recurrence_of(schedule), at)
