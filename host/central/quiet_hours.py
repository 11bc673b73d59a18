"""Quiet hours of chats and of people: what an agent says by itself then waits until they are over."""

from __future__ import annotations

from typing import Any

from host.central.database import Queryable, Transaction
from shared_schema.dataclass import dataclass
from shared_schema.errors import NotFound
from shared_schema.rows import Row

PUT = """
INSERT INTO quiet_hours (kind, subject, begins, ends, timezone) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (kind, subject) DO UPDATE SET begins = excluded.begins, ends = excluded.ends, timezone = excluded.timezone
"""
REMOVE = "DELETE FROM quiet_hours WHERE kind = ? AND subject = ?"
LIST = """
SELECT q.*, (SELECT group_concat(u.id, ' ') FROM users u WHERE q.kind = 'person' AND u.person_id = q.subject) AS users
FROM quiet_hours q ORDER BY q.kind, q.subject
"""
# Those of the chat, and those of the person whose direct chat it is.
OF_CHAT = """
SELECT begins, ends, timezone FROM quiet_hours WHERE kind = 'chat' AND subject = :channel || ':' || :platform_id
UNION ALL
SELECT q.begins, q.ends, q.timezone FROM users u INDEXED BY users_by_direct_chat
JOIN quiet_hours q ON q.kind = 'person' AND q.subject = u.person_id
WHERE u.direct_chat IS NOT NULL AND u.direct_chat = :platform_id AND u.id LIKE :channel || ':%'
"""
OF_USER = """
SELECT q.begins, q.ends, q.timezone FROM users u JOIN quiet_hours q ON q.kind = 'person' AND q.subject = u.person_id
WHERE u.id = ?
"""


@dataclass(frozen=True, slots=True)
class QuietHours(Row):
    """From when to when (`HH:MM`, maybe over midnight), on the clock of a zone."""

    begins: str
    ends: str
    timezone: str


def put(tx: Transaction, kind: str, subject: str, hours: QuietHours) -> None:
    """Set the quiet hours of a chat (its address) or a person (their id), in place of those before."""
    tx.execute(PUT, (kind, subject, hours.begins, hours.ends, hours.timezone))


def remove(tx: Transaction, kind: str, subject: str) -> None:
    """Take them away. Raises `NotFound`."""
    if not tx.execute(REMOVE, (kind, subject)).rowcount:
        raise NotFound("there are no quiet hours of it", hint="`dumbwaiter quiet-hours list` shows all")


def listed(connection: Queryable) -> list[dict[str, Any]]:
    """All of them: `kind, subject, begins, ends, timezone`, and `users` of a person, in one text."""
    return [dict(row) for row in connection.execute(LIST)]


def of_chat(connection: Queryable, channel: str, platform_id: str) -> list[QuietHours]:
    """Those of a chat, and of the person whose direct chat it is."""
    values = {"channel": channel, "platform_id": platform_id}
    return [QuietHours.from_row(row) for row in connection.execute(OF_CHAT, values)]


def of_user(connection: Queryable, user: str) -> list[QuietHours]:
    """Those of the person who is a user."""
    return [QuietHours.from_row(row) for row in connection.execute(OF_USER, (user,))]
