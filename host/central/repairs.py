"""What the host repaired in the files of sessions: told to live views, and kept with what was refused there."""

from __future__ import annotations

import json
from collections.abc import Sequence

from host.central import events, refusals
from host.central.database import Queryable, Transaction
from host.central.events import EventKind
from host.central.sessions import Session


def note(tx: Transaction, session: Session, said: Sequence[str]) -> None:
    """Keep what was repaired. A sentence begins with the name of the file."""
    for sentence in said:
        name, _, what = sentence.partition(" ")
        refusals.refuse(tx, session.id, name, what)
        events.add(
            tx,
            EventKind.SESSION_REPAIRED,
            session_id=session.id,
            agent_group_id=session.agent_group_id,
            data={"what": sentence},
        )


def last(connection: Queryable, since: str, limit: int) -> list[dict[str, str | None]]:
    """The newest repairs since a time, the newest first: `at, session_id, what`."""
    found = events.last_of_kind(connection, EventKind.SESSION_REPAIRED, since, limit)
    return [{"at": each.at, "session_id": each.session_id, "what": json.loads(each.data)["what"]} for each in found]
