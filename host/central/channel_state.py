"""What channels remember over a restart of the host: an offset, a sync token, the last UID."""

from __future__ import annotations

from host.central.database import Queryable, Transaction, one

PUT = """
INSERT INTO channel_state (channel, key, value, updated_at) VALUES (?, ?, ?, ?)
ON CONFLICT (channel, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
"""
GET = "SELECT value FROM channel_state WHERE channel = ? AND key = ?"
FORGET = "DELETE FROM channel_state WHERE channel = ?"


def put(tx: Transaction, channel: str, key: str, value: str) -> None:
    """Keep a value in place of the one before."""
    tx.execute(PUT, (channel, key, value, tx.now))


def get(connection: Queryable, channel: str, key: str) -> str | None:
    """What was kept; None: nothing."""
    row = one(connection, GET, (channel, key))
    return None if row is None else str(row["value"])


def forget(tx: Transaction, channel: str) -> None:
    """Drop all that a channel remembers."""
    tx.execute(FORGET, (channel,))
