"""How agents end: stopped, dead, lost, or without a session. Each run is finalized once: slot, output, count, log.

The slot of an agent is free as soon as the agent is known to be dead. Then its run is *finalized*: its file is read to
the end and its death is counted. That may fail, because the file is locked or the disk is full; then reconciling the
session tries again, a little at a time, and no agent of the session is started before it is done. After
`_FINALIZATION_SECONDS` the file is put aside.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from host.backoff import Backoff
from host.central import sessions
from host.sessions.inbox_sync import InboxSync
from host.supervision.agent import RunningAgent
from host.supervision.capacity import StartBackoff
from host.supervision.decide import StopReason
from host.supervision.runs import Runs
from host.supervision.sync import SessionSync
from shared_schema.clock import Clock
from shared_schema.dataclass import dataclass

log = logging.getLogger(__name__)

_FINALIZATION_SECONDS = 30.0
_BACKOFF = Backoff(0.2, 10.0)


@dataclass(slots=True)
class _Finalization:
    """A run that is over and not finalized. `since` and `not_before` are seconds on the monotonic clock."""

    run_id: str
    sentence: str
    not_the_agents_fault: bool
    since: float
    is_wanted: bool
    not_before: float = 0.0
    failures: int = 0


class AgentTermination:
    """Ends agents. `agents` is the supervisor's own; `gone` hears of each that left it."""

    def __init__(
        self,
        runs: Runs,
        sync: SessionSync,
        inbox_sync: InboxSync,
        backoff: StartBackoff,
        agents: dict[str, RunningAgent],
        clock: Clock,
        *,
        gone: Callable[[], None],
    ) -> None:
        self._runs = runs
        self._sync = sync
        self._inbox_sync = inbox_sync
        self._backoff = backoff
        self._agents = agents
        self._clock = clock
        self._gone = gone
        self._finalizations: dict[str, _Finalization] = {}

    async def end(self, session: sessions.Session, reason: StopReason) -> bool:
        """Stop the agent of a session that is being held, known or not, and finalize its run. Whether there was one."""
        agent = self._agents.get(session.id)
        if agent is not None:
            await self.stop(session, agent, reason)
            return True
        view = await self._sync.view(session.id)
        if view is None or view.session.run_settled:
            return False
        await self.finalize_lost_run(view.session, not_the_agents_fault=True)
        return True

    async def end_deleted(self, session: sessions.Session) -> None:
        """Stop the agent of a session whose rows are gone.

        Raises `RuntimeUnavailable`: the next reconcile tries again.
        """
        self.forget(session.id)
        agent = self._agents.get(session.id)
        if agent is not None:
            await self.discard(agent)
        elif not session.run_settled:
            await self._runs.clear(session.id)

    async def stop(self, session: sessions.Session, agent: RunningAgent, reason: StopReason) -> None:
        """Stop an agent and finalize its run. Raises `RuntimeUnavailable`; then it may still run."""
        await self._runs.stop(agent.handle, reason)
        sentence = f"the agent was stopped because {reason.value}"
        await self.finalize_agent(
            session,
            agent,
            sentence,
            not_the_agents_fault=reason.not_the_agents_fault,
            is_wanted=reason.is_wanted,
            later=reason.is_urgent,
        )

    async def stop_all(self) -> None:
        """The host stops: all agents give back their turns, at the same time."""
        await asyncio.gather(*(self._stop_at_end(session_id) for session_id in list(self._agents)))

    async def finalize_agent(
        self,
        session: sessions.Session,
        agent: RunningAgent,
        sentence: str,
        *,
        not_the_agents_fault: bool,
        is_wanted: bool = False,
        later: bool = False,
    ) -> None:
        """Free the slot of an agent that is dead, finalize its run, and keep what it printed.

        `is_wanted`: the agent is to be gone. `later`: the next reconcile finalizes it. It also tries again what fails
        here.
        """
        self._begin(
            session.id,
            agent.handle.run_id,
            sentence,
            not_the_agents_fault=not_the_agents_fault,
            is_wanted=is_wanted,
        )
        self._leave(session.id)  # first of all: should the rest fail, the agent is dead all the same and needs no slot
        try:
            if not later:
                await self._finalize(session)
        except Exception as error:  # the boundary of one session: its next reconcile says what is wrong
            log.warning(
                "an ended run could not be finalized yet", extra={"session_id": session.id, "error": str(error)}
            )
        finally:
            await self._runs.forget(agent.handle, self._inbox_sync.folder(session))

    async def finalize_lost_run(self, session: sessions.Session, *, not_the_agents_fault: bool) -> None:
        """Finalize a run that no host has a handle of, or go on with one that could not be finished.

        Raises `RuntimeUnavailable` while it is not sure that the run is over, and what makes it fail.
        """
        if session.id not in self._finalizations:
            await self._runs.clear(session.id)
            sentence = (
                "its start was not answered" if not_the_agents_fault else "the agent died while no host was running"
            )
            self._begin(session.id, session.run_id or "", sentence, not_the_agents_fault=not_the_agents_fault)
        await self._finalize(session)

    def finalization_in(self, session_id: str) -> float | None:
        """Seconds until an unfinished finalization goes on; no agent is started before. None: there is none."""
        finalization = self._finalizations.get(session_id)
        return None if finalization is None else max(0.0, finalization.not_before - self._clock.monotonic())

    async def discard(self, agent: RunningAgent) -> None:
        """Stop an agent whose session is gone: there is nothing to finalize."""
        await self._runs.stop(agent.handle, StopReason.SESSION_OVER)
        self._leave(agent.handle.session_id)
        await self._runs.forget(agent.handle, None)

    def forget(self, session_id: str) -> None:
        """The session is gone: nothing of it is to be finalized."""
        self._finalizations.pop(session_id, None)

    def _begin(
        self, session_id: str, run_id: str, sentence: str, *, not_the_agents_fault: bool, is_wanted: bool = False
    ) -> None:
        self._finalizations[session_id] = _Finalization(
            run_id, sentence, not_the_agents_fault, self._clock.monotonic(), is_wanted
        )

    async def _finalize(self, session: sessions.Session) -> None:
        """Go on finalizing a session's last run: read its file to the end, count, tell. Raises what fails.

        It is over when `finalization_in` says so: what takes long is done a piece at a time, and others come in
        between.
        """
        finalization = self._finalizations[session.id]
        age = self._clock.monotonic() - finalization.since
        try:
            if self._runs.is_lost(session):  # should the agent live after all, nothing that it writes is read
                await self._sync.cut_off(session.id, self._inbox_sync.folder(session))
            final = await self._sync.final_output(
                session.id, self._inbox_sync.folder(session), gives_up=age >= _FINALIZATION_SECONDS
            )
        except Exception:
            finalization.failures += 1
            finalization.not_before = self._clock.monotonic() + _BACKOFF.after(finalization.failures)
            raise
        if final is None:
            return
        sentence, not_the_agents_fault = finalization.sentence, finalization.not_the_agents_fault
        if final.quarantined is not None:
            not_the_agents_fault, sentence = False, "what the agent wrote cannot be read and was put aside"
        if not not_the_agents_fault:
            log.warning(sentence, extra={"session_id": session.id, "run_id": finalization.run_id})
        retry_in = await self._runs.finalize_run(
            session,
            final.processing,
            run_id=finalization.run_id,
            not_the_agents_fault=not_the_agents_fault,
            sentence=sentence,
            processes=final.processes,
            is_wanted=finalization.is_wanted,
        )
        self._finalizations.pop(session.id, None)
        self._backoff.wait(session.id, retry_in)

    async def _stop_at_end(self, session_id: str) -> None:
        try:
            view = await self._sync.view(session_id)
            if view is not None:
                await self.stop(view.session, self._agents[session_id], StopReason.HOST_STOPS)
        except Exception as error:  # the boundary of one agent: the others are stopped as well
            log.error("an agent could not be stopped", extra={"session_id": session_id, "error": str(error)})

    def _leave(self, session_id: str) -> None:
        agent = self._agents.pop(session_id, None)
        if agent is not None:
            agent.cancel_poll()
        self._gone()
