"""A chat that goes on under another id: its wirings, sessions and what waits to be sent go with it.

What was accepted keeps the old id: it is the key by which a message that comes twice is known.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from host.central import messaging_groups

MOVE_GROUP = "UPDATE messaging_groups SET platform_id = ? WHERE channel_type = ? AND platform_id = ?"
MOVE_DELIVERIES = """
UPDATE deliveries SET platform_id = ? WHERE channel_type = ? AND platform_id = ? AND status = 'pending'
"""
MOVE_QUESTIONS = "UPDATE questions SET platform_id = ? WHERE channel_type = ? AND platform_id = ?"
MOVE_ROUTES = """
UPDATE routes SET route_key = :new || substr(route_key, length(:old) + 1)
WHERE route_key = :old OR substr(route_key, 1, length(:old) + 1) = :old || '/'
"""


def move(
    connection: sqlite3.Connection, channel_type: str, old: str, new: str, prefixes: Iterable[tuple[str, str]]
) -> bool:
    """Move a chat; `prefixes` are how the keys of its routes began, and begin. Whether there was something to move.

    Repeatable. A chat that is registered under its new id already stays as it is.
    """
    if messaging_groups.find(connection, channel_type, old) is None:
        return False
    if messaging_groups.find(connection, channel_type, new) is not None:
        return False
    for statement in (MOVE_GROUP, MOVE_DELIVERIES, MOVE_QUESTIONS):
        connection.execute(statement, (new, channel_type, old))
    for before, after in prefixes:
        connection.execute(MOVE_ROUTES, {"old": before, "new": after})
    return True
