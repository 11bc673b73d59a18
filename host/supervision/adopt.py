"""After a restart: take over agents that still run, settle those that do not, end those that nobody knows.

Only agents of this install are ever touched: the runtime lists no others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from host.central import sessions
from host.central.database import Central
from host.runtime.protocol import AgentHandle, Runtime, RuntimeUnavailable
from host.supervision.agent import RunningAgent
from host.supervision.conductor import Conductor
from shared_schema.clock import Clock
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
) -> int:
    """Put every run that an earlier host began in order; how many agents were taken over.

    `others` are runtimes an earlier host may have used: what still runs there is ended, because a session must never
    have two agents. Raises `RuntimeUnavailable` when `runtime` does not answer.
    """
    for other in others:
        await _end_all(other)
    strangers = await adopt_known(central, conductor, runtime, clock, layout)
    for handle in strangers:
        log.warning("ending an agent that nobody needs", extra={"session": handle.session_id, "run": handle.run_id})
        await _end(runtime, handle)
    for session_id in conductor.agents:
        log.info("taking over a running agent", extra={"session": session_id})
        conductor.attend(session_id)
    for session_id in await central.read(sessions.unsettled):
        lost = await central.read(partial(sessions.lookup, session_id=session_id))
        if session_id in conductor.agents or lost is None or lost.run_id is None:
            continue
        async with conductor.holding(session_id):
            await conductor.bury(lost, lost.run_id, "the agent died while no host was running", harmless=False)
    return len(conductor.agents)


async def adopt_known(
    central: Central, conductor: Conductor, runtime: Runtime, clock: Clock, layout: DataLayout
) -> list[AgentHandle]:
    """Hand the conductor every agent whose run is the last of its session and unsettled; the other agents."""
    unsettled = set(await central.read(sessions.unsettled))
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
        handles: list[AgentHandle] = await runtime.list()
        for handle in handles:
            log.warning("ending an agent of another runtime", extra={"session": handle.session_id})
            await _end(runtime, handle)
    except RuntimeUnavailable as error:
        log.warning("agents of another runtime cannot be looked for", extra={"error": str(error)})


async def _end(runtime: Runtime, handle: AgentHandle) -> None:
    await runtime.stop(handle, _STRANGER_GRACE)
    await runtime.remove(handle)
