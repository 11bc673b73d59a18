"""Sessions as lines of JSON, and back: a header for each session, then its entries, table by table.

    {"type": "session", "format": 1, "id", "agent_group", "messaging_group", "thread_id", "title", …}
    {"type": "entry", "source": "messages_in" | "messages_out" | "steps", "seq", …}      what is empty is left out

Files that came or went with messages are named, not carried. Exports of other systems (foreign_exports.py) are brought
into that form.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import field
from pathlib import Path
from typing import Any, TextIO

from host.central import agent_groups, audit, imports, session_list, session_lookup, sessions
from host.central.agent_groups import AgentGroup
from host.central.database import Queryable, Transaction
from host.central.imports import Imported
from host.history import store
from host.history.entry import COLUMNS, text_of_content
from host.operations import foreign_exports
from host.services import Services
from host.sessions.folder import Owner, remove_session_folder
from host.sessions.restore import restore
from shared_schema import json_text
from shared_schema.clock import from_text, to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.ids import Prefix, is_id

FORMAT = 1
_HEADER = ("messaging_group", "thread_id", "kind", "status", "end_reason", "title", "created_at", "last_active")
_DERIVED = frozenset({"session_id", "place", "spoken", "called"})
_OF_ENTRY = tuple(name for name in COLUMNS if name not in _DERIVED)
_SOURCES = ("messages_in", "messages_out", "steps")
_NUMBERS = frozenset({"seq", "generation", "trigger"})
_PREVIEW = 60
_PAGE_BYTES, _PAGE_SECONDS = 4_000_000, 1.0
_LARGEST_SEQ = 10**9
_LONGEST_LINE = 64_000_000


async def export(services: Services, *, session: str | None = None) -> AsyncIterator[dict[str, Any]]:
    """One session, or all that were not deleted, the oldest id first. Raises `NotFound`, `Conflict`."""

    def load(connection: Queryable) -> list[str]:
        if session is not None:
            return [session_lookup.find(connection, session).id]
        return sorted(sessions.all_ids(connection))

    for session_id in await services.central.read(load):
        row = await services.central.read(lambda c, name=session_id: _row(c, name))  # type: ignore[misc]
        if row is None:
            continue
        await services.history.catch_up(session_id, row["agent_group_id"])
        yield {
            "type": "session",
            "format": FORMAT,
            "id": session_id,
            "agent_group": row["agent_group"],
            **{name: row[name] for name in _HEADER},
        }
        last: sqlite3.Row | None = None
        while True:

            def load_page(connection: sqlite3.Connection) -> list[sqlite3.Row]:
                return store.page_of(connection, session_id, last, store.Room(_PAGE_BYTES, _PAGE_SECONDS))  # noqa: B023

            page = await services.history.read(load_page, owner=session_id)
            if not page:
                break
            last = page[-1]
            for entry in page:
                values = {name: entry[name] for name in _OF_ENTRY if entry[name] is not None}
                yield {"type": "entry", **values}


async def import_file(services: Services, *, path: str, agent_group: str | None = None) -> dict[str, Any]:
    """Make the sessions of an exported file again, ended; `{imported, present}`, both lists of ids.

    Each goes into the agent group of its name, or all into the given one. A session keeps its id, unless one of another
    agent group has it. One that is there already is left as it is. Conversations of another system name no agent group:
    without a given one they go into the only one there is. Raises `InvalidValue`, `NotFound`.
    """
    found = sessions_in(Path(path))
    imported: list[str] = []
    present: list[str] = []
    while (session := await asyncio.to_thread(next, found, None)) is not None:
        name = agent_group or session.text("agent_group") or ""
        if not name and session.is_foreign:
            name = await services.central.read(_only_agent_group)
        group = await services.central.read(lambda c, name=name: agent_groups.get_by_name(c, name))  # type: ignore[misc]
        session_id, added = await _import(services, group, session)
        (imported if added else present).append(session_id)
    return {"imported": imported, "present": present}


@dataclass(slots=True)
class Exported:
    """A header and the rows of each table."""

    header: dict[str, Any]
    is_foreign: bool = False
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {source: [] for source in _SOURCES})

    def text(self, name: str) -> str | None:
        value = self.header.get(name)
        return value if isinstance(value, str) else None


async def _import(services: Services, group: AgentGroup, session: Exported) -> tuple[str, bool]:
    """The id of the session here, and whether it is new."""
    session_id, known = await services.central.read(_id_here, group.id, session.header["id"])
    if known:
        return session_id, False
    layout = services.settings.layout.session(group.id, session_id)
    owner = Owner.of_agents(services.settings.agent_uid)
    now = to_text(services.clock.now())
    await asyncio.to_thread(remove_session_folder, layout)  # of an import that was interrupted
    try:
        await asyncio.to_thread(restore, layout, owner, **session.rows)
        added = await services.central.write(_store, _imported(session_id, group.id, session, now), session_id)
    except (DumbwaiterError, OSError):
        await asyncio.to_thread(remove_session_folder, layout)
        raise
    services.history.touched(session_id, group.id)
    return session_id, added


def _store(tx: Transaction, new: Imported, session_id: str) -> bool:
    added = imports.insert(tx, new)
    if added:
        audit.record(tx, "session.import", session_id, after={"title": new.title})
    return added


def _only_agent_group(connection: Queryable) -> str:
    groups = agent_groups.all_groups(connection)
    if len(groups) != 1:
        raise InvalidValue(
            "an export of another system does not say which agent is meant",
            hint="say it with `--agent-group NAME`; `dumbwaiter agent-group list` shows them",
        )
    return groups[0].name


def _row(connection: Queryable, session_id: str) -> sqlite3.Row | None:
    found = sessions.lookup(connection, session_id)
    gone = found is None or found.status == "deleted"
    return None if gone else session_list.shown(connection, session_id)


def _id_here(connection: Queryable, group_id: str, session_id: str) -> tuple[str, bool]:
    """The id under which a session is imported, and whether it is there already."""
    other = sessions.lookup(connection, session_id)
    if other is not None and other.agent_group_id != group_id:
        digest = hashlib.sha256(f"{group_id}/{session_id}".encode()).hexdigest()
        session_id = f"{Prefix.SESSION}_{digest[:16]}"
        other = sessions.lookup(connection, session_id)
    return session_id, other is not None


def _imported(session_id: str, group_id: str, session: Exported, now: str) -> Imported:
    heard = [row for row in session.rows["messages_in"] if row["kind"] == "chat"]
    generations = [row["generation"] for rows in session.rows.values() for row in rows if row["generation"] is not None]
    return Imported(
        id=session_id,
        agent_group_id=group_id,
        messaging_group=session.text("messaging_group"),
        thread_id=session.text("thread_id"),
        generation=max(generations, default=1),
        end_reason=session.text("end_reason"),
        title=session.text("title"),
        created_at=session.text("created_at") or now,
        last_active=session.text("last_active") or now,
        out_cursor=max((row["seq"] for row in session.rows["messages_out"]), default=0),
        preview=" ".join(text_of_content(heard[0]["content"]).split())[:_PREVIEW] if heard else None,
    )


def sessions_in(path: Path) -> Iterator[Exported]:
    """The sessions of a file, one after the other: of an export of this program, or of another system that is known.

    Raises `InvalidValue`, for lines of this program's own with their number.
    """
    with foreign_exports.opened(path) as files:
        for file in files:
            try:
                yield from _of_others(file) if foreign_exports.is_foreign(file) else _own(file)
            except InvalidValue as error:
                raise InvalidValue(error.what, where=path, hint=error.hint) from error


def _of_others(file: TextIO) -> Iterator[Exported]:
    for found in foreign_exports.conversations(file):
        if not found.messages:
            continue  # begun, and nothing was said
        header, entries = foreign_exports.rows_of(found)
        session = Exported(header, is_foreign=True)
        for entry in entries:
            session.rows[entry["source"]].append(_entry(entry))
        yield session


def _own(file: TextIO) -> Iterator[Exported]:
    session: Exported | None = None
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if not line.strip():
            continue
        try:
            if len(line) > _LONGEST_LINE:
                raise InvalidValue("it has too many characters")
            value = _object(line)
            if value["type"] == "session":
                if session is not None:
                    yield session
                session = Exported(_header(value))
            elif session is None:
                raise InvalidValue("an entry stands before every session")
            else:
                session.rows[value["source"]].append(_entry(value))
        except (InvalidValue, KeyError, TypeError) as error:
            what = error.what if isinstance(error, InvalidValue) else "it is not what an export has"
            raise InvalidValue(
                f"line {number} cannot be imported: {what}", hint="`dumbwaiter session export` writes such files"
            ) from error
    if session is not None:
        yield session


def _object(line: str) -> dict[str, Any]:
    try:
        value = json_text.parse(line)
    except ValueError as error:
        raise InvalidValue("it is not JSON") from error
    if not isinstance(value, dict) or value.get("type") not in ("session", "entry"):
        raise InvalidValue("it is neither a session nor an entry")
    return value


def _header(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("format") != FORMAT:
        raise InvalidValue(f"its format is not {FORMAT}")
    if not is_id(value.get("id"), Prefix.SESSION):
        raise InvalidValue("it has no session id")
    for name in ("created_at", "last_active"):
        from_text(value[name])
    return value


def _entry(value: dict[str, Any]) -> dict[str, Any]:
    """A row with every column, each of its type."""
    row = {name: value.get(name) for name in _OF_ENTRY}
    for name, content in row.items():
        if name in _NUMBERS and content is not None and type(content) is not int:
            raise InvalidValue(f"{name} is no number")
        if name not in _NUMBERS and content is not None and not isinstance(content, str):
            raise InvalidValue(f"{name} is no text")
        if isinstance(content, str) and not content.isascii():
            row[name] = content.encode("utf-8", "replace").decode("utf-8")
    seq = row["seq"]
    if not isinstance(seq, int) or not 1 <= seq <= _LARGEST_SEQ:
        raise InvalidValue("seq is out of bounds")
    row["time"] = row["time"] or ""
    if row["source"] == "steps":
        row["content"] = row["text"] if row["content"] is None else row["content"]
    else:
        text_of_content(row["content"])
        row["generation"] = row["generation"] or 1
    return row
