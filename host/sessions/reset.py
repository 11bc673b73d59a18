"""Whether a conversation begins anew because time has passed. Pure.

Both limits are asked of the wall clock, strictly: a conversation that rested for exactly the limit goes on.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue


class Reset(StrEnum):
    """When a wiring begins anew."""

    NONE = "none"
    IDLE = "idle"
    DAILY = "daily"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Policy:
    """The rule of one wiring. `hour` is on the clock of `zone`, the chat's."""

    reset: Reset
    minutes: int
    hour: int
    zone: str


def reset_due(policy: Policy, *, last_active: datetime, now: datetime, is_busy: bool) -> Reset | None:
    """`idle` or `daily` when the conversation is over; None when it goes on.

    Never while a turn, a tool or another process of the session works (`is_busy`). Both times are aware. Idle is asked
    first. A clock that was set back resets nothing.
    """
    if is_busy or policy.reset == Reset.NONE:
        return None
    if policy.reset in (Reset.IDLE, Reset.BOTH) and now - last_active > timedelta(minutes=policy.minutes):
        return Reset.IDLE
    if policy.reset in (Reset.DAILY, Reset.BOTH) and last_active < _last_time(policy.hour, zone(policy.zone), now):
        return Reset.DAILY
    return None


def zone(name: str) -> ZoneInfo:
    """The time zone of that name. Raises `InvalidValue`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidValue(f"'{name[:80]}' is not a time zone", hint="use a name such as Europe/Berlin") from error


def _last_time(hour: int, where: ZoneInfo, now: datetime) -> datetime:
    """The last moment at which it was that hour there."""
    here = now.astimezone(where)
    at = here.replace(hour=hour, minute=0, second=0, microsecond=0, fold=0)
    return at if at <= here else at - timedelta(days=1)
