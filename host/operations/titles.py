"""What a person can do about the title of a session."""

from __future__ import annotations

from typing import Any

from host.central import audit, session_lookup, sessions, titles
from host.central import title as form
from host.central.database import Transaction
from host.services import Services
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

    def store(tx: Transaction) -> sessions.Session:
        found = session_lookup.find(tx, session)
        if clear:
            titles.clear(tx, found)
        else:
            assert title is not None, "there is something to change"
            titles.set_manual(tx, found, title, lineage=following)
        after = sessions.get(tx, found.id)
        audit.record(tx, "session.title", found.id, before={"title": found.title}, after={"title": after.title})
        return after

    changes = title is not None or clear
    found = await (services.central.write(store) if changes else services.central.read(session_lookup.find, session))
    is_cut = title is not None and form.is_cut(title)
    return {"session_id": found.id, "title": found.title, "title_source": found.title_source, "cut": is_cut}
