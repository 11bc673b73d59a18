"""The last lines of the host's log, for who is not at its terminal."""

from __future__ import annotations

import logging
from typing import Any

from host.central import session_lookup
from host.log import RECENT
from host.services import Services
from shared_schema.errors import Conflict, InvalidValue

LEVELS = ("debug", "info", "warning", "error")
MOST = 1_000


async def list_all(
    services: Services, *, session: str | None = None, level: str = "info", limit: int = 200
) -> list[dict[str, Any]]:
    """The newest lines since the host's start, the oldest of them first: time, level, event, logger, and their fields.

    Of one session, and of at least one level. The host keeps the last 2,000. Raises `InvalidValue`, `NotFound`.
    """
    if services.started_at is None:
        raise Conflict("no host runs, and the log is in the host's memory", hint="`dumbwaiter run` starts it")
    if level not in LEVELS:
        raise InvalidValue(f"'{level}' is no level", hint=f"use one of {', '.join(LEVELS)}")
    if not 1 <= limit <= MOST:
        raise InvalidValue(f"1 to {MOST} lines can be shown, not {limit}")
    found = None if session is None else (await services.central.read(session_lookup.find, session)).id
    return RECENT.lines(least=logging.getLevelNamesMapping()[level.upper()], session=found, limit=limit)
