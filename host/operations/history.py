"""The searchable record: search, transcript, and making it again."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence, Set
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from host.central import agent_groups, ingest, session_list, session_lookup, sessions, turns
from host.central import transcript as ledger
from host.history import search as searching
from host.history import store
from host.history.query import MAX_QUERY
from host.history.rebuild import RebuildProgress
from host.history.rebuild import rebuild as rebuilding
from host.history.search import Filters, Hit, Results
from host.history.transcript import entries, left_out
from host.services import Services
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, InvalidValue, NotFound

MAX_HITS = 200
MAX_MESSAGES = 100_000
_MAX_STEPS = 20_000
_BYTES, _SECONDS = 16_000_000, 2.0
"""A transcript has so much at most, and takes so long to be read: the newest of it."""
_TAIL_SECONDS = 0.5
_TAIL_ENTRIES = 200  # that one look reads; an answer may still come in among them
_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
_ROLES = ("user", "assistant", "tool", "system")
_AGO = re.compile(r"(\d{1,6})([mhdw])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


async def search(
    services: Services,
    *,
    query: str,
    agent_group: str | None = None,
    session: str | None = None,
    channel: str | None = None,
    sender: str | None = None,
    role: str | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: int = 20,
    scope: list[str] | None = None,
    asking: str | None = None,
) -> dict[str, Any]:
    """What was said and done, found by words and pieces of words: `{hits, complete}`, the newest first.

    `scope` are the ids of the agent groups that the caller may see; None is the owner, who sees all. `asking` is the id
    of a session whose agent asks: what it is being asked, and what it does about it now, is not found. `channel` is a
    channel type, or the address of a messaging group. Raises `InvalidValue`, `NotFound`.
    """
    if not query.strip() or len(query) > MAX_QUERY:
        raise InvalidValue(f"a query has 1 to {MAX_QUERY} characters")
    if not 1 <= limit <= MAX_HITS:
        raise InvalidValue(f"the limit must be 1 to {MAX_HITS}, not {limit}")
    if role is not None and role not in _ROLES:
        raise InvalidValue(f"'{role}' is not a role", hint=f"use {', '.join(_ROLES)}")
    now = services.clock.now()
    channel_type, _, platform_id = (channel or "").partition(":")

    def own(connection: sqlite3.Connection) -> tuple[frozenset[str], frozenset[str]]:
        if asking is None:
            return frozenset(), frozenset()
        return frozenset(ingest.unanswered(connection, asking)), frozenset(turns.running(connection, asking))

    unanswered, at_work = await services.central.read(own)

    def named(connection: sqlite3.Connection) -> tuple[str | None, str | None, frozenset[str]]:
        group = None if agent_group is None else agent_groups.get_by_name(connection, agent_group).id
        found = None if session is None else _visible(connection, session, group, scope)
        return group, found, sessions.deleted(connection)

    group_id, session_id, hidden = await services.central.read(named)
    wanted = Filters(
        agent_groups=_narrowed(scope, group_id),
        hidden=hidden,
        session_id=session_id,
        role=role,
        sender=sender,
        channel_type=channel_type or None,
        platform_id=platform_id or None,
        since=None if since is None else _moment(since, now, end=False),
        until=None if until is None else _moment(until, now, end=True),
        unanswered=unanswered,
        turns=at_work,
    )
    owner = None if scope is None else tuple(scope)
    is_up_to_date = await services.history.catch_up_all(wanted.agent_groups, owner=owner)
    results: Results = await services.history.read(lambda c: searching.search(c, query, wanted, limit), owner=owner)
    shown = await services.central.read(lambda c: _shown_hits(c, results.hits))
    return {"hits": shown, "complete": results.complete and is_up_to_date}


async def transcript(
    services: Services, *, session: str, limit: int = 1000, steps: bool = False
) -> list[dict[str, Any]]:
    """What was said in a session, oldest first: the newest `limit` messages, and with `steps` what was done between.

    Raises `NotFound`, `Conflict`.
    """
    if not 1 <= limit <= MAX_MESSAGES:
        raise InvalidValue(f"the limit must be 1 to {MAX_MESSAGES}, not {limit}")
    return await transcript_within(services, session, limit, steps=steps, most=_BYTES)


async def transcript_within(
    services: Services, session: str, limit: int, *, steps: bool = False, most: int
) -> list[dict[str, Any]]:
    """A transcript of `most` bytes: what was said before that is left out, and an entry in front says so."""

    def load(connection: sqlite3.Connection) -> tuple[sessions.Session, str]:
        found = session_lookup.find(connection, session)
        return found, session_list.shown(connection, found.id)["agent_group"]

    found, agent = await services.central.read(load)
    await services.history.catch_up(found.id, found.agent_group_id)
    room = store.Room(most, _SECONDS)

    def read(connection: sqlite3.Connection) -> tuple[list[sqlite3.Row], list[sqlite3.Row]]:
        messages = store.last_messages(connection, found.id, limit, room)
        turns = sorted({row["turn_id"] for row in messages if row["turn_id"] is not None})
        return messages, store.steps_of(connection, found.id, turns, _MAX_STEPS, room) if steps else []

    messages, taken = await services.history.read(read, owner=found.id)
    known = await services.central.read(lambda c: ledger.of_session(c, found.id, limit=limit * 2, most=most))
    told = entries(messages, taken, known, agent=agent, whole=len(messages) < limit and not room.cut)
    told = told if steps else told[-limit:]
    return [left_out(told), *told] if room.cut else told


async def tail(services: Services, *, session: str, last: int = 10) -> AsyncIterator[dict[str, Any]]:
    """What was said last, then what is said from now on, until the session is deleted. Each entry once."""
    found = await services.central.read(lambda c: session_lookup.find(c, session))
    recent = await transcript(services, session=found.id, limit=max(last, _TAIL_ENTRIES))
    new = recent[-last:] if last > 0 else []
    while True:
        for entry in new:
            yield entry
        seen = {entry["id"] for entry in recent}
        await asyncio.sleep(_TAIL_SECONDS)
        try:
            recent = await _from_one_of(services, found.id, seen)
        except NotFound:
            return
        new = [entry for entry in recent if entry["id"] not in seen]


async def _from_one_of(services: Services, session_id: str, seen: Set[str]) -> list[dict[str, Any]]:
    """The end of a transcript that begins with an entry that was seen; all of it when there is none."""
    limit = _TAIL_ENTRIES
    while True:
        recent = await transcript(services, session=session_id, limit=min(limit, MAX_MESSAGES))
        first = next((place for place, entry in enumerate(recent) if entry["id"] in seen), None)
        if first is not None or len(recent) < limit:
            return recent[first or 0 :]
        limit *= 2


async def rebuild(services: Services) -> AsyncIterator[dict[str, Any]]:
    """Make history.db again from the session folders; tells how far it is, and at the end `stage` is `done`."""
    if services.history.rebuilding.locked():
        raise Conflict("history is being made again already", hint="wait until that is done")
    async with services.history.rebuilding:
        draft = services.settings.layout.history.with_suffix(".db.new")
        began = services.clock.monotonic()
        last: RebuildProgress | None = None
        making = rebuilding(services.settings.layout, draft)
        step: asyncio.Future[RebuildProgress | None] | None = None
        try:
            while True:
                step = asyncio.ensure_future(asyncio.to_thread(next, making, None))
                if (progress := await asyncio.shield(step)) is None:
                    break
                last = progress
                yield asdict(progress)
            await asyncio.to_thread(services.history.replace, draft)
        finally:
            if step is not None:  # the caller has left: its thread works on until the step is done
                await asyncio.gather(step, return_exceptions=True)
            await asyncio.to_thread(making.close)
            draft.unlink(missing_ok=True)
    if last is not None:
        yield asdict(last) | {"stage": "done", "seconds": round(services.clock.monotonic() - began, 3)}


def _narrowed(scope: Sequence[str] | None, group_id: str | None) -> frozenset[str] | None:
    """The agent groups that are both allowed and asked for; None: all."""
    if scope is None:
        return None if group_id is None else frozenset({group_id})
    return frozenset(scope) if group_id is None else frozenset(scope) & {group_id}


def _visible(connection: sqlite3.Connection, name: str, group_id: str | None, scope: Sequence[str] | None) -> str:
    """The id of the session that is meant; one that may not be seen is not found."""
    found = session_lookup.find(connection, name, agent_group_id=group_id)
    if scope is not None and found.agent_group_id not in scope:
        session_lookup.find(connection, name, agent_group_id="")  # not found, in the same words
    return found.id


def _moment(text: str, now: datetime, *, end: bool) -> str:
    """The stored time of a bound: a day (UTC; its end for the later bound), a time, or how long ago (`90m`, `7d`)."""
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            moment = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            if end and _DAY.fullmatch(text):
                moment += timedelta(days=1)
        if not _EARLIEST < moment < _LATEST:
            raise OverflowError
    except (ValueError, OverflowError) as error:
        raise InvalidValue(
            f"'{text[:50]}' is not a time", hint="write 2026-02-28, 2026-02-28T12:00 (UTC), or 7d for a week ago"
        ) from error
    return to_text(moment)


def _shown_hits(connection: sqlite3.Connection, hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Hits with the names people use. What is of a session that was deleted meanwhile is left out."""
    return list(_each_shown(connection, hits))


def _each_shown(connection: sqlite3.Connection, hits: Sequence[Hit]) -> Iterator[dict[str, Any]]:
    known: dict[str, sqlite3.Row | None] = {}
    for hit in hits:
        session_id = hit.entry["session_id"]
        if session_id not in known:
            session = sessions.lookup(connection, session_id)
            gone = session is None or session.status == "deleted"
            known[session_id] = None if gone else session_list.shown(connection, session_id)
        row = known[session_id]
        if row is not None:
            yield {
                "session_id": session_id,
                "title": row["title"],
                "preview": row["preview"],
                "agent_group": row["agent_group"],
                "messaging_group": row["messaging_group"],
                **_said(hit.entry),
                "tool_name": hit.entry["tool_name"],
                "snippet": hit.snippet.text,
                "marks": [list(mark) for mark in hit.snippet.marks],
                "before": None if hit.before is None else _said(hit.before) | {"text": _short(hit.before)},
                "after": None if hit.after is None else _said(hit.after) | {"text": _short(hit.after)},
            }


def _said(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["message_id"] or f"step-{row['seq']}",
        "role": row["role"],
        "sender": row["sender_name"] or row["sender_id"],
        "time": row["time"],
    }


def _short(row: sqlite3.Row) -> str:
    return (row["text"] or "")[:300]
