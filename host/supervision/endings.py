"""How agents end: stopped, dead, lost, or without a session. Each is settled once: slot, last words, count, log.

The slot of an agent is free as soon as the agent is known to be dead. What follows is its *burial*: its file is read to
the end and its death is counted. A burial may fail, because the file is locked or the disk is full; then it is tried
again by the session's looks, a little at a time, and no agent of the session is started before it is done. After
`_BURIAL_SECONDS` the file is put aside.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from host.central import sessions
from host.central.deliveries import Chat
from host.sessions.post import Post
from host.supervision.agent import RunningAgent
from host.supervision.facts import StopReason
from host.supervision.obstacles import Obstacles
from host.supervision.reading import Reading
from host.supervision.runs import Runs, Settled
from shared_schema.clock import Clock

log = logging.getLogger(__name__)

_BURIAL_SECONDS = 30.0
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 10.0


@dataclass(slots=True)
class _Burial:
    """A run that is over and not settled. `since` and `not_before` are seconds on the monotonic clock."""

    run_id: str
    sentence: str
    harmless: bool
    since: float
    not_before: float = 0.0
    failures: int = 0


class Endings:
    """Ends agents. `agents` is the conductor's own; `gone` hears of each that left it, `send` of chats to be told."""

    def __init__(
        self,
        runs: Runs,
        reading: Reading,
        post: Post,
        obstacles: Obstacles,
        agents: dict[str, RunningAgent],
        clock: Clock,
        *,
        send: Callable[[Chat], None],
        gone: Callable[[], None],
    ) -> None:
        self._runs = runs
        self._reading = reading
        self._post = post
        self._obstacles = obstacles
        self._agents = agents
        self._clock = clock
        self._send = send
        self._gone = gone
        self._burials: dict[str, _Burial] = {}

    async def end(self, session: sessions.Session, reason: StopReason) -> bool:
        """Stop the agent of a session that is being held, known or not, and settle its run. Whether there was one."""
        agent = self._agents.get(session.id)
        if agent is not None:
            await self.stop(session, agent, reason)
            return True
        view = await self._reading.view(session.id)
        if view is None or view.session.run_settled:
            return False
        await self.settle_lost(view.session, harmless=True)
        return True

    async def end_deleted(self, session: sessions.Session) -> None:
        """Stop the agent of a session whose rows are gone. Raises `RuntimeUnavailable`: the next look tries again."""
        self.forget(session.id)
        agent = self._agents.get(session.id)
        if agent is not None:
            await self.discard(agent)
        elif not session.run_settled:
            await self._runs.clear(session.id)

    async def stop(self, session: sessions.Session, agent: RunningAgent, reason: StopReason) -> None:
        """Stop an agent and settle its run. Raises `RuntimeUnavailable`; then it may still run."""
        await self._runs.stop(agent.handle, reason)
        sentence = f"the agent was stopped because {reason.value}"
        await self.bury_agent(session, agent, sentence, harmless=reason.harmless, later=reason.is_urgent)

    async def stop_all(self) -> None:
        """The host stops: all agents give back their turns, at the same time."""
        await asyncio.gather(*(self._stop_at_end(session_id) for session_id in list(self._agents)))

    async def bury_agent(
        self, session: sessions.Session, agent: RunningAgent, sentence: str, *, harmless: bool, later: bool = False
    ) -> None:
        """Free the slot of an agent that is dead, settle its run, and keep what it printed.

        `later`: the next look settles it. A burial that fails is tried again by the next look as well.
        """
        self._begin(session.id, agent.handle.run_id, sentence, harmless=harmless)
        self._leave(session.id)  # first of all: whatever becomes of the rest, the agent is dead and needs no slot
        try:
            if not later:
                await self._bury(session)
        except Exception as error:  # the boundary of one session: its next look says what is wrong
            log.warning("an ended agent could not be settled yet", extra={"session": session.id, "error": str(error)})
        finally:
            await self._runs.forget(agent.handle, self._post.folder(session))

    async def settle_lost(self, session: sessions.Session, *, harmless: bool) -> None:
        """Settle a run nobody has a handle of, or go on with a burial that could not be finished.

        Raises `RuntimeUnavailable` while it is not sure that the run is over, and what makes the burial fail.
        """
        if session.id not in self._burials:
            await self._runs.clear(session.id)
            sentence = "its start was not answered" if harmless else "the agent died while no host was running"
            self._begin(session.id, session.run_id or "", sentence, harmless=harmless)
        await self._bury(session)

    def burial_in(self, session_id: str) -> float | None:
        """Seconds until the burial that is not done goes on: until then, no agent is started. None: there is none."""
        burial = self._burials.get(session_id)
        return None if burial is None else max(0.0, burial.not_before - self._clock.monotonic())

    async def discard(self, agent: RunningAgent) -> None:
        """Stop an agent whose session is gone: there is nothing to settle."""
        await self._runs.stop(agent.handle, StopReason.SESSION_OVER)
        self._leave(agent.handle.session_id)
        await self._runs.forget(agent.handle, None)

    def forget(self, session_id: str) -> None:
        """The session is gone: nothing of it is to be settled."""
        self._burials.pop(session_id, None)

    def keep_to(self, session_id: str, settled: Settled) -> None:
        """Do as a settlement says: when an agent may be started again, and whom to tell."""
        if settled.retry_in > 0:
            self._obstacles.wait(session_id, settled.retry_in)
        for chat in settled.chats:
            self._send(chat)

    def _begin(self, session_id: str, run_id: str, sentence: str, *, harmless: bool) -> None:
        self._burials[session_id] = _Burial(run_id, sentence, harmless, self._clock.monotonic())

    async def _bury(self, session: sessions.Session) -> None:
        """Go on with the burial of a session's last agent: read its last words, count, tell. Raises what fails.

        It is over when `burial_in` says so: what takes long is done a piece at a time, and others come in between.
        """
        burial = self._burials[session.id]
        age = self._clock.monotonic() - burial.since
        try:
            words = await self._reading.last_words(
                session.id, self._post.folder(session), gives_up=age >= _BURIAL_SECONDS
            )
        except Exception:
            burial.failures += 1
            wait = min(_FIRST_WAIT * 2.0 ** min(burial.failures, 10), _LONGEST_WAIT)
            burial.not_before = self._clock.monotonic() + wait
            raise
        if words is None:
            return
        sentence, harmless = burial.sentence, burial.harmless
        if words.quarantined is not None:
            harmless, sentence = False, "what the agent wrote cannot be read and was put aside"
        if not harmless:
            log.warning(sentence, extra={"session": session.id, "run": burial.run_id})
        settled = await self._runs.settle(
            session, words.processing, run_id=burial.run_id, harmless=harmless, sentence=sentence
        )
        self._burials.pop(session.id, None)
        self.keep_to(session.id, settled)

    async def _stop_at_end(self, session_id: str) -> None:
        try:
            view = await self._reading.view(session_id)
            if view is not None:
                await self.stop(view.session, self._agents[session_id], StopReason.HOST_STOPS)
        except Exception as error:  # whatever is wrong with one agent, the others are stopped as well
            log.error("an agent could not be stopped", extra={"session": session_id, "error": str(error)})

    def _leave(self, session_id: str) -> None:
        self._agents.pop(session_id, None)
        self._gone()
