"""Reading what an agent wrote, while it lives and after it has died, and putting it into the ledger."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from host.central import deliveries, ingest, sessions, turns
from host.central.database import Central
from host.delivery.copy import Copier
from host.sessions import outbox, recovery
from host.sessions.folder import Owner
from host.sessions.outbox import Glimpse, Signature
from host.supervision.agent import RunningAgent
from shared_schema.clock import Clock, to_text
from shared_schema.errors import FileDamaged, FileTrouble, NewerSchema, NotFound
from shared_schema.layout import SessionLayout
from shared_schema.rows import AckStatus

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """What the ledger knows of a session at the beginning of a look."""

    session: sessions.Session
    has_accepted: bool
    open_messages: tuple[ingest.OpenMessage, ...]
    running_turns: tuple[str, ...]
    has_unrecorded: bool

    @property
    def waiting(self) -> int:
        """How many messages ask for an answer and have none."""
        return sum(1 for message in self.open_messages if message.trigger)


@dataclass(frozen=True, slots=True)
class _Observation:
    signature: Signature | None
    heartbeat: int | None
    glimpse: Glimpse | None
    trouble: FileTrouble | None


@dataclass(frozen=True, slots=True)
class LastWords:
    """What the file of a dead agent held: the messages it had in a turn, and whether the file had to be put aside."""

    processing: frozenset[str]
    quarantined: str | None


class Reading:
    """Reads `outbound.db` of sessions and copies it.

    `send` is told of chats that have something to be sent, `finished` that messages got their outcome.
    """

    def __init__(
        self,
        central: Central,
        copier: Copier,
        clock: Clock,
        owner: Owner,
        *,
        send: Callable[[tuple[str, str]], None],
        finished: Callable[[], None],
    ) -> None:
        self._central = central
        self._copier = copier
        self._clock = clock
        self._owner = owner
        self._send = send
        self._finished = finished

    async def view(self, session_id: str) -> View | None:
        """What the ledger knows of a session; None when there is no such session."""

        def load(connection: sqlite3.Connection) -> View | None:
            try:
                session = sessions.get(connection, session_id)
            except NotFound:
                return None
            return View(
                session=session,
                has_accepted=bool(ingest.accepted(connection, session_id, 1)),
                open_messages=tuple(ingest.open_messages(connection, session_id)),
                running_turns=tuple(turns.running(connection, session_id)),
                has_unrecorded=bool(
                    ingest.unrecorded(connection, session_id, 1) or deliveries.unrecorded(connection, session_id, 1)
                ),
            )

        return await self._central.read(load)

    async def look(self, view: View, layout: SessionLayout, agent: RunningAgent) -> tuple[int, float | None]:
        """Read what a living agent wrote since the last time.

        How many messages got their outcome, and after how many seconds a file that could not be read is worth another
        attempt (None: it could be read).
        """
        seen = await asyncio.to_thread(_observe, view, layout, agent.signature, agent.more_to_read)
        now = self._clock.monotonic()
        agent.saw_heartbeat(seen.heartbeat, now)
        if seen.trouble is not None:
            return 0, agent.saw_trouble(now)
        if seen.glimpse is None:
            return 0, None
        finished = await self._copy(view.session, layout, seen.glimpse)
        more = seen.glimpse.more or (finished > 0 and len(view.open_messages) >= ingest.OPEN_LIMIT)
        agent.saw_output(seen.signature, now, more=more, doing=_doing(seen.glimpse))
        return finished, None

    async def last_words(self, session_id: str, layout: SessionLayout) -> LastWords:
        """Read the file of a dead agent to the end, mending it where a commit was interrupted.

        A file that is no good is put aside and kept, with a fresh one in its place. The agent must be gone. Raises
        `FileTrouble` when the host cannot read at the moment (somebody holds the file, the disk is full): try again.
        """
        try:
            if await asyncio.to_thread(recovery.has_journal, layout):
                await asyncio.to_thread(recovery.recover, layout, self._owner)
                log.warning("an interrupted commit was rolled back", extra={"session": session_id})
            return LastWords(await self._read_to_the_end(session_id, layout), None)
        except (FileDamaged, NewerSchema) as error:
            kept = await self._quarantine(session_id, layout, error)
        view = await self.view(session_id)
        held = view.open_messages if view is not None else ()
        return LastWords(frozenset(message.message_id for message in held), kept)

    async def _read_to_the_end(self, session_id: str, layout: SessionLayout) -> frozenset[str]:
        """Copy all there is; the messages that are still marked `processing`."""
        while (view := await self.view(session_id)) is not None:
            glimpse = await asyncio.to_thread(_read, view, layout)
            await self._copy(view.session, layout, glimpse)
            if not glimpse.more:
                return frozenset(ack.message_id for ack in glimpse.acks if ack.status == AckStatus.PROCESSING)
        return frozenset()

    async def _quarantine(self, session_id: str, layout: SessionLayout, trouble: FileTrouble) -> str:
        session = await self._central.read(lambda c: sessions.get(c, session_id))
        stamp = self._clock.now().strftime("%Y%m%dT%H%M%S%f")
        kept = await asyncio.to_thread(
            recovery.quarantine, layout, self._owner, stamp=stamp, after_seq=session.out_cursor
        )
        log.error(
            "a session's outbound.db is unreadable and was put aside",
            extra={"session": session_id, "kept": kept, "error": str(trouble)},
        )

        def note(connection: sqlite3.Connection) -> None:
            now = to_text(self._clock.now())
            turns.refuse(connection, session_id, "outbound.db", f"{trouble.what}; kept as {kept}", now)
            sessions.advance(connection, session_id, session.out_cursor, 0)

        await self._central.write(note)
        return kept

    async def _copy(self, session: sessions.Session, layout: SessionLayout, glimpse: Glimpse) -> int:
        """Put a glimpse into the ledger and have it sent; how many messages got their outcome."""
        copied = await self._copier.copy(session, layout, glimpse)
        for bad in copied.refused:
            log.warning(
                "something an agent wrote was refused",
                extra={"session": session.id, "what": bad.what, "reason": bad.reason},
            )
        for chat in copied.chats:
            self._send(chat)
        if copied.finished:
            self._finished()
        return len(copied.finished)


def _observe(view: View, layout: SessionLayout, known: Signature | None, more: bool) -> _Observation:
    heartbeat = outbox.heartbeat(layout)
    try:
        signature = outbox.signature(layout)
        if signature is not None and signature == known and not more:
            return _Observation(signature, heartbeat, None, None)
        return _Observation(signature, heartbeat, _read(view, layout), None)
    except FileTrouble as error:
        return _Observation(None, heartbeat, None, error)


def _read(view: View, layout: SessionLayout) -> Glimpse:
    return outbox.read(
        layout,
        out_cursor=view.session.out_cursor,
        turn_cursor=view.session.turn_cursor,
        open_messages=[message.message_id for message in view.open_messages],
        running_turns=view.running_turns,
    )


def _doing(glimpse: Glimpse) -> str | None:
    """What the agent says it is doing, on one line: a tool's name, or its phase."""
    state = glimpse.state
    said = None if state is None else state.current_tool or state.state
    return "".join(c for c in said if c.isprintable()) if isinstance(said, str) else None
