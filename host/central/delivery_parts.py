"""The messages that one long message became on its platform: the platform's id of each, by its number from 1."""

from __future__ import annotations

from host.central.database import Queryable, Transaction
from host.central.deliveries import Chat

PUT = """
INSERT INTO delivery_parts (position, number, channel_type, platform_id, platform_message_id) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (position, number) DO UPDATE SET platform_message_id = excluded.platform_message_id
"""
OF = "SELECT number, platform_message_id FROM delivery_parts WHERE position = ? ORDER BY number"
REMOVE = "DELETE FROM delivery_parts WHERE position = ? AND number = ?"
SET_COUNT = "UPDATE deliveries SET parts = ? WHERE position = ?"


def put(tx: Transaction, position: int, number: int, chat: Chat, platform_message_id: str) -> None:
    """A part of a delivery is that message."""
    tx.execute(PUT, (position, number, *chat, platform_message_id))


def of(connection: Queryable, position: int, first: str | None) -> dict[int, str]:
    """The ids of the parts of a delivery, as far as they are known; `first` is the id that the delivery itself has.

    That is the id of the first part, or of the first that surely arrived.
    """
    known = {row["number"]: str(row["platform_message_id"]) for row in connection.execute(OF, (position,))}
    if first is not None and first not in known.values():
        known.setdefault(1, first)
    return known


def remove(tx: Transaction, position: int, number: int) -> None:
    """A part is no more."""
    tx.execute(REMOVE, (position, number))


def set_count(tx: Transaction, position: int, parts: int) -> None:
    """A delivery consists of so many messages now."""
    tx.execute(SET_COUNT, (parts, position))
