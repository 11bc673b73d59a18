"""What was used: by day, model, session, agent group or turn."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

from host.central import agent_groups, session_lookup
from host.central import usage as table
from host.central.database import Queryable
from host.central.usage import By
from host.operations import schedules
from host.services import Services
from shared_schema.clock import to_text
from shared_schema.errors import InvalidValue, NotFound
from shared_schema.ids import Prefix, is_id

_DATE = "%Y-%m-%d"
_MAX_ROWS = 10_000


async def report(
    services: Services,
    *,
    by: str = "day",
    agent_group: str | None = None,
    session: str | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: int = 1000,
) -> dict[str, Any]:
    """`by`, `rows` (the newest first) and their `total`: turns, tokens and cost in US dollars (None: no price is
    known).

    `schedules` says what acts by itself, and what that has used in a week.

    `called_tokens` and `called_usd` are of the model calls that went through the gateway, as the gateway counted them;
    None by model, session or turn.
    `since` and `until` are days of UTC, both included. A session or agent group that is gone is known by what it used.
    Raises `InvalidValue`, `NotFound`.
    """
    if by not in set(By):
        raise InvalidValue(f"usage cannot be added up by '{by}'", hint=f"use one of {', '.join(By)}")
    if not 1 <= limit <= _MAX_ROWS:
        raise InvalidValue(f"the limit must be 1 to {_MAX_ROWS}, not {limit}")
    now = to_text(services.clock.now())
    first, last = _day(since), _day(until)
    after = None if last is None else (last + timedelta(days=1)).isoformat()

    def load(connection: Queryable) -> dict[str, Any]:
        chosen: dict[str, Any] = {
            "agent_group": _agent_group(connection, agent_group),
            "session_id": _session(connection, session),
            "since": None if first is None else first.isoformat(),
            "until": after,
        }
        rows = table.report(connection, By(by), **chosen, limit=limit)
        total = table.report(connection, None, **chosen) or [table.Used("total", 0, 0, 0, 0, 0, 0, 0.0)]
        return {
            "by": by,
            "rows": [_shown(row, by) for row in rows],
            "total": _shown(total[0], "total"),
            "schedules": schedules.acting(connection, now),
        }

    return await services.central.read(load)


def _shown(used: table.Used, by: str) -> dict[str, Any]:
    values = asdict(used)
    tokens = used.input_tokens + used.output_tokens + used.cache_read_tokens + used.cache_write_tokens
    if tokens and not used.cost_usd:
        values["cost_usd"] = None  # no price is known: agents report no cost then
    key = {"session": "session_id", "turn": "turn_id"}.get(by, by.replace("-", "_"))
    return {key: values.pop("name"), **values}


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        day = datetime.strptime(text, _DATE).replace(tzinfo=UTC).date()
        if text != day.isoformat() or day == date.max:
            raise ValueError(text)
    except ValueError as error:
        raise InvalidValue(f"'{text}' is not a date", hint="write it as 2026-02-28") from error
    return day


def _agent_group(connection: Queryable, name: str | None) -> str | None:
    if name is not None and not table.knows(connection, agent_group=name):
        return agent_groups.get_by_name(connection, name).name
    return name


def _session(connection: Queryable, name: str | None) -> str | None:
    if name is None:
        return None
    try:
        return session_lookup.find(connection, name, deleted=True).id
    except NotFound:
        if is_id(name, Prefix.SESSION) and table.knows(connection, session_id=name):
            return name
        raise
