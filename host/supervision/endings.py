"""How agents end: stopped, dead, lost, or without a session. Each is settled once: last words, count, place, log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from host.central import sessions
from host.central.deliveries import Chat
from host.sessions.post import Post
from host.supervision.agent import RunningAgent
from host.supervision.facts import StopReason
from host.supervision.obstacles import Obstacles
from host.supervision.reading import Reading
from host.supervision.runs import Runs, Settled
from shared_schema.errors import DumbwaiterError

log = logging.getLogger(__name__)


class Endings:
    """Ends agents. `agents` is the conductor's own; `gone` hears of each that left it, `send` of chats to be told."""

    def __init__(
        self,
        runs: Runs,
        reading: Reading,
        post: Post,
        obstacles: Obstacles,
        agents: dict[str, RunningAgent],
        *,
        send: Callable[[Chat], None],
        gone: Callable[[], None],
    ) -> None:
        self._runs = runs
        self._reading = reading
        self._post = post
        self._obstacles = obstacles
        self._agents = agents
        self._send = send
        self._gone = gone

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
        agent = self._agents.get(session.id)
        if agent is not None:
            await self.discard(agent)
        elif not session.run_settled:
            await self._runs.clear(session.id)

    async def stop(self, session: sessions.Session, agent: RunningAgent, reason: StopReason) -> None:
        """Stop an agent and settle its run. Raises `RuntimeUnavailable`; then it may still run."""
        await self._runs.stop(agent.handle, reason)
        sentence = f"the agent was stopped because {reason.value}"
        await self.bury_agent(session, agent, sentence, harmless=reason.harmless)

    async def stop_all(self) -> None:
        """The host stops: all agents give back their turns, at the same time."""
        await asyncio.gather(*(self._stop_at_end(session_id) for session_id in list(self._agents)))

    async def bury_agent(
        self, session: sessions.Session, agent: RunningAgent, sentence: str, *, harmless: bool
    ) -> None:
        """Settle the run of an agent that is dead, free its place, and keep what it printed."""
        await self._bury(session, agent.handle.run_id, sentence, harmless=harmless)
        self._leave(session.id)
        await self._runs.forget(agent.handle, self._post.folder(session))

    async def settle_lost(self, session: sessions.Session, *, harmless: bool) -> None:
        """Settle a run nobody has a handle of. Raises `RuntimeUnavailable` while it is not sure that it is over."""
        await self._runs.clear(session.id)
        sentence = "its start was not answered" if harmless else "the agent died while no host was running"
        await self._bury(session, session.run_id or "", sentence, harmless=harmless)

    async def discard(self, agent: RunningAgent) -> None:
        """Stop an agent whose session is gone: there is nothing to settle."""
        await self._runs.stop(agent.handle, StopReason.SESSION_OVER)
        self._leave(agent.handle.session_id)
        await self._runs.forget(agent.handle, None)

    def keep_to(self, session_id: str, settled: Settled) -> None:
        """Do as a settlement says: when an agent may be started again, and whom to tell."""
        if settled.retry_in > 0:
            self._obstacles.wait(session_id, settled.retry_in)
        for chat in settled.chats:
            self._send(chat)

    async def _bury(self, session: sessions.Session, run_id: str, sentence: str, *, harmless: bool) -> None:
        """Settle a run whose agent is gone: read its last words, count, tell."""
        words = await self._reading.last_words(session.id, self._post.folder(session))
        if words.quarantined is not None:
            harmless, sentence = False, "what the agent wrote cannot be read and was put aside"
        if not harmless:
            log.warning(sentence, extra={"session": session.id, "run": run_id})
        settled = await self._runs.settle(
            session, words.processing, run_id=run_id, harmless=harmless, sentence=sentence
        )
        self.keep_to(session.id, settled)

    async def _stop_at_end(self, session_id: str) -> None:
        try:
            view = await self._reading.view(session_id)
            if view is not None:
                await self.stop(view.session, self._agents[session_id], StopReason.HOST_STOPS)
        except (DumbwaiterError, OSError) as error:
            log.error("an agent could not be stopped", extra={"session": session_id, "error": str(error)})

    def _leave(self, session_id: str) -> None:
        self._agents.pop(session_id, None)
        self._gone()
