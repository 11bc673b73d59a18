"""Between the ledger and a session's files: accepted messages in, and what the agent wrote out.

What blocks is done in one go in one thread (`_observe`): a reconcile costs one way there and back, and one commit where
there is something to take over.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Set
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

from host.agents import processes
from host.central import ingest, refusals, repairs, sessions, turns
from host.central.database import Central, Queryable, Transaction, committed
from host.delivery.copy import Copied, Copier
from host.latest import Latest
from host.routing import triggering
from host.sessions import cut_off, outbox, outbox_schema_check, recovery
from host.sessions.folder import Owner
from host.sessions.inbox_sync import (
    NOTHING_UNRECORDED,
    InboxSync,
    PendingMessages,
    Unrecorded,
    accepted_of,
    pending_messages,
    unrecorded_of,
)
from host.sessions.outbox import OutboxSnapshot, Signature
from host.supervision.agent import RunningAgent, rest_after
from shared_schema.background import BackgroundProcess
from shared_schema.clock import Clock, from_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileBusy, FileDamaged, FileTrouble, NewerSchema
from shared_schema.layout import SessionLayout
from shared_schema.rows import AckStatus, Turn, TurnStatus
from shared_schema.text import is_shown

log = logging.getLogger(__name__)

_BEAT_SHARE = 0.05
"""Of the time after which an agent is silent: what was seen of its heartbeat so short ago is enough. On a shared mount
it is half of what a look costs."""
_VIEWS = 1_000
"""Of so many sessions that have an agent what the ledger knows is kept."""
_LAST_SECONDS = 0.5
"""How long the file of a dead agent is read in one go: an operation on its session waits for that."""


@dataclass(frozen=True, slots=True)
class View:
    """What the ledger knows of a session."""

    session: sessions.Session
    pending: PendingMessages | None
    open_messages: tuple[ingest.OpenMessage, ...]
    running_turns: tuple[str, ...]
    unrecorded: Unrecorded
    has_unrecorded: bool

    @property
    def waiting(self) -> int:
        """How many messages ask for an answer and have none."""
        return sum(1 for message in self.open_messages if message.trigger)

    @property
    def is_awake(self) -> bool:
        """Whether its agent may run: for a session that is over, while it is asked to save what is worth remembering.

        All else that was open in it was cancelled when it ended.
        """
        return self.session.status == "active" or (self.session.status == "ended" and bool(self.waiting))

    def after(self, finished: Collection[str]) -> View:
        """The same once these messages have got their outcome."""
        rest = tuple(message for message in self.open_messages if message.message_id not in finished)
        unrecorded = NOTHING_UNRECORDED if finished else self.unrecorded  # there is more of it than was read
        has_unrecorded = self.has_unrecorded or bool(finished)
        return replace(self, open_messages=rest, unrecorded=unrecorded, has_unrecorded=has_unrecorded)

    def written(self) -> View:
        """The same once what was pending, and what was unrecorded, stand in the session's file."""
        rows = () if self.pending is None else self.pending.rows
        return replace(
            self,
            pending=None,
            open_messages=(*self.open_messages, *map(_open, rows))[: ingest.OPEN_LIMIT],
            unrecorded=NOTHING_UNRECORDED,
            has_unrecorded=False,
        )


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What was seen of a session: the ledger's view, and of a living agent what became of the messages it held.

    `again` is after how many seconds a file that could not be read is worth another attempt.
    """

    view: View
    finished: int = 0
    again: float | None = None


@dataclass(frozen=True, slots=True)
class _Observation:
    """What was found in the files. `is_usable`: ours could be written; `news`: None when nothing is new in theirs.

    `took` is how many seconds it was to see whether theirs have changed.
    """

    view: View
    is_usable: bool = True
    heartbeat: int | None = None
    signature: Signature | None = None
    news: tuple[OutboxSnapshot, Future[Copied] | None] | None = None
    trouble: FileTrouble | None = None
    took: float = 0.0


@dataclass(frozen=True, slots=True)
class FinalOutput:
    """What the file of a dead agent held: the messages it had in a turn, and whether the file had to be put aside.

    `processes` are those in its background, as it said last.
    """

    processing: frozenset[str]
    quarantined: str | None
    processes: tuple[BackgroundProcess, ...] = ()


class SessionSync:
    """Writes accepted messages, reads `outbound.db`, and copies it.

    `touched` hears of a session and its agent group whose files changed.
    """

    def __init__(
        self,
        central: Central,
        inbox_sync: InboxSync,
        copier: Copier,
        clock: Clock,
        owner: Owner,
        *,
        silent_seconds: float,
        poll_seconds: float,
        touched: Callable[[str, str], None],
    ) -> None:
        self._central = central
        self._inbox_sync = inbox_sync
        self._copier = copier
        self._clock = clock
        self._owner = owner
        self._beat_seconds = _BEAT_SHARE * silent_seconds
        self._poll_seconds = poll_seconds
        self._touched = touched
        self._lock = threading.Lock()  # each session is looked at in a thread of its own
        self._views = Latest[str, tuple[int, View]](_VIEWS)

    async def view(self, session_id: str) -> View | None:
        """What the ledger knows of a session; None when there is no such session."""
        unmarked = self._inbox_sync.unmarked(session_id)
        return await self._central.read(view_of, session_id=session_id, unmarked=unmarked)

    async def run_once(self, session_id: str, agent: RunningAgent | None) -> SyncResult | None:
        """Write what was accepted for a session, and read what its agent wrote since the last time.

        None when there is no such session. Raises `FileTrouble`, `OSError` when its own file cannot be written.
        """
        began = time.monotonic()
        found = await asyncio.to_thread(self._observe, session_id, agent)
        if found is None or agent is None:
            return None if found is None else SyncResult(found.view)
        now = self._clock.monotonic()
        agent.saw_folder(usable=found.is_usable, now=now)
        agent.saw_heartbeat(found.heartbeat, now)
        agent.look_took = found.took
        if found.trouble is not None:
            return SyncResult(found.view, again=agent.saw_trouble(now))
        if found.news is None:
            return SyncResult(found.view)
        snapshot, copying = found.news
        finished = await self._copied(session_id, copying)
        more = snapshot.more or (bool(finished) and len(found.view.open_messages) >= ingest.OPEN_LIMIT)
        rest = rest_after(time.monotonic() - began) if more else None
        agent.saw_output(snapshot.signature, now, rest=rest, doing=_doing(snapshot))
        if ended := agent.saw_processes(snapshot.processes):
            await self._central.write(processes.tell_ended, session_id, ended)
        if new := agent.saw_notifications(snapshot.notifications):
            await self._central.write(triggering.offer_notifications, found.view.session.agent_group_id, new)
        return SyncResult(found.view.after(finished), len(finished))

    async def final_output(self, session_id: str, layout: SessionLayout, *, gives_up: bool) -> FinalOutput | None:
        """Read the file of a dead agent to the end, mending it where a commit was interrupted.

        None when there is more to read: come again. A file that is no good is put aside and kept, with a fresh one in
        its place. The agent must be gone. Raises `FileTrouble` when the host cannot read at the moment (another process
        holds the file, the disk is full): try again, and put the file aside in the end (`gives_up`).
        """
        try:
            if await asyncio.to_thread(recovery.has_journal, layout):
                self._central.require_sole()  # a file is put in place of another, under the next agent of another host
                await asyncio.to_thread(recovery.recover, layout, self._owner)
                log.warning("an interrupted commit was rolled back", extra={"session_id": session_id})
            final = await self._read_to_the_end(session_id, layout)
            if final is not None:
                await asyncio.to_thread(outbox_schema_check.require_schema, layout)
                return final
            if not gives_up:
                return None
            kept = await self._quarantine(session_id, layout, FileDamaged("it does not come to an end"))
        except (FileDamaged, NewerSchema) as error:
            kept = await self._quarantine(session_id, layout, error)
        except FileTrouble as error:
            if not gives_up:
                raise
            kept = await self._quarantine(session_id, layout, error)
        view = await self.view(session_id)
        held = view.open_messages if view is not None else ()
        return FinalOutput(frozenset(message.message_id for message in held), kept)

    async def take_rest(self, session_id: str, layout: SessionLayout) -> None:
        """Take over what was not read of a file whose agent is not known: one whose start was given up, and that worked
        until it was ended. It is read before the next run begins, because from then on rows of that run alone count,
        and its agent answers nothing that has its acknowledgement.

        What cannot be read now is met by the next agent.
        """
        with suppress(FileTrouble):
            await self._read_to_the_end(session_id, layout)

    async def cut_off(self, session_id: str, layout: SessionLayout) -> None:
        """Take the folder of an agent away that is given up for lost (`cut_off.py`). Raises `FileTrouble`."""
        self._central.require_sole()  # else the agent of another host's run would lose its folder
        stamp = self._clock.now().strftime("%Y%m%dT%H%M%S%f")
        kept = await asyncio.to_thread(cut_off.cut_off, layout, self._owner, stamp=stamp)
        log.warning("the folder of a lost agent was put aside", extra={"session_id": session_id, "kept": kept})

    async def _read_to_the_end(self, session_id: str, layout: SessionLayout) -> FinalOutput | None:
        """Copy what there is; what of it concerns the end of the agent. None when there is more."""
        deadline = self._clock.monotonic() + _LAST_SECONDS
        is_first = True  # each time is some progress
        while (view := await self.view(session_id)) is not None:
            if not is_first and self._clock.monotonic() > deadline:
                return None
            is_first = False
            began = time.monotonic()
            snapshot, copying = await asyncio.to_thread(self._read, view, layout)
            await self._copied(session_id, copying)
            if not snapshot.more:
                held = frozenset(ack.message_id for ack in snapshot.acks if ack.status == AckStatus.PROCESSING)
                return FinalOutput(held, None, snapshot.processes)
            await asyncio.sleep(rest_after(time.monotonic() - began))
        return FinalOutput(frozenset(), None)

    async def _quarantine(self, session_id: str, layout: SessionLayout, trouble: FileTrouble) -> str:
        session = await self._central.read(sessions.get, session_id)
        stamp = self._clock.now().strftime("%Y%m%dT%H%M%S%f")
        self._central.require_sole()  # as for `recover`
        kept = await asyncio.to_thread(
            recovery.quarantine, layout, self._owner, stamp=stamp, after_seq=session.out_cursor
        )
        log.error(
            "a session's outbound.db is unreadable and was put aside",
            extra={"session_id": session_id, "kept": kept, "error": str(trouble)},
        )

        def note(tx: Transaction) -> None:
            refusals.refuse(tx, session_id, "outbound.db", f"{trouble.what}; kept as {kept}")
            sessions.advance(tx, session_id, session.out_cursor, 0)

        await self._central.write(note)
        return kept

    async def _copied(self, session_id: str, copying: Future[Copied] | None) -> frozenset[str]:
        """Wait until a snapshot is in the ledger, and say what is in it; the messages that got their outcome."""
        if copying is None:
            return frozenset()
        copied = await committed(copying)
        if copied.refused:
            first = copied.refused[0]
            log.warning(
                "some of what an agent wrote was refused",
                extra={
                    "session_id": session_id,
                    "rows": len(copied.refused),
                    "what": first.what,
                    "reason": first.reason,
                },
            )
        for turn in copied.turns:
            _note_turn(session_id, turn)
        return frozenset(copied.finished)

    def _observe(self, session_id: str, agent: RunningAgent | None) -> _Observation | None:
        """The part that blocks."""
        commits = self._central.commits  # before it is read: a commit meanwhile leads to one more reading
        view = self._view_as_of(commits, session_id)
        is_usable = True
        try:
            while view is not None and view.pending is not None:
                try:
                    self._inbox_sync.write(view.session, view.pending, view.unrecorded)
                except FileDamaged as error:
                    if agent is not None or not view.session.run_settled:
                        raise
                    self._put_aside(view.session, error)
                    self._inbox_sync.write(view.session, view.pending)
                self._touched(view.session.id, view.session.agent_group_id)
                has_more = len(view.pending.rows) >= ingest.ACCEPTED_LIMIT
                view = self._view_here(session_id) if has_more else view.written()
        except FileBusy:
            if agent is None:
                raise
            is_usable = False  # an agent that keeps the host's own file locked is not waited for
        if view is None or agent is None:
            return None if view is None else _Observation(view)
        with self._lock:
            self._views[session_id] = commits, view
        began = self._clock.monotonic()
        heartbeat = self._heartbeat(agent.folder) if agent.wants_beat(self._beat_seconds, began) else None
        try:
            signature = self._signature(agent.folder)
            took = self._clock.monotonic() - began
            if not agent.has_news(signature, began, self._poll_seconds):
                return _Observation(view, is_usable, heartbeat, signature, took=took)
            return _Observation(view, is_usable, heartbeat, signature, self._read(view, agent.folder), took=took)
        except FileTrouble as error:
            return _Observation(view, is_usable, heartbeat, trouble=error)

    def _view_as_of(self, commits: int, session_id: str) -> View | None:
        """The view, which is not read again where nothing was committed since: most looks are at an agent's file."""
        with self._lock:
            seen, view = self._views.get(session_id, (-1, None))
        return view if seen == commits else self._view_here(session_id)

    def _view_here(self, session_id: str) -> View | None:
        unmarked = self._inbox_sync.unmarked(session_id)
        return self._central.read_here(view_of, session_id=session_id, unmarked=unmarked)

    def _put_aside(self, session: sessions.Session, error: FileDamaged) -> None:
        """The host's own file is no good. No agent may live. The next agent's start gives it back what is known."""
        now = self._clock.now()
        said = self._inbox_sync.put_aside(session, now.strftime("%Y%m%dT%H%M%S%f"))
        log.error(
            "a session's inbound.db is unreadable and was put aside",
            extra={"session_id": session.id, "error": str(error)},
        )
        self._central.submit(repairs.note, session, [said]).result()

    def _read(self, view: View, layout: SessionLayout) -> tuple[OutboxSnapshot, Future[Copied] | None]:
        """What is new in the agent's file, and its way into the ledger; None where nothing is."""
        self._touched(view.session.id, view.session.agent_group_id)
        snapshot = self._snapshot(view, layout)
        return snapshot, None if snapshot.is_empty else self._copier.copy(view.session.id, layout, snapshot)

    # The looks at an agent's files: what the simulation of many machines has others of (tests/simulation).

    def _heartbeat(self, layout: SessionLayout) -> int | None:
        return outbox.heartbeat(layout)

    def _signature(self, layout: SessionLayout) -> Signature | None:
        return outbox.signature(layout)

    def _snapshot(self, view: View, layout: SessionLayout) -> OutboxSnapshot:
        return outbox.read(
            layout,
            out_cursor=view.session.out_cursor,
            turn_cursor=view.session.turn_cursor,
            open_messages=[message.message_id for message in view.open_messages],
            running_turns=view.running_turns,
            run=view.session.run_number or None,
        )


def view_of(connection: Queryable, session_id: str, unmarked: Set[str] = frozenset()) -> View | None:
    """What the ledger knows now; None when there is no such session.

    `unmarked` are messages that the session's file has, which the ledger may not say yet.
    """
    session = sessions.lookup(connection, session_id)
    if session is None:
        return None
    accepted, in_file = accepted_of(connection, session_id, unmarked)
    open_messages = (*ingest.open_messages(connection, session_id), *map(_open, in_file))
    unrecorded = unrecorded_of(connection, session_id)
    return View(
        session=session,
        pending=pending_messages(connection, session, accepted),
        open_messages=open_messages[: ingest.OPEN_LIMIT],
        running_turns=tuple(turns.running(connection, session_id)),
        unrecorded=unrecorded,
        has_unrecorded=bool(unrecorded),
    )


def _open(row: ingest.AcceptedMessage) -> ingest.OpenMessage:
    return ingest.OpenMessage(row.message_id, row.trigger, row.tries)


def _note_turn(session_id: str, turn: Turn) -> None:
    """One line in the log for a turn that began or ended. What the agent says of itself has been checked."""
    ids: dict[str, object] = {"session_id": session_id, "turn_id": turn.id}
    if turn.status == TurnStatus.RUNNING:
        log.info("a turn began", extra=ids)
        return
    seconds = None
    if turn.finished_at is not None:
        seconds = round((from_text(turn.finished_at) - from_text(turn.started_at)).total_seconds(), 3)
    details = {
        "outcome": turn.status,
        "reason": turn.failure_reason,
        "seconds": seconds,
        "provider": turn.provider,
        "model": turn.model,
        "input_tokens": turn.input_tokens,
        "output_tokens": turn.output_tokens,
    }
    level = logging.WARNING if turn.status == TurnStatus.FAILED else logging.INFO
    log.log(level, "a turn ended", extra=ids | {name: value for name, value in details.items() if value is not None})


def _doing(snapshot: OutboxSnapshot) -> str | None:
    """What the agent says it is doing, on one line: a tool's name, or its phase."""
    state = snapshot.state
    said = None if state is None else state.current_tool or state.state
    return "".join(c for c in said if is_shown(c)) if isinstance(said, str) else None
