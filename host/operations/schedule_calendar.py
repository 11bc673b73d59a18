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

    `goes_on` is true of a time behind which the schedule is due again in those days, and only that is not told: a
    schedule has 100 times at most, and all have 2,000 together. Raises `InvalidValue`, `NotFound`.
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
            {"at": to_text(at), "schedule": row["name"], "agent_group": row["agent_group"], "goes_on": goes_on}
            for row in rows
            for at, goes_on in _times(Schedule.from_row(row), until)
        ]

    found = await services.central.read(load)
    found.sort(key=lambda each: (each["at"], each["schedule"], each["agent_group"]))
    return cut(found)


def cut(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of all times; of a schedule whose others are left out, the last one here says so."""
    told, left_out = found[:_MOST], {(each["schedule"], each["agent_group"]) for each in found[_MOST:]}
    for each in reversed(told):
        key = (each["schedule"], each["agent_group"])
        if key in left_out:
            each["goes_on"] = True
            left_out.discard(key)
    return told


def _times(schedule: Schedule, until: datetime) -> Iterator[tuple[datetime, bool]]:
    """The times of a schedule, and of each whether it is the last that is told and others follow."""
    if schedule.next_at is None or schedule.status != "active":
        return
    at: datetime | None = from_text(schedule.next_at)
    for number in range(1, MOST_TIMES + 1):
        if at is None or at > until:
            return
        after = following(recurrence_of(schedule), at)
        yield at, number == MOST_TIMES and after is not None and after <= until
        at = after
