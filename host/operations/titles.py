"""What a person can do about the title of a session."""

from __future__ import annotations

import sqlite3
from typing import Any

from host.central import audit, session_lookup, sessions, titles
from host.central import title as form
from host.services import Services
from shared_schema.clock import to_text
from shared_schema.errors import InvalidValue


async def set_title(
    services: Services, *, session: str, title: str | None = None, clear: bool = False, following: bool = False
) -> dict[str, Any]:
    """Set or clear the title of a session, or only say which it is: `{session, title, title_source, cut}`.

    `cut` says that the title that was wanted is longer than one can be. With `following`, a title that is taken becomes
    the next of its line. Raises `InvalidValue`, `NotFound`, `Conflict`.
    """
    if clear and title is not None:
        raise InvalidValue("a title is either set or cleared")
    now = to_text(services.clock.now())

    def store(connection: sqlite3.Connection) -> sessions.Session:
        found = session_lookup.find(connection, session)
        if clear:
            titles.clear(connection, found, now)
        elif title is not None:
            titles.set_manual(connection, found, title, now, lineage=following)
        after = sessions.get(connection, found.id)
        if clear or title is not None:
            audit.record(
                connection, "session.title", found.id, now, before={"title": found.title}, after={"title": after.title}
            )
        return after

    run = services.central.read if title is None and not clear else services.central.write
    found = await run(store)
    is_cut = title is not None and form.is_cut(title)
    return {"session_id": found.id, "title": found.title, "title_source": found.title_source, "cut": is_cut}
