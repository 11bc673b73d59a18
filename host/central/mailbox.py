"""What was delivered to the terminal, until a person reads it there."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from shared_schema.rows import Row

INSERT = """
INSERT INTO terminal_mailbox (message_out_id, platform_id, thread_id, in_reply_to, content, created_at)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
POSITION = "SELECT position FROM terminal_mailbox WHERE message_out_id = ?"
UNREAD = """
SELECT * FROM terminal_mailbox
WHERE platform_id = :platform_id AND read_at IS NULL AND (:in_reply_to IS NULL OR in_reply_to = :in_reply_to)
ORDER BY position LIMIT :limit
"""
BEHIND = """
SELECT * FROM terminal_mailbox
WHERE platform_id = :platform_id AND position > :position AND (:in_reply_to IS NULL OR in_reply_to = :in_reply_to)
ORDER BY position LIMIT :limit
"""
NEWEST = "SELECT coalesce(max(position), 0) AS position FROM terminal_mailbox"
FORGET = "DELETE FROM terminal_mailbox WHERE message_out_id >= ? AND message_out_id < ?"
TRIM = """
DELETE FROM terminal_mailbox
WHERE read_at IS NOT NULL AND position < (SELECT max(position) FROM terminal_mailbox) - ?
"""
_READ_KEPT = 10_000
READ = "UPDATE terminal_mailbox SET read_at = ? WHERE position = ? AND read_at IS NULL"


@dataclass(frozen=True, slots=True)
class Letter(Row):
    """One message for the terminal."""

    position: int
    message_out_id: str
    platform_id: str
    thread_id: str | None
    in_reply_to: str | None
    content: str
    created_at: str

    @property
    def session_id(self) -> str:
        """The session that said it: the key of a message begins with it."""
        return self.message_out_id.partition("/")[0]


def put(
    connection: sqlite3.Connection,
    *,
    message_out_id: str,
    platform_id: str,
    thread_id: str | None,
    in_reply_to: str | None,
    content: str,
    now: str,
) -> int:
    """Put a message in; its position. Putting it in again changes nothing."""
    connection.execute(INSERT, (message_out_id, platform_id, thread_id, in_reply_to, content, now))
    position: int = connection.execute(POSITION, (message_out_id,)).fetchone()["position"]
    return position


def unread(
    connection: sqlite3.Connection, platform_id: str, in_reply_to: str | None = None, limit: int = 100
) -> list[Letter]:
    """Returns what is unread, oldest first; all, or what answers one message."""
    values = {"platform_id": platform_id, "in_reply_to": in_reply_to, "limit": limit}
    return [Letter.from_row(row) for row in connection.execute(UNREAD, values)]


def behind(
    connection: sqlite3.Connection, platform_id: str, position: int, in_reply_to: str | None = None, limit: int = 100
) -> list[Letter]:
    """What came behind a position, read or not, oldest first: several terminals may show the same."""
    values = {"platform_id": platform_id, "position": position, "in_reply_to": in_reply_to, "limit": limit}
    return [Letter.from_row(row) for row in connection.execute(BEHIND, values)]


def newest(connection: sqlite3.Connection) -> int:
    """The position of the last letter; 0 when there is none."""
    position: int = connection.execute(NEWEST).fetchone()["position"]
    return position


def mark_read(connection: sqlite3.Connection, positions: list[int], now: str) -> None:
    """Note that these were read. The oldest that were read go in time: the ledger has them."""
    connection.executemany(READ, [(now, position) for position in positions])
    connection.execute(TRIM, (_READ_KEPT,))


def forget_session(connection: sqlite3.Connection, session_id: str) -> None:
    """Remove what a session said; the key of a message begins with its session and a slash."""
    connection.execute(FORGET, (f"{session_id}/", f"{session_id}0"))  # "0" is the character after "/"
