"""A host that is played: its process, ledger and lease; its supervision is the product's own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from host.central import deliveries, ingest, nodes, runs
from host.central.database import Central, Effect, _Job
from host.central.ingest import SessionHasNews
from host.central.sessions import Session
from host.delivery.copy import Copier
from host.gateway.server import Gateway
from host.lease import LeaseLost
from host.lease_rules import Holder, HolderStanding, Silence, is_free, is_superseded, is_sure, renewed_since
from host.runtime.docker import DockerRuntime
from host.runtime.nodes import Node as NodeOfSettings
from host.runtime.nodes import NodesRuntime
from host.sessions.attachments import FileLimits
from host.sessions.context import TurnLimits
from host.sessions.folder import Owner
from host.sessions.host_profile import HostProfile
from host.sessions.inbox_sync import (
    NOTHING_UNRECORDED,
    InboxSync,
    PendingMessages,
    Unrecorded,
    context_inputs,
    unrecorded_of,
)
from host.sessions.outbox import OutboxSnapshot, Signature, is_foreign
from host.supervision.adopt import adopt
from host.supervision.agent import RunningAgent
from host.supervision.runs import Runs
from host.supervision.strays import keep_ending_strays
from host.supervision.supervisor import Supervisor
from host.supervision.sync import FinalOutput, SessionSync, View
from shared_schema.errors import FileTrouble
from shared_schema.layout import SessionLayout
from tests.simulation.engines import EngineClient
from tests.simulation.mount import Inbound, Out, Outbound, SessionFiles
from tests.simulation.timeline import Machine, Process, VirtualLoop

if TYPE_CHECKING:
    from tests.simulation.world import World

_STEP_SECONDS = 1.0
"""The product looks ten times as often; that decides nothing."""


class PlayedHost:
    """One process that serves the data folder, or waits on standby."""

    def __init__(self, world: World, machine: Machine) -> None:
        self.world = world
        self.machine = machine
        self.process = Process(world.timeline, machine)
        self.loop = VirtualLoop(world.timeline, self.process, world.delay)
        self.lease_number = 0
        self.is_serving = False
        self._renewed = 0.0
        self.central = _PlayedCentral(self)
        self.runtime: NodesRuntime | None = None
        self.supervisor: Supervisor | None = None
        self._me = Holder(machine.name, world.count("hosts"), machine.name)
        self.loop.call_soon(lambda: self.loop.create_task(self._live()))

    def kill(self) -> None:
        """It is over, at once and in the midst of anything."""
        self.is_serving = False
        self.process.kill()
        self.loop.end()
        if self.world.locks.get(self.machine.name) is self.process:
            del self.world.locks[self.machine.name]

    def is_waiting(self) -> bool:
        """Whether it waits for what it has asked for: it runs, and is the host that serves."""
        is_last = self.lease_number == max(self.world.lease.numbers(), default=0)
        return self.process.is_alive and not self.process.is_frozen and is_last

    def require_sole(self) -> None:
        """What every write of the ledger and of a session's file asks for. Raises `LeaseLost`."""
        if not is_sure(self.machine.monotonic(), self._renewed, self.world.timing):
            raise LeaseLost("another host may serve this data folder by now")

    async def _live(self) -> None:
        await self._take_lease()
        self.world.note(f"{self._me} serves with lease {self.lease_number}")
        self.world.host_changed()
        for task in (self._keep_renewing(), self._keep_watching()):
            self.loop.create_task(task)
        self.central.dispatch = self._dispatch
        await self._serve()

    async def _take_lease(self) -> None:
        """As `lock.held` and `lease.take` do it, again and again, as a host on standby."""
        world, lease = self.world, self.world.lease
        while True:
            await asyncio.sleep(_STEP_SECONDS * world.random.uniform(0.1, 1.0))
            if not self.machine.has_mount or world.locks.get(self.machine.name, self.process) is not self.process:
                continue
            world.locks[self.machine.name] = self.process
            number, last = lease.newest(self.machine)
            if not is_free(number, last, self.machine.name, is_locked=True):
                free = await self._wait_for_silence(Silence(number, last, self.machine.monotonic(), world.timing))
                if free is None:
                    del world.locks[self.machine.name]
                    continue
                number = free
            self._renewed = self.machine.monotonic()
            try:
                lease.make(self.machine, number + 1, self._me)
            except FileExistsError:
                del world.locks[self.machine.name]
                continue
            if is_superseded(number + 1, lease.numbers()):
                continue
            self.lease_number = number + 1
            return

    async def _wait_for_silence(self, silence: Silence) -> int | None:
        while True:
            await asyncio.sleep(_STEP_SECONDS)
            if not self.machine.has_mount:
                return None
            now = self.machine.monotonic()
            number, holder = self.world.lease.newest(self.machine)
            match silence.standing(now, number, holder):
                case HolderStanding.FREE:
                    return number
                case HolderStanding.HELD:
                    return None

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(self.world.timing.renew)
            began = self.machine.monotonic()
            while not self.machine.has_mount:  # it hangs
                await asyncio.sleep(_STEP_SECONDS)
            if is_superseded(self.lease_number, self.world.lease.numbers()):
                return self._end("another host took it over")
            if not is_sure(self.machine.monotonic(), self._renewed, self.world.timing):
                return self._end("its lease could not be renewed")
            if self.world.random.random() < 0.2:  # between look and write it may freeze as well
                await asyncio.sleep(self.world.delay())
            self._me = replace(self._me, beat=self._me.beat + 1)
            self.world.lease.renew(self.machine, self.lease_number, self._me)
            renewed = renewed_since(began, self.machine.monotonic(), self._renewed, self.world.timing)
            if renewed is None:
                return self._end("its lease could not be renewed")
            self._renewed = renewed

    async def _keep_watching(self) -> None:
        while True:
            await asyncio.sleep(_STEP_SECONDS)
            if not is_sure(self.machine.monotonic(), self._renewed, self.world.timing):
                return self._end("its lease could not be renewed")

    def _end(self, why: str) -> None:
        self.world.note(f"{self._me} ends at once: {why}")
        self.world.count("leases lost")
        self.world.timeline.at(self.world.timeline.now, lambda: self.world.ended(self))
        self.is_serving = False
        self.process.kill()

    async def _serve(self) -> None:
        world, clock = self.world, self.machine
        owner = Owner(0, 0)
        inbox_sync = _PlayedInbox(self)
        copier = Copier(self.central, file_limits=FileLimits(20, 1_000_000, 10_000_000), max_text=100_000)
        sync = _PlayedSync(
            self.central,
            inbox_sync,
            copier,
            clock,
            owner,
            silent_seconds=world.limits.silent_seconds,
            poll_seconds=world.settings.poll_seconds,
            touched=lambda session, group: None,
        )
        sync.host = self
        self.runtime = runtime = NodesRuntime(
            self.central.install_id,
            [NodeOfSettings(node.name, cast("Any", None), slots=node.slots) for node in world.nodes.values()],
            make=lambda node: cast("DockerRuntime", EngineClient(world, self, world.nodes[node.name])),
        )
        runtime.close_nodes(drained=frozenset(), lost=frozenset(world.lost))
        gateway = cast("Gateway", _NoGateway())
        settings = world.settings.model_copy(update={"shared": not world.is_local})
        to_run = Runs(self.central, runtime, inbox_sync, settings, clock, owner, world.limits, (), gateway)
        self.supervisor = supervisor = _PlayedSupervisor(
            inbox_sync, sync, to_run, world.settings, clock, world.limits, changed=_nothing, poll_now=_nothing
        )
        while True:
            try:
                await adopt(self.central, supervisor, runtime, (), clock, world.settings.layout, gateway)
                found = await self.central.read(
                    lambda c: [*runs.unsettled(c), *ingest.sessions_with_work(c), *deliveries.sessions_to_record(c)]
                )
                break
            except FileTrouble:  # the mount is away: a real host would end, and be started again
                await asyncio.sleep(_STEP_SECONDS)
        supervisor.open()
        self.loop.create_task(keep_ending_strays(self.central, runtime))
        self.is_serving = True
        for session_id in found:
            supervisor.schedule(session_id)
        world.host_changed()

    def lost(self) -> None:
        """The admin has given nodes up: what `operations/nodes.py` does then."""
        if self.runtime is not None and self.supervisor is not None:
            self.runtime.close_nodes(drained=frozenset(), lost=frozenset(self.world.lost))
            for name in sorted(self.world.lost):
                for session_id in nodes.sessions_on(self.world.ledger, name):
                    self.supervisor.look_at_agent(session_id)

    def _dispatch(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, SessionHasNews) and self.supervisor is not None:
                self.loop.call_soon(self.supervisor.accepted, effect.session_id)


class _PlayedCentral(Central):
    """The ledger, on the mount: one database for all hosts, whose commits are the product's own."""

    def __init__(self, host: PlayedHost) -> None:
        self._host = host
        self._connection = host.world.ledger
        self._clock = host.machine
        self._path = Path("central.db")
        self.install_id = self.first_install_id = "ins_0000000000000001"
        self.dispatch: Callable[[Sequence[Effect]], object] = _nothing
        self.require_sole = host.require_sole
        self.commits = 0

    def submit(self, run: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        job = _Job(lambda tx: run(tx, *args, **kwargs), Future(), contextvars.copy_context())
        timeline = self._host.world.timeline
        timeline.at(timeline.now + self._host.world.delay(), lambda: self._write(job), self._host.process)
        return job.done

    submit_with_next = submit

    async def read(self, run: Any, *args: Any, **kwargs: Any) -> Any:
        return self.read_here(run, *args, **kwargs)

    def read_here(self, run: Any, *args: Any, **kwargs: Any) -> Any:
        self._require_mount()
        return run(self._connection, *args, **kwargs)

    def _write(self, job: _Job) -> None:
        try:
            self._require_mount()
        except FileTrouble as error:
            job.done.set_exception(error)
            return
        self._commit([job])
        if job.done.exception() is None:
            self._host.world.require_sole_host(self._host)

    def _require_mount(self) -> None:
        if not self._host.machine.has_mount or not self._host.process.is_alive:
            raise FileTrouble("the mount does not answer")


class _PlayedInbox(InboxSync):
    """`inbound.db` of all sessions, on the mount."""

    def __init__(self, host: PlayedHost) -> None:
        super().__init__(host.central, host.world.settings.layout, Owner(0, 0), TurnLimits(1, 60.0), HostProfile())
        self._host = host

    def folder(self, session: Session) -> SessionLayout:
        return self._host.world.folder(session.id)

    def write(self, session: Session, pending: PendingMessages, unrecorded: Unrecorded = NOTHING_UNRECORDED) -> None:
        messages = {row.message_id: "pending" for row in pending.rows}
        self._put(session, messages | _statuses(unrecorded), run=pending.inputs.session.run_number)

        def mark(tx: Any) -> None:
            ingest.mark_written(tx, frozenset(messages))
            unrecorded.mark(tx, session.id)

        with self._marking:
            self._unmarked[session.id] = self.unmarked(session.id) | frozenset(messages)
        marked = self._central.submit_with_next(mark)
        marked.add_done_callback(lambda _: self._are_marked(session.id, frozenset(messages)))

    def prepare(self, session: Session) -> Any:
        inputs = self._central.read_here(context_inputs, session)
        self._put(session, {}, run=inputs.session.run_number)
        return inputs.agent_group

    def record(self, session: Session, known: Unrecorded = NOTHING_UNRECORDED) -> None:
        unrecorded = known or self._central.read_here(unrecorded_of, session.id)
        if unrecorded:
            self._put(session, _statuses(unrecorded))
            self._central.submit(lambda tx: unrecorded.mark(tx, session.id))

    def mend(self, session: Session) -> list[str]:
        return []

    def _put(self, session: Session, changes: dict[str, str], *, run: int | None = None) -> None:
        self._central.require_sole()
        if not self._host.machine.has_mount:
            raise FileTrouble("the mount does not answer")
        self._host.world.require_sole_host(self._host)
        files = self._host.world.files[session.id]
        known = files.inbound.newest
        new = Inbound(known.run if run is None else run, session.generation, {**known.messages, **changes})
        files.inbound.put(self._host.machine, new)
        self._host.world.inbox_changed(session.id)


def _statuses(unrecorded: Unrecorded) -> dict[str, str]:
    return {each.message_id: each.status for each in unrecorded.statuses}


class _PlayedSync(SessionSync):
    """The product's, with its looks at files on the played mount."""

    host: PlayedHost

    def _out(self, layout: SessionLayout) -> Out:
        if not self.host.machine.has_mount:
            raise FileTrouble("the mount does not answer")
        files: SessionFiles = self.host.world.files[layout.folder.name]
        return files.out

    def _heartbeat(self, layout: SessionLayout) -> int | None:
        if not self.host.machine.has_mount:
            return None
        return self._out(layout).heartbeat.seen(self.host.machine) or None

    def _signature(self, layout: SessionLayout) -> Signature | None:
        out = self._out(layout)
        return Signature(out.number, 0, 0, out.outbound.seen(self.host.machine).commits.to_bytes(4, "big"))

    def _snapshot(self, view: View, layout: SessionLayout) -> OutboxSnapshot:
        out = self._out(layout)
        return snapshot_of(out.outbound.seen(self.host.machine), view, signature=self._signature(layout))

    async def final_output(self, session_id: str, layout: SessionLayout, *, gives_up: bool) -> FinalOutput | None:
        return await self._read_to_the_end(session_id, layout)

    async def cut_off(self, session_id: str, layout: SessionLayout) -> None:
        self.host.require_sole()
        out = self._out(layout)
        self.host.world.require_sole_host(self.host)
        self.host.world.note(f"{session_id[-4:]} is cut off")
        copy = Out(self.host.world.timeline, replace(out.outbound.seen(self.host.machine)))
        self.host.world.files[session_id].out = copy


def snapshot_of(state: Outbound, view: View, *, signature: Signature | None) -> OutboxSnapshot:
    """What a look at a file finds behind the cursors of the ledger: as `outbox.read`, which asks the database."""
    session = view.session

    def foreign(turn_id: str | None) -> bool:
        return turn_id in state.runs and is_foreign(state.runs[turn_id], session.run_number or None)

    rows = [row for row in state.rows if row.seq > session.out_cursor]
    open_messages = [state.acks[m.message_id] for m in view.open_messages if m.message_id in state.acks]
    turns = [*state.turns[session.turn_cursor :], *(turn for turn in state.turns if turn.id in view.running_turns)]
    return OutboxSnapshot(
        messages=[row for row in rows if not foreign(row.turn_id)],
        acks=[ack for ack in open_messages if not foreign(ack.turn_id)],
        turns=list({turn.id: turn for turn in turns if not foreign(turn.id)}.values()),
        out_cursor=max((row.seq for row in rows), default=session.out_cursor),
        turn_cursor=len(state.turns),
        signature=signature,
    )


class _PlayedSupervisor(Supervisor):
    """The product's, for folders that have no size."""

    async def _measure(self, agent: RunningAgent, layout: SessionLayout, now: float) -> None:
        """Nothing is measured."""


class _NoGateway:
    front = None

    async def open(self, session_id: str, layout: SessionLayout, token: str) -> None:
        """There is none."""

    async def close(self, session_id: str) -> None:
        """There is none."""


def _nothing(*_: object) -> None:
    """Nothing follows."""
