"""The unit of work is a look at one session: bring in what was accepted, read what the agent wrote, decide, act.

Hints, polls, timers and new messages all only ask for a look. Everything a look does can be repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from host.central import sessions
from host.runtime.protocol import RuntimeUnavailable
from host.sessions.beneath import folder_size
from host.sessions.folder import remove_session_folder
from host.sessions.post import Post
from host.settings import Settings
from host.supervision.agent import RunningAgent
from host.supervision.decide import choose_victim, decide
from host.supervision.facts import Facts, GiveUp, Limits, Queue, Rest, Start, Stop, StopReason, Wait
from host.supervision.reading import Reading, View
from host.supervision.runs import Runs, Settled
from host.supervision.turnstile import Turnstile
from shared_schema.clock import Clock
from shared_schema.errors import DumbwaiterError, FileBusy
from shared_schema.layout import SessionLayout

log = logging.getLogger(__name__)

_RECORD_SECONDS = 0.1
_POLL_BUSY_SECONDS = 1.0
_POLL_IDLE_SECONDS = 10.0
_MEASURE_SECONDS = 15.0


@dataclass(slots=True)
class _Obstacle:
    """Why a session's agent may not be started at the moment. Times are seconds on the monotonic clock."""

    not_before: float = 0.0
    unavailable_since: float | None = None
    unavailable_count: int = 0


class Conductor:
    """Looks after all sessions.

    `send` hears of chats with something to send, `changed` when an agent comes or goes, `hurry` when one gets busy.
    """

    def __init__(
        self,
        post: Post,
        reading: Reading,
        runs: Runs,
        settings: Settings,
        clock: Clock,
        limits: Limits,
        *,
        send: Callable[[tuple[str, str]], None],
        changed: Callable[[], None],
        hurry: Callable[[], None],
    ) -> None:
        self._post = post
        self._reading = reading
        self._runs = runs
        self._settings = settings
        self._clock = clock
        self._limits = limits
        self._send = send
        self._changed = changed
        self._hurry = hurry
        self._turnstile = Turnstile(self._look)
        self._obstacles: dict[str, _Obstacle] = {}
        self._record_at: dict[str, float] = {}
        self._broken_since: dict[str, float] = {}
        self._starting = 0
        self.agents: dict[str, RunningAgent] = {}
        self.queue: dict[str, None] = {}  # sessions that wait for a place, the longest waiting first

    def open(self) -> None:
        """Begin to look after sessions. Before, the conductor only carries out what operations ask of it."""
        self._turnstile.open()

    def attend(self, session_id: str) -> None:
        """Ask for a look at a session, soon."""
        self._turnstile.attend(session_id)

    def holding(self, session_id: str) -> AbstractAsyncContextManager[None]:
        """Keep looks away from a session while an operation changes it; one look follows."""
        return self._turnstile.holding(session_id)

    def adopt(self, session_id: str, agent: RunningAgent) -> None:
        """Take over an agent that runs: one just started, or one of an earlier host."""
        self.agents[session_id] = agent
        self._changed()

    def is_busy(self) -> bool:
        """Whether somebody waits for an answer of an agent that runs. Callable from any thread."""
        return any(agent.busy_since is not None for agent in list(self.agents.values()))

    async def end_agent(self, session: sessions.Session, reason: StopReason) -> bool:
        """Stop the agent of a session that is being held, and settle its run. Whether there was one."""
        agent = self.agents.get(session.id)
        if agent is not None:
            await self._stop(session, agent, reason)
            return True
        view = await self._reading.view(session.id)
        if view is None or view.session.run_settled:
            return False
        await self._settle_lost(view.session, harmless=True)
        return True

    async def discard_agent(self, session: sessions.Session) -> None:
        """Stop the agent of a session whose rows are gone. Raises `RuntimeUnavailable`: the next look tries again."""
        agent = self.agents.get(session.id)
        if agent is not None:
            await self._discard(agent)
        elif not session.run_settled:
            await self._runs.clear(session.id)

    async def close(self, *, stop_agents: bool) -> None:
        """End all looks; with `stop_agents` also all agents, which give back their turns."""
        await self._turnstile.close()
        if stop_agents:
            ends = [self._stop_at_end(session_id) for session_id in list(self.agents)]
            await asyncio.gather(*ends, return_exceptions=True)

    async def _look(self, session_id: str) -> float | None:
        """One look. Seconds until the next one is due without a hint; None: none is."""
        try:
            due = await self._look_once(session_id)
        except Exception:
            await self._note_broken(session_id)
            raise
        self._broken_since.pop(session_id, None)
        return due

    async def _look_once(self, session_id: str) -> float | None:
        view = await self._reading.view(session_id)
        if view is None:
            await self._forget(session_id)
            return None
        view = await self._bring_in(view)
        waits: list[float | None] = []
        if (agent := self.agents.get(session_id)) is not None:
            view, soon = await self._watch(view, agent)
            waits.append(soon)
        elif not view.session.run_settled:
            view, soon = await self._find_out(view)
            waits.append(soon)
        waits.append(await self._act(view, self._facts(view)))
        waits.append(await self._record(view))
        if session_id in self.agents:
            waits.append(self._settings.poll_seconds)
        return min((max(0.0, wait) for wait in waits if wait is not None), default=None)

    async def _bring_in(self, view: View) -> View:
        """Write what was accepted into the session's file. An agent that keeps it locked is not waited for for ever."""
        agent = self.agents.get(view.session.id)
        try:
            while view.has_accepted and await self._post.write(view.session):
                view = await self._reading.view(view.session.id) or view
        except FileBusy:
            if agent is None:
                raise
            agent.saw_folder(usable=False, now=self._clock.monotonic())
        else:
            if agent is not None:
                agent.saw_folder(usable=True, now=self._clock.monotonic())
        return view

    async def _find_out(self, view: View) -> tuple[View, float | None]:
        """A run that was begun and of which nothing is known: see to it that it is over, and count it."""
        session_id = view.session.id
        obstacle = self._obstacles.get(session_id, _Obstacle())
        wait = obstacle.not_before - self._clock.monotonic()
        if obstacle.unavailable_count and wait > 0:
            return view, wait
        try:
            await self._settle_lost(view.session, harmless=obstacle.unavailable_count > 0)
        except RuntimeUnavailable as error:
            return view, self._note_unavailable(session_id, error)
        return await self._reading.view(session_id) or view, None

    async def _watch(self, view: View, agent: RunningAgent) -> tuple[View, float | None]:
        """Read what an agent wrote, and see whether it still runs. The view afterwards, and when to come again."""
        session_id = view.session.id
        layout = self._post.folder(view.session)
        finished, soon = await self._reading.look(view, layout, agent)
        if finished:
            view = await self._reading.view(session_id) or view
        now = self._clock.monotonic()
        if agent.saw_work(view.waiting, finished, now):
            self._hurry()
        await self._measure(agent, layout, now)
        if now - agent.polled >= (_POLL_BUSY_SECONDS if view.waiting else _POLL_IDLE_SECONDS):
            agent.polled = now
            status = await self._runs.poll(agent.handle)
            if not status.alive:
                await self._bury_agent(view.session, agent, self._runs.describe(status), harmless=False)
                view = await self._reading.view(session_id) or view
        return view, 0.0 if agent.more_to_read and soon is None else soon

    async def _measure(self, agent: RunningAgent, layout: SessionLayout, now: float) -> None:
        if now - agent.measured >= _MEASURE_SECONDS:
            agent.measured = now
            size = await asyncio.to_thread(folder_size, layout.out)
            agent.out_is_full = size is None or size > self._settings.out_bytes

    def _facts(self, view: View) -> Facts:
        session_id, now = view.session.id, self._clock.monotonic()
        agent = self.agents.get(session_id)
        obstacle = self._obstacles.get(session_id, _Obstacle())
        ahead = list(self.queue).index(session_id) if session_id in self.queue else len(self.queue)
        return Facts(
            active=view.session.status == "active",
            waiting=view.waiting,
            agent=None if agent is None else agent.facts(now),
            retry_in=max(0.0, obstacle.not_before - now),
            unavailable_for=None if obstacle.unavailable_since is None else now - obstacle.unavailable_since,
            has_place=self._settings.max_agents - len(self.agents) - self._starting > ahead,
        )

    async def _act(self, view: View, facts: Facts) -> float | None:
        """Do what is decided; seconds after which there is something to decide again."""
        session = view.session
        decision = decide(facts, self._limits)
        if not isinstance(decision, Queue):
            self.queue.pop(session.id, None)
        match decision:
            case Start():
                await self._start(session)
                return None if session.id in self.agents else 0.0
            case Stop(reason):
                await self._stop(session, self.agents[session.id], reason)
                return 0.0
            case GiveUp(sentence):
                self._obstacles.pop(session.id, None)
                self._apply(session.id, Settled(await self._runs.fail_waiting(session.id, sentence), 0.0))
                return 0.0
            case Queue():
                self.queue[session.id] = None
                self._make_room()
                return self._settings.poll_seconds
            case Wait(seconds):
                return seconds
            case Rest():
                if session.run_settled:
                    self._obstacles.pop(session.id, None)
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
        await self._post.record(view.session)
        return None

    async def _start(self, session: sessions.Session) -> None:
        self._starting += 1
        try:
            agent = await self._runs.start(session)
        except RuntimeUnavailable as error:
            self._note_unavailable(session.id, error)
        except DumbwaiterError as error:
            log.error("an agent cannot be started", extra={"session": session.id, "error": str(error)})
            self._apply(session.id, await self._runs.settle_start(session, error))
        else:
            self._obstacles.pop(session.id, None)
            self.adopt(session.id, agent)
        finally:
            self._starting -= 1

    def _note_unavailable(self, session_id: str, error: RuntimeUnavailable) -> float:
        """The engine did not answer: seconds until it is asked again, longer each time."""
        log.error("what runs agents does not answer", extra={"session": session_id, "error": str(error)})
        obstacle = self._obstacles.setdefault(session_id, _Obstacle())
        now = self._clock.monotonic()
        obstacle.unavailable_since = now if obstacle.unavailable_since is None else obstacle.unavailable_since
        obstacle.unavailable_count += 1
        wait = min(2.0**obstacle.unavailable_count / 2, 30.0)
        obstacle.not_before = now + wait
        return wait

    async def _note_broken(self, session_id: str) -> None:
        """A look failed. A session that stays broken gets its messages failed, visibly; it holds up no other."""
        self.queue.pop(session_id, None)
        now = self._clock.monotonic()
        if now - self._broken_since.setdefault(session_id, now) >= self._limits.engine_seconds:
            self._broken_since.pop(session_id)
            chats = await self._runs.fail_waiting(session_id, "the session's files cannot be used")
            self._apply(session_id, Settled(chats, 0.0))

    async def _forget(self, session_id: str) -> None:
        """The session is gone: so is, at the latest now, its agent and what it left."""
        self._obstacles.pop(session_id, None)
        self._record_at.pop(session_id, None)
        self.queue.pop(session_id, None)
        if (agent := self.agents.get(session_id)) is not None:
            await self._discard(agent)
            await asyncio.to_thread(remove_session_folder, agent.folder)

    async def _discard(self, agent: RunningAgent) -> None:
        await self._runs.stop(agent.handle, StopReason.SESSION_OVER)
        self._gone(agent.handle.session_id)
        await self._runs.forget(agent.handle, None)

    async def _stop(self, session: sessions.Session, agent: RunningAgent, reason: StopReason) -> None:
        await self._runs.stop(agent.handle, reason)
        sentence = f"the agent was stopped because {reason.value}"
        await self._bury_agent(session, agent, sentence, harmless=reason.harmless)

    async def _stop_at_end(self, session_id: str) -> None:
        try:
            view = await self._reading.view(session_id)
            if view is not None:
                await self._stop(view.session, self.agents[session_id], StopReason.HOST_STOPS)
        except DumbwaiterError as error:
            log.error("an agent could not be stopped", extra={"session": session_id, "error": str(error)})

    async def _bury_agent(
        self, session: sessions.Session, agent: RunningAgent, sentence: str, *, harmless: bool
    ) -> None:
        await self._bury(session, agent.handle.run_id, sentence, harmless=harmless)
        self._gone(session.id)
        await self._runs.forget(agent.handle, self._post.folder(session))

    async def _settle_lost(self, session: sessions.Session, *, harmless: bool) -> None:
        """Settle a run nobody has a handle of. Raises `RuntimeUnavailable` while it is not sure that it is over."""
        await self._runs.clear(session.id)
        sentence = "its start was not answered" if harmless else "the agent died while no host was running"
        await self._bury(session, session.run_id or "", sentence, harmless=harmless)

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
        self._apply(session.id, settled)

    def _apply(self, session_id: str, settled: Settled) -> None:
        """Keep to what a settlement says: when an agent may be started again, and whom to tell."""
        if settled.retry_in > 0:
            self._obstacles[session_id] = _Obstacle(not_before=self._clock.monotonic() + settled.retry_in)
        for chat in settled.chats:
            self._send(chat)

    def _gone(self, session_id: str) -> None:
        self.agents.pop(session_id, None)
        self._changed()
        for waiting in self.queue:
            self.attend(waiting)

    def _make_room(self) -> None:
        """Ask the agents that have been idle longest to leave, one for each session that waits."""
        now = self._clock.monotonic()
        leaving = sum(1 for agent in self.agents.values() if agent.evicted)
        for _ in range(len(self.queue) - leaving):
            victim = choose_victim(
                (session_id, now - agent.last_activity)
                for session_id, agent in self.agents.items()
                if agent.busy_since is None and not agent.evicted
            )
            if victim is None:
                return
            self.agents[victim].evicted = True
            self.attend(victim)
