"""Agents that are no present run of their session, ended while the host runs.

A start that an engine does not answer in time is counted as failed, and may be carried out after all, minutes later.
What it starts finds itself superseded as soon as its session has another run. Where that does not come, because the
stray has the last free slot or nothing waits any more, it would live for ever: so the host looks for it now and then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from host.background import in_background, repeat
from host.central import runs, sessions
from host.central.database import Central
from host.runtime.protocol import AgentHandle, Runtime

log = logging.getLogger(__name__)

_GRACE = 5.0


@asynccontextmanager
async def ending_strays(central: Central, runtime: Runtime) -> AsyncIterator[None]:
    """End strays now and then, until the block ends."""
    async with in_background(keep_ending_strays(central, runtime), name="end strays"):
        yield


async def keep_ending_strays(central: Central, runtime: Runtime, seconds: float = 60.0) -> None:
    """The same without end, first after so many seconds: at the start of a host its agents were looked for."""

    async def look() -> float:
        await end_strays(central, runtime)
        return seconds

    await asyncio.sleep(seconds)
    await repeat(look, log=log, failure="agents cannot be looked for", retry_seconds=seconds)


async def end_strays(central: Central, runtime: Runtime) -> list[AgentHandle]:
    """End every agent that lives and is not to; which ones. Raises `RuntimeUnavailable`, `FileTrouble`."""
    handles = await runtime.list()  # before the ledger is asked: a run is noted there before it is started
    unsettled = set(await central.read(runs.unsettled))
    ended = []
    for handle in handles:
        session = await central.read(sessions.lookup, handle.session_id)
        is_present = session is not None and handle.run_id == session.run_id and session.id in unsettled
        # One that has ended is being cleared away by those who know it.
        if is_present or not (await runtime.poll(handle)).alive:
            continue
        log.warning(
            "ending an agent whose start was given up",
            extra={"session_id": handle.session_id, "run_id": handle.run_id, "node": handle.node},
        )
        await runtime.stop(handle, _GRACE)
        await runtime.remove(handle)
        ended.append(handle)
    return ended
