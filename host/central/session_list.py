"""Lists of sessions, in the order of their last activity, page by page; and the list that a person was shown last."""

from __future__ import annotations

import json
import sqlite3

from host.central.database import Queryable, Transaction, one
from shared_schema.dataclass import dataclass

# Pages are cut by key (`before`: last_active and id of the last row), so that no row is missed or shown twice.
_SELECT = """
SELECT s.id, a.name AS agent_group, m.channel_type || ':' || m.platform_id AS messaging_group, m.channel_type,
       m.name AS messaging_group_name,
       s.thread_id, s.kind, s.status, s.end_reason, s.title, s.title_source, s.preview, s.last_active, s.created_at,
       s.ended_at, s.deleted_at, s.unread_since, s.parent_session_id, s.parent_relation, s.agent_group_id,
       s.generation, s.run_id, s.run_settled,
       (SELECT count(*) FROM ingest i INDEXED BY ingest_open
        WHERE i.session_id = s.id AND i.status = 'pending' AND i.trigger = 1 AND i.kind <> 'control') AS pending
"""
_NAMES = """
JOIN agent_groups a ON a.id = s.agent_group_id LEFT JOIN messaging_groups m ON m.id = s.messaging_group_id
"""
_REST = """
  (:agent_group_id IS NULL OR s.agent_group_id = :agent_group_id)
  AND (:messaging_group_id IS NULL OR s.messaging_group_id = :messaging_group_id)
  AND (:channel_type IS NULL OR m.channel_type = :channel_type)
  AND CASE WHEN :status IS NULL THEN s.status <> 'deleted' ELSE s.status = :status END
  AND CASE WHEN :kind IS NULL THEN s.kind <> 'schedule' WHEN :kind = 'all' THEN 1 ELSE s.kind = :kind END
  AND (:unread = 0 OR s.unread_since IS NOT NULL)
  AND s.last_active <= :last_active AND (s.last_active, s.id) < (:last_active, :id)
ORDER BY s.last_active DESC, s.id DESC LIMIT :limit
"""
ONE = f"{_SELECT} FROM sessions s {_NAMES} WHERE s.id = ?"
# The same page by the index that leaves out most.
PAGE = f"{_SELECT} FROM sessions s INDEXED BY sessions_by_activity {_NAMES} WHERE {_REST}"
PAGE_OF_CHAT = f"""
{_SELECT} FROM sessions s INDEXED BY sessions_by_messaging_group {_NAMES}
WHERE s.messaging_group_id = :messaging_group_id AND {_REST}
"""
PAGE_OF_UNREAD = f"""
{_SELECT} FROM sessions s INDEXED BY sessions_unread {_NAMES} WHERE s.unread_since IS NOT NULL AND {_REST}
"""
PAGE_OF_STATUS = f"""
{_SELECT} FROM sessions s INDEXED BY sessions_by_status {_NAMES} WHERE s.status = :status AND {_REST}
"""
PAGE_OF_AGENT_GROUP = f"""
{_SELECT} FROM sessions s INDEXED BY sessions_by_agent_group {_NAMES}
WHERE s.agent_group_id = :agent_group_id AND {_REST}
"""
SHOW_LIST = """
INSERT INTO shown_lists (place, sessions, shown_at) VALUES (?, ?, ?)
ON CONFLICT (place) DO UPDATE SET sessions = excluded.sessions, shown_at = excluded.shown_at
"""
NEIGHBOURS = "SELECT (SELECT max(id) FROM sessions WHERE id < ?), (SELECT min(id) FROM sessions WHERE id > ?)"
FORGET_OLD = "DELETE FROM shown_lists WHERE place LIKE 'terminal %' AND shown_at < ?"
FORGET_LIST = "DELETE FROM shown_lists WHERE place = ?"
SHOWN_LIST = "SELECT sessions FROM shown_lists WHERE place = ?"
SESSION_PREFIX = "ses_"
_END = "\U0010ffff"
_LONGEST_NUMBER = 4


@dataclass(frozen=True, slots=True)
class Filter:
    """Which sessions; None: all of them. Without a status the deleted ones are left out.

    Without a kind the runs of schedules are left out, which would hide the others; `all` is every kind.
    """

    agent_group_id: str | None = None
    messaging_group_id: str | None = None
    channel_type: str | None = None
    status: str | None = None
    unread: bool = False
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """The place of a session in the list: the next page begins behind it."""

    last_active: str = _END
    id: str = _END


def page(connection: Queryable, chosen: Filter, *, limit: int = 100, after: Key | None = None) -> list[sqlite3.Row]:
    """Sessions with the names people use, the most recently active first."""
    after = after or Key()
    values = {
        "agent_group_id": chosen.agent_group_id,
        "messaging_group_id": chosen.messaging_group_id,
        "channel_type": chosen.channel_type,
        "status": chosen.status,
        "unread": int(chosen.unread),
        "kind": chosen.kind,
        "last_active": after.last_active,
        "id": after.id,
        "limit": limit,
    }
    return connection.execute(_statement(chosen), values).fetchall()


def _statement(chosen: Filter) -> str:
    if chosen.messaging_group_id is not None:
        return PAGE_OF_CHAT
    if chosen.unread:
        return PAGE_OF_UNREAD
    if chosen.status not in (None, "active"):
        return PAGE_OF_STATUS
    return PAGE if chosen.agent_group_id is None else PAGE_OF_AGENT_GROUP


def shown(connection: Queryable, session_id: str) -> sqlite3.Row:
    """One session in the form of the list. The session must exist."""
    row = one(connection, ONE, (session_id,))
    assert row is not None
    return row


def short_id(connection: Queryable, session_id: str) -> str:
    """The shortest beginning of a session's id that no other one has, without `ses_`: five characters at least, so that
    it is not taken for a number of a list."""
    before, after = connection.execute(NEIGHBOURS, (session_id, session_id)).fetchone()
    digits = session_id.removeprefix(SESSION_PREFIX)
    length = _LONGEST_NUMBER + 1
    while length < len(digits) and any(
        (each or "").startswith(SESSION_PREFIX + digits[:length]) for each in (before, after)
    ):
        length += 1
    return digits[:length]


def keep_list(tx: Transaction, place: str, session_ids: list[str]) -> None:
    """Remember what was listed in a place (a chat, or a terminal), so that people can say a number."""
    tx.execute(SHOW_LIST, (place, json.dumps(session_ids), tx.now))


def forget_terminals(tx: Transaction, before: str) -> None:
    """Forget what terminals were shown before a time: the host does not learn when a terminal is closed."""
    tx.execute(FORGET_OLD, (before,))


def forget_list(tx: Transaction, place: str) -> None:
    """Forget what was listed in a place that is gone."""
    tx.execute(FORGET_LIST, (place,))


def is_number(name: str) -> bool:
    """Whether a name can be a number in a list."""
    return name.isascii() and name.isdecimal() and len(name) <= _LONGEST_NUMBER


def numbered(connection: Queryable, place: str, name: str) -> str | None:
    """The session with that number (1 is the first) in the list that was shown last in a place."""
    if not is_number(name):
        return None
    number = int(name)
    row = one(connection, SHOWN_LIST, (place,))
    listed: list[str] = [] if row is None else json.loads(row["sessions"])
    return listed[number - 1] if 1 <= number <= len(listed) else None
