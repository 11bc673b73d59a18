"""What the ledger knows of the messages of a session, in the order in which the host took them.

What was said stands in history. The ledger adds what became of each message, and what is in no session's file: the
host's own notices, commands, and messages that are still to be written.
"""

from __future__ import annotations

from typing import Any

from host.central.database import Queryable
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileDamaged
from shared_schema.rows import Row, decode

# What the host will say later, if nothing happens before, is not said: that the time of a question is over, for one.
LAST = """
SELECT * FROM (
    SELECT message_id AS id, 'in' AS direction, accepted_at AS time, coalesce(sender_name, sender_id) AS sender, kind,
           CASE withdrawn WHEN 1 THEN 'withdrawn' ELSE status END AS status, content,
           kind = 'command' OR (state = 'accepted' AND kind <> 'control') AS only_here, position AS place, 0 AS behind
    FROM ingest WHERE session_id = :session
    UNION ALL
    SELECT message_out_id, 'out', created_at, 'dumbwaiter', kind, status, content, from_host, after_position, position
    FROM deliveries WHERE session_id = :session
        AND NOT (from_host = 1 AND (status = 'suppressed' OR status = 'pending' AND deliver_after IS NOT NULL))
) ORDER BY place DESC, behind DESC LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class Known(Row):
    """A message. `only_here` says that no file of the session has it; `direction` is `in` or `out`."""

    id: str
    direction: str
    time: str
    sender: str | None
    kind: str
    status: str
    content: str
    only_here: int

    @property
    def text(self) -> str:
        """What it says."""
        return str(self._said.get("text", ""))

    @property
    def files(self) -> list[str]:
        """The names of its files."""
        files = self._said.get("files")
        names = (
            [file.get("name") if isinstance(file, dict) else file for file in files] if isinstance(files, list) else []
        )
        return [name for name in names if isinstance(name, str)]

    def as_entry(self) -> dict[str, Any]:
        """As an entry of a transcript."""
        names = ("id", "direction", "time", "sender", "text", "files", "kind", "status")
        return {name: getattr(self, name) for name in names}

    @property
    def _said(self) -> dict[str, Any]:
        """The content; a sentence in place of one that cannot be read, so that the others still can be."""
        try:
            return decode(self.content)
        except FileDamaged:
            return {"text": "[what was said here cannot be read]"}


def of_session(connection: Queryable, session_id: str, *, limit: int, most: int) -> list[Known]:
    """The newest messages of a session, oldest first: not more than have `most` characters together."""
    found: list[Known] = []
    for row in connection.execute(LAST, {"session": session_id, "limit": limit}):
        found.append(Known.from_row(row))
        most -= len(found[-1].content)
        if most < 0:
            break
    return found[::-1]
