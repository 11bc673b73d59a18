"""The life of an agent: recover, take a batch, run its turn, end it, wait.

Invariant: a message leaves `pending` only by the end of its turn. When the process is killed anywhere in here, the next
one finds the messages of the unfinished turn and answers them.

A control task of the host is run as a turn of its own, whose answer the host alone reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from container_agent import turn
from container_agent.batch import BatchChoice, choose
from container_agent.check import Check, no_check
from container_agent.heading import Names
from container_agent.inbox import Inbox, InboxSnapshot
from container_agent.outbox import Outbox, RunningTurn, TurnFailure
from container_agent.providers.protocol import Provider, TurnRequest
from container_agent.turn_watch import Ended, WillNotEnd, watch
from container_agent.wake import Waker
from shared_schema.clock import Clock, from_text, to_text
from shared_schema.errors import FileDamaged, FileTrouble, NewerSchema
from shared_schema.layout import SessionLayout
from shared_schema.rows import AgentPhase, FailureReason

log = logging.getLogger("container_agent")

DAMAGED_SECONDS = 60.0  # a healthy file can look damaged to one process for ever; a fresh process reads it
MOST_GIVEN_BACK = 3
_TOO_OFTEN = "{what} again and again while it was being answered"
_MAY_BE_OF_THE_STOP = frozenset({FailureReason.NETWORK, FailureReason.PROVIDER_ERROR})
"""What a turn fails with whose programs were ended: a signal for the agent often goes to all that it has started."""
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
        ready: Callable[[str], Awaitable[None]] = turn.at_once,
        clock: Clock,
        stop_seconds: float,
        check: Check = no_check,
    ) -> None:
        self._session = session
        self._workspace = workspace
        self._inbox = Inbox(
            session.inbound, outbox.acknowledged, outbox.newest_messages, outbox.fence, shared=session.shared
        )
        self._outbox = outbox
        self._waker = waker
        self._load = load
        self._ready = ready
        self._clock = clock
        self._stop_seconds = stop_seconds
        self._check = check
        self._stopping = False
        self._must_go = False
        self._turn: RunningTurn | None = None
        self._given_back: dict[str, int] = {}  # how often, by the first message of the turn
        self._unreadable: tuple[int, float] = (0, 0.0)  # attempts in a row, monotonic time of the first

    async def run(self) -> None:
        """Live until `stop`.

        Raises `FileTrouble`, `IncompatibleContract`, `Conflict`, `Superseded` or `WillNotEnd` when this process cannot
        go on.
        """
        if died := self._outbox.recover():
            log.warning("an earlier agent died in mid-turn, its messages are taken again: turns=%d", died)
        while not self._stopping:
            self._waker.arm()
            snapshot = self._read_inbox()
            if snapshot is None:
                await self._waker.wait(self._waker.again(self._unreadable[0]))
                continue
            now = self._clock.now()
            context = snapshot.context
            choice = choose(
                snapshot.pending, generation=context.generation, max_batch=context.max_batch, now=to_text(now)
            )
            if choice.unknown:
                self._outbox.acknowledge(choice.unknown)
            if choice.control_task and (sentence := turn.refusal(self._load, context.provider)):
                self._outbox.acknowledge([row.id for row in choice.batch], error=sentence)
                continue
            if choice.batch:
                seen = self._waker.armed
                is_done = await self._run_turn(snapshot, choice)
                if not self._stopping:
                    await asyncio.sleep(0)  # let the heartbeat and signals in, even if no provider ever waits
                if is_done and snapshot.is_complete and len(choice.batch) == len(snapshot.pending):
                    # Nothing else was pending: the file need not be read again before it changes. It may have
                    # changed while the turn ran, so the state that was read is what the wait compares with.
                    self._waker.arm_as(seen)
                    if not self._stopping:
                        await self._waker.wait()
                continue
            self._outbox.set_phase(AgentPhase.IDLE)
            until_due = None if choice.due is None else (from_text(choice.due) - now).total_seconds() + 0.001
            await self._waker.wait(until_due and min(until_due, LONGEST_WAIT))
        self._outbox.set_phase(AgentPhase.STOPPING)

    @property
    def is_in_turn(self) -> bool:
        """Whether a turn runs."""
        return self._turn is not None

    def stop(self) -> None:
        """Take no new batch; end a running turn soon. Safe to call from a signal handler of the event loop."""
        if self._stopping:
            return
        self._stopping = True
        log.info("stopping")
        self._waker.wake()
        if self._turn is not None:
            asyncio.get_running_loop().call_later(self._stop_seconds, self._give_up)
            self._outbox.set_phase(AgentPhase.STOPPING, self._turn)

    def _give_up(self) -> None:
        self._must_go = True
        self._waker.wake()

    async def _run_turn(self, snapshot: InboxSnapshot, choice: BatchChoice) -> bool:
        """Run one turn. Whether every message of the batch has its outcome; else some are taken again."""
        undelivered = {} if choice.control_task else snapshot.undelivered
        with self._outbox.reading():
            request = self._request(snapshot, choice, undelivered)
        context = snapshot.context
        running = self._turn = self._outbox.begin_turn(
            choice.batch,
            generation=context.generation,
            provider=context.provider,
            model=context.model,
            resume=request.resume,
            tells_note=bool(request.note),
            tells_failures=tuple(undelivered),
        )
        kind = turn.QuietOutput if choice.control_task else turn.Output
        output = kind(self._outbox, running, self._session, context.turn_seconds, context.max_text)
        work = asyncio.create_task(turn.run(self._load, request, output, choice.control_task, self._ready, self._check))
        try:
            ended = await watch(
                work, running, self._inbox, self._waker, lambda: self._must_go, output.turn_inbox.changed,
                lambda: output.has_acted,
            )  # fmt: skip
        finally:
            self._turn = None
            work.cancel()
        is_done = self._record(running, work, ended, output)
        if not work.done():
            raise WillNotEnd(f"the provider {context.provider} does not end when it is cancelled", where=running.id)
        return is_done

    def _request(self, snapshot: InboxSnapshot, choice: BatchChoice, undelivered: Mapping[str, str]) -> TurnRequest:
        context = snapshot.context
        pointer = self._outbox.resume_pointer(context.generation, context.provider)
        tells_note = (
            context.reset_note and not choice.control_task and not self._outbox.is_note_told(context.generation)
        )
        return TurnRequest(
            messages=choice.batch,
            context=context,
            destinations=snapshot.destinations,
            workspace=self._workspace,
            session=self._session,
            resume=context.resume if pointer is None else pointer,
            is_first=self._outbox.is_fresh,
            note=context.reset_note if tells_note else "",
            recorded=lambda: self._outbox.history(context.withdrawn),
            names=Names(
                of=self._name_of,
                last=self._outbox.last_message(context.generation),
                undelivered=tuple(undelivered.values()),
            ),
        )

    def _name_of(self, message_id: str) -> str | None:
        """What a message is called that came in or went out; None for one of another conversation."""
        try:
            return self._outbox.name_of(message_id) or self._inbox.name_of(message_id)
        except FileTrouble:  # the host writes it at this moment
            return None

    def _record(
        self,
        running: RunningTurn,
        work: asyncio.Task[turn.Outcome],
        ended: Ended,
        output: turn.Output,
    ) -> bool:
        """End the turn in the file as its work has ended. Whether its messages have their outcome by that."""
        phase = AgentPhase.STOPPING if self._stopping else AgentPhase.IDLE
        if ended is Ended.TAKEN_BACK:
            self._outbox.stop_turn(running, output.used, phase=phase)
            log.info("turn stopped by the host: turn=%s", running.id)
            return False
        if ended is Ended.CHANGED:
            self._give_back(running, output, phase, "a message of it was changed or deleted")
            return False
        if ended is Ended.GIVEN_UP and (not work.done() or work.cancelled()):
            self._give_back(running, output, phase, "the agent stops")
            return False
        if isinstance(outcome := self._outcome(running, work, output), turn.GivenBack):
            self._give_back(running, output, phase, outcome.what)
            return False
        if isinstance(outcome, TurnFailure):
            if self._stopping and outcome.reason in _MAY_BE_OF_THE_STOP:
                self._give_back(running, output, phase, f"the agent stops ({outcome.sentence})")
                return False
            self._outbox.fail_turn(running, outcome, phase=phase)
            log.warning("turn failed: turn=%s reason=%s: %s", running.id, outcome.reason, outcome.sentence)
        else:
            self._outbox.end_turn(running, *outcome, phase=phase)
            log.info("turn completed: turn=%s messages=%d", running.id, len(running.messages))
        return True

    def _give_back(self, running: RunningTurn, output: turn.Output, phase: AgentPhase, why: str) -> None:
        """Leave the turn's messages to the next one."""
        self._outbox.give_back(running, output.used, phase=phase)
        log.info("turn given back, because %s: turn=%s", why, running.id)

    def _outcome(self, running: RunningTurn, work: asyncio.Task[turn.Outcome], output: turn.Output) -> turn.Outcome:
        """What came of work that is done; a provider that cancels itself has failed. A turn is given back so many times
        and no more.
        """
        if work.cancelled():
            return TurnFailure(FailureReason.PROVIDER_ERROR, "the provider broke off", output.used)
        outcome = work.result()
        if isinstance(outcome, turn.GivenBack):
            first = running.messages[0].id
            self._given_back = {first: self._given_back.get(first, 0) + 1}
            if self._given_back[first] > MOST_GIVEN_BACK:
                return TurnFailure(outcome.reason, _TOO_OFTEN.format(what=outcome.what), output.used)
        return outcome

    def _read_inbox(self) -> InboxSnapshot | None:
        """What the host wrote; None when its file cannot be read at the moment. Only the first of a row is logged."""
        try:
            with self._outbox.reading():
                snapshot = self._inbox.read()
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
        return snapshot
