"""One run of an agent: start, stop, finalize. The steps that touch the runtime, and the ledger's count of every death.

A run is noted in central.db before it is started, and finalized once when it is over: the host that finds it dead, this
one or the next, counts it once. Tries are counted before anything is started again.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from host.agents.processes import tell_gone
from host.central import agent_groups, deliveries, events, ingest, rate_limits, repairs, runs, sessions, turns
from host.central.agent_groups import AgentGroup
from host.central.database import Central, Transaction
from host.central.events import EventKind
from host.central.rate_limits import Act
from host.delivery.outcome import fail_message
from host.gateway.server import Gateway
from host.runtime.image_names import image_for
from host.runtime.mounts import MountRequest, allowed_mount, read_allow_list
from host.runtime.placement import ManyNodes
from host.runtime.protocol import (
    AgentHandle,
    AgentSpecification,
    AgentStatus,
    ResourceLimits,
    Runtime,
    RuntimeUnavailable,
    StartFailed,
)
from host.sessions import outbox, recovery
from host.sessions.folder import Owner
from host.sessions.inbox_sync import InboxSync
from host.sessions.outbox import OutboxStanding, heartbeat
from host.settings import Settings
from host.supervision.agent import RunningAgent
from host.supervision.decide import FailureCount, HeldMessage, StopReason, SupervisionLimits, count_failure
from shared_schema.background import BackgroundProcess
from shared_schema.clock import Clock
from shared_schema.errors import EXIT_FILES, Conflict, DumbwaiterError, FileTrouble
from shared_schema.ids import Prefix, new_id
from shared_schema.late_mount import FRESH_SECONDS
from shared_schema.layout import SessionLayout
from shared_schema.rows import Address, FailureReason, TurnStatus

log = logging.getLogger(__name__)

_LOG_BYTES = 1_000_000
_KEPT_LOG_BYTES = 4_000_000
_LAST_LINE_BYTES = 4_000
_MAX_LINE = 200
_STAMP = re.compile(r"^[-0-9T:.]{19,23}Z (ERROR|WARNING|INFO|CRITICAL) ")  # as the agent's log has it
_KILL_GRACE = 2.0
_POLL_SECONDS = 0.5
_MAX_LEFTOVERS = 20
_SUPERSEDED_SECONDS = FRESH_SECONDS + 1.0
"""After which an earlier run on a late mount has found itself superseded, and has ended the commit it was in."""
_WAITS = (
    "This message waits: the machine {node}, on which the agent of this conversation runs, does not answer. It is "
    "answered when the machine is back, or when an operator has given it up. Nothing is lost."
)


class Runs:
    """Starts and ends agents. `others` are runtimes an earlier host used and may have left agents in."""

    def __init__(
        self,
        central: Central,
        runtime: Runtime,
        inbox_sync: InboxSync,
        settings: Settings,
        clock: Clock,
        owner: Owner,
        limits: SupervisionLimits,
        others: Sequence[Runtime],
        gateway: Gateway,
    ) -> None:
        self.runtime = runtime
        self._others = others
        self.gateway = gateway
        self._central = central
        self._inbox_sync = inbox_sync
        self._settings = settings
        self._clock = clock
        self._owner = owner
        self._limits = limits
        self._leftovers: dict[str, AgentHandle] = {}

    async def start(self, session: sessions.Session, *, is_last_over: bool = True) -> RunningAgent:
        """Start an agent on a session that has none. Raises `RuntimeUnavailable`, and other `DumbwaiterError`s.

        The run is noted before anything that can fail, so that every failure is counted. `is_last_over`: the last run
        is known to be over, and is no start that may still be carried out.
        """
        run_id = new_id(Prefix.RUN)
        node, refusal = await self._place(session)
        try:
            return await self._start(session, run_id, node, refusal, is_last_over=is_last_over)
        finally:
            if node is not None and isinstance(self.runtime, ManyNodes):
                self.runtime.start_ended(node)

    async def _place(self, session: sessions.Session) -> tuple[str | None, StartFailed | None]:
        """The node for a new run, before it is noted: the ledger knows it before anything is started there.

        A refusal is counted with the run. Raises `RuntimeUnavailable` where there is none at the moment.
        """
        if not isinstance(self.runtime, ManyNodes):
            return None, None
        group = await self._central.read(agent_groups.by_id, session.agent_group_id)
        try:
            return await self.runtime.place(group.wanted_labels if group is not None else {}), None
        except StartFailed as refusal:
            return None, refusal

    async def _start(
        self,
        session: sessions.Session,
        run_id: str,
        node: str | None,
        refusal: StartFailed | None,
        *,
        is_last_over: bool,
    ) -> RunningAgent:
        def begin(tx: Transaction) -> tuple[int | None, bool]:
            number = runs.begin(tx, session.id, run_id, self.runtime.name, node)
            # Counted with the run: one that may not start is settled like one that failed, and so ends.
            return number, rate_limits.take(tx, Act.START, session.route_id).allowed

        number, is_allowed = await self._central.write(begin)
        if number is None:
            raise Conflict(f"session {session.id} is not active any more")
        if not is_allowed:
            raise Conflict("it was started too often within this hour", hint="write again in the next one")
        if refusal is not None:
            raise refusal
        # What `prepare` writes ends an earlier run that should still be there.
        session = replace(session, run_id=run_id, run_number=number, node=node)
        layout = self._inbox_sync.folder(session)
        try:
            # Outcomes before the number: who sees its number sees them, also where changes are seen late. An agent
            # takes a message again that has none, although an earlier run has acknowledged it.
            await asyncio.to_thread(self._inbox_sync.record, session)
            said = await asyncio.to_thread(self._inbox_sync.mend, session)
            group = await asyncio.to_thread(self._inbox_sync.prepare, session)
            if self._settings.shared and not is_last_over:
                # The mount may have no locks: until an earlier run has looked at the file, it may commit.
                await asyncio.sleep(_SUPERSEDED_SECONDS)
            await self._mend(session, layout, said)
            stamp = heartbeat(layout)
        except OSError as error:
            raise _unusable(error, "the session's folder cannot be used", layout.folder) from error
        specification = self._specification(session, group, layout, run_id)
        log.info("starting an agent", extra={"session_id": session.id, "run_id": run_id, "runtime": self.runtime.name})
        await self._open_gateway(session, layout)
        try:
            handle = await self.runtime.start(specification)
        except DumbwaiterError:
            await self.gateway.close(session.id)
            raise
        except OSError as error:
            await self.gateway.close(session.id)
            raise _unusable(error, "the agent cannot be started", layout.folder) from error
        if handle.node and handle.node != session.node:  # a cluster has placed it
            await self._central.write(runs.placed, session.id, run_id, handle.node)
        return RunningAgent(handle, layout, started=self._clock.monotonic(), heartbeat_stamp=stamp)

    async def _mend(self, session: sessions.Session, layout: SessionLayout, said: list[str]) -> None:
        """Before an agent writes: see that neither file is older than the ledger, mend what is, and say so.

        A power cut does not do that to these files; a restored backup, a bad disk and a person's hand do. `said` is
        what was mended of `inbound.db`.
        """
        try:
            standing = await asyncio.to_thread(outbox.standing, layout)
            lost = session.out_cursor - standing.last_seq
            if lost > 0:
                self._central.require_sole()
                await asyncio.to_thread(recovery.recover, layout, self._owner, after_seq=session.out_cursor)
                said.append(f"outbound.db is older than what was read from it ({lost} messages are missing)")
        except FileTrouble as error:  # the agent meets it too, and its death is looked into
            log.warning("a session's outbound.db cannot be looked at", extra=_of(session) | {"error": str(error)})
            standing = None
        turns_lost = 0 if standing is None else session.turn_cursor - standing.last_turn
        if turns_lost > 0:
            said.append(f"outbound.db is older than what was read from it ({turns_lost} turns are missing)")
        for sentence in said:
            log.warning("a session's file had lost something", extra=_of(session) | {"what": sentence})
        if said:
            await self._central.write(self._note_repairs, session, standing, said)

    def _note_repairs(
        self, tx: Transaction, session: sessions.Session, standing: OutboxStanding | None, said: Sequence[str]
    ) -> None:
        if standing is not None and standing.last_turn < session.turn_cursor:  # turns have no numbers that only grow
            sessions.advance(tx, session.id, session.out_cursor, standing.last_turn)
        repairs.note(tx, session, said)

    async def _open_gateway(self, session: sessions.Session, layout: SessionLayout) -> None:
        """Give an agent its way out. On a mount that cannot hold a socket it works without."""
        try:
            await self.gateway.open(session.id, layout, "" if session.node is None else session.run_id or "")
        except DumbwaiterError as error:
            log.warning("an agent has no gateway", extra=_of(session) | {"error": str(error)})

    async def clear(self, session_id: str) -> None:
        """End every agent of a session that should have none. Raises `RuntimeUnavailable` when that is not sure.

        A session never has two agents: also a runtime that an earlier host used is asked. Of several machines the one
        is asked on which the last run was placed: it must answer.
        """
        session = await self._central.read(sessions.lookup, session_id)
        node = None if session is None else session.node
        for runtime in (self.runtime, *self._others):
            handles = await runtime.list()
            if isinstance(runtime, ManyNodes) and node is not None:
                handles = [*(each for each in handles if each.node != node), *await runtime.list_on(node)]
            for handle in handles:
                if handle.session_id == session_id:
                    log.warning("ending an agent that should not be there", extra=_ids(handle))
                    await runtime.stop(handle, _KILL_GRACE)
                    await runtime.remove(handle)

    async def find(self, session: sessions.Session) -> RunningAgent | None:
        """The agent of a session's last run, where its node was away when this host started and answers now.

        None where there is none to be taken over. Raises `RuntimeUnavailable` while the node does not answer.
        """
        if not isinstance(self.runtime, ManyNodes) or session.node is None:
            return None
        for handle in await self.runtime.list_on(session.node):
            if handle.run_id == session.run_id and (await self.runtime.poll(handle)).alive:
                layout = self._inbox_sync.folder(session)
                await self._open_gateway(session, layout)
                log.info("taking over a running agent", extra=_ids(handle) | {"node": handle.node})
                now = self._clock.monotonic()
                return RunningAgent(handle, layout, started=now, heartbeat_stamp=None, heartbeat_seen=now)
        return None

    def is_lost(self, session: sessions.Session) -> bool:
        """Whether the node of a session's last run was given up for lost."""
        runtimes = [runtime for runtime in (self.runtime, *self._others) if isinstance(runtime, ManyNodes)]
        return session.node is not None and any(runtime.is_lost(session.node) for runtime in runtimes)

    async def stop(self, handle: AgentHandle, reason: StopReason) -> None:
        """End an agent and wait until it is gone. Raises `RuntimeUnavailable`."""
        level = logging.INFO if reason.not_the_agents_fault else logging.WARNING
        log.log(level, "stopping an agent", extra=_ids(handle) | {"reason": reason.value})
        grace = self._settings.stop_seconds + _KILL_GRACE if reason.grace is None else reason.grace
        await self.runtime.stop(handle, grace)

    async def poll(self, agent: RunningAgent, max_age: float) -> AgentStatus:
        """Whether an agent lives, or did `max_age` seconds ago; as long as the engine does not answer, it is taken to.

        An engine that hangs is asked once and waited for a moment each time: what the agent says meanwhile does not
        wait for the engine.
        """
        polling = agent.polling or asyncio.create_task(self.runtime.poll(agent.handle, max_age))
        agent.polling = polling
        await asyncio.wait([polling], timeout=_POLL_SECONDS)
        if not polling.done():
            return AgentStatus(alive=True)
        agent.polling = None
        if polling.cancelled():  # `look_at_agent` wants another answer than one that was asked for earlier
            return AgentStatus(alive=True)
        try:
            status = polling.result()
            agent.engine_is_back(self._clock.monotonic())
            return status
        except RuntimeUnavailable as error:
            agent.engine_is_away(self._clock.monotonic())
            log.warning("the container engine does not respond", extra=_ids(agent.handle) | {"error": str(error)})
            return AgentStatus(alive=True)

    async def finalize_run(
        self,
        session: sessions.Session,
        processing: frozenset[str],
        *,
        run_id: str,
        not_the_agents_fault: bool,
        sentence: str,
        processes: Sequence[BackgroundProcess] = (),
        is_wanted: bool = False,
    ) -> float:
        """Count the death of a run in the ledger, once. The agent is gone and `outbound.db` read to the end.

        `processing` are the messages it held; `sentence` says how it died, for the person who asked. `processes` were
        in its background: the next agent is told of them, and is woken by them unless this one `is_wanted` to be gone.
        """

        def count(tx: Transaction) -> float:
            current = sessions.get(tx, session.id)
            held = [
                HeldMessage(m.message_id, bool(m.trigger), m.tries, m.message_id in processing)
                for m in ingest.open_messages(tx, session.id)
            ]
            failures = count_failure(
                held,
                not_the_agents_fault=not_the_agents_fault,
                start_failures=current.start_failures,
                limits=self._limits,
            )
            if not runs.finalize(tx, session.id, run_id, failures.start_failures):
                return 0.0
            status, reason = (
                (TurnStatus.CANCELLED, FailureReason.STOPPED)
                if not_the_agents_fault
                else (TurnStatus.FAILED, FailureReason.AGENT_DIED)
            )
            for turn_id in turns.running(tx, session.id):
                events.add(
                    tx,
                    EventKind.TURN_ENDED,
                    session_id=session.id,
                    agent_group_id=session.agent_group_id,
                    data={"turn_id": turn_id, "status": status},
                )
            turns.close_running(tx, session.id, status, reason, sentence)
            _count_failures(tx, session.id, failures, sentence)
            tell_gone(tx, session.id, processes, why=sentence, wakes=not is_wanted)
            return failures.retry_in

        return await self._central.write(count)

    async def finalize_failed_start(self, session: sessions.Session, error: DumbwaiterError) -> float:
        """Count a start that failed, like the death of an agent that touched nothing."""
        current = await self._central.read(sessions.get, session.id)
        sentence = f"the agent cannot be started: {error.what}{f' ({error.own_hint})' if error.own_hint else ''}"
        return await self.finalize_run(
            session, frozenset(), run_id=current.run_id or "", not_the_agents_fault=False, sentence=sentence
        )

    async def fail_waiting(self, session_id: str, sentence: str) -> None:
        """Fail everything that waits in a session, visibly."""

        def fail(tx: Transaction) -> None:
            everything = tuple(ingest.unanswered(tx, session_id))
            _count_failures(tx, session_id, FailureCount((), everything, 0, 0.0), sentence)

        await self._central.write(fail)

    async def tell_waits(self, session_id: str, node: str) -> None:
        """Tell people, once for each run, that their session waits and for what."""

        def tell(tx: Transaction) -> None:
            waiting = ingest.unanswered(tx, session_id)
            row = ingest.get(tx, waiting[0]) if waiting else None
            if row is not None and runs.tell_waits(tx, session_id):
                address = Address(row.channel_type, row.platform_id, row.thread_id)
                deliveries.add_notice(tx, session_id, address, row.message_id, _WAITS.format(node=node))

        await self._central.write(tell)

    async def forget(self, handle: AgentHandle, layout: SessionLayout | None) -> None:
        """Keep what an ended agent printed, and let the runtime forget it.

        What fails is done when the next agent ends, or by the next host.
        """
        await self.gateway.close(handle.session_id)
        if layout is not None and layout.folder.is_dir():
            try:
                printed = await self.runtime.logs(handle, _LOG_BYTES)
                await asyncio.to_thread(_keep_log, layout, printed)
            except (RuntimeUnavailable, OSError) as error:
                log.warning("what an agent printed could not be kept", extra=_ids(handle) | {"error": str(error)})
        self._leftovers[handle.run_id] = handle
        for leftover in list(self._leftovers.values())[-_MAX_LEFTOVERS:]:
            try:
                await self.runtime.remove(leftover)
            except (RuntimeUnavailable, OSError) as error:
                of = _ids(leftover) | {"error": str(error)}
                log.warning("an ended agent could not be cleared away", extra=of)
                break  # the engine has trouble: not all of them wait for it
            self._leftovers.pop(leftover.run_id, None)

    async def last_line(self, handle: AgentHandle) -> str:
        """The last line that an agent printed, on one line of printable text; empty when there is none."""
        try:
            printed = await self.runtime.logs(handle, _LAST_LINE_BYTES)
        except (RuntimeUnavailable, OSError):
            return ""
        lines = [line for line in printed.decode("utf-8", "replace").splitlines() if line.strip()]
        line = _STAMP.sub("", lines[-1]) if lines else ""
        return "".join(c for c in line if c.isprintable())[:_MAX_LINE].strip()

    def describe(self, status: AgentStatus, said: str = "") -> str:
        """How an agent died, as the end of a sentence; `said` is what it printed last."""
        if status.reason:
            return f"the agent died: {status.reason}"
        if status.exit_code is None:
            return "the agent died"
        if status.exit_code == EXIT_FILES:
            return f"the agent could not use the session's files{f': {said}' if said else ''}"
        return f"the agent died with exit status {status.exit_code}"

    def _specification(
        self, session: sessions.Session, group: AgentGroup, layout: SessionLayout, run_id: str
    ) -> AgentSpecification:
        settings = self._settings
        requests = [MountRequest(Path(r["path"]), r["name"], r["writable"]) for r in group.mount_requests]
        allowed = read_allow_list(settings.layout.mounts) if requests else ()
        return AgentSpecification(
            install_id=self._central.install_id,
            run_id=run_id,
            session_id=session.id,
            agent_group_id=group.id,
            folder=layout,
            workspace=settings.layout.workspace(group.folder),
            environment={
                "DUMBWAITER_RUN_NUMBER": str(session.run_number),
                "DUMBWAITER_NOTIFY": "off" if settings.notify == "off" or settings.shared else "auto",
                "DUMBWAITER_SHARED": "1" if settings.shared else "0",
                "DUMBWAITER_POLL_SECONDS": f"{settings.poll_seconds:g}",
                "DUMBWAITER_HEARTBEAT_SECONDS": f"{settings.heartbeat_seconds:g}",
                "DUMBWAITER_STOP_SECONDS": f"{settings.stop_seconds:g}",
            },
            limits=ResourceLimits(
                memory_bytes=group.memory_bytes or settings.agent_memory_bytes,
                cpus=group.cpus or settings.agent_cpus,
                pids=group.pids or settings.agent_pids,
                file_bytes=settings.agent_file_bytes,
                gpus=group.gpus or 0,
            ),
            mounts=tuple(allowed_mount(request, allowed) for request in requests),
            image=image_of(group, settings),
            uid=self._owner.uid,
            gid=self._owner.gid,
            oci_runtime=settings.oci_runtime,
            node=session.node or "",
            labels=group.wanted_labels,
            way=None if session.node is None or self.gateway.front is None else self.gateway.front.way_out(run_id),
        )


def image_of(group: AgentGroup, settings: Settings) -> str:
    """The image of an agent group's containers: with the packages that were installed for it, or the plain one."""
    return group.layer_image or plain_image_of(group, settings)


def plain_image_of(group: AgentGroup, settings: Settings) -> str:
    """The image without packages: the agent group's own, or the setting's, in the variant that its provider needs."""
    return group.image or image_for(group.provider, settings.image)


def _ids(handle: AgentHandle) -> dict[str, object]:
    return {"session_id": handle.session_id, "run_id": handle.run_id}


def _of(session: sessions.Session) -> dict[str, object]:
    return {"session_id": session.id}


def _keep_log(layout: SessionLayout, printed: bytes) -> None:
    """Append to the session's log; beyond a size the older half goes."""
    if not printed:
        return
    kept = layout.log.read_bytes() if layout.log.exists() else b""
    if len(kept) + len(printed) > _KEPT_LOG_BYTES:
        kept = kept[-_KEPT_LOG_BYTES // 2 :]
    draft = layout.log.with_suffix(".new")
    draft.write_bytes(kept + printed)
    draft.replace(layout.log)


def _unusable(error: OSError, what: str, folder: Path) -> FileTrouble:
    """What the system says of a file, and of which: it may be another than the session's folder."""
    return FileTrouble(
        f"{what}: {error.strerror or type(error).__name__}",
        where=error.filename if isinstance(error.filename, str) else folder,
    )


def _count_failures(tx: Transaction, session_id: str, failures: FailureCount, sentence: str) -> None:
    for message_id in failures.count:
        ingest.count_try(tx, message_id)
    for message_id in failures.fail:
        fail_message(tx, session_id, message_id, sentence)
