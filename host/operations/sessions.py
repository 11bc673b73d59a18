"""Looking at sessions: list, show, logs."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from host.central import agent_groups, messaging_groups, refusals, session_list, session_lookup, sessions, turns, unread
from host.central.database import Queryable, Transaction
from host.central.session_list import Filter, Key
from host.runtime.protocol import RuntimeUnavailable
from host.services import Services
from shared_schema.clock import from_text, to_text
from shared_schema.errors import InvalidValue
from shared_schema.ids import Prefix, require_id
from shared_schema.layout import SessionLayout

_MAX_LIST = 1000
_STATUSES = ("active", "ended", "archived", "deleted")
_KINDS = ("chat", "agent", "heartbeat", "schedule", "all")

_LIST_DAYS = 7
"""How long a terminal can say the numbers of a list it was shown."""


async def list_all(
    services: Services,
    *,
    agent_group: str | None = None,
    messaging_group: str | None = None,
    channel: str | None = None,
    status: str | None = None,
    kind: str | None = None,
    unread: bool = False,
    limit: int = 100,
    after: str | None = None,
    terminal: str | None = None,
) -> list[dict[str, Any]]:
    """Sessions, the most recently active first; `after` is where the page before ended: the id of its last session, or
    `<last_active>/<id>`, which holds also when that session moves up meanwhile.

    Runs of schedules are left out unless `kind` asks for them; `all` is every kind.

    `terminal` names who was shown the list: until its next one its numbers can be said there (`numbered`).
    """
    if not 1 <= limit <= _MAX_LIST:
        raise InvalidValue(f"the limit must be 1 to {_MAX_LIST}, not {limit}")
    if status is not None and status not in _STATUSES:
        raise InvalidValue(f"'{status}' is not a status", hint=f"use one of {', '.join(_STATUSES)}")
    if kind is not None and kind not in _KINDS:
        raise InvalidValue(f"'{kind[:40]}' is not a kind", hint=f"use one of {', '.join(_KINDS)}")

    def load(connection: Queryable) -> list[dict[str, Any]]:
        chosen = Filter(
            agent_group_id=None if agent_group is None else agent_groups.get_by_name(connection, agent_group).id,
            messaging_group_id=(
                None if messaging_group is None else messaging_groups.get_by_name(connection, messaging_group).id
            ),
            channel_type=channel,
            status=status,
            unread=unread,
            kind=kind,
        )
        behind = None if after is None else _key(connection, after)
        page = session_list.page(connection, chosen, limit=limit, after=behind)
        return [_shown(services, row, session_list.short_id(connection, row["id"])) for row in page]

    listed = await services.central.read(load)
    if terminal is not None:
        place, ids, now = _place(terminal), [each["id"] for each in listed], services.clock.now()
        await services.central.write(_remember, place, ids, now)
    return listed


async def numbered(services: Services, *, terminal: str, number: str) -> dict[str, Any]:
    """The session with that number in the list that a terminal was shown last: `{id}`, None when there is none."""
    return {"id": await services.central.read(session_list.numbered, _place(terminal), number)}


def _remember(tx: Transaction, place: str, ids: list[str], now: datetime) -> None:
    session_list.forget_terminals(tx, to_text(now - timedelta(days=_LIST_DAYS)))
    session_list.keep_list(tx, place, ids)


def _place(terminal: str) -> str:
    """Where a terminal's list is kept; apart from those of chats."""
    return f"terminal {terminal[:100]}"


def _key(connection: Queryable, text: str) -> Key:
    last_active, slash, session_id = text.rpartition("/")
    if slash:
        return Key(to_text(from_text(last_active)), require_id(session_id, Prefix.SESSION))
    last = sessions.get(connection, text)
    return Key(last.last_active, last.id)


async def show(services: Services, *, session: str) -> dict[str, Any]:
    """One session, with its last turns and what was refused of its agent; it counts as read from now on.

    Raises `NotFound`, `Conflict`.
    """

    def load(tx: Transaction) -> dict[str, Any]:
        found = session_lookup.find(tx, session, deleted=True)
        described = shown(services, tx, found.id) | {
            "generation": found.generation,
            "run_id": found.run_id,
            "run_number": found.run_number,
            "node": found.node,
            "waits_for_node": services.supervisor.waits_for().get(found.id),
            "turn_count": turns.count(tx, found.id),
            "turns": [_turn(row) for row in turns.last(tx, found.id)],
            "refusals": [dict(row) for row in refusals.of_session(tx, found.id)],
        }
        unread.mark_read(tx, found.id)
        return described

    return await services.central.write(load)


def _turn(row: sqlite3.Row) -> dict[str, Any]:
    """A turn; `prompt_tokens` are all that its model was given, from a cache or not. None: it does not say."""
    given = [row[name] for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens")]
    said = [each for each in given if each is not None]
    return {**dict(row), "prompt_tokens": sum(said) if said else None}


async def path(services: Services, *, session: str) -> dict[str, str]:
    """The folder of a session: `{path}`. Raises `NotFound`, `Conflict`."""
    found = await services.central.read(session_lookup.find, session, deleted=True)
    return {"path": str(services.inbox_sync.folder(found).folder)}


async def logs(services: Services, *, session: str, max_bytes: int = 100_000) -> dict[str, Any]:
    """What the agents of a session printed: those that ended, then the one that runs."""
    found = await services.central.read(session_lookup.find, session)
    printed = await asyncio.to_thread(_kept_log, services.inbox_sync.folder(found))
    for handle in await services.runtime.list():
        if handle.session_id == found.id:
            printed += await services.runtime.logs(handle, max_bytes)
    return {"text": printed[-max(1, max_bytes) :].decode("utf-8", "replace")}


async def has_printed(services: Services, session: sessions.Session, since: str) -> bool:
    """Whether the agents of a session are known to have printed anything since that moment (UTC text)."""
    if await asyncio.to_thread(_kept_since, services.inbox_sync.folder(session), since):
        return True
    with suppress(RuntimeUnavailable):
        handles = [handle for handle in await services.runtime.list() if handle.session_id == session.id]
        return any([await services.runtime.logs(handle, 1) for handle in handles])
    return False


def shown(services: Services, connection: Queryable, session_id: str) -> dict[str, Any]:
    """One session in the form of the list."""
    row = session_list.shown(connection, session_id)
    return _shown(services, row, session_list.short_id(connection, session_id))


def _shown(services: Services, row: sqlite3.Row, short_id: str) -> dict[str, Any]:
    return {
        "id": row["id"],
        "short_id": short_id,
        "agent_group": row["agent_group"],
        "messaging_group": row["messaging_group"],
        "messaging_group_name": row["messaging_group_name"],
        "thread_id": row["thread_id"],
        "kind": row["kind"],
        "status": row["status"],
        "end_reason": row["end_reason"],
        "title": row["title"],
        "title_source": row["title_source"],
        "preview": row["preview"],
        "unread": row["unread_since"] is not None,
        "unread_since": row["unread_since"],
        "parent_id": row["parent_session_id"],
        "parent_relation": row["parent_relation"],
        "last_active": row["last_active"],
        "created_at": row["created_at"],
        "ended_at": row["ended_at"],
        "path": str(services.settings.layout.session(row["agent_group_id"], row["id"]).folder),
        "pending": row["pending"],
        "agent": "running" if row["id"] in services.supervisor.agents else "none",
    }


def _kept_log(layout: SessionLayout) -> bytes:
    try:
        return layout.log.read_bytes()
    except OSError:
        return b""


def _kept_since(layout: SessionLayout, since: str) -> bool:
    try:
        kept = layout.log.stat()
    except OSError:
        return False
    return kept.st_size > 0 and kept.st_mtime >= from_text(since).timestamp()
