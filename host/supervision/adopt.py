"""After a restart: take over agents that still run, finalize runs that are over, end orphans.

Only agents of this install are ever touched: the runtime lists no others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from host.central import runs, sessions
from host.central.database import Central
from host.gateway.server import Gateway
from host.runtime.protocol import AgentHandle, Runtime, RuntimeUnavailable
from host.supervision.agent import RunningAgent
from host.supervision.supervisor import Supervisor
from shared_schema.clock import Clock
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import DataLayout

log = logging.getLogger(__name__)

_ORPHAN_GRACE = 5.0


async def adopt(
    central: Central,
    supervisor: Supervisor,
    runtime: Runtime,
    others: Sequence[Runtime],
    clock: Clock,
    layout: DataLayout,
    gateway: Gateway,
) -> int:
    """Take over what runs; how many agents that is. Raises `RuntimeUnavailable` when `runtime` does not answer.

    The supervisor must not be open yet, so that no reconcile finalizes a run meanwhile. `others` are runtimes an
    earlier host may have used: what runs there is ended. Runs without a handle are finalized when their sessions are
    reconciled.
    """
    for other in others:
        await _end_all(other)
    for orphan in await adopt_known(central, supervisor, runtime, clock, layout):
        await _end(runtime, orphan)
    for session_id, agent in supervisor.agents.items():
        log.info("taking over a running agent", extra={"session_id": session_id})
        try:
            await gateway.open(session_id, agent.folder, agent.handle.run_id if agent.handle.node else "")
        except DumbwaiterError as error:  # it works on, without a way out
            log.warning("an agent has no gateway", extra={"session_id": session_id, "error": str(error)})
    return len(supervisor.agents)


async def adopt_known(
    central: Central, supervisor: Supervisor, runtime: Runtime, clock: Clock, layout: DataLayout
) -> list[AgentHandle]:
    """Hand the supervisor every agent whose run is the last of its session and unsettled; the other agents."""
    unsettled = set(await central.read(runs.unsettled))
    orphans = []
    for handle in await runtime.list():
        session = await central.read(sessions.lookup, session_id=handle.session_id)
        if session is None or handle.run_id != session.run_id or session.id not in unsettled:
            orphans.append(handle)
            continue
        now = clock.monotonic()
        folder = layout.session(session.agent_group_id, session.id)
        agent = RunningAgent(handle, folder, started=now, heartbeat_stamp=None, heartbeat_seen=now)
        agent.ask_afresh()
        supervisor.adopt(session.id, agent)
    return orphans


async def _end_all(runtime: Runtime) -> None:
    try:
        handles = await runtime.list()
    except RuntimeUnavailable as error:  # its sessions wait until it answers: Runs.clear
        log.warning("agents of another runtime cannot be looked for", extra={"error": str(error)})
        return
    for handle in handles:
        await _end(runtime, handle)


async def _end(runtime: Runtime, handle: AgentHandle) -> None:
    log.warning("ending an orphaned agent", extra={"session_id": handle.session_id, "run_id": handle.run_id})
    try:
        await runtime.stop(handle, _ORPHAN_GRACE)
        await runtime.remove(handle)
    except RuntimeUnavailable as error:
        log.warning("it could not be ended", extra={"session_id": handle.session_id, "error": str(error)})
