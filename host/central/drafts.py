"""The message of a chat in which an answer grows: one for each session at most. It becomes the answer by an edit."""

from __future__ import annotations

from host.central.database import Queryable, Transaction, one
from shared_schema.rows import Address

PUT = """
INSERT INTO drafts (session_id, channel_type, platform_id, thread_id, platform_message_id, created_at)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (session_id) DO NOTHING
"""
OF = "SELECT * FROM drafts WHERE session_id = ?"
ALL = "SELECT session_id FROM drafts"
REMOVE = "DELETE FROM drafts WHERE session_id = ? AND platform_message_id = ?"


def put(tx: Transaction, session_id: str, address: Address, platform_message_id: str) -> None:
    """An answer of a session grows in that message."""
    values = (session_id, address.channel_type, address.platform_id, address.thread_id, platform_message_id, tx.now)
    tx.execute(PUT, values)


def of(connection: Queryable, session_id: str) -> tuple[Address, str] | None:
    """Where the answer of a session grows, and in which message; None: nowhere."""
    row = one(connection, OF, (session_id,))
    return None if row is None else (Address.from_row(row), str(row["platform_message_id"]))


def remove(tx: Transaction, session_id: str, platform_message_id: str) -> None:
    """That message is a whole one now."""
    tx.execute(REMOVE, (session_id, platform_message_id))


def sessions(connection: Queryable) -> list[str]:
    """The sessions whose answer was growing when the last host ended."""
    return [row["session_id"] for row in connection.execute(ALL)]
