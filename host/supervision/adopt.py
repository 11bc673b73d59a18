"""After a restart: take over agents that still run, settle those that do not, end those that nobody knows.

Only agents of this install are ever touched: the runtime lists no others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from host.central import runs, sessions
from host.central.database import Central
from host.gateway.server import Gateway
from host.runtime.protocol import AgentHandle, Runtime, RuntimeUnavailable
from host.supervision.agent import RunningAgent
from host.supervision.conductor import Conductor
from shared_schema.clock import Clock
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import DataLayout

log = logging.getLogger(__name__)

_STRANGER_GRACE = 5.0


async def adopt(
    central: Central,
    conductor: Conductor,
    runtime: Runtime,
    others: Sequence[Runtime],
    clock: Clock,
    layout: DataLayout,
    gateway: Gateway,
) -> int:
    """Take over what runs; how many agents that is. Raises `RuntimeUnavailable` when `runtime` does not answer.

    The conductor must not be open yet, so that no look buries an agent meanwhile. `others` are runtimes an earlier host
    may have used: what runs there is ended. Runs that nobody has a handle of are settled by their sessions' looks, each
    for itself.
    """
    for other in others:
        await _end_all(other)
    for stranger in await adopt_known(central, conductor, runtime, clock, layout):
        await _end(runtime, stranger)
    for session_id, agent in conductor.agents.items():
        log.info("taking over a running agent", extra={"session": session_id})
        try:
            await gateway.open(session_id, agent.folder)
        except DumbwaiterError as error:  # it works on, without a way out
            log.warning("an agent has no gateway", extra={"session": session_id, "error": str(error)})
    return len(conductor.agents)


async def adopt_known(
    central: Central, conductor: Conductor, runtime: Runtime, clock: Clock, layout: DataLayout
) -> list[AgentHandle]:
    """Hand the conductor every agent whose run is the last of its session and unsettled; the other agents."""
    unsettled = set(await central.read(runs.unsettled))
    strangers = []
    for handle in await runtime.list():
        session = await central.read(partial(sessions.lookup, session_id=handle.session_id))
        if session is None or handle.run_id != session.run_id or session.id not in unsettled:
            strangers.append(handle)
            continue
        now = clock.monotonic()
        folder = layout.session(session.agent_group_id, session.id)
        agent = RunningAgent(handle, folder, started=now, heartbeat_stamp=None, heartbeat_seen=now)
        agent.polled = float("-inf")
        conductor.adopt(session.id, agent)
    return strangers


async def _end_all(runtime: Runtime) -> None:
    try:
        handles = await runtime.list()
    except RuntimeUnavailable as error:  # its sessions wait until it answers: Runs.clear
        log.warning("agents of another runtime cannot be looked for", extra={"error": str(error)})
        return
    for handle in handles:
        await _end(runtime, handle)


async def _end(runtime: Runtime, handle: AgentHandle) -> None:
    log.warning("ending an agent that nobody needs", extra={"session": handle.session_id, "run": handle.run_id})
    try:
        await runtime.stop(handle, _STRANGER_GRACE)
        await runtime.remove(handle)
    except RuntimeUnavailable as error:
        log.warning("it could not be ended", extra={"session": handle.session_id, "error": str(error)})
