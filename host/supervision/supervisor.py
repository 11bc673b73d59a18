"""The unit of work is to reconcile one session: write what was accepted, read what the agent wrote, decide, act.

Hints, polls, timers and new messages all only schedule a reconcile. Everything it does can be repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

from host.central import sessions
from host.runtime.placement import NoRoom
from host.runtime.protocol import RuntimeUnavailable
from host.sessions.folder import remove_session_folder
from host.sessions.inbox_sync import InboxSync
from host.sessions.untrusted_files import folder_size
from host.settings import Settings
from host.supervision.agent import RunningAgent
from host.supervision.agent_termination import AgentTermination
from host.supervision.capacity import AgentSlots, StartBackoff
from host.supervision.decide import (
    NODE_SECONDS,
    Facts,
    GiveUp,
    Queue,
    Rest,
    Start,
    Stop,
    StopReason,
    SupervisionLimits,
    Wait,
    decide,
)
from host.supervision.faults import Fault, Faults
from host.supervision.polling import poll_after
from host.supervision.runs import Runs
from host.supervision.scheduler import SessionScheduler
from host.supervision.sync import SessionSync, SyncResult, View
from shared_schema.clock import Clock
from shared_schema.errors import EXIT_FILES, DumbwaiterError
from shared_schema.layout import SessionLayout
from shared_schema.rows import AgentPhase

log = logging.getLogger(__name__)

_BEGIN_SECONDS = 0.002
_BEGUN_SECONDS = 0.1
"""How long an answer is waited for once its turn has begun. It is not held up by that: it is a hint of its own."""
_RECORD_SECONDS = 0.2
_POLL_BUSY_SECONDS = 1.0
_POLL_IDLE_SECONDS = 10.0
_BACKGROUND = ("schedule", "heartbeat")
"""Kinds of sessions that no person waits for."""
_BACKGROUND_SECONDS = 30.0
"""How often a run that waits for a slot is looked at anyway. It is told when one is free."""


class Supervisor:
    """Reconciles all sessions.

    `changed` hears when an agent comes or goes, `poll_now` when one gets busy.
    """

    def __init__(
        self,
        inbox_sync: InboxSync,
        sync: SessionSync,
        runs: Runs,
        settings: Settings,
        clock: Clock,
        limits: SupervisionLimits,
        *,
        changed: Callable[[], None],
        poll_now: Callable[[], None],
    ) -> None:
        self._inbox_sync = inbox_sync
        self._sync = sync
        self._runs = runs
        self._settings = settings
        self._clock = clock
        self._limits = limits
        self._changed = changed
        self._poll_now = poll_now
        self._backoff = StartBackoff(clock)
        self._record_at: dict[str, float] = {}
        self._away: dict[
            str, tuple[str, float]
        ] = {}  # whose last run may live on a node that does not answer, since when
        self._unanswered: set[str] = set()  # sessions of which the engine did not answer a start
        self._unseen: set[str] = set()  # those, and sessions of whose last run this host had no handle when it ended
        self.faults = Faults(clock, limits)
        self.agents: dict[str, RunningAgent] = {}
        self.slots = AgentSlots(self.agents, settings.max_agents)
        self.termination = AgentTermination(runs, sync, inbox_sync, self._backoff, self.agents, clock, gone=self._gone)
        self._scheduler = SessionScheduler(self._reconcile)
        self._listeners: dict[str, list[Callable[[], object]]] = {}

    def open(self) -> None:
        """Begin to reconcile sessions. Before, the supervisor only carries out what operations ask of it."""
        self._scheduler.open()

    def schedule(self, session_id: str) -> None:
        """Reconcile a session soon."""
        self._scheduler.schedule(session_id)

    def accepted(self, session_id: str) -> None:
        """A message was accepted for a session."""
        if (agent := self.agents.get(session_id)) is not None:
            agent.has_new_messages = True
            agent.stirred = self._clock.monotonic()
        self._scheduler.schedule(session_id)

    def accepted_in_background(self, session_id: str) -> None:
        """The run of a schedule was accepted.

        Where many wait already, its folder is made when a slot is free: a thousand at once take nothing from people.
        """
        if self.slots.wait_behind(session_id):
            self._scheduler.schedule_within(session_id, _BACKGROUND_SECONDS)
        else:
            self._scheduler.schedule(session_id)

    def hinted(self, session_id: str) -> None:
        """The agent of a session wrote something.

        The first thing after a message is that it has taken it. An answer that follows at once is waited for, so that
        one reconcile is enough for both, and the answer meets none that is under way.
        """
        for heard in self._listeners.get(session_id, ()):
            heard()
        agent = self.agents.get(session_id)
        if agent is not None and agent.rest is not None:
            self._scheduler.schedule_within(session_id, agent.rest)
        elif agent is not None and agent.has_new_messages:
            agent.has_new_messages = False
            self._scheduler.schedule_within(session_id, _BEGUN_SECONDS)
        else:
            self._scheduler.schedule(session_id)

    @contextmanager
    def overheard(self, session_id: str, heard: Callable[[], object]) -> Iterator[None]:
        """Call a function at each hint of a session's agent, until the block ends: what it writes is shown at once."""
        listeners = self._listeners.setdefault(session_id, [])
        listeners.append(heard)
        try:
            yield
        finally:
            listeners.remove(heard)
            if not listeners:
                self._listeners.pop(session_id, None)

    def delivered(self, session_id: str) -> None:
        """A delivery got its outcome: the session's file is told a moment later."""
        self._record_at.setdefault(session_id, self._clock.monotonic() + _RECORD_SECONDS)
        self._scheduler.schedule_within(session_id, _RECORD_SECONDS)

    def look_at_agent(self, session_id: str) -> None:
        """Reconcile a session soon, and ask the runtime about its agent, however short ago it was asked."""
        if (agent := self.agents.get(session_id)) is not None:
            agent.ask_afresh()
        self._scheduler.schedule(session_id)

    def holding(self, session_id: str) -> AbstractAsyncContextManager[None]:
        """Do not reconcile a session while an operation changes it; reconcile it once afterwards."""
        return self._scheduler.holding(session_id)

    def adopt(self, session_id: str, agent: RunningAgent) -> None:
        """Take over an agent that runs: one just started, or one of an earlier host."""
        self.agents[session_id] = agent
        self._changed()

    def is_working(self, session_id: str) -> bool:
        """Whether the agent of a session says that it, or something in its background, does anything. Any thread."""
        agent = self.agents.get(session_id)
        if agent is None:
            return False
        return agent.has_processes or agent.doing not in (None, AgentPhase.STARTING, AgentPhase.IDLE)

    def is_busy(self) -> bool:
        """Whether a person waits for an answer of an agent that runs. Callable from any thread."""
        return any(agent.busy_since is not None for agent in list(self.agents.values()))

    async def close(self, *, stop_agents: bool) -> None:
        """Let every reconcile finish; with `stop_agents` also all agents, which give back their turns."""
        await self._scheduler.close()
        if stop_agents:
            await self.termination.stop_all()
        for agent in self.agents.values():
            agent.cancel_poll()

    async def _reconcile(self, session_id: str) -> float | None:
        """Reconcile once; what fails is a fault of the session. Seconds until the next time; None: at the next hint."""
        try:
            due = await self._reconcile_once(session_id)
            if (fault := self.faults.of(session_id)) is not None:
                due = await self._is_over(fault, due)
        except Exception as error:  # the boundary of one session: the others are reconciled
            return await self._note_fault(session_id, error)
        return due

    async def _reconcile_once(self, session_id: str) -> float | None:
        agent = self.agents.get(session_id)
        seen = await self._sync.run_once(session_id, agent)
        if seen is None:
            await self._forget(session_id)
            return None
        view, waits = seen.view, [seen.again]
        if agent is not None:
            view = await self._watch(seen, agent)
            waits.append(agent.rest if seen.again is None else None)
        elif not view.session.run_settled:
            view, soon = await self._find_out(view)
            waits.append(soon)
        await self._tell_waits(view)
        waits.append(await self._act(view, self._facts(view)))
        waits.append(await self._record(view))
        if session_id in self.agents:
            waits.append(self._poll_after(self.agents[session_id]))
        waits.append(self._finalization_in(session_id))  # also where nothing waits: it may hold answers
        return min((max(0.0, wait) for wait in waits if wait is not None), default=None)

    async def _find_out(self, view: View) -> tuple[View, float | None]:
        """A run that was begun and of which nothing is known: see to it that it is over, and count it."""
        session_id = view.session.id
        try:
            agent = await self._runs.find(view.session)
        except RuntimeUnavailable as error:
            self._away.setdefault(session_id, (view.session.node or "", self._clock.monotonic()))
            log.warning("a session waits for its node", extra={"session_id": session_id, "error": str(error)})
            return view, NODE_SECONDS
        self._away.pop(session_id, None)
        if agent is not None:
            self.adopt(session_id, agent)
            return view, 0.0
        unsure = self._backoff.unavailable_for(session_id) is not None
        if unsure and (wait := self._backoff.retry_in(session_id)) > 0:
            return view, wait
        if (wait := self.termination.finalization_in(session_id) or 0.0) > 0:
            return view, wait
        try:
            await self.termination.finalize_lost_run(view.session, not_the_agents_fault=unsure)
        except RuntimeUnavailable as error:
            return view, self._note_unavailable(session_id, error)
        self._unseen.add(session_id)
        return await self._sync.view(session_id) or view, None

    async def _watch(self, seen: SyncResult, agent: RunningAgent) -> View:
        """See whether an agent works, keeps to its space and still runs. The view afterwards."""
        view = seen.view
        layout = self._inbox_sync.folder(view.session)
        now = self._clock.monotonic()
        if agent.saw_work(view.waiting, seen.finished, now):
            self._poll_now()
        await self._measure(agent, layout, now)
        is_asked_often = view.waiting or agent.engine_away_since is not None
        max_age = agent.wants_poll(_POLL_BUSY_SECONDS if is_asked_often else _POLL_IDLE_SECONDS, now)
        if max_age is not None:
            status = await self._runs.poll(agent, max_age)
            if not status.alive:
                said = await self._runs.last_line(agent.handle) if status.exit_code == EXIT_FILES else ""
                sentence = self._runs.describe(status, said)
                await self.termination.finalize_agent(view.session, agent, sentence, not_the_agents_fault=False)
                view = await self._sync.view(view.session.id) or view
        return view

    async def _measure(self, agent: RunningAgent, layout: SessionLayout, now: float) -> None:
        if now - agent.measured >= agent.measure_after:
            size = await asyncio.to_thread(folder_size, layout.out)
            agent.saw_size(size, self._settings.out_bytes, now)

    def _facts(self, view: View) -> Facts:
        session_id = view.session.id
        agent = self.agents.get(session_id)
        return Facts(
            active=view.is_awake,
            waiting=view.waiting,
            agent=None if agent is None else agent.facts(self._clock.monotonic()),
            retry_in=self._retry_in(session_id),
            unavailable_for=self._backoff.unavailable_for(session_id),
            has_slot=self.slots.has_one_for(session_id, is_background=view.session.kind in _BACKGROUND),
            node_is_away=self._node_away(session_id) is not None,
        )

    def _node_away(self, session_id: str) -> tuple[str, float] | None:
        """The node that a session waits for, and since when (seconds on the monotonic clock)."""
        agent = self.agents.get(session_id)
        if agent is None:
            return self._away.get(session_id)
        since = agent.engine_away_since
        return None if since is None or not agent.handle.node else (agent.handle.node, since)

    def waits_for(self) -> dict[str, str]:
        """The sessions that wait for a node that does not answer: its name by the session's id."""
        known = {each: self._node_away(each) for each in (*self._away, *self.agents)}
        return {session_id: away[0] for session_id, away in known.items() if away is not None}

    async def _tell_waits(self, view: View) -> None:
        """Tell people that wait for a node for longer than a short outage lasts."""
        away = self._node_away(view.session.id)
        if away is not None and view.waiting and self._clock.monotonic() - away[1] >= self._settings.silent_seconds:
            await self._runs.tell_waits(view.session.id, away[0])

    def _poll_after(self, agent: RunningAgent) -> float:
        if not self._settings.shared:
            return self._settings.poll_seconds
        return poll_after(
            self._clock.monotonic() - agent.stirred,
            waits=agent.busy_since is not None,
            poll_seconds=self._settings.poll_seconds,
            took=agent.look_took,
        )

    def _retry_in(self, session_id: str) -> float:
        """Seconds until an agent may be started: not before the last one is finalized."""
        return max(self._backoff.retry_in(session_id), self._finalization_in(session_id) or 0.0)

    def _finalization_in(self, session_id: str) -> float | None:
        """Seconds until the last run's finalization goes on; None when it is done."""
        finalization = self.termination.finalization_in(session_id)
        return None if finalization is None else max(finalization, _BEGIN_SECONDS)

    async def _act(self, view: View, facts: Facts) -> float | None:
        """Do what is decided; seconds after which there is something to decide again."""
        session = view.session
        decision = decide(facts, self._limits)
        if not isinstance(decision, Queue):
            self.slots.leave_queue(session.id)
        match decision:
            case Start():
                await self._start(session)
                return None if session.id in self.agents else 0.0
            case Stop(reason):
                agent = self.agents[session.id]
                try:
                    await self.termination.stop(session, agent, reason)
                except RuntimeUnavailable:
                    if not agent.handle.node:
                        raise
                    agent.engine_is_away(self._clock.monotonic())  # then it may live, and its session waits
                    return NODE_SECONDS
                return 0.0
            case GiveUp(sentence):
                self._backoff.clear(session.id)
                await self._runs.fail_waiting(session.id, sentence)
                return 0.0
            case Queue():
                for leaving in self.slots.join_queue(session.id, self._clock.monotonic()):
                    self.schedule(leaving)
                is_background = session.kind in _BACKGROUND
                return _BACKGROUND_SECONDS if is_background else self._settings.poll_seconds
            case Wait(seconds):
                return seconds
            case Rest():
                if session.run_settled:
                    self._backoff.clear(session.id)
                return None

    async def _record(self, view: View) -> float | None:
        """Tell the session's file what became of things: several at once, a moment later, off the hot path."""
        session_id = view.session.id
        if not view.has_unrecorded:
            self._record_at.pop(session_id, None)
            return None
        now = self._clock.monotonic()
        due = self._record_at.setdefault(session_id, now + _RECORD_SECONDS)
        if now < due:
            return due - now
        del self._record_at[session_id]
        await asyncio.to_thread(self._inbox_sync.record, view.session, view.unrecorded)
        return None

    async def _start(self, session: sessions.Session) -> None:
        try:
            with self.slots.being_taken(session.id):
                if session.run_number and not await self._is_needed(session):
                    return
                agent = await self._runs.start(session, is_last_over=session.id not in self._unseen)
        except NoRoom as error:  # the engines answer: this is a matter of waiting, and of nothing else
            log.info("an agent waits for room on a node", extra={"session_id": session.id, "what": error.what})
            self._backoff.wait(session.id, NODE_SECONDS)
        except RuntimeUnavailable as error:
            self._unanswered.add(session.id)
            self._unseen.add(session.id)
            self._note_unavailable(session.id, error)
        except DumbwaiterError as error:
            log.error("an agent cannot be started", extra={"session_id": session.id, "error": str(error)})
            self._backoff.wait(session.id, await self._runs.finalize_failed_start(session, error))
        else:
            self._unanswered.discard(session.id)
            self._unseen.discard(session.id)
            self._backoff.clear(session.id)
            self.adopt(session.id, agent)

    async def _is_needed(self, session: sessions.Session) -> bool:
        """Whether an agent is still to be started, once all is taken that earlier ones did.

        A start that was not answered may have been carried out later: that agent is ended first. Raises
        `RuntimeUnavailable` while that is not sure.
        """
        if session.id in self._unanswered:
            await self._runs.clear(session.id)
        await self._sync.take_rest(session.id, self._inbox_sync.folder(session))
        view = await self._sync.view(session.id)
        return view is not None and bool(view.waiting)

    def _note_unavailable(self, session_id: str, error: RuntimeUnavailable) -> float:
        log.error("the container engine does not respond", extra={"session_id": session_id, "error": str(error)})
        return self._backoff.no_answer(session_id)

    async def _note_fault(self, session_id: str, error: Exception) -> float:
        """It failed; seconds until the next time. What waits in a session with a lasting fault fails, visibly.

        It holds up no other: not in the queue for a slot, and not with an agent that cannot be supervised.
        """
        self.slots.leave_queue(session_id)
        fault = self.faults.note(session_id, error)
        if self.faults.is_lasting(fault):
            try:
                await self._runs.fail_waiting(session_id, fault.cause)
                if (agent := self.agents.get(session_id)) is not None:
                    view = await self._sync.view(session_id)
                    if view is not None:
                        await self.termination.stop(view.session, agent, StopReason.FAULT)
            except DumbwaiterError as trouble:  # the ledger or the engine as well
                self.faults.note(session_id, trouble)
        return self.faults.retry_in(fault)

    async def _is_over(self, fault: Fault, due: float | None) -> float | None:
        """A session with a fault was reconciled; seconds until the next time. Raises what is still wrong.

        Where nothing waits, that touches no file: whether they can be used again is tried here.
        """
        session_id = fault.session_id
        view = await self._sync.view(session_id)
        if view is not None and view.session.status == "active" and session_id not in self.agents:
            await asyncio.to_thread(self._inbox_sync.prepare, view.session)
        self.faults.over(session_id)
        return due

    async def _forget(self, session_id: str) -> None:
        """The session is gone: so is, at the latest now, its agent and what it left."""
        self._backoff.clear(session_id)
        self._away.pop(session_id, None)
        self._unanswered.discard(session_id)
        self._unseen.discard(session_id)
        self.faults.forget(session_id)
        self.termination.forget(session_id)
        self.slots.leave_queue(session_id)
        self._record_at.pop(session_id, None)
        if (agent := self.agents.get(session_id)) is not None:
            await self.termination.discard(agent)
            await asyncio.to_thread(remove_session_folder, agent.folder)

    def _gone(self) -> None:
        """An agent left: its slot is free."""
        self._changed()
        for waiting in self.slots.next_in_line:
            self.schedule(waiting)
