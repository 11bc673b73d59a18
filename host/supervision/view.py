"""What the ledger knows of a session, read at once at the beginning of a look."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, replace

from host.central import deliveries, ingest, sessions, turns
from host.sessions.post import Mail, mail_of


@dataclass(frozen=True, slots=True)
class View:
    """What the ledger knows of a session."""

    session: sessions.Session
    mail: Mail | None
    open_messages: tuple[ingest.OpenMessage, ...]
    running_turns: tuple[str, ...]
    has_unrecorded: bool

    @property
    def waiting(self) -> int:
        """How many messages ask for an answer and have none."""
        return sum(1 for message in self.open_messages if message.trigger)

    @property
    def is_awake(self) -> bool:
        """Whether its agent may run: for a session that is over, while it is asked to save what is worth remembering.

        Whatever else was open in it was cancelled when it ended.
        """
        return self.session.status == "active" or (self.session.status == "ended" and bool(self.waiting))

    def after(self, finished: Collection[str]) -> View:
        """The same once these messages have got their outcome."""
        rest = tuple(message for message in self.open_messages if message.message_id not in finished)
        return replace(self, open_messages=rest, has_unrecorded=self.has_unrecorded or bool(finished))


def view_of(connection: sqlite3.Connection, session_id: str) -> View | None:
    """What the ledger knows now; None when there is no such session."""
    session = sessions.lookup(connection, session_id)
    if session is None:
        return None
    return View(
        session=session,
        mail=mail_of(connection, session),
        open_messages=tuple(ingest.open_messages(connection, session_id)),
        running_turns=tuple(turns.running(connection, session_id)),
        has_unrecorded=bool(
            ingest.unrecorded(connection, session_id, 1) or deliveries.unrecorded(connection, session_id, 1)
        ),
    )
