"""An agent that is played: it does with its files what `container_agent` does, and asks the same fence.

It answers one message at a time. A commit has two moments, between which it may freeze: the look at its fence, and the
commit itself, within which the file says who took it over last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from container_agent.fence import LATE_SECONDS, Fence, Superseded, has_taken_over, is_earlier
from host.runtime.protocol import AgentSpecification, AgentStatus
from shared_schema.clock import to_text
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Ack, AckStatus, FailureReason, MessageOut, MessageOutKind, Turn, TurnStatus
from tests.simulation.mount import Outbound
from tests.simulation.timeline import Process

if TYPE_CHECKING:
    from tests.simulation.engines import Node
    from tests.simulation.world import World

_HEARTBEAT_SECONDS = 5.0
_MOUNT_SECONDS = 0.5


class _PlayedFence(Fence):
    """The fence of an agent, which looks at the played file."""

    def __init__(self, agent: PlayedAgent, run: int) -> None:
        super().__init__(Path(), run, agent.node.machine.monotonic)
        self._agent = agent

    def look(self) -> None:
        self.require(self._agent.files.inbound.seen(self._agent.node.machine).run)


class PlayedAgent:
    """One run of an agent, in a container of a node. `is_late`: who asked for it does not wait for it any more."""

    def __init__(self, world: World, node: Node, specification: AgentSpecification, *, is_late: bool) -> None:
        self.world = world
        self.node = node
        self.session_id = specification.session_id
        self.run_id = specification.run_id
        self.run = int(specification.environment["DUMBWAITER_RUN_NUMBER"])
        self.is_late = is_late
        self.has_taken_over = False
        self.ended: AgentStatus | None = None
        self.files = world.files[self.session_id]
        self.out = self.files.out  # the container keeps it, whatever folder has its name later
        self.process = Process(world.timeline, node.machine)
        self.fence = _PlayedFence(self, self.run)
        self._turn: Turn | None = None
        self._answers = ""
        self._is_looking = False
        self._late = node.machine.monotonic() + LATE_SECONDS
        self._after(world.random.uniform(0.3, 2.0), self._boot)

    @property
    def is_alive(self) -> bool:
        return self.ended is None

    def term(self) -> None:
        """SIGTERM: a turn is given back. A frozen process does not hear it."""
        if self.process.is_alive and not self.process.is_frozen:
            self._guarded(self._leave)

    def end(self, exit_code: int, reason: str | None = None) -> None:
        """The process is over."""
        if self.ended is None:
            self.ended = AgentStatus(alive=False, exit_code=exit_code, reason=reason)
            self.process.kill()

    def told(self) -> None:
        """Its inbox has changed: it sees that at its next look."""
        if self.is_alive and self.has_taken_over and not self._is_looking:
            self._is_looking = True
            self._after(self.node.machine.mount_lag + self.world.random.uniform(0.02, 0.5), self._look)

    def _after(self, seconds: float, run: Callable[[], None]) -> None:
        timeline = self.world.timeline
        timeline.at(timeline.now + seconds, partial(self._guarded, run), self.process)

    def _guarded(self, run: Callable[[], None]) -> None:
        if not self.process.is_alive:
            return
        if not self.node.machine.has_mount:  # what touches a file hangs
            self._after(_MOUNT_SECONDS, run)
            return
        try:
            run()
        except Superseded:
            self.world.note(f"{self.session_id[-4:]} run {self.run} finds itself superseded")
            self.world.count("superseded")
            self.end(1)

    def _boot(self) -> None:
        machine = self.node.machine
        if is_earlier(self.files.inbound.seen(machine).run, self.run) and machine.monotonic() < self._late:
            self._after(0.05, self._boot)
            return
        self.fence.look()

        def recover(state: Outbound) -> Outbound:
            turns = tuple(
                replace(t, status=TurnStatus.FAILED, failure_reason=FailureReason.AGENT_DIED, finished_at=self._now())
                if t.status == TurnStatus.RUNNING
                else t
                for t in state.turns
            )
            acks = {m: ack for m, ack in state.acks.items() if self._counts(ack, state)}
            return replace(state, taken_by=self.run, turns=turns, acks=acks)

        self._commit(recover, self._begin, takes_over=True)

    def _counts(self, ack: Ack, state: Outbound) -> bool:
        """Of an earlier run nothing does, neither here nor with the host."""
        return ack.status != AckStatus.PROCESSING and state.runs.get(ack.turn_id or "", self.run) == self.run

    def _begin(self) -> None:
        self._beat()
        self._look()

    def _beat(self) -> None:
        self.out.heartbeat.put(self.node.machine, self.out.heartbeat.newest + 1)
        self.fence.look()
        self._after(_HEARTBEAT_SECONDS, self._beat)

    def _look(self) -> None:
        self._is_looking = False
        if self._turn is not None:
            return
        inbound = self.files.inbound.seen(self.node.machine)
        self.fence.require(inbound.run)
        acks = self._state().acks
        waiting = [m for m, status in inbound.messages.items() if status == "pending" and m not in acks]
        if not waiting:
            return
        self._answers = waiting[0]
        turn = self._turn = Turn(new_id(Prefix.TURN), TurnStatus.RUNNING, self._now(), provider="echo", model="echo")

        def begin(state: Outbound) -> Outbound:
            ack = Ack(self._answers, AckStatus.PROCESSING, turn.id, None, self._now())
            return replace(
                state,
                acks={**state.acks, self._answers: ack},
                turns=(*state.turns, turn),
                runs={**state.runs, turn.id: self.run},
            )

        self._commit(begin, self._work)

    def _work(self) -> None:
        self.world.turn_began(self)
        self._after(self.world.random.expovariate(0.4), self._answer)

    def _answer(self) -> None:
        if self._turn is None:
            return
        over = replace(self._turn, status=TurnStatus.COMPLETED, finished_at=self._now())
        message = self._answers

        def answer(state: Outbound) -> Outbound:
            row = MessageOut(
                seq=len(state.rows) + 1,
                id=new_id(Prefix.MESSAGE),
                turn_id=over.id,
                in_reply_to=message,
                generation=self.files.inbound.newest.generation,
                timestamp=self._now(),
                deliver_after=None,
                kind=MessageOutKind.CHAT,
                destination=None,
                channel_type=None,
                platform_id=None,
                thread_id=None,
                content='{"text":"done"}',
            )
            ack = Ack(message, AckStatus.COMPLETED, over.id, None, self._now())
            turns = tuple(over if t.id == over.id else t for t in state.turns)
            return replace(state, rows=(*state.rows, row), acks={**state.acks, message: ack}, turns=turns)

        self._commit(answer, self._next)

    def _next(self) -> None:
        self._turn = None
        self._look()

    def _leave(self) -> None:
        if not self.has_taken_over or self._turn is None:
            self.end(0)
            return
        over = replace(
            self._turn, status=TurnStatus.CANCELLED, failure_reason=FailureReason.STOPPED, finished_at=self._now()
        )
        message, self._turn = self._answers, None

        def give_back(state: Outbound) -> Outbound:
            acks = {m: ack for m, ack in state.acks.items() if m != message or ack.status != AckStatus.PROCESSING}
            return replace(state, acks=acks, turns=tuple(over if t.id == over.id else t for t in state.turns))

        self._commit(give_back, partial(self.end, 0))

    def _commit(
        self, change: Callable[[Outbound], Outbound], then: Callable[[], None], *, takes_over: bool = False
    ) -> None:
        self.fence.require_fresh()
        self._after(self.world.random.uniform(0.001, 0.02), partial(self._write, change, then, takes_over))
        self.world.commit_began(self)

    def _write(self, change: Callable[[Outbound], Outbound], then: Callable[[], None], takes_over: bool) -> None:
        state = self._state()
        if takes_over:
            self.fence.look()
        elif not has_taken_over(self.run, state.taken_by):
            raise Superseded("another run has taken this session over")
        self.fence.require_fresh()
        self.world.require_sole_writer(self, takes_over=takes_over)
        self.has_taken_over = True
        self.out.highest_run = max(self.out.highest_run, self.run)
        self.out.outbound.put(self.node.machine, replace(change(state), commits=state.commits + 1))
        then()

    def _state(self) -> Outbound:
        """Its file as a transaction finds it: as it is where the mount has locks, else as this machine sees it."""
        return self.out.outbound.newest if self.world.has_locks else self.out.outbound.seen(self.node.machine)

    def _now(self) -> str:
        return to_text(self.node.machine.now())
