"""Looking at sessions: list, show, transcript, tail, logs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

from host.central import sessions, turns
from host.central import transcript as entries
from host.services import Services
from shared_schema.errors import InvalidValue, NotFound
from shared_schema.layout import SessionLayout

_TAIL_SECONDS = 0.5
_MAX_LIST = 1000


async def list_all(
    services: Services,
    *,
    agent_group: str | None = None,
    messaging_group: str | None = None,
    status: str | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Sessions, the most recently active first."""
    if not 1 <= limit <= _MAX_LIST:
        raise InvalidValue(f"the limit must be 1 to {_MAX_LIST}, not {limit}")
    if status is not None and status not in ("active", "ended", "archived"):
        raise InvalidValue(f"'{status}' is not a status", hint="use active, ended or archived")
    return await services.central.read(
        lambda c: [
            _shown(services, row)
            for row in sessions.shown(
                c, agent_group=agent_group, messaging_group=messaging_group, status=status, limit=limit
            )
        ]
    )


async def show(services: Services, *, session: str) -> dict[str, Any]:
    """One session, with what was refused of its agent's output. Raises `NotFound`, `Conflict`."""

    def load(connection: sqlite3.Connection) -> dict[str, Any]:
        found = sessions.find(connection, session)
        return shown(services, connection, found.id) | {
            "generation": found.generation,
            "run_id": found.run_id,
            "refusals": [dict(row) for row in turns.refusals(connection, found.id)],
        }

    return await services.central.read(load)


async def transcript(services: Services, *, session: str, limit: int = 1000) -> list[dict[str, Any]]:
    """What was said in a session, oldest first: the newest `limit` messages."""
    if limit < 1:
        raise InvalidValue(f"the limit must be at least 1, not {limit}")

    def load(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        return entries.of_session(connection, sessions.find(connection, session).id, limit=limit)

    return await services.central.read(load)


async def tail(services: Services, *, session: str, last: int = 10) -> AsyncIterator[dict[str, Any]]:
    """What was said last, then what is said from now on, until the session is deleted. Each entry once."""
    found = await services.central.read(lambda c: sessions.find(c, session))
    seen: set[str] = set()
    limit = max(last, 1)
    first = True
    while True:
        try:
            recent = await transcript(services, session=found.id, limit=limit)
        except NotFound:
            return
        for entry in recent if last > 0 or not first else []:
            if entry["id"] not in seen:
                yield entry
        seen = {entry["id"] for entry in recent}
        first, limit = False, 200
        await asyncio.sleep(_TAIL_SECONDS)


async def logs(services: Services, *, session: str, max_bytes: int = 100_000) -> dict[str, Any]:
    """What the agents of a session printed: those that ended, then the one that runs."""
    found = await services.central.read(lambda c: sessions.find(c, session))
    printed = await asyncio.to_thread(_kept_log, services.post.folder(found))
    for handle in await services.runtime.list():
        if handle.session_id == found.id:
            printed += await services.runtime.logs(handle, max_bytes)
    return {"text": printed[-max(1, max_bytes) :].decode("utf-8", "replace")}


def shown(services: Services, connection: sqlite3.Connection, session_id: str) -> dict[str, Any]:
    """One session in the form of the list."""
    return _shown(services, sessions.shown(connection, session_id=session_id)[0])


def _shown(services: Services, row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "agent_group": row["agent_group"],
        "messaging_group": row["messaging_group"],
        "thread_id": row["thread_id"],
        "kind": row["kind"],
        "status": row["status"],
        "end_reason": row["end_reason"],
        "title": row["title"],
        "last_active": row["last_active"],
        "created_at": row["created_at"],
        "path": str(services.settings.layout.session(row["agent_group_id"], row["id"]).folder),
        "pending": row["pending"],
        "agent": "running" if row["id"] in services.conductor.agents else "none",
    }


def _kept_log(layout: SessionLayout) -> bytes:
    try:
        return layout.log.read_bytes()
    except OSError:
        return b""
