"""Looking at the audit log, and at what was dropped at the door."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from host.central import audit, messaging_groups, refusals
from host.services import Services
from shared_schema.clock import from_text, to_text
from shared_schema.errors import InvalidValue

_MOST = 1_000


async def list_all(
    services: Services,
    *,
    who: str | None = None,
    action: str | None = None,
    since: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Changes by people, the newest first: `position, at, who, from, action, subject, before, after`.

    `action` is a whole one (`wiring.set`) or its noun (`wiring`), `since` a stored time or a day, `before` the position
    behind which to go on.
    """
    _require_limit(limit)
    start = None if since is None else _time(since)
    return await services.central.read(audit.entries, who=who, action=action, since=start, before=before, limit=limit)


async def list_dropped(
    services: Services, *, messaging_group: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """What was not taken, the newest first: `messaging_group, sender_id, reason, times, first_at, last_at`."""
    _require_limit(limit)
    if messaging_group is not None:
        messaging_groups.parse_address(messaging_group)
    return await services.central.read(refusals.dropped, messaging_group, limit)


def _require_limit(limit: int) -> None:
    if not 1 <= limit <= _MOST:
        raise InvalidValue(f"the limit must be 1 to {_MOST}, not {limit}")


def _time(text: str) -> str:
    """A stored time from one, or from a day (UTC)."""
    try:
        return to_text(from_text(text if "T" in text else f"{text}T00:00:00.000Z") + timedelta(0))
    except (InvalidValue, OverflowError) as error:
        raise InvalidValue(f"'{text}' is not a time", hint="write it as 2026-02-28") from error
