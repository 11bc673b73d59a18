"""Until when something that an agent says by itself is held: until the quiet hours of chat and person are over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from host.central import quiet_hours
from host.central.database import Queryable
from host.central.quiet_hours import QuietHours
from host.schedules.when import is_within, next_at
from shared_schema.clock import from_text, to_text
from shared_schema.rows import Address


def held_in_chat(connection: Queryable, address: Address, now: str) -> str | None:
    """Until when (a stored time) nothing is said in a chat; None: it is not quiet there now."""
    return held(quiet_hours.of_chat(connection, address.channel_type, address.platform_id), from_text(now))


def held_for_user(connection: Queryable, user: str, now: str) -> str | None:
    """The same of a user's person, wherever they are written to."""
    return held(quiet_hours.of_user(connection, user), from_text(now))


def held(hours: Sequence[QuietHours], now: datetime) -> str | None:
    """The end of the quiet hours that it is now, the latest of several. Pure."""
    ends = [
        next_at(each.ends, each.timezone, now)
        for each in hours
        if is_within(each.begins, each.ends, each.timezone, now)
    ]
    return to_text(max(ends)) if ends else None
