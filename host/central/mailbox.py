"""What was delivered to the terminal, until a person reads it there."""

from __future__ import annotations

from host.central.database import Effect, Queryable, Transaction
from shared_schema.dataclass import dataclass
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


@dataclass(frozen=True, slots=True)
class LetterPut(Effect):
    """There is something to read at a terminal."""


def put(
    tx: Transaction,
    *,
    message_out_id: str,
    platform_id: str,
    thread_id: str | None,
    in_reply_to: str | None,
    content: str,
) -> int:
    """Put a message in; its position. Putting it in again changes nothing."""
    tx.execute(INSERT, (message_out_id, platform_id, thread_id, in_reply_to, content, tx.now))
    tx.add(LetterPut())
    position: int = tx.execute(POSITION, (message_out_id,)).fetchone()["position"]
    return position


def unread(connection: Queryable, platform_id: str, in_reply_to: str | None = None, limit: int = 100) -> list[Letter]:
    """Returns what is unread, oldest first; all, or what answers one message."""
    values = {"platform_id": platform_id, "in_reply_to": in_reply_to, "limit": limit}
    return [Letter.from_row(row) for row in connection.execute(UNREAD, values)]


def behind(
    connection: Queryable, platform_id: str, position: int, in_reply_to: str | None = None, limit: int = 100
) -> list[Letter]:
    """What came behind a position, read or not, oldest first: several terminals may show the same."""
    values = {"platform_id": platform_id, "position": position, "in_reply_to": in_reply_to, "limit": limit}
    return [Letter.from_row(row) for row in connection.execute(BEHIND, values)]


def newest(connection: Queryable) -> int:
    """The position of the last letter; 0 when there is none."""
    position: int = connection.execute(NEWEST).fetchone()["position"]
    return position


def mark_read(tx: Transaction, positions: list[int]) -> None:
    """Note that these were read. The oldest that were read go in time: the ledger has them."""
    tx.executemany(READ, [(tx.now, position) for position in positions])
    tx.execute(TRIM, (_READ_KEPT,))


def forget_session(tx: Transaction, session_id: str) -> None:
    """Remove what a session said; the key of a message begins with its session and a slash."""
    tx.execute(FORGET, (f"{session_id}/", f"{session_id}0"))  # "0" is the character after "/"
