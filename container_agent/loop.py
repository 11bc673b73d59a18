"""The life of an agent: recover, take a batch, run its turn, end it, wait.

Invariant: a message leaves `pending` only by the end of its turn. Whatever kills the process anywhere in here, the next
one finds the messages of the unfinished turn and answers them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from container_agent import turn
from container_agent.batch import choose
from container_agent.inbox import Inbox, Tray
from container_agent.outbox import Outbox, RunningTurn, TurnFailure
from container_agent.providers.protocol import Provider, TurnRequest
from container_agent.wake import Waker
from shared_schema.clock import Clock, from_text, to_text
from shared_schema.errors import FileDamaged, FileTrouble, NewerSchema
from shared_schema.layout import SessionLayout
from shared_schema.rows import AgentPhase, MessageIn

log = logging.getLogger("container_agent")

DAMAGED_SECONDS = 60.0  # a healthy file can look damaged to one process for ever; a fresh process reads it
LONGEST_WAIT = 30.0  # for a due time: the wall clock may be set meanwhile


class Loop:
    """Runs turns until told to stop. A turn gets `stop_seconds` more then; if it needs longer it is given back."""

    def __init__(
        self,
        session: SessionLayout,
        workspace: Path,
        *,
        outbox: Outbox,
        waker: Waker,
        load: Callable[[str], Provider],
        clock: Clock,
        stop_seconds: float,
    ) -> None:
        self._session = session
        self._workspace = workspace
        self._inbox = Inbox(session.inbound, outbox.acknowledged)
        self._outbox = outbox
        self._waker = waker
        self._load = load
        self._clock = clock
        self._stop_seconds = stop_seconds
        self._stopping = False
        self._turn: RunningTurn | None = None
        self._task: asyncio.Task[None] | None = None
        self._unreadable: tuple[int, float] = (0, 0.0)  # attempts in a row, monotonic time of the first

    async def run(self) -> None:
        """Live until `stop`.

        Raises `FileTrouble`, `IncompatibleContract` or `Conflict` when this process cannot go on.
        """
        self._task = asyncio.current_task()
        if died := self._outbox.recover():
            log.warning("an earlier agent died in mid-turn, its messages are taken again: turns=%d", died)
        while not self._stopping:
            self._waker.arm()
            tray = self._look()
            if tray is None:
                await self._waker.wait(self._waker.poll_seconds)
                continue
            now = self._clock.now()
            context = tray.context
            choice = choose(tray.pending, generation=context.generation, max_batch=context.max_batch, now=to_text(now))
            if choice.control:
                self._outbox.acknowledge(choice.control)
            if choice.batch:
                await self._run_turn(tray, choice.batch)
                if not self._stopping:
                    await asyncio.sleep(0)  # let the heartbeat and signals in, even if no provider ever waits
                continue
            self._outbox.set_phase(AgentPhase.IDLE)
            until_due = None if choice.due is None else (from_text(choice.due) - now).total_seconds() + 0.001
            await self._waker.wait(until_due and min(until_due, LONGEST_WAIT))
        self._outbox.set_phase(AgentPhase.STOPPING)

    def stop(self) -> None:
        """Take no new batch; end a running turn soon. Safe to call from a signal handler of the event loop."""
        if self._stopping:
            return
        self._stopping = True
        log.info("stopping")
        self._waker.wake()
        if self._turn is not None and self._task is not None:
            asyncio.get_running_loop().call_later(self._stop_seconds, self._task.cancel)
            self._outbox.set_phase(AgentPhase.STOPPING, self._turn)

    async def _run_turn(self, tray: Tray, batch: tuple[MessageIn, ...]) -> None:
        context = tray.context
        request = TurnRequest(
            messages=batch,
            context=context,
            destinations=tray.destinations,
            workspace=self._workspace,
            session=self._session,
            resume=self._outbox.resume_pointer(context.generation) or context.resume,
            is_first=self._outbox.is_fresh,
        )
        running = self._turn = self._outbox.begin_turn(
            batch, generation=context.generation, provider=context.provider, model=context.model
        )
        try:
            outcome = await turn.run(self._load, request, turn.Output(self._outbox, running, self._session.outbox))
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            self._outbox.give_back(running, phase=AgentPhase.STOPPING)
            log.info("turn given back: turn=%s", running.id)
            return
        finally:
            self._turn = None
        phase = AgentPhase.STOPPING if self._stopping else AgentPhase.IDLE
        if isinstance(outcome, TurnFailure):
            self._outbox.fail_turn(running, outcome, phase=phase)
            log.warning("turn failed: turn=%s reason=%s: %s", running.id, outcome.reason, outcome.sentence)
        else:
            self._outbox.end_turn(running, *outcome, phase=phase)
            log.info("turn completed: turn=%s messages=%d", running.id, len(batch))

    def _look(self) -> Tray | None:
        """What the host wrote; None when its file cannot be read at the moment. Only the first of a row is logged."""
        try:
            tray = self._inbox.look()
        except NewerSchema:
            raise
        except FileTrouble as trouble:
            now = self._clock.monotonic()
            attempts, since = self._unreadable if self._unreadable[0] else (0, now)
            self._unreadable = (attempts + 1, since)
            if attempts == 0:
                log.warning("nothing this time: %s", trouble)
            if isinstance(trouble, FileDamaged) and now - since > DAMAGED_SECONDS:
                raise
            return None
        if self._unreadable[0]:
            log.info("readable again: attempts=%d", self._unreadable[0])
            self._unreadable = (0, 0.0)
        return tray
