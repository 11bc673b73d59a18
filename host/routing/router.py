"""From an event to accepted messages: access, engagement, route, ledger - one transaction.

When `ingest` returns, every agent group that engages has the event on disk, exactly once however often the platform
sends it; only then may a channel tell its platform "received". Writing it into the session comes after and can be
repeated.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import sqlite3
from collections.abc import Callable

from host.central import agent_groups, ingest, messaging_groups, sessions, turns
from host.central.database import Central
from host.central.messaging_groups import MessagingGroup, SessionMode, Wiring
from host.routing.engage import engages
from host.routing.event import Accepted, Event, Receipt
from host.routing.route_key import route_key
from host.sessions.attachments import FileLimits, spool
from shared_schema.clock import Clock, to_text
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import DataLayout
from shared_schema.rows import MessageInKind, encode

_CUT_NOTE = "\n[the rest of this message was longer than allowed and was cut]"


class Router:
    """Takes events from channels. `accepted` is told each session that has something new."""

    def __init__(
        self,
        central: Central,
        layout: DataLayout,
        clock: Clock,
        *,
        file_limits: FileLimits,
        max_text: int,
        accepted: Callable[[str], None],
    ) -> None:
        self._central = central
        self._layout = layout
        self._clock = clock
        self._file_limits = file_limits
        self._max_text = max_text
        self._accepted = accepted
        self._tasks: set[asyncio.Task[Receipt]] = set()

    async def ingest(self, event: Event) -> Receipt:
        """Accept an event. Raises `DumbwaiterError` when it could not be kept: then it must not be acknowledged.

        Somebody who loses patience and cancels does not stop it half-way: it is kept, and comes again as a duplicate.
        """
        task = asyncio.create_task(self._ingest(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _ingest(self, event: Event) -> Receipt:
        event = dataclasses.replace(event, text=_clean(event.text))
        spool_name = new_id(Prefix.MESSAGE) if event.attachments else None
        names: list[str] = []
        if spool_name is not None:
            folder = self._layout.spool / spool_name
            names = await asyncio.to_thread(spool, event.attachments, folder, self._file_limits)
        try:
            receipt = await self._central.write(lambda connection: self._accept(connection, event, spool_name, names))
        except Exception:  # refused, and nothing else: an interrupted write may have been kept
            await self._drop_spool(spool_name)
            raise
        if all(accepted.duplicate for accepted in receipt.accepted):
            await self._drop_spool(spool_name)
        for accepted in receipt.accepted:
            if not accepted.duplicate:
                self._accepted(accepted.session_id)
        return receipt

    def _accept(
        self, connection: sqlite3.Connection, event: Event, spool_name: str | None, names: list[str]
    ) -> Receipt:
        address, now = event.address, to_text(self._clock.now())
        _require_identifiers(event)
        group = messaging_groups.find(connection, address.channel_type, address.platform_id)
        if group is None:
            reason = f"no messaging group {address.channel_type}:{address.platform_id} is registered"
            turns.drop(connection, address.channel_type, address.platform_id, event.sender_id, reason, now)
            return Receipt((), reason)
        if event.session_id is not None:
            session = sessions.get(connection, event.session_id)
            if session.status != "active" or not sessions.is_active_on_route(connection, session):
                raise Conflict(f"session {session.id} has ended", hint="start a new one, or talk without --session")
            return Receipt((self._take(connection, event, session.agent_group_id, session, spool_name, names, now),))
        wirings = [w for w in messaging_groups.wirings_of(connection, group.id) if self._is_meant(connection, event, w)]
        if event.agent_group is not None and not wirings:
            raise NotFound(
                f"{group.address} is not wired to '{event.agent_group}'",
                hint=f"wire them with `dumbwaiter wire {group.address} {event.agent_group}`",
            )
        taken: list[Accepted] = []
        reason = "no agent group engages with this message" if wirings else "no agent group is wired to it"
        for wiring in wirings:
            try:
                accepted = self._offer(connection, event, group, wiring, spool_name, names, now)
            except InvalidValue as error:  # it cannot be routed for this agent group; others may take it
                reason = error.what
                continue
            if accepted is not None:
                taken.append(accepted)
        if taken:
            return Receipt(tuple(taken))
        turns.drop(connection, address.channel_type, address.platform_id, event.sender_id, reason, now)
        return Receipt((), reason)

    def _offer(
        self,
        connection: sqlite3.Connection,
        event: Event,
        group: MessagingGroup,
        wiring: Wiring,
        spool_name: str | None,
        names: list[str],
        now: str,
    ) -> Accepted | None:
        """Offer the event to one agent group; None when its rule does not engage."""
        address = event.address
        if event.agent_group is None and not engages(
            wiring.engage, wiring.pattern, text=event.text, is_mention=event.is_mention, is_group=bool(group.is_group)
        ):
            return None
        known = ingest.known(
            connection, wiring.agent_group_id, address.channel_type, address.platform_id, event.platform_message_id
        )
        if known is not None:
            return _accepted(connection, known, duplicate=True)
        key = route_key(
            wiring.session_mode,
            address,
            agent_group_id=wiring.agent_group_id,
            per_user=bool(wiring.per_user),
            sender_id=event.sender_id,
        )
        session = sessions.resolve(
            connection,
            agent_group_id=wiring.agent_group_id,
            route_key=key,
            messaging_group_id=group.id if wiring.session_mode != SessionMode.AGENT_SHARED else None,
            thread_id=address.thread_id if wiring.session_mode == SessionMode.PER_THREAD else None,
            sender_id=event.sender_id if wiring.per_user else None,
            now=now,
        )
        return self._take(connection, event, wiring.agent_group_id, session, spool_name, names, now)

    def _is_meant(self, connection: sqlite3.Connection, event: Event, wiring: Wiring) -> bool:
        if event.agent_group is None:
            return True
        group = agent_groups.by_id(connection, wiring.agent_group_id)
        return group is not None and group.name == event.agent_group

    def _take(
        self,
        connection: sqlite3.Connection,
        event: Event,
        agent_group_id: str,
        session: sessions.Session,
        spool_name: str | None,
        names: list[str],
        now: str,
    ) -> Accepted:
        message_id = new_id(Prefix.MESSAGE)
        text = event.text
        if len(text) > self._max_text:
            text = text[: self._max_text] + _CUT_NOTE
        content: dict[str, object] = {"text": text}
        if names:
            content["files"] = [{"name": name, "path": f"inbox/{message_id}/{name}"} for name in names]
        row, added = ingest.accept(
            connection,
            {
                "message_id": message_id,
                "agent_group_id": agent_group_id,
                "session_id": session.id,
                "generation": session.generation,
                "channel_type": event.address.channel_type,
                "platform_id": event.address.platform_id,
                "thread_id": event.address.thread_id,
                "platform_message_id": event.platform_message_id,
                "sender_id": event.sender_id,
                "sender_name": None if event.sender_name is None else _clean(event.sender_name),
                "kind": MessageInKind.CHAT,
                "trigger": 1,
                "content": encode(content),
                "spool": spool_name,
                "accepted_at": now,
            },
        )
        sessions.touch(connection, session.id, now)
        return _accepted(connection, row, duplicate=not added)

    async def _drop_spool(self, spool_name: str | None) -> None:
        if spool_name is not None:
            await asyncio.to_thread(shutil.rmtree, self._layout.spool / spool_name, ignore_errors=True)


def _accepted(connection: sqlite3.Connection, row: ingest.Accepted, *, duplicate: bool) -> Accepted:
    group = agent_groups.by_id(connection, row.agent_group_id)
    return Accepted(
        message_id=row.message_id,
        session_id=row.session_id or "",
        agent_group=group.name if group is not None else "",
        duplicate=duplicate,
    )


def _require_identifiers(event: Event) -> None:
    for what, value in (
        ("chat", event.address.platform_id),
        ("thread", event.address.thread_id),
        ("sender", event.sender_id),
        ("message id", event.platform_message_id),
    ):
        if value is None:
            continue
        if not value or len(value) > 500 or not value.isprintable():
            raise InvalidValue(f"the {what} '{value[:40]!r}' of an event cannot be an identifier")


def _clean(text: str) -> str:
    """Text that can be stored: half characters (lone surrogates) become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
