"""A chat that goes on under another id: its wirings, sessions and what waits to be sent go with it.

Where the new id is registered already, both become one chat. What people set for the old one stays as it was, and no
conversation ends: of two on one route the one that was active last goes on in the chat, and the other one keeps the old
id's route, so that what it still has to do is done, and it can be taken up again.

What was accepted keeps the old id: it is the key by which a message that comes twice is known. `current` says where
such a chat is now.
"""

from __future__ import annotations

from collections.abc import Sequence

from host.central import messaging_groups
from host.central.database import Queryable, Transaction, one
from host.central.messaging_groups import MessagingGroup
from shared_schema.dataclass import dataclass

NOTE = """
INSERT INTO chat_moves (channel_type, old_id, new_id, moved_at) VALUES (?, ?, ?, ?)
ON CONFLICT (channel_type, old_id) DO UPDATE SET new_id = excluded.new_id, moved_at = excluded.moved_at
"""
FORGET = "DELETE FROM chat_moves WHERE channel_type = ? AND old_id = ?"
NEXT = "SELECT new_id FROM chat_moves WHERE channel_type = ? AND old_id = ?"

MOVE_GROUP = "UPDATE messaging_groups SET platform_id = ? WHERE channel_type = ? AND platform_id = ?"
# The condition of the partial index stands here word for word, or SQLite does not take it.
MOVE_DELIVERIES = """
UPDATE deliveries SET platform_id = ?
WHERE channel_type = ? AND platform_id = ? AND status IN ('pending', 'sending') AND status = 'pending'
"""
MOVE_HOST_MESSAGES = """
UPDATE host_messages SET platform_id = ? WHERE channel_type = ? AND platform_id = ? AND status = 'pending'
"""
MOVE_QUESTIONS = "UPDATE questions SET platform_id = ? WHERE channel_type = ? AND platform_id = ?"
MOVE_DIRECT_CHATS = """
UPDATE users SET direct_chat = :new
WHERE direct_chat = :old AND substr(id, 1, length(:channel_type) + 1) = :channel_type || ':'
"""
ROUTES_OF = """
SELECT r.id, r.agent_group_id, r.route_key, s.last_active, EXISTS (
    SELECT 1 FROM ingest i WHERE i.session_id = s.id AND i.kind = 'chat' AND i.trigger = 1) AS is_used
FROM routes r LEFT JOIN sessions s ON s.id = r.active_session_id
WHERE r.route_key = :old OR substr(r.route_key, 1, length(:old) + 1) = :old || '/'
"""
ROUTE_AT = """
SELECT r.id, s.last_active, EXISTS (
    SELECT 1 FROM ingest i WHERE i.session_id = s.id AND i.kind = 'chat' AND i.trigger = 1) AS is_used
FROM routes r LEFT JOIN sessions s ON s.id = r.active_session_id
WHERE r.agent_group_id = ? AND r.route_key = ?
"""
SET_KEY = "UPDATE routes SET route_key = ? WHERE id = ?"
REPLACE_WIRINGS = """
DELETE FROM wirings WHERE messaging_group_id = :new AND agent_group_id IN (
    SELECT agent_group_id FROM wirings WHERE messaging_group_id = :old)
"""
MOVE_WIRINGS = "UPDATE wirings SET messaging_group_id = :new WHERE messaging_group_id = :old"
MOVE_DESTINATIONS = "UPDATE agent_destinations SET messaging_group_id = :new WHERE messaging_group_id = :old"
MOVE_HOMES = "UPDATE home_channels SET messaging_group_id = :new WHERE messaging_group_id = :old"
MOVE_SESSIONS = "UPDATE sessions SET messaging_group_id = :new WHERE messaging_group_id = :old"
TAKE_SETTINGS = """
UPDATE messaging_groups SET unknown_sender = :unknown_sender, timezone = coalesce(:timezone, timezone),
    name = coalesce(name, :name)
WHERE id = :new
"""

_LONGEST_CHAIN = 20


@dataclass(frozen=True, slots=True)
class ChatMove:
    """What became of a chat that moved. `merged`: its new id was registered before; `beside`: how many conversations
    there are besides those that go on in the chat."""

    merged: bool = False
    beside: int = 0


def move(
    tx: Transaction, channel_type: str, old: str, new: str, prefixes: Sequence[tuple[str, str]]
) -> ChatMove | None:
    """Move a chat; `prefixes` are how the keys of its routes began, and begin. None: there was nothing to move.

    Repeatable.
    """
    if old == new:
        return None
    tx.execute(FORGET, (channel_type, new))  # a chat that moves back is where it was
    tx.execute(NOTE, (channel_type, old, new, tx.now))
    for statement in (MOVE_DELIVERIES, MOVE_HOST_MESSAGES, MOVE_QUESTIONS):
        tx.execute(statement, (new, channel_type, old))
    tx.execute(MOVE_DIRECT_CHATS, {"channel_type": channel_type, "old": old, "new": new})
    group = messaging_groups.find(tx, channel_type, old)
    if group is None:
        return None
    beside = sum(_move_routes(tx, before, after) for before, after in prefixes)
    there = messaging_groups.find(tx, channel_type, new)
    if there is None:
        tx.execute(MOVE_GROUP, (new, channel_type, old))
        return ChatMove()
    _merge(tx, group, there)
    return ChatMove(merged=True, beside=beside)


def current(connection: Queryable, channel_type: str, platform_id: str) -> str:
    """The id under which a chat goes on now; its own where it has not moved."""
    for _ in range(_LONGEST_CHAIN):
        row = one(connection, NEXT, (channel_type, platform_id))
        if row is None:
            break
        platform_id = str(row["new_id"])
    return platform_id


def _move_routes(tx: Transaction, old: str, new: str) -> int:
    """Give the routes of a chat their new keys; how many conversations are left beside those that go on."""
    beside = 0
    for route in tx.execute(ROUTES_OF, {"old": old}).fetchall():
        key = new + route["route_key"][len(old) :]
        rival = one(tx, ROUTE_AT, (route["agent_group_id"], key))
        if rival is None:
            tx.execute(SET_KEY, (key, route["id"]))
            continue
        is_later = not rival["is_used"] or (route["is_used"] and route["last_active"] > rival["last_active"])
        if is_later:  # they change places; a key stands once at every moment
            tx.execute(SET_KEY, (f"moving/{route['id']}", rival["id"]))
            tx.execute(SET_KEY, (key, route["id"]))
            tx.execute(SET_KEY, (route["route_key"], rival["id"]))
        beside += int(bool(rival["is_used"] and route["is_used"]))
    return beside


def _merge(tx: Transaction, old: MessagingGroup, new: MessagingGroup) -> None:
    """Make one chat of two: what hangs on the old one hangs on the new one."""
    both = {"old": old.id, "new": new.id}
    for statement in (REPLACE_WIRINGS, MOVE_WIRINGS, MOVE_DESTINATIONS, MOVE_HOMES, MOVE_SESSIONS):
        tx.execute(statement, both)
    settings = {"unknown_sender": old.unknown_sender, "timezone": old.timezone, "name": old.name, "new": new.id}
    tx.execute(TAKE_SETTINGS, settings)
    messaging_groups.delete(tx, old.id)
