"""SQL over a session's two files, for the person who owns them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from host.central import session_lookup
from host.services import Services
from host.sessions import inspection
from shared_schema.errors import InvalidValue


async def sql(services: Services, *, session: str, query: str, limit: int = 1000) -> dict[str, Any]:
    """The rows of one `select`: `{columns, rows, complete, notes}`.

    Raises `NotFound`, `Conflict`, and `InvalidValue` for what is no such query.
    """
    if not 1 <= limit <= inspection.MAX_ROWS:
        raise InvalidValue(f"the limit must be 1 to {inspection.MAX_ROWS}, not {limit}")
    found = await services.central.read(session_lookup.find, session, deleted=True)
    layout = services.inbox_sync.folder(found)
    return asdict(await asyncio.to_thread(inspection.ask, layout, query, limit=limit))
